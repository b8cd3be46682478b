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
    WRITE_BLOCKS_MAX = 2048 /* of one tensor: more than a GPU runs at once */
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

/* Threads along a line of the dense masks (bits `dense`): as many as the widest has chunks. */
static inline uint32_t write_grid_lane_bits(const CellBatch *batch, uint32_t dense) {
    uint32_t bits = 0;

    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++) {
        uint64_t lines = (uint64_t)batch->rows * batch->length;

        if (!(dense >> t & 1) || batch->size_bytes[t] == 0)
            continue;
        while (1u << bits < WRITE_THREADS && lines << bits < cell_chunks(batch, t))
            bits++;
    }
    return bits;
}

/* The launch of a batch: of its dense masks, or of all else. At most `blocks_max` for a tensor. */
static inline void write_grid_make(const CellBatch *batch, uint32_t dense, int is_dense,
                                   uint32_t blocks_max, WriteGrid *ret_grid) {
    *ret_grid = (WriteGrid){{0}, is_dense ? write_grid_lane_bits(batch, dense) : 0};
    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++) {
        uint64_t threads = (int)(dense >> t & 1) == is_dense ? cell_chunks(batch, t) : 0;

        if (threads > 0 && is_dense)
            threads = ((uint64_t)batch->rows * batch->length) << ret_grid->lane_bits;
        ret_grid->first_block[t + 1] = ret_grid->first_block[t] +
                                       cell_least((threads + WRITE_THREADS - 1) / WRITE_THREADS,
                                                  blocks_max);
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

/* The end of a tensor, shorter than that. */
WRITE_SHARED void write_end(uint8_t *to, const uint32_t words[4], uint32_t bytes) {
    uint64_t low = words[0] | (uint64_t)words[1] << 32, high = words[2] | (uint64_t)words[3] << 32;

    for (uint32_t b = 0; b < bytes; b++)
        to[b] = (uint8_t)(b < 8 ? low >> 8 * b : high >> 8 * (b - 8));
}

WRITE_SHARED void write_rows(const CellPlan *plan, const CellBatch *batch, uint8_t *slot,
                             const WriteGrid *grid, uint32_t block, uint32_t thread) {
    uint32_t t = write_grid_tensor(grid, block);
    uint32_t step = (grid->first_block[t + 1] - grid->first_block[t]) * WRITE_THREADS;
    uint64_t chunks = cell_chunks(batch, t);
    uint64_t chunk = (uint64_t)(block - grid->first_block[t]) * WRITE_THREADS + thread;

    for (; chunk < chunks; chunk += step) {
        uint8_t *to = slot + batch->offset[t] + chunk * CELL_CHUNK_BYTES;
        uint32_t words[4];
        uint32_t bytes = mask_chunk(plan, batch, t, (uint32_t)chunk, words);

        if (bytes == CELL_CHUNK_BYTES) /* offsets are multiples of 256 */
            write_chunk(to, words);
        else
            write_end(to, words, bytes);
    }
}

WRITE_SHARED void write_dense(const CellPlan *plan, const CellBatch *batch, uint8_t *slot,
                              const WriteGrid *grid, uint32_t block, uint32_t thread) {
    uint32_t t = write_grid_tensor(grid, block), lanes = 1u << grid->lane_bits;
    uint32_t lines_a_block = WRITE_THREADS >> grid->lane_bits;
    uint32_t lines = batch->rows * batch->length;
    uint64_t line = (uint64_t)(block - grid->first_block[t]) * lines_a_block +
                    (thread >> grid->lane_bits);
    uint32_t step = (grid->first_block[t + 1] - grid->first_block[t]) * lines_a_block;
    uint64_t line_bytes = batch->dense_stride << plan->tensors[t].value_shift;
    uint32_t chunks = (uint32_t)(line_bytes / CELL_CHUNK_BYTES);
    uint32_t places = (uint32_t)CELL_CHUNK_BYTES >> plan->tensors[t].value_shift;

    for (; line < lines; line += step) {
        uint8_t *to = slot + batch->offset[t] + line * line_bytes;
        MaskLine at = mask_line(plan, batch, t, (uint32_t)line);

        for (uint32_t i = thread & (lanes - 1); i < chunks; i += lanes) {
            uint32_t words[4];

            mask_line_chunk(plan, batch, t, &at, i * places, words);
            write_chunk(to + (uint64_t)i * CELL_CHUNK_BYTES, words);
        }
    }
}
