/* SPDX-License-Identifier: MIT */
/* What gpu_masks measures against: a launch of nothing, and a kernel that uses the whole GPU as
 * training does, with arithmetic and with memory. */
#include "bench/gpu_load.h"

static __global__ void nothing_kernel() {
}

static __global__ void work_kernel(float *values, uint64_t count, uint32_t rounds) {
    uint64_t step = (uint64_t)gridDim.x * blockDim.x;

    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        float value = values[i];

        for (uint32_t r = 0; r < rounds; r++)
            value = value * 1.0001f + 0.5f;
        values[i] = value;
    }
}

extern "C" cudaError_t gpu_load_nothing(cudaStream_t stream) {
    nothing_kernel<<<1, 32, 0, stream>>>();
    return cudaGetLastError();
}

extern "C" cudaError_t gpu_load_work(float *values, uint64_t count, uint32_t rounds,
                                     cudaStream_t stream) {
    work_kernel<<<1056, 256, 0, stream>>>(values, count, rounds);
    return cudaGetLastError();
}
