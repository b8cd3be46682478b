/* SPDX-License-Identifier: MIT */
/* kernels.h: the launches that write a batch. The caller orders the copies around them on the same
 * stream. */
#pragma once

#include <cuda_runtime_api.h>

#include "mask/mask_cell.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does this build have kernels for the current device? */
cudaError_t kernels_check(void);

/* Write the tensors of a batch to `slot`: `plan`, `batch` and `slot` are device addresses, `shape`
 * is the host's copy of *batch, bit t of `dense` says that tensor t is a dense mask. Returns what
 * the launches said. */
cudaError_t kernels_write_batch(const CellPlan *plan, const CellBatch *batch,
                                const CellBatch *shape, uint32_t dense, void *slot,
                                cudaStream_t stream);

#ifdef __cplusplus
}
#endif
