/* SPDX-License-Identifier: MIT */
/* plan_mix.h: the blocks of one epoch of several sources, in their order. Private to plan/. */
#pragma once

#include "plan/plan.h"

/* The list of one epoch, and where each source stands in it. */
typedef struct PlanMixList {
    uint32_t *blocks; /* [count] */
    uint32_t count;
    PlanSourceSpan *spans; /* [mix->source_count] */
} PlanMixList;

/* Both are the caller's to free. -ENOMEM, or -EOVERFLOW when there are 2^32 blocks or more. */
MUST_CHECK int plan_mix_list(const PlanSpec *spec, const PlanBlocks *blocks, uint64_t epoch,
                             PlanMixList *ret_list);
