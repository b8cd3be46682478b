/* SPDX-License-Identifier: MIT */
/* Thin shells: which thread writes what stands in write_batch.h, what an element holds in mask/. */
#include "cuda/kernels.h"
#include "cuda/write_batch.h"

static __global__ void __launch_bounds__(WRITE_THREADS, 3)
    write_rows_kernel(const CellPlan *__restrict__ plan, const CellBatch *__restrict__ batch,
                      uint8_t *__restrict__ slot, const __grid_constant__ WriteGrid grid) {
    write_rows(plan, batch, slot, &grid, blockIdx.x, threadIdx.x);
}

static __global__ void __launch_bounds__(WRITE_THREADS, 3)
    write_dense_kernel(const CellPlan *__restrict__ plan, const CellBatch *__restrict__ batch,
                       uint8_t *__restrict__ slot, const __grid_constant__ WriteGrid grid) {
    write_dense(plan, batch, slot, &grid, blockIdx.x, threadIdx.x);
}

extern "C" cudaError_t kernels_check(void) {
    struct cudaFuncAttributes attributes;
    cudaError_t r = cudaFuncGetAttributes(&attributes, (const void *)write_rows_kernel);

    return r != cudaSuccess ? r
                            : cudaFuncGetAttributes(&attributes, (const void *)write_dense_kernel);
}

extern "C" cudaError_t kernels_write_batch(const CellPlan *plan, const CellBatch *batch,
                                           const CellBatch *shape, uint32_t dense, void *slot,
                                           cudaStream_t stream) {
    WriteGrid grid;
    cudaError_t r = cudaSuccess;

    write_grid_make(shape, dense, 0, WRITE_BLOCKS_MAX, &grid);
    if (write_grid_blocks(&grid) > 0) {
        write_rows_kernel<<<write_grid_blocks(&grid), WRITE_THREADS, 0, stream>>>(
            plan, batch, (uint8_t *)slot, grid);
        r = cudaGetLastError();
    }
    write_grid_make(shape, dense, 1, WRITE_BLOCKS_MAX, &grid);
    if (r == cudaSuccess && write_grid_blocks(&grid) > 0) {
        write_dense_kernel<<<write_grid_blocks(&grid), WRITE_THREADS, 0, stream>>>(
            plan, batch, (uint8_t *)slot, grid);
        r = cudaGetLastError();
    }
    return r;
}
