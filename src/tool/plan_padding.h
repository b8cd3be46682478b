/* SPDX-License-Identifier: MIT */
/* plan_padding.h: what an epoch's batches would hold, from lengths alone: real tokens, places,
 * losses. Reads every length of the dataset once. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "feed/feed.h"

enum { PLAN_SHAPES_MAX = 1024 };

typedef struct PlanShape {
    uint32_t rows, length;
    uint64_t batches;
} PlanShape;

typedef struct PlanPadding {
    uint64_t rows, tokens; /* over all batches of the epoch, repeated ones included */
    uint64_t slots;        /* rows x padded length, summed over the batches */
    PlanTally tally;       /* what the length rules did to the dataset's sequences */
    uint64_t windows;
    /* Shapes of batches, the most frequent first. */
    PlanShape shapes[PLAN_SHAPES_MAX];
    uint32_t shape_count;
    uint64_t other_batches; /* of shapes that found no room there */
    /* How well the order is mixed. A sequence travels from its place in the dataset to its place in
     * the epoch, both counted in parts of the whole: a third on average in a full permutation.
     * Neighbours in a strand come from the same block, or stood side by side in the dataset. */
    double travel, same_block, side_by_side;
} PlanPadding;

/* Blocks for small reads; shows a progress bar when it takes long. 0 or the catalog's error. */
MUST_CHECK int plan_padding_count(const Feed *feed, const PlanEpoch *epoch,
                                  PlanPadding *ret_padding, Error *error);
