/* SPDX-License-Identifier: MIT */
#include "tool/plan_reads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t most_blocks(const PlanEpoch *epoch) {
    uint32_t most = 1;

    for (uint32_t s = 0; s < epoch->strand_count; s++)
        for (uint32_t w = 0; w < epoch->strands[s].window_count; w++)
            most = MAX(most, epoch->strands[s].windows[w].block_count);
    return most;
}

int plan_reads_init(PlanReads *reads, const PlanSpec *spec, const PlanEpoch *epoch, uint32_t world,
                    uint32_t nodes) {
    *reads = (PlanReads){.epoch = epoch,
                         .world = world,
                         .nodes = nodes,
                         .words = (nodes + 63) / 64,
                         .block_capacity = most_blocks(epoch)};
    reads->limit = world * plan_round_count(spec->tail, epoch->batch_count, 0, world);
    for (uint32_t s = 0; s < epoch->strand_count; s++)
        reads->blocks += epoch->strands[s].block_count;
    reads->bits = calloc((size_t)reads->block_capacity * 2 * reads->words, sizeof *reads->bits);
    reads->batch = calloc(2 * (size_t)reads->words, sizeof *reads->batch);
    return reads->bits && reads->batch ? 0 : -ENOMEM;
}

void plan_reads_deinit(PlanReads *reads) {
    free(reads->bits);
    free(reads->batch);
}

void plan_reads_window(PlanReads *reads, uint32_t block_count) {
    reads->block_count = block_count;
    memset(reads->bits, 0, (size_t)block_count * 2 * reads->words * sizeof *reads->bits);
}

void plan_reads_window_end(PlanReads *reads) {
    for (size_t i = 0; i < (size_t)reads->block_count * 2 * reads->words; i++) {
        uint64_t count = (uint64_t)__builtin_popcountll(reads->bits[i]);

        if (i / reads->words % 2 == 0)
            reads->decoded += count;
        else
            reads->again += count;
    }
}

static void add_place(PlanReads *reads, uint64_t place, uint32_t again) {
    uint32_t node = (uint32_t)(place % reads->world / (reads->world / reads->nodes));

    if (place < reads->limit)
        reads->batch[again * reads->words + node / 64] |= UINT64_C(1) << node % 64;
}

void plan_reads_batch(PlanReads *reads, uint32_t strand, uint64_t local) {
    uint64_t strands = reads->epoch->strand_count, count = reads->epoch->batch_count;
    uint64_t own = reads->epoch->strands[strand].batch_count;
    uint64_t index = local * strands + strand;

    memset(reads->batch, 0, 2 * (size_t)reads->words * sizeof *reads->batch);
    /* The same batch again where a short strand keeps up, and where a round is completed. */
    for (uint64_t at = index, first = 1; local < own && at < count;
         at += own * strands, first = 0) {
        add_place(reads, at, !first);
        for (uint64_t place = at + count; place < reads->limit; place += count)
            add_place(reads, place, 1);
    }
}

void plan_reads_piece(PlanReads *reads, uint32_t block) {
    uint64_t *bits = reads->bits + (size_t)block * 2 * reads->words;

    for (uint32_t i = 0; i < 2 * reads->words; i++)
        bits[i] |= reads->batch[i];
}
