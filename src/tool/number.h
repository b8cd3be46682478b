/* SPDX-License-Identifier: MIT */
/* number.h: numbers as they stand on disk. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "format/element_format.h"

enum {
    NUMBER_E_RANGE = 1,    /* a value is outside the type */
    NUMBER_E_FRACTION = 2, /* a value with a fraction, and the type has none */
};

/* Store `count` values as `type`, little-endian; floats are rounded to nearest, ties to even.
 * 0, or NUMBER_E_* and which value it was. */
MUST_CHECK int number_encode_integers(ElementType type, const int64_t *values, size_t count,
                                      uint8_t *to, size_t *ret_bad);
MUST_CHECK int number_encode_reals(ElementType type, const double *values, size_t count,
                                   uint8_t *to, size_t *ret_bad);

/* The narrowest of u16, u24, u32 that holds min..max, else i64. */
ElementType number_narrowest(int64_t min, int64_t max);
