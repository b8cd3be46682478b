/* SPDX-License-Identifier: MIT */
/* compute.h: tensors whose elements follow from rules (mask_rule.h) rather than from a column
 * alone: masks from steps, products, positions, labels, loss masks. Part of the CPU backend; fill.c
 * and fill_packed.c call it row by row. Pure functions; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "mask/fill.h"
#include "mask/tensor.h"

/* Is this tensor's source one that compute_places() knows? */
bool compute_knows(const TensorSpec *spec);

/* Write places first .. last of a row padded to `length`, one after another from `to` on. `source`
 * NULL: an empty row. */
void compute_places(const TensorSet *set, const TensorSpec *spec, const FillRow *source,
                    uint32_t length, uint32_t first, uint32_t last, void *to);

/* Write from, from + 1 … as `count` integers of `bytes`, 4 or 8. */
void compute_count(uint8_t *to, uint32_t bytes, uint64_t from, uint32_t count);

/* Write all places of a packed row that holds these sequences; POSITIONS are not for this. */
void compute_packed(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                    uint32_t count, uint32_t length, void *to);

/* What a row's lists say that its place in the batch does not allow: 0, or -ERANGE with the tensor,
 * the value and what is allowed. Cheap when no tensor has lists. */
MUST_CHECK int compute_check_row(const TensorSet *set, const FillRow *row, uint32_t length,
                                 Error *error);
/* Can compute_check_row() refuse anything? */
bool compute_checks(const TensorSet *set);
