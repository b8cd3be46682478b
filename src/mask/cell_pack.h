/* SPDX-License-Identifier: MIT */
/* cell_pack.h: a batch in the form in which it goes to a device (cell_batch.h). Pure functions; any
 * thread. */
#pragma once

#include <stdint.h>

#include "mask/fill.h"
#include "mask/fill_packed.h"
#include "mask/mask_cell.h"

/* The plan of a set. -E2BIG when its tensors look at more columns than a plan has inputs for, or a
 * batch has 2^32 elements of one. */
MUST_CHECK int cell_plan_make(const TensorSet *set, CellPlan *ret_plan);

/* What a batch has at most. */
typedef struct CellExtent {
    uint32_t rows, sequences;
    uint64_t tokens;
    uint64_t list_entries; /* of each ragged column, in all its lists together */
} CellExtent;

/* The most bytes that its block takes. */
uint64_t cell_pack_bytes(const TensorSet *set, const CellPlan *plan, const CellExtent *extent);

/* The rows of a batch as they lie in decoded blocks. Those behind them are empty. */
typedef struct CellSource {
    const FillRow *rows; /* packed: its sequences, one after another */
    uint32_t count;
    const FillPacked *parts; /* packed: which of its rows have them; [part_count], in order; their
                                sources are not looked at */
    uint32_t part_count;
} CellSource;

/* Write the block of a batch with this layout, of at most `capacity` bytes. Returns its size, or 0
 * when it does not fit. */
uint64_t cell_pack(const TensorSet *set, const CellPlan *plan, const TensorLayout *layout,
                   uint32_t length, const CellSource *source, void *ret_block, uint64_t capacity);
