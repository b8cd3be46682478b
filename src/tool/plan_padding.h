/* SPDX-License-Identifier: MIT */
/* plan_padding.h: what an epoch's batches would hold, from lengths alone: real tokens, places,
 * losses. Reads every length of the dataset once. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "feed/feed.h"

typedef struct PlanPadding {
    uint64_t rows, tokens; /* over all batches of the epoch, repeated ones included */
    uint64_t slots;        /* rows x padded length, summed over the batches */
    PlanTally tally;       /* what the length rules did to the dataset's sequences */
} PlanPadding;

/* Blocks for small reads; shows a progress bar when it takes long. 0 or the catalog's error. */
MUST_CHECK int plan_padding_count(const Feed *feed, const PlanEpoch *epoch,
                                  PlanPadding *ret_padding, Error *error);
