/* SPDX-License-Identifier: MIT */
#include "tool/number.h"

#include <float.h>
#include <string.h>

#include "base/bytes.h"
#include "support/check_main.h"

static uint8_t bytes[16];

static int integer(ElementType type, int64_t value) {
    size_t bad;

    return number_encode_integers(type, &value, 1, bytes, &bad);
}

static int real(ElementType type, double value) {
    size_t bad;

    return number_encode_reals(type, &value, 1, bytes, &bad);
}

START_TEST(integers_fit_exactly_their_range)
{
    static const struct {
        ElementType type;
        int64_t min, max;
    } types[] = {{ELEMENT_U8, 0, 255},
                 {ELEMENT_U16, 0, 65535},
                 {ELEMENT_U24, 0, 16777215},
                 {ELEMENT_U32, 0, 4294967295},
                 {ELEMENT_I32, INT32_MIN, INT32_MAX}};

    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        ck_assert_int_eq(integer(types[i].type, types[i].min), 0);
        ck_assert_int_eq(integer(types[i].type, types[i].max), 0);
        ck_assert_int_eq(integer(types[i].type, types[i].min - 1), NUMBER_E_RANGE);
        ck_assert_int_eq(integer(types[i].type, types[i].max + 1), NUMBER_E_RANGE);
    }
    ck_assert_int_eq(integer(ELEMENT_I64, INT64_MIN), 0);
    ck_assert_int_eq(real(ELEMENT_I64, 1), NUMBER_E_FRACTION);
    ck_assert_int_eq(integer(ELEMENT_U24, 0x123456), 0);
    ck_assert_uint_eq(bytes_get_u24(bytes), 0x123456);
}
END_TEST

START_TEST(the_narrowest_type_is_chosen)
{
    ck_assert_int_eq(number_narrowest(0, 0), ELEMENT_U16);
    ck_assert_int_eq(number_narrowest(0, 65535), ELEMENT_U16);
    ck_assert_int_eq(number_narrowest(0, 65536), ELEMENT_U24);
    ck_assert_int_eq(number_narrowest(0, 1 << 24), ELEMENT_U32);
    ck_assert_int_eq(number_narrowest(0, INT64_C(1) << 32), ELEMENT_I64);
    ck_assert_int_eq(number_narrowest(-1, 5), ELEMENT_I64);
}
END_TEST

/* IEEE 754 binary16 and bfloat16 by their known bit patterns. */
START_TEST(floats_are_rounded_to_nearest_even)
{
    static const struct {
        double value;
        ElementType type;
        uint16_t bits;
    } known[] = {
        {0.0, ELEMENT_F16, 0x0000},
        {-0.0, ELEMENT_F16, 0x8000},
        {1.0, ELEMENT_F16, 0x3C00},
        {-2.0, ELEMENT_F16, 0xC000},
        {65504.0, ELEMENT_F16, 0x7BFF},
        {65519.99, ELEMENT_F16, 0x7BFF},
        {6.103515625e-05, ELEMENT_F16, 0x0400},          /* smallest normal */
        {5.960464477539063e-08, ELEMENT_F16, 0x0001},    /* smallest of all */
        {2.9802322387695312e-08, ELEMENT_F16, 0x0000},   /* half of it: a tie, to even */
        {2.980232238769532e-08, ELEMENT_F16, 0x0001},    /* just above half */
        {6.1005353927612305e-05, ELEMENT_F16, 0x0400},   /* rounds up into the normal ones */
        {1.0 + 1.0 / 2048, ELEMENT_F16, 0x3C00},         /* a tie, to even */
        {1.0 + 3.0 / 2048, ELEMENT_F16, 0x3C02},         /* a tie, to even */
        {1.0 + 1.0 / 2048 + 1e-12, ELEMENT_F16, 0x3C01}, /* double rounding would lose this */
        {0x1.ffep+0 + 0x1p-11, ELEMENT_F16, 0x4000},     /* a carry into the exponent */
        {1.0, ELEMENT_BF16, 0x3F80},
        {1.0 + 1.0 / 256, ELEMENT_BF16, 0x3F80},
        {1.0 + 1.0 / 256 + 1e-12, ELEMENT_BF16, 0x3F81},
        {3.3895313892515355e38, ELEMENT_BF16, 0x7F7F},
        {1e-45, ELEMENT_BF16, 0x0000},
        {9.183549615799121e-41, ELEMENT_BF16, 0x0001},
    };

    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        ck_assert_int_eq(real(known[i].type, known[i].value), 0);
        ck_assert_msg(bytes_get_u16(bytes) == known[i].bits, "%a gives %04x, not %04x",
                      known[i].value, bytes_get_u16(bytes), known[i].bits);
    }
    ck_assert_int_eq(real(ELEMENT_F16, 65520), NUMBER_E_RANGE);
    ck_assert_int_eq(real(ELEMENT_BF16, 3.4e38), NUMBER_E_RANGE);
    ck_assert_int_eq(real(ELEMENT_F32, 1e39), NUMBER_E_RANGE);
    ck_assert_int_eq(real(ELEMENT_F16, DBL_MIN), 0);
    ck_assert_int_eq(integer(ELEMENT_F32, 16777217), 0);
}
END_TEST

CHECK_MAIN("number", integers_fit_exactly_their_range, the_narrowest_type_is_chosen,
           floats_are_rounded_to_nearest_even)
