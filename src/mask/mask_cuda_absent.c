/* SPDX-License-Identifier: MIT */
/* Stands for cuda/ in a build without it. */
#include <stddef.h>

#include "mask/mask_backend.h"

const MaskBackend *mask_backend_cuda(void) {
    return NULL;
}
