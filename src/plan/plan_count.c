/* SPDX-License-Identifier: MIT */
/* Counting: units of windows, batches of strands, batches of the epoch. */
#include "plan/plan.h"

#include <errno.h>

#include "base/arithmetic.h"
#include "plan/plan_cut.h"

bool plan_needs_lengths(const PlanSpec *spec, uint32_t length_min, uint32_t length_max) {
    bool changes_number = spec->overflow == PLAN_OVERFLOW_SPLIT ||
                          spec->overflow == PLAN_OVERFLOW_DROP;

    return (changes_number && length_max > spec->length_max) ||
           (spec->empty == PLAN_EMPTY_DROP && length_min == 0);
}

void plan_tally_add(PlanTally *sum, const PlanTally *more) {
    sum->units += more->units;
    sum->pieces += more->pieces;
    sum->sequences_in += more->sequences_in;
    sum->tokens_in += more->tokens_in;
    sum->sequences_dropped += more->sequences_dropped;
    sum->tokens_dropped += more->tokens_dropped;
    sum->sequences_truncated += more->sequences_truncated;
    sum->tokens_truncated += more->tokens_truncated;
    sum->sequences_split += more->sequences_split;
    sum->pieces_cut += more->pieces_cut;
    sum->piece_tokens_cut += more->piece_tokens_cut;
}

void plan_count_pieces(const PlanSpec *spec, const uint32_t *lengths, uint64_t count,
                       PlanTally *ret_tally) {
    PlanTally tally = {.sequences_in = count};

    for (uint64_t i = 0; i < count; i++) {
        PlanCut cut = plan_cut(spec, lengths[i]);

        tally.pieces += cut.pieces;
        tally.tokens_in += lengths[i];
        tally.sequences_dropped += cut.pieces == 0;
        tally.tokens_dropped += cut.pieces == 0 ? lengths[i] : 0;
        tally.sequences_truncated += cut.pieces == 1 && cut.length < lengths[i];
        tally.tokens_truncated += cut.pieces == 1 ? lengths[i] - cut.length : 0;
        tally.sequences_split += cut.pieces > 1;
    }
    tally.units = tally.pieces;
    *ret_tally = tally;
}

uint64_t plan_batches_of_units(const PlanSpec *spec, uint64_t units) {
    if (plan_units_are_batches(spec))
        return units;
    return spec->last == PLAN_LAST_DROP ? units / spec->size : divide_up(units, spec->size);
}

static void sum_strand(const PlanSpec *spec, PlanStrand *strand, const uint32_t *window_units) {
    for (uint32_t w = 0; w < strand->window_count; w++)
        strand->unit_sums[w + 1] = strand->unit_sums[w] +
                                   (window_units ? window_units[w] : strand->windows[w].sequences);
    strand->batch_count = plan_batches_of_units(spec, strand->unit_sums[strand->window_count]);
}

int plan_epoch_finish(const PlanSpec *spec, PlanEpoch *epoch, uint32_t *const *window_units,
                      const PlanTally *tally, uint32_t *ret_strand) {
    uint64_t fewest = UINT64_MAX, most = 0, all = 0, units = 0;

    for (uint32_t s = 0; s < epoch->strand_count; s++) {
        PlanStrand *strand = &epoch->strands[s];

        sum_strand(spec, strand, window_units ? window_units[s] : NULL);
        if (strand->batch_count == 0) {
            *ret_strand = s;
            return -ENODATA;
        }
        fewest = MIN(fewest, strand->batch_count);
        most = MAX(most, strand->batch_count);
        all += strand->batch_count;
        units += strand->unit_sums[strand->window_count];
    }
    if (tally)
        epoch->tally = *tally;
    epoch->tally.units = units;
    epoch->batch_count = epoch->strand_count * (spec->tail == PLAN_TAIL_DROP ? fewest : most);
    epoch->batches_cut = spec->tail == PLAN_TAIL_DROP ? all - epoch->batch_count : 0;
    epoch->counted = true;
    return 0;
}

uint32_t plan_window_of_unit(const PlanStrand *strand, uint64_t unit) {
    uint32_t low = 0, high = strand->window_count;

    assert(unit < strand->unit_sums[strand->window_count]);

    /* unit_sums[low] <= unit < unit_sums[high]; windows without units are stepped over. */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (strand->unit_sums[middle] <= unit)
            low = middle;
        else
            high = middle;
    }
    return low;
}
