/* SPDX-License-Identifier: MIT */
/* gpu_load.h: kernels to measure against. */
#pragma once

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t gpu_load_nothing(cudaStream_t stream);

/* Read and write `count` floats on the device, with `rounds` multiplications each. */
cudaError_t gpu_load_work(float *values, uint64_t count, uint32_t rounds, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
