/* SPDX-License-Identifier: MIT */
/* plan_scratch.h: the parts that a PlanScratch is cut into. Private to plan/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "plan/plan.h"

typedef struct PlanScratchParts {
    uint32_t *lengths;        /* [pieces], in the window's order */
    uint32_t *order, *firsts; /* of PlanForm; firsts [units + 1] */
    uint32_t *units;          /* [units]: the order in which they come */
    PlanUnit *pieces;         /* in the window's order, before they are grouped */
    uint32_t *form;           /* the policy's own */
} PlanScratchParts;

/* Room for a window of so many pieces; what was there before is lost. False: no memory. */
bool plan_scratch_make(PlanScratch *scratch, const PlanSpec *spec, uint32_t pieces,
                       PlanScratchParts *ret_parts);
