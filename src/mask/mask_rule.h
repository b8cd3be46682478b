/* SPDX-License-Identifier: MIT */
/* mask_rule.h: what stands at each place of a padded row. Integers only and plain C that nvcc reads
 * too, so that every backend gives the same bytes: backends loop, these functions decide. */
#pragma once

#include <stdint.h>

#include "format/ring_format.h"

#ifdef __CUDACC__
#define MASK_SHARED static inline __host__ __device__
#else
#define MASK_SHARED static inline
#endif

/* Where the real tokens of a row begin: `real` of `length` places are real (real <= length). */
MASK_SHARED uint32_t mask_rule_begin(uint32_t side, uint32_t length, uint32_t real) {
    return side == SEQFEED_SIDE_LEFT ? length - real : 0;
}

/* Does place `place` of a row hold a real token? Equals arange(length) < real for padding on the
 * right and arange(length) >= length - real for padding on the left. */
MASK_SHARED int mask_rule_keeps(uint32_t side, uint32_t length, uint32_t real, uint32_t place) {
    return place - mask_rule_begin(side, length, real) < real; /* below `begin` it wraps: large */
}

/* The bits of the number one in a dtype; zero is all zero bits in each of them. */
MASK_SHARED uint64_t mask_rule_one(uint32_t dtype) {
    return dtype == SEQFEED_FLOAT16    ? 0x3c00u
           : dtype == SEQFEED_BFLOAT16 ? 0x3f80u
           : dtype == SEQFEED_FLOAT32  ? 0x3f800000u
                                       : 1u;
}

/* The bits of a mask's element: `keep` is what the rule said, `fill` the bits that mask out in an
 * additive mask. */
MASK_SHARED uint64_t mask_rule_bits(uint32_t dtype, uint32_t polarity, uint64_t fill, int keep) {
    if (polarity == SEQFEED_POLARITY_ADDITIVE)
        return keep ? 0 : fill;
    return (polarity == SEQFEED_POLARITY_MASKED) != (keep != 0) ? mask_rule_one(dtype) : 0;
}
