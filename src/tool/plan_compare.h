/* SPDX-License-Identifier: MIT */
/* plan_compare.h: the padding of the same sequences under every policy, with its usual settings. */
#pragma once

#include "base/error.h"
#include "feed/feed.h"

typedef struct PlanCompared {
    char what[64]; /* "pack, rows of 2048" */
    PlanPolicy policy;
    bool is_own; /* the feed's own, as configured */
    double padding;
} PlanCompared;

enum { PLAN_POLICIES = 4 };

/* The feed's own policy is `own_padding`. Policies that cannot batch this dataset are left out.
 * 0 or the catalog's error. */
MUST_CHECK int plan_compare(const Feed *feed, double mean_length, double own_padding,
                            PlanCompared ret_compared[PLAN_POLICIES], uint32_t *ret_count,
                            Error *error);
