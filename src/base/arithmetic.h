/* SPDX-License-Identifier: MIT */
/* arithmetic.h: sums and products of numbers that come from outside, and rounding. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

/* True when the result fits and was stored; on false *ret is undefined. */
#define add_checked(a, b, ret) (!__builtin_add_overflow((a), (b), (ret)))
#define subtract_checked(a, b, ret) (!__builtin_sub_overflow((a), (b), (ret)))
#define multiply_checked(a, b, ret) (!__builtin_mul_overflow((a), (b), (ret)))

static inline uint64_t align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

static inline uint64_t align_down(uint64_t value, uint64_t alignment) {
    return value / alignment * alignment;
}

static inline uint64_t divide_up(uint64_t value, uint64_t divisor) {
    return value / divisor + (value % divisor != 0);
}
