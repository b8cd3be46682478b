/* SPDX-License-Identifier: MIT */
/* fill_packed.h: writes rows that hold several sequences one after another. What fill.h says of
 * pieces and threads holds here too. */
#pragma once

#include <stdint.h>

#include "mask/fill.h"
#include "mask/tensor.h"

/* Some neighbouring rows of a batch and the sequences in them. */
typedef struct FillPacked {
    uint32_t first_row, row_count;
    uint32_t first_sequence, sequence_count; /* of the batch */
    uint64_t first_token;                    /* real tokens of the batch before them */
    const FillRow *sources;                  /* [sequence_count] */
    const uint32_t *firsts; /* [row_count + 1]: row r holds sources firsts[r] - firsts[0] ..
                               firsts[r + 1] - firsts[0]; NULL: rows of padding only */
} FillPacked;

/* Fill these rows, and their sequences' entries, of a batch of rows of `length` places whose slot
 * begins at `slot`. `layout` is of tensor_layout_packed(). Each row's tokens fit into it. */
void fill_packed(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t length,
                 const FillPacked *part);
