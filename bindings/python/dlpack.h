/* SPDX-License-Identifier: MIT */
/* dlpack.h: the structs of the DLPack exchange protocol (0.8 and 1.x), as far as memory of the CPU
 * needs them. Their layout is public and fixed. */
#pragma once

#include <stdint.h>

#define DLPACK_CAPSULE "dltensor"
#define DLPACK_CAPSULE_VERSIONED "dltensor_versioned"

enum {
    DLPACK_MAJOR = 1,
    DLPACK_MINOR = 0,
    DLPACK_CPU = 1,
    DLPACK_INT = 0,
    DLPACK_UINT = 1,
    DLPACK_FLOAT = 2,
    DLPACK_BFLOAT = 4,
    DLPACK_BOOL = 6,
    DLPACK_READ_ONLY = 1,
    DLPACK_IS_COPIED = 2
};

typedef struct DlpackDevice {
    int32_t type, id;
} DlpackDevice;

typedef struct DlpackType {
    uint8_t code, bits;
    uint16_t lanes;
} DlpackType;

typedef struct DlpackTensor {
    void *data;
    DlpackDevice device;
    int32_t ndim;
    DlpackType dtype;
    int64_t *shape;
    int64_t *strides; /* elements */
    uint64_t byte_offset;
} DlpackTensor;

typedef struct DlpackManaged {
    DlpackTensor tensor;
    void *context;
    void (*deleter)(struct DlpackManaged *);
} DlpackManaged;

typedef struct DlpackVersioned {
    struct {
        uint32_t major, minor;
    } version;
    void *context;
    void (*deleter)(struct DlpackVersioned *);
    uint64_t flags;
    DlpackTensor tensor;
} DlpackVersioned;
