/* SPDX-License-Identifier: MIT */
/* plan_support.h: datasets of lengths in memory, and what a caller of the planner does with them:
 * count every window, finish, make units. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"

typedef struct PlanData {
    uint32_t *sequences, *tokens; /* [blocks] */
    uint64_t *first;              /* [blocks]: index of the block's first length */
    uint32_t *lengths;
    uint32_t blocks;
    uint64_t all;
} PlanData;

static inline void *plan_data_memory(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);

    if (!memory)
        abort();
    return memory;
}

static inline void plan_data_init(PlanData *data, uint32_t blocks, uint64_t all) {
    data->sequences = plan_data_memory(blocks, sizeof *data->sequences);
    data->tokens = plan_data_memory(blocks, sizeof *data->tokens);
    data->first = plan_data_memory(blocks, sizeof *data->first);
    data->lengths = plan_data_memory(all, sizeof *data->lengths);
    data->blocks = 0;
    data->all = 0;
}

static inline void plan_data_deinit(PlanData *data) {
    free(data->sequences);
    free(data->tokens);
    free(data->first);
    free(data->lengths);
}

static inline void plan_data_add_block(PlanData *data) {
    data->first[data->blocks++] = data->all;
}

static inline void plan_data_add(PlanData *data, uint32_t length) {
    data->sequences[data->blocks - 1]++;
    data->tokens[data->blocks - 1] += length;
    data->lengths[data->all++] = length;
}

static inline PlanBlocks plan_data_blocks(const PlanData *data) {
    return (PlanBlocks){data->sequences, data->tokens, data->blocks};
}

/* Lengths and counts of a window's sequences one after another, as the planner wants them; both are
 * the caller's to free. */
static inline uint64_t plan_data_window(const PlanData *data, const PlanEpoch *epoch,
                                        uint32_t strand, uint32_t window, uint32_t **ret_lengths,
                                        uint32_t **ret_sequences) {
    const PlanStrand *of = &epoch->strands[strand];
    const PlanWindow *cut = &of->windows[window];
    uint32_t *lengths = plan_data_memory(cut->sequences, sizeof *lengths);
    uint32_t *sequences = plan_data_memory(cut->block_count, sizeof *sequences);
    uint64_t count = 0;

    for (uint32_t i = 0; i < cut->block_count; i++) {
        uint32_t block = of->blocks[cut->block_first + i];

        sequences[i] = data->sequences[block];
        memcpy(lengths + count, data->lengths + data->first[block], sequences[i] * sizeof *lengths);
        count += sequences[i];
    }
    *ret_lengths = lengths;
    *ret_sequences = sequences;
    return count;
}

static inline void plan_tally_add(PlanTally *sum, const PlanTally *more) {
    sum->units += more->units;
    sum->sequences_in += more->sequences_in;
    sum->tokens_in += more->tokens_in;
    sum->sequences_dropped += more->sequences_dropped;
    sum->tokens_dropped += more->tokens_dropped;
    sum->sequences_truncated += more->sequences_truncated;
    sum->tokens_truncated += more->tokens_truncated;
    sum->sequences_split += more->sequences_split;
}

/* A counted epoch; counts from lengths if `from_lengths`, else from block counts. */
static inline int plan_data_epoch(const PlanSpec *spec, const PlanData *data, uint64_t number,
                                  bool from_lengths, PlanEpoch **ret_epoch, uint32_t *ret_strand) {
    const PlanBlocks blocks = plan_data_blocks(data);
    PlanTally tally = {0};
    PlanEpoch *epoch;
    uint32_t **units;
    int r = plan_epoch_new(spec, &blocks, number, &epoch);

    if (r < 0)
        return r;
    units = plan_data_memory(epoch->strand_count, sizeof *units);
    for (uint32_t s = 0; s < epoch->strand_count; s++) {
        units[s] = plan_data_memory(epoch->strands[s].window_count, sizeof **units);
        for (uint32_t w = 0; w < epoch->strands[s].window_count; w++) {
            uint32_t *lengths, *sequences;
            PlanTally window;
            uint64_t count = plan_data_window(data, epoch, s, w, &lengths, &sequences);

            plan_count_window(spec, lengths, count, &window);
            plan_tally_add(&tally, &window);
            units[s][w] = (uint32_t)window.units;
            free(lengths);
            free(sequences);
        }
    }
    r = plan_epoch_finish(spec, epoch, from_lengths ? units : NULL, from_lengths ? &tally : NULL,
                          ret_strand);
    for (uint32_t s = 0; s < epoch->strand_count; s++)
        free(units[s]);
    free(units);
    if (r < 0) {
        plan_epoch_free(epoch);
        return r;
    }
    *ret_epoch = epoch;
    return 0;
}

/* Units first .. first + count of a strand, with dataset block numbers. Plans each window that they
 * touch anew, as a seek does. Returns 0 or plan_window_units_make()'s error. */
static inline int plan_data_units(const PlanSpec *spec, const PlanData *data,
                                  const PlanEpoch *epoch, uint32_t strand, uint64_t first,
                                  uint32_t count, PlanUnit *ret_units) {
    const PlanStrand *of = &epoch->strands[strand];

    while (count > 0) {
        uint32_t window = plan_window_of_unit(of, first);
        uint64_t in_window = plan_window_units(of, window);
        uint64_t skip = first - of->unit_sums[window];
        uint32_t *lengths, *sequences, taken;
        PlanUnit *units = plan_data_memory(in_window, sizeof *units);
        int r;

        plan_data_window(data, epoch, strand, window, &lengths, &sequences);
        r = plan_window_units_make(spec, epoch, strand, window, lengths, sequences, units);
        free(lengths);
        free(sequences);
        taken = (uint32_t)MIN((uint64_t)count, in_window - skip);
        for (uint32_t i = 0; i < taken && r == 0; i++) {
            *ret_units = units[skip + i];
            ret_units->block = of->blocks[of->windows[window].block_first + ret_units->block];
            ret_units++;
        }
        free(units);
        if (r < 0)
            return r;
        first += taken;
        count -= taken;
    }
    return 0;
}
