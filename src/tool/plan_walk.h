/* SPDX-License-Identifier: MIT */
/* plan_walk.h: goes through an epoch's windows as a stream would and adds up what its batches hold:
 * real tokens, places, shapes, losses. Reads every length of the dataset once, and no token. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "feed/feed.h"
#include "tool/plan_reads.h"
#include "tool/plan_spread.h"

enum { PLAN_SHAPES_MAX = 1024 };

typedef struct PlanShape {
    uint32_t rows, length;
    uint64_t batches;
} PlanShape;

typedef struct PlanSums {
    uint64_t rows, tokens; /* over all batches of the epoch, repeated ones included */
    uint64_t slots;        /* rows x padded length, summed over the batches */
    PlanTally tally;       /* what the length rules did to the dataset's sequences */
    uint64_t windows, units;
    double seconds;
    /* Shapes of batches, the most frequent first. */
    PlanShape shapes[PLAN_SHAPES_MAX];
    uint32_t shape_count;
    uint64_t other_batches; /* of shapes that found no room there */
} PlanSums;

/* What else looks at what comes by; any of it may be NULL. */
typedef struct PlanLooks {
    PlanSpread *spread;
    PlanReads *reads;
    uint64_t *lengths; /* [longest piece + 1]: how many pieces have each length; from zero on */
} PlanLooks;

/* Blocks for small reads; shows a progress bar when it takes long. 0 or the catalog's error. */
MUST_CHECK int plan_walk(const Feed *feed, const PlanEpoch *epoch, const PlanLooks *looks,
                         PlanSums *ret_sums, Error *error);
