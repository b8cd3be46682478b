/* SPDX-License-Identifier: MIT */
/* fill.h: writes rows of a batch into its slot. A batch may be filled in pieces, by several threads
 * at once, as long as no row is filled twice; when all rows have been filled every byte of every
 * tensor has been written. */
#pragma once

#include <stdint.h>

#include "mask/tensor.h"

/* One row: a piece of a sequence in a decoded block. */
typedef struct FillRow {
    const uint8_t *const *columns; /* start of each catalog column's values in the block; [0]
                                      tokens; then what TensorSet.column_count tells */
    uint32_t sequence;             /* within the block: index into per-sequence columns */
    uint32_t start;                /* first token within the block: index into per-token columns */
    uint32_t length;               /* tokens; <= the batch's length */
} FillRow;

/* Ask the memory for the first of these rows, which lie anywhere in a window of tens of megabytes.
 * Changes no byte: when called before other work of the same batch, fill_rows() waits less. */
void fill_prefetch(const TensorSet *set, const FillRow *rows, uint32_t count);

/* Fill rows first_row .. first_row + count of a batch of `rows` x `length` whose slot begins at
 * `slot`. Values are converted from their on-disk type; padding per TensorSpec. */
void fill_rows(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t rows,
               uint32_t length, uint32_t first_row, const FillRow *sources, uint32_t count);

/* The same for rows that stand for nothing (last: pad): length 0, per-sequence columns hold their
 * pad. */
void fill_empty_rows(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t rows,
                     uint32_t length, uint32_t first_row, uint32_t count);
