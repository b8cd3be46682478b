/* SPDX-License-Identifier: MIT */
/* mask_rule.h: what stands at each place of a padded row. Integers only and plain C that nvcc reads
 * too, so that every backend gives the same bytes: backends loop, these functions decide. */
#pragma once

#include <stdint.h>

#include "format/element_format.h"
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

/* One number of an integer type on disk; `at` need not be aligned. */
MASK_SHARED int64_t mask_rule_integer(uint32_t element, const uint8_t *at) {
    uint64_t low = at[0], value;

    if (element == ELEMENT_U8)
        return (int64_t)low;
    low |= (uint64_t)at[1] << 8;
    if (element == ELEMENT_U16)
        return (int64_t)low;
    low |= (uint64_t)at[2] << 16;
    if (element == ELEMENT_U24)
        return (int64_t)low;
    low |= (uint64_t)at[3] << 24;
    if (element == ELEMENT_U32)
        return (int64_t)low;
    if (element == ELEMENT_I32)
        return (int32_t)(uint32_t)low;
    value = (uint64_t)at[4] | (uint64_t)at[5] << 8 | (uint64_t)at[6] << 16 | (uint64_t)at[7] << 24;
    return (int64_t)(low | value << 32);
}

/* A mask as the configuration says it, in postfix order: each step pushes one answer or combines
 * the two on top. */
enum {
    MASK_TRUE,
    MASK_FALSE,
    MASK_LENGTHS,      /* real places */
    MASK_CAUSAL,       /* dense masks: place <= query */
    MASK_WINDOW,       /* dense masks: query - place < count */
    MASK_INDICES,      /* places that values[first .. first + count) do not list */
    MASK_INDEX_COLUMN, /* the same with the row's list in ragged column `first`, of type `count` */
    MASK_TOKEN_IDS,    /* tokens, padding included, that the values do not list */
    MASK_AND,
    MASK_OR,
    MASK_NOT,
    MASK_SEGMENTS /* dense masks: real places of the query's own sequence */
};

typedef struct MaskStep {
    uint32_t op;
    uint32_t first, count;
} MaskStep;

MASK_SHARED int mask_rule_causal(uint32_t query, uint32_t place) {
    return place <= query;
}

/* Looks back over `window` places, the query's own among them. */
MASK_SHARED int mask_rule_window(uint32_t window, uint32_t query, uint32_t place) {
    return (uint64_t)place + window > query;
}

/* The place that an index stands for in a row of `length` places, as in Python: negative ones count
 * from the end. False: outside the row. */
MASK_SHARED int mask_rule_index(int64_t index, uint32_t length, uint32_t *ret_place) {
    int64_t place = index < 0 ? index + (int64_t)length : index;

    *ret_place = (uint32_t)place;
    return index >= -(int64_t)length && index < (int64_t)length;
}

/* Is a token in the span [first, end)? Both count from the start of the sequence. A span that goes
 * beyond the sequence ends with it; one that ends before it begins is empty. */
MASK_SHARED int mask_rule_in_span(int64_t first, int64_t end, int64_t token) {
    return token >= first && token < end;
}

/* The bits of data * mask for a dtype's bits, as PyTorch's CPU build for x86 makes them: 1 gives
 * the value, 0 gives 0 with the value's sign, or NaN for what is not finite. (Its NaNs of bfloat16
 * come in two patterns, by where an element lies; here they are 7fc0.) Integers know neither. */
MASK_SHARED uint64_t mask_rule_times(uint32_t dtype, uint64_t bits, int keep) {
    uint64_t exponent = dtype == SEQFEED_FLOAT16    ? 0x7c00u
                        : dtype == SEQFEED_BFLOAT16 ? 0x7f80u
                        : dtype == SEQFEED_FLOAT32  ? 0x7f800000u
                                                    : 0;
    uint64_t sign = dtype == SEQFEED_FLOAT32 ? 0x80000000u : 0x8000u;
    uint64_t quiet = exponent & ~(exponent << 1); /* the lowest bit of the exponent */

    if (exponent == 0)
        return keep ? bits : 0;
    quiet >>= 1; /* the highest of the fraction */
    if ((bits & exponent) == exponent && (!keep || (bits & (sign - 1) & ~exponent))) {
        if (dtype == SEQFEED_BFLOAT16)
            return exponent | quiet;
        return bits & (sign - 1) & ~exponent ? bits | quiet : sign | exponent | quiet;
    }
    return keep ? bits : bits & sign;
}
