/* SPDX-License-Identifier: MIT */
/* convert.h: runs of values from their on-disk type to a tensor's dtype, and runs of one value.
 * Pure functions; any thread. The fastest form for this CPU is chosen once. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Convert `count` values. `from` and `to` are aligned to their own element (u24: not at all) and do
 * not overlap. Nothing outside the two runs is touched. */
typedef void ConvertFunction(void *to, const void *from, size_t count);

/* The function for this pair, or NULL when tensor_dtype_allows() refuses it. */
ConvertFunction *convert_find(uint32_t element, uint32_t dtype);

/* Store `count` elements of `element_bytes` (1, 2, 4 or 8) that hold the low bytes of `bits`. */
void convert_repeat(void *to, uint64_t bits, uint32_t element_bytes, size_t count);

/* Store for each of `count` answers (0 or 1) the low bytes of `bits[answer]`. */
void convert_select(void *to, const uint8_t *answers, const uint64_t bits[2],
                    uint32_t element_bytes, size_t count);

/* How the loops were compiled: 0 plain C, 1 AVX2, 2 AVX-512. convert_set_level() is for tests and
 * measurements: it lowers the level (never above what the CPU has) and returns what is in force. */
int convert_level(void);
int convert_set_level(int level);
