/* SPDX-License-Identifier: MIT */
/* cuda_device.h: which GPUs there are and whether this build can use them. Makes no context. */
#pragma once

#include "base/attributes.h"
#include "mask/mask_backend.h"

enum { CUDA_DEVICES_MAX = 64 };

typedef struct CudaDevice {
    int index;
    char name[128]; /* "NVIDIA H200 (GPU 0)" */
} CudaDevice;

/* The device that `wanted` names (an index or GPU-UUID; NULL: the first that can be used) and what
 * it is, or -ENODEV and why there is none. Any thread. */
MUST_CHECK int cuda_device_find(const char *wanted, CudaDevice *ret_device,
                                char ret_reason[MASK_REASON_BYTES]);
