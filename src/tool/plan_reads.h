/* SPDX-License-Identifier: MIT */
/* plan_reads.h: how often blocks are read and decoded in all, when the ranks of an epoch stand on
 * several nodes: a node reads every block of a window that holds a row of one of its ranks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "feed/feed.h"

enum { READS_NODES_MAX = 1024 };

typedef struct PlanReads {
    const PlanEpoch *epoch;
    uint32_t world, nodes;
    uint64_t limit;   /* places that are taken; above batch_count: repetitions */
    uint64_t blocks;  /* of the epoch */
    uint64_t decoded; /* over all nodes, without … */
    uint64_t again;   /* … what repeated batches decode once more */
    uint64_t *bits;   /* [window blocks][2][words] nodes that need the block of the open window:
                         at first, and for repetitions */
    uint64_t *batch;  /* [2][words]: nodes that take the batch that is being formed */
    uint32_t words, block_capacity, block_count;
} PlanReads;

/* `world` is a multiple of `nodes`; node k has the ranks from k * world / nodes on. 0 or -ENOMEM.
 */
MUST_CHECK int plan_reads_init(PlanReads *reads, const PlanSpec *spec, const PlanEpoch *epoch,
                               uint32_t world, uint32_t nodes);
void plan_reads_deinit(PlanReads *reads);

void plan_reads_window(PlanReads *reads, uint32_t block_count); /* a window begins … */
void plan_reads_window_end(PlanReads *reads);                   /* … and ends */
/* Batch `local` of the strand begins. */
void plan_reads_batch(PlanReads *reads, uint32_t strand, uint64_t local);
/* One of its pieces comes from this block of the window. */
void plan_reads_piece(PlanReads *reads, uint32_t block);
