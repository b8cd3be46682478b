/* SPDX-License-Identifier: MIT */
#include "tool/plan_walk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/progress.h"

/* One walk over an epoch: buffers for a window, and the batch that is being formed. */
typedef struct Walk {
    const Feed *feed;
    const PlanEpoch *epoch;
    const PlanLooks *looks;
    uint32_t *lengths, *block_sequences;
    PlanUnit *units;
    uint32_t *firsts; /* of units among the pieces in `units` */
    PlanScratch scratch;
    uint32_t strand;
    uint64_t batch; /* number within the strand */
    uint32_t rows, longest;
    uint64_t tokens;
    PlanSums sum;
} Walk;

static void walk_deinit(Walk *walk) {
    free(walk->lengths);
    free(walk->block_sequences);
    free(walk->units);
    free(walk->firsts);
    plan_scratch_free(&walk->scratch);
}

static int walk_init(Walk *walk) {
    const Feed *feed = walk->feed;

    walk->lengths = calloc(feed->window_sequences_max + 1, sizeof *walk->lengths);
    walk->block_sequences = calloc(feed->window_blocks_max + 1, sizeof *walk->block_sequences);
    walk->units = calloc(feed->window_pieces_max + 1, sizeof *walk->units);
    walk->firsts = calloc(feed->window_pieces_max + 2, sizeof *walk->firsts);
    return walk->lengths && walk->block_sequences && walk->units && walk->firsts ? 0 : -ENOMEM;
}

/* How often the epoch has this batch: 0 where strands were cut to the shortest, more than once
 * where a short strand begins again to keep up with the longest. */
static uint64_t batch_times(const Walk *walk) {
    uint64_t places = walk->epoch->batch_count / walk->epoch->strand_count;
    uint64_t own = walk->epoch->strands[walk->strand].batch_count;

    if (walk->batch >= MIN(places, own))
        return 0;
    return (places - walk->batch + own - 1) / own;
}

static void note_shape(Walk *walk, uint32_t rows, uint32_t length, uint64_t times) {
    PlanSums *sum = &walk->sum;
    uint32_t at = 0;

    while (at < sum->shape_count &&
           (sum->shapes[at].rows != rows || sum->shapes[at].length != length))
        at++;
    if (at == PLAN_SHAPES_MAX) {
        sum->other_batches += times;
        return;
    }
    if (at == sum->shape_count)
        sum->shapes[sum->shape_count++] = (PlanShape){.rows = rows, .length = length};
    sum->shapes[at].batches += times;
    /* Frequent ones drift to the front, where they are found soon. */
    for (; at > 0 && sum->shapes[at - 1].batches < sum->shapes[at].batches; at--) {
        PlanShape moved = sum->shapes[at];

        sum->shapes[at] = sum->shapes[at - 1];
        sum->shapes[at - 1] = moved;
    }
}

static void end_batch(Walk *walk) {
    const PlanSpec *spec = &walk->feed->plan;
    uint64_t times = batch_times(walk);
    uint32_t rows = plan_batch_rows(spec, walk->rows);
    uint32_t length = feed_padded_length(walk->feed, walk->longest);

    walk->sum.rows += times * rows;
    walk->sum.tokens += times * walk->tokens;
    walk->sum.slots += times * rows * length;
    if (times > 0)
        note_shape(walk, rows, length, times);
    walk->batch++;
    walk->rows = walk->longest = 0;
    walk->tokens = 0;
}

