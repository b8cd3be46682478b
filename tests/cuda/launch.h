/* SPDX-License-Identifier: MIT */
/* launch.h: the launches of kernels.cu on the host, one thread after another. */
#pragma once

#include "cuda/write_batch.h"

static inline void launch_grid(const CellPlan *plan, const CellBatch *batch, int is_dense,
                               const WriteGrid *grid, uint8_t *slot) {
    for (uint32_t block = write_grid_blocks(grid); block-- > 0;)
        for (uint32_t thread = 0; thread < WRITE_THREADS; thread++)
            (is_dense ? write_dense : write_rows)(plan, batch, slot, grid, block, thread);
}

static inline void launch_write_batch(const CellPlan *plan, const CellBatch *batch, uint32_t dense,
                                      uint32_t blocks_max, uint8_t *slot) {
    for (int is_dense = 0; is_dense < 2; is_dense++) {
        WriteGrid grid;

        write_grid_make(batch, dense, is_dense, blocks_max, &grid);
        launch_grid(plan, batch, is_dense, &grid, slot);
    }
}
