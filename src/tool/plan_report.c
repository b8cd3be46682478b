/* SPDX-License-Identifier: MIT */
#include "tool/plan_report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/clock.h"
#include "tool/plan_ideal.h"

enum {
    BATCHES_OF_A_WINDOW = 64, /* fewer lose too much at the window's end */
    LENGTHS_COUNTED = 1 << 22 /* no histogram of longer sequences */
};
#define NEIGHBOURS_MAX 0.05   /* from one block: more is not mixed */
#define SHARE_OFF 0.05        /* of a source's weight */
#define AMPLIFICATION_MAX 1.5 /* more deserves a word */

static void free_numbers(uint64_t **numbers) {
    free(*numbers);
}

static uint32_t greatest_divisor(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

double plan_report_amplification(const PlanReport *report) {
    return (double)(report->reads.decoded + report->reads.again) /
           (double)MAX(report->reads.blocks, UINT64_C(1));
}

double plan_report_count_rate(const PlanReport *report) {
    return (double)report->sequences / MAX(report->count_seconds, 1e-9);
}

bool plan_report_reads_lengths(const PlanReport *report) {
    const Feed *feed = report->feed;

    return feed->plan.policy != PLAN_POLICY_FIXED || (feed->plan.mix && feed->block_pieces);
}

/* Tokens in no batch, by who leaves them out. */
static int count_dropped(PlanReport *report, const FeedEpoch *epoch, Error *error) {
    const PlanEpoch *plan = epoch->plan;
    uint64_t last, all, most = 0, left = 0;
    int r;

    for (uint32_t s = 0; s < plan->strand_count; s++)
        most = MAX(most, plan->strands[s].batch_count);
    if (report->feed->plan.tail == PLAN_TAIL_DROP)
        left = report->repeated;
    r = feed_epoch_dropped(report->feed, epoch, most * plan->strand_count, NULL, &last, error);
    if (r == 0)
        r = feed_epoch_dropped(report->feed, epoch, plan->batch_count - left, NULL, &all, error);
    if (r < 0)
        return r;
    report->dropped_by_length = report->sums.tally.tokens_dropped;
    report->dropped_by_last = last - report->dropped_by_length;
    report->dropped_by_tail = all - last;
    return 0;
}

static void measure_ideal(PlanReport *report, const uint64_t *lengths, uint32_t longest) {
    const PlanSpec *plan = &report->feed->plan;

    report->packed_room = plan->policy == PLAN_POLICY_PACK ? plan->length : longest;
    report->random_padding = report->packed_padding = -1;
    if (!lengths)
        return;
    report->random_padding = plan_ideal_random(lengths, longest, PLAN_RANDOM_ROWS);
    report->packed_padding = plan_ideal_packed(lengths, longest, report->packed_room);
}

static int walk(PlanReport *report, const PlanEpoch *plan, Error *error) {
    const Feed *feed = report->feed;
    uint32_t longest = MAX(MIN(feed->plan.length_max, feed->catalog->length_max), 1u);
    CLEANUP(free_numbers) uint64_t *lengths = NULL;
    uint32_t first_blocks[PLAN_SOURCES_MAX] = {0};
    int r;

    if (longest <= LENGTHS_COUNTED)
        lengths = calloc(longest + (size_t)1, sizeof *lengths);
    for (uint32_t s = 0; s < feed->mix.source_count; s++)
        first_blocks[s] = feed->mix.sources[s].first_block;
    if (plan_spread_init(&report->spread, &feed->blocks, first_blocks,
                         MAX(feed->mix.source_count, 1u), plan) < 0 ||
        plan_sources_take(report, plan) < 0 ||
        plan_reads_init(&report->reads, &feed->plan, plan, report->world, report->nodes) < 0)
        return error_set(error, -ENOMEM, "no memory to look at feed %s", feed->name);
    r = plan_walk(
        feed, plan,
        &(PlanLooks){.spread = &report->spread, .reads = &report->reads, .lengths = lengths},
        &report->sums, error);
    if (r < 0)
        return r;
    if (report->sums.slots > 0)
        report->padding_share = 1.0 - (double)report->sums.tokens / (double)report->sums.slots;
    report->mean_length = plan_spread_lengths(&report->spread).mean;
    measure_ideal(report, lengths, longest);
    return 0;
}

static int plan_epoch(PlanReport *report, Error *error) {
    Feed *feed = report->feed;
    FeedEpoch *epoch = NULL;
    uint64_t rounds;
    int r = feed_epoch_get(feed, feed->plan.seed, 0, NULL, &epoch, error);

    if (r < 0)
        return r;
    report->batches = epoch->plan->batch_count;
    report->batches_cut = epoch->plan->batches_cut;
    rounds = plan_round_count(feed->plan.tail, report->batches, 0, report->world);
    report->batches_per_rank = rounds;
    report->repeated = feed->plan.tail == PLAN_TAIL_REPEAT
                           ? rounds * report->world - report->batches
                           : report->batches - rounds * report->world;
    r = walk(report, epoch->plan, error);
    if (r == 0)
        r = count_dropped(report, epoch, error);
    /* What reads counts by the epoch is done. */
    report->reads.epoch = NULL;
    feed_epoch_unref(feed, epoch);
    return r;
}

/* Where the tensors of the largest batch lie. */
static void describe_tensors(PlanReport *report) {
    const TensorSet *tensors = &report->feed->tensors;
    uint32_t rows = tensors->rows_max, length = tensors->length_max;
    TensorLayout layout;

    /* With a budget of places the longest rows are the fewest. */
    if (tensors->places_max && length)
        rows = (uint32_t)MIN((uint64_t)rows, tensors->places_max / length);
    if (tensors->packed)
        tensor_layout_packed(tensors, rows, length, tensors->sequences_max, 0, &layout);
    else
        tensor_layout(tensors, rows, length, &layout);
    tensor_describe(tensors, rows, length, &layout, report->tensors);
}

static void warn(PlanReport *report, const char *format, ...) PRINTF_FORMAT(2, 3);

static void warn(PlanReport *report, const char *format, ...) {
    va_list arguments;

    if (report->warning_count == PLAN_WARNINGS_MAX)
        return;
    va_start(arguments, format);
    vsnprintf(report->warnings[report->warning_count++], sizeof report->warnings[0], format,
              arguments);
    va_end(arguments);
}

/* How long a seek takes: an epoch that is not known yet is counted, and one window planned. That
 * epoch may be one that cannot be; then the stream will end before it. */
static int measure_seek(PlanReport *report, Error *error) {
    Feed *feed = report->feed;
    FeedEpoch *epoch = NULL;
    int64_t begun = clock_now_ns();
    int r = feed_epoch_get(feed, feed->plan.seed, 1, NULL, &epoch, error);

    if (r == -ENODATA)
        warn(report, "a stream ends behind epoch 0: %s", error->text);
    else if (r < 0)
        return r;
    report->count_seconds = (double)(clock_now_ns() - begun) / 1e9;
    report->seek_seconds = report->count_seconds +
                           report->sums.seconds / (double)MAX(report->sums.windows, UINT64_C(1));
    feed_epoch_unref(feed, epoch);
    return 0;
}

/* A share is at least one block of a period and rounded to whole ones. */
static void warn_of_shares(PlanReport *report) {
    for (uint32_t s = 0; s < report->feed->mix.source_count; s++) {
        double kept, wanted = plan_sources_wanted(report, s, &kept);

        if (fabs(kept - wanted) > SHARE_OFF * wanted)
            warn(report,
                 "dataset %s gets %.3f %% in the long run, its weight asks for %.3f %%: shares are "
                 "kept to one block of %d",
                 report->feed->source_names[s], 100 * kept, 100 * wanted, PLAN_MIX_PERIOD);
    }
}

static void add_warnings(PlanReport *report) {
    const Feed *feed = report->feed;
    const PlanSums *sums = &report->sums;
    double amplification = plan_report_amplification(report);

    warn_of_shares(report);
    if (feed->plan.policy != PLAN_POLICY_FIXED && sums->windows > feed->plan.strands &&
        sums->units < BATCHES_OF_A_WINDOW * sums->windows)
        warn(report,
             "a window gives about %" PRIu64
             " %s, and each window ends with one that is not whole: "
             "a larger order.window pads less",
             sums->units / sums->windows,
             feed->plan.policy == PLAN_POLICY_PACK ? "rows" : "batches");
    if (feed->plan.shuffle && sums->windows > feed->plan.strands &&
        report->spread.same_block > NEIGHBOURS_MAX)
        warn(report,
             "a window holds too little to mix well: %.0f %% of neighbours come from one block; "
             "raise order.window (now %" PRIu32 " blocks)",
             100 * report->spread.same_block, feed->plan.window);
    if (report->nodes > 1 && amplification > AMPLIFICATION_MAX &&
        feed->plan.strands % report->world != 0)
        warn(report,
             "%" PRIu32 " nodes decode each block %.1f times in all; with order.strands: %" PRIu32
             " each is decoded once",
             report->nodes, amplification, report->world);
}

/* Whether there is a device the daemon's machine knows, not this one. */
static uint64_t device_inputs(const Feed *feed) {
    uint64_t bytes;

    if (!feed->wants_device || feed_bound_input(feed, &bytes) < 0)
        return 0;
    return feed->slots * bytes;
}

int plan_report_make(Feed *feed, uint64_t memory_limit, uint32_t world, uint32_t nodes,
                     bool compare, PlanReport **ret_report, Error *error) {
    PlanReport *report = calloc(1, sizeof *report);
    uint32_t strands = feed->plan.strands;
    int r;

    if (!report)
        return error_set(error, -ENOMEM, "no memory to plan feed %s", feed->name);
    report->feed = feed_ref(feed);
    report->world = world;
    report->nodes = nodes;
    report->memory_limit = memory_limit;
    report->memory = feed_memory(feed, 1, strands / greatest_divisor(strands, world));
    report->device_inputs = device_inputs(feed);
    r = plan_epoch(report, error);
    if (r == 0)
        r = measure_seek(report, error);
    if (r == 0 && compare)
        r = plan_compare(feed, report->mean_length, report->padding_share, report->compared,
                         &report->compared_count, error);
    if (r < 0) {
        plan_report_free(report);
        return r;
    }
    describe_tensors(report);
    add_warnings(report);
    *ret_report = report;
    return 0;
}

void plan_report_free(PlanReport *report) {
    if (!report)
        return;
    plan_spread_deinit(&report->spread);
    plan_reads_deinit(&report->reads);
    feed_unref(report->feed);
    free(report->sources);
    free(report);
}
