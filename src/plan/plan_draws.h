/* SPDX-License-Identifier: MIT */
/* plan_draws.h: the random draws behind one permutation, in groups, because a group of Philox calls
 * side by side costs a third of the same calls one by one, and because a caller that knows its next
 * targets can have them fetched from memory. Private to plan/. */
#pragma once

#include <stdint.h>

#include "plan/plan.h"

/* What a random number of the order is for; stands in the counter (docs/formats/plan.md). */
typedef enum PlanPurpose {
    PLAN_PURPOSE_BLOCKS = 1,
    PLAN_PURPOSE_SEQUENCES = 2,
    PLAN_PURPOSE_UNITS = 3, /* policies whose units are batches */
    PLAN_PURPOSE_MIX = 4    /* several sources */
} PlanPurpose;

enum { PLAN_DRAWS_GROUP = 64 };

/* One permutation's place among all of them. */
typedef struct PlanDraws {
    uint64_t seed;
    uint64_t epoch;
    PlanPurpose purpose;
    uint32_t strand; /* or source */
    uint32_t window;
} PlanDraws;

/* The targets of Fisher-Yates steps last, last - 1, … (of at most PLAN_DRAWS_GROUP steps, never
 * below step 1) in a permutation of `count` things: step i exchanges thing i with thing
 * ret_targets[last - i] <= i. `last` is count - 1 less a multiple of PLAN_DRAWS_GROUP. Returns the
 * number of steps. */
uint32_t plan_draws_targets(const PlanDraws *draws, uint32_t count, uint32_t last,
                            uint32_t ret_targets[PLAN_DRAWS_GROUP]);

/* Permute. */
void plan_shuffle_numbers(const PlanDraws *draws, uint32_t *numbers, uint32_t count);
void plan_shuffle_units(const PlanDraws *draws, PlanUnit *units, uint32_t count);
