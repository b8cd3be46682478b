/* SPDX-License-Identifier: MIT */
/* launch.h: the launches of kernels.cu on the host, one thread after another. */
#pragma once

#include "cuda/write_batch.h"

typedef struct LaunchRange {
    uint32_t first, end;
} LaunchRange;

typedef struct Launch {
    const CellPlan *plan;
    const CellBatch *batch;
    int is_dense;
    WriteGrid grid;
    LaunchRange blocks, threads; /* those that are run */
    uint8_t *slot;
} Launch;

/* All of it. */
static inline Launch launch_make(const CellPlan *plan, const CellBatch *batch, uint32_t dense,
                                 int is_dense, uint32_t blocks_max, uint8_t *slot) {
    Launch launch = {.plan = plan, .batch = batch, .is_dense = is_dense, .slot = slot};

    write_grid_make(batch, dense, is_dense, blocks_max, &launch.grid);
    launch.blocks.end = write_grid_blocks(&launch.grid);
    launch.threads.end = WRITE_THREADS;
    return launch;
}

static inline void launch_run(const Launch *launch) {
    for (uint32_t block = launch->blocks.end; block-- > launch->blocks.first;)
        for (uint32_t thread = launch->threads.first; thread < launch->threads.end; thread++)
            (launch->is_dense ? write_dense : write_rows)(launch->plan, launch->batch, launch->slot,
                                                          &launch->grid, block, thread);
}
