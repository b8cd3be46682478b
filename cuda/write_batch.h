/* SPDX-License-Identifier: MIT */
/* write_batch.h: which thread of a launch writes which bytes. kernels.cu runs these functions on
 * the GPU; tests run them on the host, thread after thread.
 *
 * Two launches, each a row of blocks of WRITE_THREADS threads; each tensor has a run of blocks, and
 * goes on by their number where its bytes are more than they hold.
 *
 *   rows   all tensors but dense masks: a thread writes 16 bytes, the next thread the next 16.
 *   dense  masks of [rows, 1, length, length]: some neighbouring threads, a power of two of them,
 *          walk along the line of one query; what is the line's is found once, not for each store.
 */
#pragma once

#include "mask/mask_chunk.h"

#ifdef __CUDACC__
#define WRITE_SHARED static __host__ __device__ __forceinline__
#else
#define WRITE_SHARED static inline
#endif

enum {
    WRITE_THREADS = 256,
    WRITE_BLOCKS_MAX = 16384 /* of one tensor: what a GPU runs at once, many times */
};

/* What the host finds out for a launch. */
typedef struct WriteGrid {
    uint32_t first_block[SEQFEED_TENSORS_MAX + 1];
    uint32_t lane_bits; /* dense: log2 of the threads that walk along a line */
} WriteGrid;

WRITE_SHARED uint32_t write_grid_blocks(const WriteGrid *grid) {
    return grid->first_block[SEQFEED_TENSORS_MAX];
}

WRITE_SHARED uint32_t write_grid_tensor(const WriteGrid *grid, uint32_t block) {
    uint32_t tensor = 0;

    while (block >= grid->first_block[tensor + 1])
        tensor++;
    return tensor;
}

/* The launch of a batch: of its dense masks (bits `dense`), or of all else. */
static inline void write_grid_make(const CellBatch *batch, uint32_t dense, int is_dense,
                                   WriteGrid *ret_grid) {
    uint32_t most = 0;

    *ret_grid = (WriteGrid){{0}, 0};
    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++) {
        uint64_t chunks = (int)(dense >> t & 1) == is_dense ? cell_chunks(batch, t) : 0;
        uint64_t blocks = (chunks + WRITE_THREADS - 1) / WRITE_THREADS;

        ret_grid->first_block[t + 1] = ret_grid->first_block[t] +
                                       cell_least(blocks, WRITE_BLOCKS_MAX);
        if (chunks > 0 && is_dense)
            most = (uint32_t)(batch->size_bytes[t] / batch->rows / batch->length /
                              CELL_CHUNK_BYTES);
        while (is_dense && (1u << ret_grid->lane_bits) < most &&
               (1u << ret_grid->lane_bits) < WRITE_THREADS)
            ret_grid->lane_bits++;
    }
}

/* Sixteen bytes that nobody reads again here: past the caches. `to` is aligned to them. */
WRITE_SHARED void write_chunk(uint8_t *to, const uint32_t words[4]) {
#ifdef __CUDA_ARCH__
    __stcs((uint4 *)to, make_uint4(words[0], words[1], words[2], words[3]));
#else
    uint32_t *at = (uint32_t *)__builtin_assume_aligned(to, CELL_CHUNK_BYTES);

    for (uint32_t w = 0; w < 4; w++)
        at[w] = words[w];
#endif
}

WRITE_SHARED void write_rows(const CellPlan *plan, const CellBatch *batch, uint8_t *slot,
                             const WriteGrid *grid, uint32_t block, uint32_t thread) {
    uint32_t t = write_grid_tensor(grid, block);
    uint64_t chunks = cell_chunks(batch, t);
    uint64_t chunk = (uint64_t)(block - grid->first_block[t]) * WRITE_THREADS + thread;
    uint64_t step = (uint64_t)(grid->first_block[t + 1] - grid->first_block[t]) * WRITE_THREADS;

    for (; chunk < chunks; chunk += step) {
        uint8_t *to = slot + batch->offset[t] + chunk * CELL_CHUNK_BYTES;
        uint32_t words[4];
        uint32_t bytes = mask_chunk(plan, batch, t, chunk, words);

        if (bytes == CELL_CHUNK_BYTES) { /* offsets are multiples of 256 */
            write_chunk(to, words);
            continue;
        }
        for (uint32_t b = 0; b < bytes; b++)
            to[b] = (uint8_t)(words[b / 4] >> 8 * (b % 4));
    }
}

WRITE_SHARED void write_dense(const CellPlan *plan, const CellBatch *batch, uint8_t *slot,
                              const WriteGrid *grid, uint32_t block, uint32_t thread) {
    uint32_t t = write_grid_tensor(grid, block), lanes = 1u << grid->lane_bits;
    uint32_t lines_a_block = WRITE_THREADS >> grid->lane_bits;
    uint64_t lines = (uint64_t)batch->rows * batch->length;
    uint64_t line = (uint64_t)(block - grid->first_block[t]) * lines_a_block +
                    (thread >> grid->lane_bits);
    uint64_t step = (uint64_t)(grid->first_block[t + 1] - grid->first_block[t]) * lines_a_block;
    uint64_t line_bytes = batch->size_bytes[t] / lines;
    uint32_t places = CELL_CHUNK_BYTES / plan->tensors[t].value_bytes;

    for (; line < lines; line += step) {
        uint8_t *to = slot + batch->offset[t] + line * line_bytes;
        MaskLine at = mask_line(plan, batch, t, line);

        for (uint64_t i = thread & (lanes - 1); i * CELL_CHUNK_BYTES < line_bytes; i += lanes) {
            uint32_t words[4];

            mask_line_chunk(plan, batch, t, &at, (uint32_t)i * places, words);
            write_chunk(to + i * CELL_CHUNK_BYTES, words);
        }
    }
}
