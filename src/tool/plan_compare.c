/* SPDX-License-Identifier: MIT */
#include "tool/plan_compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tool/plan_walk.h"

enum { ROWS = 64, PACK_ROWS = 8, POOL = 256, FACTOR = 1100 };

static const PlanPolicy policies[PLAN_POLICIES] = {PLAN_POLICY_FIXED, PLAN_POLICY_BUCKET,
                                                   PLAN_POLICY_TOKENS, PLAN_POLICY_PACK};

static uint32_t longest_piece(const Feed *feed) {
    return MAX(MIN(feed->plan.length_max, feed->catalog->length_max), 1u);
}

static void describe_own(const PlanSpec *plan, char ret_what[64]) {
    switch (plan->policy) {
    case PLAN_POLICY_FIXED:
        snprintf(ret_what, 64, "fixed, %" PRIu32 " rows", plan->size);
        return;
    case PLAN_POLICY_BUCKET:
        snprintf(ret_what, 64, "bucket, %" PRIu32 " rows, %" PRIu32 " buckets", plan->size,
                 plan->boundary_count);
        return;
    case PLAN_POLICY_TOKENS:
        snprintf(ret_what, 64, "tokens, %" PRIu32 " places", plan->tokens);
        return;
    case PLAN_POLICY_PACK:
        snprintf(ret_what, 64, "pack, rows of %" PRIu32, plan->length);
    }
}

/* The usual settings of a policy for these lengths. */
static PlanSpec usual(const Feed *feed, PlanPolicy policy, double mean_length,
                      uint32_t boundaries[PLAN_BOUNDARIES_MAX]) {
    PlanSpec plan = feed->plan;
    uint32_t longest = longest_piece(feed);

    plan.policy = policy;
    plan.size = policy == PLAN_POLICY_PACK ? PACK_ROWS : ROWS;
    plan.shape_bucket = false;
    plan.multiple_of = 1;
    plan.group = 0;
    plan.pool = POOL;
    plan.length = longest;
    plan.tokens = MAX((uint32_t)MIN(ROWS * mean_length * 4, 1e9),
                      (uint32_t)MIN(plan_row_places(&plan, longest), UINT64_C(1000000000)));
    plan.boundaries = boundaries;
    plan.boundary_count = feed_geometric_boundaries(longest, FACTOR, boundaries);
    if (policy == PLAN_POLICY_PACK) {
        plan.pad_to = 0;
        plan.pad_multiple_of = 1;
    }
    return plan;
}

/* 0; -ENODATA: no batches under this policy. */
static int measure(const Feed *feed, const PlanSpec *plan, double *ret_padding, Error *error) {
    FeedEpoch *epoch = NULL;
    PlanSums *sums = malloc(sizeof *sums);
    Feed variant;
    int r;

    if (!sums)
        return error_set(error, -ENOMEM, "no memory to compare policies");
    r = feed_variant_init(feed, plan, &variant);
    if (r < 0) {
        free(sums);
        return r == -ENOMEM ? r : -ENODATA;
    }
    r = feed_epoch_get(&variant, plan->seed, 0, NULL, &epoch, error);
    if (r == 0)
        r = plan_walk(&variant, epoch->plan, NULL, sums, error);
    if (r == 0 && sums->slots > 0)
        *ret_padding = 1 - (double)sums->tokens / (double)sums->slots;
    feed_epoch_unref(&variant, epoch);
    feed_variant_deinit(&variant);
    free(sums);
    return r;
}

int plan_compare(const Feed *feed, double mean_length, double own_padding,
                 PlanCompared ret_compared[PLAN_POLICIES], uint32_t *ret_count, Error *error) {
    uint32_t boundaries[PLAN_BOUNDARIES_MAX], count = 0;

    for (uint32_t i = 0; i < PLAN_POLICIES; i++) {
        bool is_own = policies[i] == feed->plan.policy;
        PlanSpec plan = usual(feed, policies[i], mean_length, boundaries);
        PlanCompared *one = &ret_compared[count];
        int r;

        *one = (PlanCompared){.policy = policies[i], .is_own = is_own, .padding = own_padding};
        describe_own(is_own ? &feed->plan : &plan, one->what);
        if (plan.length > PLAN_LENGTH_MAX)
            continue;
        r = is_own ? 0 : measure(feed, &plan, &one->padding, error);
        if (r < 0 && r != -ENODATA)
            return r;
        count += r == 0;
    }
    *ret_count = count;
    return 0;
}
