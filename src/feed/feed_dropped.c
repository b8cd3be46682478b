/* SPDX-License-Identifier: MIT */
/* Tokens of an epoch that stand in none of its batches: dropped by a rule of `length`, by
 * batch.last, or because strands or ranks would not come out even (batch.tail). What the rules drop
 * has been counted; what is cut off the end of strands is found by planning the windows there.
 *
 * A piece that is left out takes with it what truncation has cut off its sequence, so that every
 * token of the dataset has one fate. Batches of `bucket` and `tokens` that are left out are not
 * always at the end, and how long their truncated sequences were does not follow from any count:
 * there all windows are planned. */
#include <errno.h>
#include <stdlib.h>

#include "base/arithmetic.h"
#include "feed/feed_internal.h"

/* Memory to plan one window after another. */
typedef struct Look {
    const Feed *feed;
    const PlanSpec *spec;
    const PlanEpoch *plan;
    const Heartbeat *heartbeat;
    uint32_t *lengths, *block_sequences, *firsts;
    uint64_t *sequence_first; /* [blocks + 1]: of the window */
    PlanUnit *units;
    PlanScratch scratch;
} Look;

static void look_deinit(Look *look) {
    free(look->lengths);
    free(look->block_sequences);
    free(look->firsts);
    free(look->sequence_first);
    free(look->units);
    plan_scratch_free(&look->scratch);
}

static int look_init(Look *look) {
    const Feed *feed = look->feed;

    look->lengths = malloc((feed->window_sequences_max + 1) * sizeof *look->lengths);
    look->block_sequences = malloc((feed->window_blocks_max + (size_t)1) *
                                   sizeof *look->block_sequences);
    look->sequence_first = malloc((feed->window_blocks_max + (size_t)1) *
                                  sizeof *look->sequence_first);
    look->units = malloc((feed->window_pieces_max + 1) * sizeof *look->units);
    look->firsts = malloc((feed->window_pieces_max + 2) * sizeof *look->firsts);
    return look->lengths && look->block_sequences && look->sequence_first && look->units &&
                   look->firsts
               ? 0
               : -ENOMEM;
}

/* What one piece takes of the dataset: its tokens, and where its sequence was cut the rest too. */
static uint64_t piece_whole(const Look *look, const PlanUnit *piece) {
    if (look->spec->overflow == PLAN_OVERFLOW_SPLIT || piece->length < look->spec->length_max)
        return piece->length;
    return look->lengths[look->sequence_first[piece->block] + piece->sequence];
}

/* Plan a window: what all its sequences hold, and what the pieces of its units before `unit` take
 * and those from there on. */
typedef struct Fate {
    uint64_t all, before, behind;
} Fate;

static int window_fate(Look *look, uint32_t strand, uint32_t number, uint64_t unit, Fate *ret_fate,
                       Error *error) {
    const PlanStrand *of = &look->plan->strands[strand];
    const PlanWindow *window = &of->windows[number];
    uint64_t count, sequences = 0, units = plan_window_units(of, number), pieces;
    bool is_fixed = look->spec->policy == PLAN_POLICY_FIXED;
    PlanTally tally;
    int r = feed_read_window(look->feed, of, number, look->heartbeat, look->lengths,
                             look->block_sequences, &count, error);

    if (r < 0)
        return r;
    for (uint32_t b = 0; b < window->block_count; b++) {
        look->sequence_first[b] = sequences;
        sequences += look->block_sequences[b];
    }
    plan_count_pieces(look->spec, look->lengths, count, &tally);
    r = tally.pieces > look->feed->window_pieces_max
            ? -EBADMSG
            : plan_window_units_make(look->spec, look->plan, strand, number, look->lengths,
                                     look->block_sequences, tally.pieces, &look->scratch,
                                     look->units, look->firsts);
    if (r < 0)
        return error_set(error, r, "feed %s: window %u of strand %u cannot be planned: %s",
                         look->feed->name, number, strand,
                         r == -ENOMEM ? "no memory" : "its lengths are not those of the index");
    unit = MIN(unit, units);
    pieces = is_fixed ? units : look->firsts[units];
    *ret_fate = (Fate){.all = tally.tokens_in};
    for (uint64_t p = 0; p < pieces; p++)
        if (p < (is_fixed ? unit : look->firsts[unit]))
            ret_fate->before += piece_whole(look, &look->units[p]);
        else
            ret_fate->behind += piece_whole(look, &look->units[p]);
    return 0;
}

/* Units of the strand that stand in batches below `limit`. */
static uint64_t used_units(const Look *look, uint32_t strand, uint64_t limit) {
    const PlanStrand *of = &look->plan->strands[strand];
    uint64_t all = of->unit_sums[of->window_count], strands = look->plan->strand_count;
    uint64_t batches = limit > strand ? divide_up(limit - strand, strands) : 0;

    batches = MIN(batches, of->batch_count);
    return plan_units_are_batches(look->spec) ? batches : MIN(batches * look->spec->size, all);
}

/* One strand: by its windows behind the last used unit, or (`whole`) by all of them. */
static int strand_dropped(Look *look, uint32_t strand, uint64_t limit, bool whole, uint64_t *sum,
                          Error *error) {
    const PlanStrand *of = &look->plan->strands[strand];
    uint64_t used = used_units(look, strand, limit);
    uint32_t number = 0;
    int r = 0;

    if (!whole && used == of->unit_sums[of->window_count])
        return 0;
    if (!whole)
        number = plan_window_of_unit(of, used);
    for (; number < of->window_count && r == 0; number++) {
        uint64_t first = of->unit_sums[number];
        Fate fate = {0};

        r = window_fate(look, strand, number, used > first ? used - first : 0, &fate, error);
        if (r == 0)
            *sum += whole ? fate.all - fate.before : fate.behind;
    }
    return r;
}

int feed_epoch_dropped(const Feed *feed, const FeedEpoch *epoch, uint64_t limit,
                       const Heartbeat *heartbeat, uint64_t *ret_tokens, Error *error) {
    const PlanSpec spec = feed_plan_spec(feed, epoch->seed);
    const PlanTally *tally = &epoch->plan->tally;
    Look look = {.feed = feed, .spec = &spec, .plan = epoch->plan, .heartbeat = heartbeat};
    bool whole = tally->piece_tokens_cut > 0 && plan_truncates(&spec, feed->catalog->length_max);
    uint64_t sum = whole ? 0 : tally->tokens_dropped + tally->piece_tokens_cut;
    bool look_closer = whole;
    int r = 0;

    for (uint32_t s = 0; s < epoch->plan->strand_count; s++) {
        const PlanStrand *strand = &epoch->plan->strands[s];

        look_closer |= used_units(&look, s, limit) < strand->unit_sums[strand->window_count];
    }
    if (look_closer && look_init(&look) < 0)
        r = error_set(error, -ENOMEM, "no memory to count what feed %s drops", feed->name);
    for (uint32_t s = 0; look_closer && s < epoch->plan->strand_count && r == 0; s++)
        r = strand_dropped(&look, s, limit, whole, &sum, error);
    look_deinit(&look);
    if (r == 0)
        *ret_tokens = sum;
    return r;
}
