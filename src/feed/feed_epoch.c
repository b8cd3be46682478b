/* SPDX-License-Identifier: MIT */
/* Counted epochs, of which the last few (seed, epoch) are kept. The lock is never held while one is
 * counted; two threads that count the same one at the same time both succeed, one is kept. */
#include "feed/feed_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void free_numbers(uint32_t **numbers) {
    free(*numbers);
}

static void free_list(uint32_t ***list) {
    free(*list);
}

static void free_plan(PlanEpoch **plan) {
    plan_epoch_free(*plan);
}

/* Policy fixed: a window's units are the pieces of its blocks. */
static void sum_windows(const Feed *feed, const PlanEpoch *plan, uint32_t *const *units) {
    for (uint32_t s = 0; s < plan->strand_count; s++) {
        const PlanStrand *strand = &plan->strands[s];

        for (uint32_t w = 0; w < strand->window_count; w++) {
            const uint32_t *blocks = strand->blocks + strand->windows[w].block_first;

            units[s][w] = 0; /* feed_bound_windows() has seen that no sum wraps */
            for (uint32_t i = 0; i < strand->windows[w].block_count; i++)
                units[s][w] += feed->block_pieces[blocks[i]];
        }
    }
}

/* Give each strand its part of one array; the numbers come later. */
static void share_windows(const PlanEpoch *plan, uint32_t *units, uint32_t **ret_strands) {
    for (uint32_t s = 0; s < plan->strand_count; s++) {
        ret_strands[s] = units;
        units += plan->strands[s].window_count;
    }
}

/* -ENODATA: ret_strand has no batch; any other error has its sentence. */
static int finish_plan(const Feed *feed, const PlanSpec *spec, PlanEpoch *plan,
                       const Heartbeat *heartbeat, uint32_t *ret_strand, Error *error) {
    CLEANUP(free_numbers) uint32_t *units = NULL;
    CLEANUP(free_list) uint32_t **strands = NULL;
    bool is_fixed = spec->policy == PLAN_POLICY_FIXED;
    bool by_blocks = is_fixed && !spec->mix; /* else some blocks come more often than others */
    PlanTally tally = feed->tally;
    size_t windows = 1;
    int r = 0;

    if (is_fixed && !feed->block_pieces)
        return plan_epoch_finish(spec, plan, NULL, NULL, ret_strand);
    for (uint32_t s = 0; s < plan->strand_count; s++)
        windows += plan->strands[s].window_count;
    units = malloc(windows * sizeof *units);
    strands = malloc((plan->strand_count + (size_t)1) * sizeof *strands);
    if (!units || !strands)
        return error_set(error, -ENOMEM, "no memory to count feed %s", feed->name);
    share_windows(plan, units, strands);
    if (by_blocks)
        sum_windows(feed, plan, strands);
    else
        r = feed_count_windows(feed, spec, plan, heartbeat, strands, &tally, error);
    if (r < 0)
        return r == -ENODATA ? -EIO : r; /* -ENODATA is a strand without a batch */
    return plan_epoch_finish(spec, plan, strands, &tally, ret_strand);
}

static int explain_strand(const Feed *feed, const PlanEpoch *plan, uint32_t strand, Error *error) {
    const PlanStrand *of = &plan->strands[strand];
    uint64_t units = of->unit_sums[of->window_count];
    bool is_drop = feed->plan.last == PLAN_LAST_DROP;
    bool units_are_batches = plan_units_are_batches(&feed->plan);
    char who[64];

    if (plan->strand_count == 1)
        snprintf(who, sizeof who, "epoch %" PRIu64 " has no batch", plan->epoch);
    else
        snprintf(who, sizeof who, "strand %u of %u has no batch in epoch %" PRIu64, strand,
                 plan->strand_count, plan->epoch);
    if (units == 0 || units_are_batches)
        return error_set(
            error, -ENODATA, "%s: its %u %s nothing that a batch could be made of; %s", who,
            of->block_count, of->block_count == 1 ? "block holds" : "blocks hold",
            plan->strand_count > 1
                ? "lower order.strands, or see what length.empty and length.overflow drop"
            : is_drop && units_are_batches ? "set batch.last to keep"
                                           : "see what length.empty and length.overflow drop");
    return error_set(
        error, -ENODATA, "%s: its %u %s %" PRIu64 " row%s, a batch has %u; lower %sbatch.size%s",
        who, of->block_count, of->block_count == 1 ? "block gives" : "blocks give", units,
        units == 1 ? "" : "s", feed->plan.size, plan->strand_count > 1 ? "order.strands or " : "",
        is_drop ? ", or set batch.last to keep" : "");
}

