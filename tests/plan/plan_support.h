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

/* A counted epoch; counts from lengths if `from_lengths`, else from block counts. */
static inline int plan_data_epoch(const PlanSpec *spec, const PlanData *data, uint64_t number,
                                  bool from_lengths, PlanEpoch **ret_epoch, uint32_t *ret_strand) {
    const PlanBlocks blocks = plan_data_blocks(data);
    PlanScratch scratch = {0};
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

            if (plan_count_window(spec, epoch, s, w, lengths, count, &scratch, &window) < 0)
                abort();
            plan_tally_add(&tally, &window);
            units[s][w] = (uint32_t)window.units;
            free(lengths);
            free(sequences);
        }
    }
    r = plan_epoch_finish(spec, epoch, from_lengths ? units : NULL, from_lengths ? &tally : NULL,
                          ret_strand);
    plan_scratch_free(&scratch);
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

/* The pieces of some units, and where each unit begins among them. */
typedef struct PlanPicked {
    PlanUnit *units;
    uint32_t *firsts; /* [units + 1] */
    uint32_t count;   /* pieces */
} PlanPicked;

static inline void plan_picked_free(PlanPicked *picked) {
    free(picked->units);
    free(picked->firsts);
}

/* One window's units, with dataset block numbers; aborts when they cannot be made. */
static inline PlanPicked plan_data_make(const PlanSpec *spec, const PlanData *data,
                                        const PlanEpoch *epoch, uint32_t strand, uint32_t window) {
    const PlanStrand *of = &epoch->strands[strand];
    uint32_t *lengths, *sequences;
    uint64_t count = plan_data_window(data, epoch, strand, window, &lengths, &sequences);
    uint64_t units = plan_window_units(of, window);
    PlanScratch scratch = {0};
    PlanPicked picked = {0};
    PlanTally tally;

    plan_count_pieces(spec, lengths, count, &tally);
    picked.units = plan_data_memory(tally.pieces, sizeof *picked.units);
    picked.firsts = plan_data_memory(units + 1, sizeof *picked.firsts);
    if (plan_window_units_make(spec, epoch, strand, window, lengths, sequences, tally.pieces,
                               &scratch, picked.units, picked.firsts) < 0)
        abort();
    for (uint64_t u = 0; u <= units && spec->policy == PLAN_POLICY_FIXED; u++)
        picked.firsts[u] = (uint32_t)u;
    picked.count = picked.firsts[units];
    for (uint32_t i = 0; i < picked.count; i++)
        picked.units[i].block = of->blocks[of->windows[window].block_first + picked.units[i].block];
    plan_scratch_free(&scratch);
    free(lengths);
    free(sequences);
    return picked;
}

/* Units first .. first + count of a strand. Plans each window that they touch anew, as a seek does.
 */
static inline PlanPicked plan_data_pick(const PlanSpec *spec, const PlanData *data,
                                        const PlanEpoch *epoch, uint32_t strand, uint64_t first,
                                        uint32_t count) {
    const PlanStrand *of = &epoch->strands[strand];
    PlanPicked all = {.firsts = plan_data_memory(count + (size_t)1, sizeof *all.firsts)};

    for (uint32_t taken = 0; taken < count;) {
        uint32_t window = plan_window_of_unit(of, first + taken);
        uint64_t skip = first + taken - of->unit_sums[window];
        uint32_t here = (uint32_t)MIN((uint64_t)(count - taken),
                                      plan_window_units(of, window) - skip);
        PlanPicked part = plan_data_make(spec, data, epoch, strand, window);
        uint32_t from = part.firsts[skip], pieces = part.firsts[skip + here] - from;

        all.units = realloc(all.units, (all.count + pieces + (size_t)1) * sizeof *all.units);
        if (!all.units)
            abort();
        memcpy(all.units + all.count, part.units + from, pieces * sizeof *all.units);
        for (uint32_t u = 0; u < here; u++)
            all.firsts[taken++] = all.count + part.firsts[skip + u] - from;
        all.count += pieces;
        plan_picked_free(&part);
    }
    all.firsts[count] = all.count;
    return all;
}

/* Units (pieces) of policy fixed into an array. Always 0. */
static inline int plan_data_units(const PlanSpec *spec, const PlanData *data,
                                  const PlanEpoch *epoch, uint32_t strand, uint64_t first,
                                  uint32_t count, PlanUnit *ret_units) {
    PlanPicked picked = plan_data_pick(spec, data, epoch, strand, first, count);

    memcpy(ret_units, picked.units, count * sizeof *ret_units);
    plan_picked_free(&picked);
    return 0;
}
