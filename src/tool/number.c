/* SPDX-License-Identifier: MIT */
#include "tool/number.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

typedef struct Range {
    int64_t min, max;
} Range;

static Range range_of(ElementType type) {
    switch (type) {
    case ELEMENT_U8:
        return (Range){0, UINT8_MAX};
    case ELEMENT_U16:
        return (Range){0, UINT16_MAX};
    case ELEMENT_U24:
        return (Range){0, (1 << 24) - 1};
    case ELEMENT_U32:
        return (Range){0, UINT32_MAX};
    case ELEMENT_I32:
        return (Range){INT32_MIN, INT32_MAX};
    default:
        return (Range){INT64_MIN, INT64_MAX};
    }
}

ElementType number_narrowest(int64_t min, int64_t max) {
    static const ElementType types[] = {ELEMENT_U16, ELEMENT_U24, ELEMENT_U32};

    for (size_t i = 0; i < ARRAY_COUNT(types); i++)
        if (min >= 0 && max <= range_of(types[i]).max)
            return types[i];
    return ELEMENT_I64;
}

static bool all_within(const int64_t *values, size_t count, Range range, size_t *ret_bad) {
    uint64_t outside = 0;

    for (size_t i = 0; i < count; i++)
        outside |= (uint64_t)(values[i] < range.min) | (uint64_t)(values[i] > range.max);
    if (!outside)
        return true;
    for (size_t i = 0; i < count; i++)
        if (values[i] < range.min || values[i] > range.max) {
            *ret_bad = i;
            return false;
        }
    return true;
}

int number_encode_integers(ElementType type, const int64_t *values, size_t count, uint8_t *to,
                           size_t *ret_bad) {
    if (element_is_float(type)) {
        for (size_t i = 0; i < count; i++) {
            double value = (double)values[i];
            int r = number_encode_reals(type, &value, 1, to + i * element_bytes(type), ret_bad);
            if (r) {
                *ret_bad = i;
                return r;
            }
        }
        return 0;
    }
    if (!all_within(values, count, range_of(type), ret_bad))
        return NUMBER_E_RANGE;
    switch (element_bytes(type)) {
    case 1:
        for (size_t i = 0; i < count; i++)
            to[i] = (uint8_t)values[i];
        break;
    case 2:
        for (size_t i = 0; i < count; i++)
            bytes_put_u16(to + 2 * i, (uint16_t)values[i]);
        break;
    case 3:
        for (size_t i = 0; i < count; i++)
            bytes_put_u24(to + 3 * i, (uint32_t)values[i]);
        break;
    case 4:
        for (size_t i = 0; i < count; i++)
            bytes_put_u32(to + 4 * i, (uint32_t)values[i]);
        break;
    default:
        if (count > 0)
            memcpy(to, values, 8 * count);
    }
    return 0;
}

/* Round a finite double to a 16-bit float with `mantissa_bits` of fraction, directly: going through
 * a 32-bit float would round twice. False when it overflows. */
static bool round_to_16(double value, int mantissa_bits, uint16_t *ret_bits) {
    uint64_t bits;
    int exponent_bits = 15 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;

    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 63 << 15);
    int exponent = (int)(bits >> 52 & 0x7FF) - 1023 + bias; /* as the narrow type counts it */
    uint64_t mantissa = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    int shift = 52 - mantissa_bits + (exponent < 1 ? 1 - exponent : 0);

    if ((bits << 1) == 0 || shift > 54) { /* zero, or below half of the smallest number */
        *ret_bits = sign;
        return true;
    }
    uint64_t rest = mantissa & ((UINT64_C(1) << shift) - 1), half = UINT64_C(1) << (shift - 1);
    uint64_t rounded = mantissa >> shift;
    rounded += rest > half || (rest == half && (rounded & 1));
    /* A carry out of the fraction flows into the exponent, which is what rounding up means. */
    if (exponent >= 1)
        rounded += (uint64_t)(exponent - 1) << mantissa_bits;
    *ret_bits = (uint16_t)(sign | rounded);
    return rounded < ((UINT64_C(1) << exponent_bits) - 1) << mantissa_bits;
}

static bool encode_real(ElementType type, double value, uint8_t *to) {
    uint16_t narrow;
    float single = (float)value;

    if (type == ELEMENT_F32) {
        memcpy(to, &single, sizeof single);
        return isfinite(single);
    }
    if (!round_to_16(value, type == ELEMENT_F16 ? 10 : 7, &narrow))
        return false;
    bytes_put_u16(to, narrow);
    return true;
}

int number_encode_reals(ElementType type, const double *values, size_t count, uint8_t *to,
                        size_t *ret_bad) {
    assert(count == 0 || values);
    for (size_t i = 0; i < count; i++) {
        *ret_bad = i;
        if (!element_is_float(type))
            return NUMBER_E_FRACTION;
        if (!encode_real(type, values[i], to + i * element_bytes(type)))
            return NUMBER_E_RANGE;
    }
    return 0;
}
