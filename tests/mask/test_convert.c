/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "format/element_format.h"
#include "format/ring_format.h"
#include "mask/convert.h"
#include "mask/tensor.h"

enum { LEVELS = 3, VALUES = 1 << 16, GUARD = 64 };

/* Every conversion on values at all kinds of CPU; u24 and wider ones get a sample. */
static uint8_t source[VALUES * 8 + 64];
static _Alignas(64) uint8_t result[VALUES * 8 + 2 * GUARD];

static void make_source(uint32_t element) {
    uint32_t bytes = element_bytes(element);

    for (uint32_t i = 0; i < VALUES; i++) {
        RandomBlock block = random_philox(7, i, element, 0, 0);
        uint64_t value = bytes <= 2 ? i : (uint64_t)block.word[0] << 32 | block.word[1];
        memcpy(source + (size_t)i * bytes, &value, bytes);
    }
}

/* The value of a float16, by its definition. */
static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31;
    double fraction = half & 1023, sign = half & 0x8000 ? -1 : 1;

    if (exponent == 31)
        return fraction != 0 ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static uint32_t float_bits(float value) {
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The float16 of a small whole number, found by trying. */
static uint16_t half_of(uint32_t value) {
    uint32_t half = 0;

    while (half_value((uint16_t)half) != (double)value)
        half++;
    return (uint16_t)half;
}

static int64_t integer_at(uint32_t element, const uint8_t *at) {
    switch (element) {
    case ELEMENT_U8:
        return *at;
    case ELEMENT_U16:
        return bytes_get_u16(at);
    case ELEMENT_U24:
        return bytes_get_u24(at);
    case ELEMENT_U32:
        return bytes_get_u32(at);
    case ELEMENT_I32:
        return (int32_t)bytes_get_u32(at);
    default:
        return (int64_t)bytes_get_u64(at);
    }
}

/* The bits that a value must have as this dtype. */
static uint64_t expected(uint32_t element, const uint8_t *at, uint32_t dtype) {
    uint16_t bits = bytes_get_u16(at);

    if (element == ELEMENT_F16 && dtype == SEQFEED_FLOAT32)
        return isnan(half_value(bits)) ? (bits & 0x8000u) << 16 | 0x7f800000u | (bits & 1023u) << 13
                                       : float_bits((float)half_value(bits));
    if (element == ELEMENT_BF16 && dtype == SEQFEED_FLOAT32)
        return (uint32_t)bits << 16;
    if (element == ELEMENT_F16 || element == ELEMENT_BF16)
        return bits;
    if (element == ELEMENT_F32)
        return bytes_get_u32(at);
    if (dtype == SEQFEED_FLOAT32)
        return float_bits((float)integer_at(element, at));
    if (dtype == SEQFEED_BFLOAT16)
        return float_bits((float)integer_at(element, at)) >> 16;
    if (dtype == SEQFEED_FLOAT16)
        return half_of(*at);
    return (uint64_t)integer_at(element, at);
}

static void check_pair(uint32_t element, uint32_t dtype, int level) {
    ConvertFunction *convert = convert_find(element, dtype);
    uint32_t from_bytes = element_bytes(element), to_bytes = tensor_dtype_bytes(dtype);
    uint32_t count = element == ELEMENT_U8 ? 256 : VALUES;

    memset(result, 0xa5, sizeof result);
    convert(result + GUARD, source, count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t want = expected(element, source + (size_t)i * from_bytes, dtype), got = 0;

        memcpy(&got, result + GUARD + (size_t)i * to_bytes, to_bytes);
        if (to_bytes < 8)
            want &= (UINT64_C(1) << 8 * to_bytes) - 1;
        if (got != want)
            ck_abort_msg("%s to %s, level %d, value %u: %lx, not %lx", element_name(element),
                         tensor_dtype_name(dtype), level, i, got, want);
    }
    for (uint32_t i = 0; i < GUARD; i++)
        ck_assert_uint_eq(result[GUARD + (size_t)count * to_bytes + i], 0xa5);
}

START_TEST(every_conversion_keeps_every_value_on_every_kind_of_cpu)
{
    for (int level = 0; level < LEVELS; level++) {
        if (convert_set_level(level) != level)
            continue;
        for (uint32_t element = 1; element < ELEMENT_TYPE_COUNT; element++) {
            make_source(element);
            for (uint32_t dtype = 1; dtype < SEQFEED_DTYPE_COUNT; dtype++)
                if (tensor_dtype_allows((uint8_t)element, dtype))
                    check_pair(element, dtype, level);
        }
    }
}
END_TEST

/* Runs end anywhere; three-byte values also begin anywhere. The copy is exactly as long as the run
 * so that a sanitizer sees a load beyond it. */
START_TEST(runs_of_any_length_touch_nothing_else)
{
    make_source(ELEMENT_U24);
    for (int level = 0; level < LEVELS; level++) {
        convert_set_level(level);
        for (uint32_t count = 0; count < 70; count++) {
            uint8_t *exact = malloc(3 * count + 1);

            memcpy(exact + 1, source, 3 * count);
            memset(result, 0xa5, 70 * 8 + 2 * GUARD);
            convert_find(ELEMENT_U24, SEQFEED_INT64)(result + GUARD, exact + 1, count);
            for (uint32_t i = 0; i < count; i++)
                ck_assert_uint_eq(bytes_get_u64(result + GUARD + 8 * i),
                                  bytes_get_u24(source + 3 * i));
            for (uint32_t i = 0; i < GUARD; i++) {
                ck_assert_uint_eq(result[i], 0xa5);
                ck_assert_uint_eq(result[GUARD + 8 * count + i], 0xa5);
            }
            free(exact);
        }
    }
}
END_TEST

static void check_repeat(uint64_t pattern, uint32_t bytes, uint32_t begin, uint32_t count) {
    uint8_t *to = result + GUARD + (size_t)begin * bytes;
    size_t end = (size_t)(to - result) + (size_t)count * bytes;

    memset(result, 0xa5, end + GUARD);
    convert_repeat(to, pattern, bytes, count);
    for (size_t i = 0; i < end + GUARD; i++) {
        size_t at = i - (size_t)(to - result);
        bool is_inside = result + i >= to && i < end;

        if (result[i] != (is_inside ? (uint8_t)(pattern >> 8 * (at % bytes)) : 0xa5))
            ck_abort_msg("level %d: %u elements of %u bytes from %u: byte %zu", convert_level(),
                         count, bytes, begin, i);
    }
}

/* From all places in a line of the cache that elements can have. */
START_TEST(repeated_values_fill_their_run_and_nothing_else)
{
    static const uint64_t patterns[] = {0, UINT64_MAX, 0x0102030405060708, (uint64_t)-100, 1};

    for (int level = 0; level < LEVELS; level++) {
        if (convert_set_level(level) != level)
            continue;
        for (uint32_t p = 0; p < 5; p++)
            for (uint32_t bytes = 1; bytes <= 8; bytes *= 2)
                for (uint32_t begin = 0; begin < 64 / bytes; begin += 1 + begin / 4)
                    for (uint32_t count = 0; count < 200; count++)
                        check_repeat(patterns[p], bytes, begin, count);
    }
}
END_TEST

CHECK_MAIN("convert", every_conversion_keeps_every_value_on_every_kind_of_cpu,
           runs_of_any_length_touch_nothing_else, repeated_values_fill_their_run_and_nothing_else)
