/* SPDX-License-Identifier: MIT */
#include "cuda/cuda_device.h"

#include <cuda_runtime_api.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { UUID_TEXT = 48 };

static int no_device(char ret_reason[MASK_REASON_BYTES], const char *format, ...)
    PRINTF_FORMAT(2, 3);

static int no_device(char ret_reason[MASK_REASON_BYTES], const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(ret_reason, MASK_REASON_BYTES, format, arguments);
    va_end(arguments);
    (void)cudaGetLastError(); /* not for the next call */
    return -ENODEV;
}

/* Why the devices cannot even be counted. */
static int explain_runtime(cudaError_t result, char ret_reason[MASK_REASON_BYTES]) {
    int driver = 0, runtime = 0;

    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (result == cudaErrorNoDevice)
        return no_device(ret_reason, "no GPU");
    if (result != cudaErrorInsufficientDriver)
        return no_device(ret_reason, "%s (%s)", cudaGetErrorString(result),
                         cudaGetErrorName(result));
    if (driver == 0)
        return no_device(ret_reason, "no NVIDIA driver");
    return no_device(ret_reason,
                     "the NVIDIA driver is too old: it knows CUDA %d.%d, this build needs %d.0",
                     driver / 1000, driver % 1000 / 10, runtime / 1000);
}

static void write_uuid(const cudaUUID_t *uuid, char ret_text[UUID_TEXT]) {
    char *to = ret_text + sprintf(ret_text, "GPU-");

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        to += sprintf(to, "%02x", (unsigned)(uint8_t)uuid->bytes[i]);
    }
}

/* Can this build's kernels run on it? 0 and its name and UUID, or why not. */
static int look_at(int index, bool is_named, CudaDevice *ret_device, char ret_uuid[UUID_TEXT],
                   char ret_reason[MASK_REASON_BYTES]) {
    struct cudaDeviceProp properties;
    int mode = cudaComputeModeDefault, can_register = 0;
    cudaError_t result = cudaGetDeviceProperties(&properties, index);

    *ret_uuid = '\0';
    if (result == cudaSuccess)
        result = cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, index);
    if (result == cudaSuccess)
        result = cudaDeviceGetAttribute(&can_register, cudaDevAttrHostRegisterSupported, index);
    if (result != cudaSuccess)
        return no_device(ret_reason, "GPU %d: %s (%s)", index, cudaGetErrorString(result),
                         cudaGetErrorName(result));
    ret_device->index = index;
    snprintf(ret_device->name, sizeof ret_device->name, "%.80s (GPU %d)", properties.name, index);
    write_uuid(&properties.uuid, ret_uuid);
    if (mode == cudaComputeModeProhibited)
        return no_device(ret_reason, "%s: its compute mode forbids contexts", ret_device->name);
    /* Trainers would find it taken. */
    if (mode == cudaComputeModeExclusiveProcess && !is_named)
        return no_device(ret_reason, "%s lets one process in: name it with device to take it",
                         ret_device->name);
    if (properties.major * 10 + properties.minor < CUDA_ARCH_MIN)
        return no_device(ret_reason, "%s has compute capability %d.%d, this build needs %d.%d",
                         ret_device->name, properties.major, properties.minor, CUDA_ARCH_MIN / 10,
                         CUDA_ARCH_MIN % 10);
    if (!can_register)
        return no_device(ret_reason, "%s cannot register memory", ret_device->name);
    snprintf(ret_reason, MASK_REASON_BYTES, "%s, %s", ret_device->name, ret_uuid);
    return 0;
}

/* -1: it is no index. */
static long read_index(const char *text) {
    char *end;
    long index;

    if (*text < '0' || *text > '9')
        return -1;
    index = strtol(text, &end, 10);
    return *end ? -1 : index;
}

int cuda_device_find(const char *wanted, CudaDevice *ret_device,
                     char ret_reason[MASK_REASON_BYTES]) {
    char uuid[UUID_TEXT], reason[MASK_REASON_BYTES];
    long index = wanted ? read_index(wanted) : -1;
    int count = 0, r = -ENODEV;
    cudaError_t result = cudaGetDeviceCount(&count);

    if (result != cudaSuccess)
        return explain_runtime(result, ret_reason);
    count = MIN(count, (int)CUDA_DEVICES_MAX);
    if (index >= count)
        return no_device(ret_reason, "there is no GPU %s, only %d", wanted, count);
    if (index >= 0)
        return look_at((int)index, true, ret_device, uuid, ret_reason);
    snprintf(ret_reason, MASK_REASON_BYTES, "no GPU");
    for (int i = 0; i < count; i++) {
        CudaDevice device;
        int looked = look_at(i, wanted != NULL, &device, uuid, reason);
        bool is_named = wanted && strcasecmp(wanted, uuid) == 0;

        if (wanted && !is_named)
            continue;
        /* Of several that cannot be used the first one's reason is told. */
        if (looked == 0 || is_named || i == 0)
            memcpy(ret_reason, reason, sizeof reason);
        if (looked == 0)
            *ret_device = device;
        if (looked == 0 || is_named)
            return looked;
    }
    return wanted ? no_device(ret_reason, "there is no GPU %.100s", wanted) : r;
}
