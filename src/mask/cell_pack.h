/* SPDX-License-Identifier: MIT */
/* cell_pack.h: a batch in the form in which it goes to a device (mask_cell.h). Pure functions; any
 * thread. */
#pragma once

#include <stdint.h>

#include "mask/fill.h"
#include "mask/mask_cell.h"

/* The plan of a set. -E2BIG when its tensors look at more columns than a plan has inputs for
 * or a batch has 2^32 elements of one, -EOPNOTSUPP for packed sets: devices have no rules for them. */
MUST_CHECK int cell_plan_make(const TensorSet *set, CellPlan *ret_plan);

/* The most bytes that a block for a batch of `rows` x `length` takes when its rows' lists have at
 * most `list_values` numbers each. */
uint64_t cell_pack_bytes(const TensorSet *set, const CellPlan *plan, uint32_t rows, uint32_t length,
                         uint64_t list_values);

/* Write a block of at most `capacity` bytes: `sources` are the first `count` rows, those up to
 * `rows` are empty. Returns its size, or 0 when it does not fit. */
uint64_t cell_pack(const TensorSet *set, const CellPlan *plan, const TensorLayout *layout,
                   uint32_t rows, uint32_t length, const FillRow *sources, uint32_t count,
                   void *ret_block, uint64_t capacity);