/* A unit of pieces first .. last of the window. */
static void add_unit(Walk *walk, const PlanWindow *window, uint32_t first, uint32_t last) {
    const PlanSpec *spec = &walk->feed->plan;
    const PlanStrand *strand = &walk->epoch->strands[walk->strand];
    const PlanLooks *looks = walk->looks;

    if (looks->reads && walk->rows == 0)
        plan_reads_batch(looks->reads, walk->strand, walk->batch);
    for (uint32_t i = first; i < last; i++) {
        const PlanUnit *piece = &walk->units[i];

        if (looks->spread)
            plan_spread_piece(looks->spread, strand->blocks[window->block_first + piece->block],
                              piece->sequence, piece->length,
                              walk->batch * walk->epoch->strand_count + walk->strand);
        if (looks->reads)
            plan_reads_piece(looks->reads, piece->block);
        if (looks->lengths)
            looks->lengths[piece->length]++;
        walk->longest = MAX(walk->longest, piece->length);
        walk->tokens += piece->length;
    }
    walk->rows += plan_units_are_batches(spec) ? last - first : 1;
    if (plan_units_are_batches(spec) || walk->rows == spec->size)
        end_batch(walk);
}

static int walk_window(Walk *walk, uint32_t number, Error *error) {
    const Catalog *catalog = walk->feed->catalog;
    const PlanStrand *strand = &walk->epoch->strands[walk->strand];
    const PlanWindow *window = &strand->windows[number];
    uint64_t at, units = plan_window_units(strand, number);
    PlanTally tally;
    int r = feed_read_window(walk->feed, strand, number, NULL, walk->lengths, walk->block_sequences,
                             &at, error);

    if (r < 0)
        return r;
    plan_count_pieces(&walk->feed->plan, walk->lengths, at, &tally);
    plan_tally_add(&walk->sum.tally, &tally);
    r = plan_window_units_make(&walk->feed->plan, walk->epoch, walk->strand, number, walk->lengths,
                               walk->block_sequences, tally.pieces, &walk->scratch, walk->units,
                               walk->firsts);
    if (r < 0)
        return error_set(error, r, "%s: its lengths changed while they were read", catalog->path);
    if (walk->looks->reads)
        plan_reads_window(walk->looks->reads, window->block_count);
    for (uint32_t u = 0; u < units; u++) {
        bool is_fixed = walk->feed->plan.policy == PLAN_POLICY_FIXED;

        add_unit(walk, window, is_fixed ? u : walk->firsts[u],
                 is_fixed ? u + 1 : walk->firsts[u + 1]);
    }
    if (walk->looks->reads)
        plan_reads_window_end(walk->looks->reads);
    walk->sum.units += units;
    return 0;
}

static int walk_epoch(Walk *walk, Error *error) {
    const PlanEpoch *epoch = walk->epoch;
    int64_t begun = clock_now_ns();
    Progress progress;
    int r = 0;

    progress_start(&progress, "planning", "sequences", epoch->tally.sequences_in);
    for (uint32_t s = 0; s < epoch->strand_count && r == 0; s++) {
        walk->strand = s;
        walk->batch = 0;
        walk->sum.windows += epoch->strands[s].window_count;
        if (walk->looks->spread)
            plan_spread_strand(walk->looks->spread);
        for (uint32_t w = 0; w < epoch->strands[s].window_count && r == 0; w++) {
            r = walk_window(walk, w, error);
            progress_update(&progress, walk->sum.tally.sequences_in);
        }
        if (walk->rows > 0) /* with last: drop the epoch has it no times */
            end_batch(walk);
    }
    progress_end(&progress, walk->sum.tally.sequences_in);
    if (walk->looks->spread)
        plan_spread_end(walk->looks->spread);
    walk->sum.seconds = (double)(clock_now_ns() - begun) / 1e9;
    return r;
}

int plan_walk(const Feed *feed, const PlanEpoch *epoch, const PlanLooks *looks, PlanSums *ret_sums,
              Error *error) {
    static const PlanLooks nothing;
    Walk walk = {.feed = feed, .epoch = epoch, .looks = looks ? looks : &nothing};
    int r = walk_init(&walk);

    r = r < 0 ? error_set(error, r, "no memory for a window of feed %s", feed->name)
              : walk_epoch(&walk, error);
    walk_deinit(&walk);
    if (r == 0)
        *ret_sums = walk.sum;
    return r;
}