static int count_epoch(const Feed *feed, uint64_t seed, uint64_t number, const Heartbeat *heartbeat,
                       FeedEpoch **ret_epoch, Error *error) {
    const PlanSpec spec = feed_plan_spec(feed, seed);
    CLEANUP(free_plan) PlanEpoch *plan = NULL;
    uint32_t strand = 0;
    FeedEpoch *epoch;
    int r;

    r = plan_epoch_new(&spec, &feed->blocks, number, &plan);
    if (r == 0) {
        r = finish_plan(feed, &spec, plan, heartbeat, &strand, error);
        if (r < 0)
            return r == -ENODATA ? explain_strand(feed, plan, strand, error) : r;
    }
    epoch = r == 0 ? malloc(sizeof *epoch) : NULL;
    if (!epoch)
        return error_set(error, r < 0 ? r : -ENOMEM,
                         "no memory to plan epoch %" PRIu64 " of feed %s", number, feed->name);
    *epoch = (FeedEpoch){.plan = plan, .seed = seed};
    plan = NULL;
    *ret_epoch = epoch;
    return 0;
}

/* Put the epoch at place `from` of the kept ones (or a new one, from the last place) first. */
static void move_first(Feed *feed, uint32_t from, FeedEpoch *epoch) {
    for (; from > 0; from--)
        feed->epochs[from] = feed->epochs[from - 1];
    feed->epochs[0] = epoch;
}

/* The kept epoch with one more reference, or NULL. Under the lock. */
static FeedEpoch *find_epoch(Feed *feed, uint64_t seed, uint64_t number) {
    for (uint32_t i = 0; i < FEED_EPOCHS_KEPT && feed->epochs[i]; i++) {
        FeedEpoch *epoch = feed->epochs[i];

        if (epoch->seed != seed || epoch->plan->epoch != number)
            continue;
        epoch->references++;
        move_first(feed, i, epoch);
        return epoch;
    }
    return NULL;
}

static void free_epoch(FeedEpoch *epoch) {
    plan_epoch_free(epoch->plan);
    free(epoch);
}

int feed_epoch_get(Feed *feed, uint64_t seed, uint64_t epoch, const Heartbeat *heartbeat,
                   FeedEpoch **ret_epoch, Error *error) {
    FeedEpoch *found, *oldest, *fresh = NULL;
    int r;

    pthread_mutex_lock(&feed->lock);
    found = find_epoch(feed, seed, epoch);
    pthread_mutex_unlock(&feed->lock);
    if (found) {
        *ret_epoch = found;
        return 0;
    }
    r = count_epoch(feed, seed, epoch, heartbeat, &fresh, error);
    if (r < 0)
        return r;
    assert(fresh);

    pthread_mutex_lock(&feed->lock);
    found = find_epoch(feed, seed, epoch);
    oldest = found ? NULL : feed->epochs[FEED_EPOCHS_KEPT - 1];
    if (!found) {
        fresh->references = 2;
        move_first(feed, FEED_EPOCHS_KEPT - 1, fresh);
    }
    pthread_mutex_unlock(&feed->lock);
    feed_epoch_unref(feed, oldest);
    if (found)
        free_epoch(fresh);
    *ret_epoch = found ? found : fresh;
    return 0;
}

void feed_epoch_unref(Feed *feed, FeedEpoch *epoch) {
    bool is_last;

    if (!epoch)
        return;
    pthread_mutex_lock(&feed->lock);
    is_last = --epoch->references == 0;
    pthread_mutex_unlock(&feed->lock);
    if (is_last)
        free_epoch(epoch);
}
