/* SPDX-License-Identifier: MIT */
/* plan_cut.h: what becomes of one sequence under the overflow and empty rules. Private to plan/. */
#pragma once

#include "plan/plan.h"

typedef struct PlanCut {
    uint32_t pieces; /* units; 0: dropped */
    uint32_t skip;   /* tokens left out in front */
    uint32_t length; /* tokens of all pieces together */
} PlanCut;

static inline PlanCut plan_cut(const PlanSpec *spec, uint32_t length) {
    const uint32_t most = spec->length_max;

    if (length == 0)
        return (PlanCut){.pieces = spec->empty == PLAN_EMPTY_KEEP};
    if (length <= most)
        return (PlanCut){.pieces = 1, .length = length};
    switch (spec->overflow) {
    case PLAN_OVERFLOW_TRUNCATE_RIGHT:
        return (PlanCut){.pieces = 1, .length = most};
    case PLAN_OVERFLOW_TRUNCATE_LEFT:
        return (PlanCut){.pieces = 1, .skip = length - most, .length = most};
    case PLAN_OVERFLOW_SPLIT:
        return (PlanCut){.pieces = (length - 1) / most + 1, .length = length};
    case PLAN_OVERFLOW_DROP:
        return (PlanCut){0};
    case PLAN_OVERFLOW_ERROR:
        break;
    }
    return (PlanCut){.pieces = 1, .length = length};
}
