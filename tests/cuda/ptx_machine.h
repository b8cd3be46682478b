/* SPDX-License-Identifier: MIT */
/* ptx_machine.h: runs kernels that ptx_to_c.py translated, one thread after another, with the rules
 * of memory that a GPU has and C has not. Addresses are numbers that mean something only here:
 * those of a launch's buffers, and for parameters their offset. */
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PTX_PARAMS_MAX = 8, PTX_PARAM_BYTES = 512, PTX_READS_MAX = 2, PTX_FAULT_BYTES = 256 };

typedef struct PtxBuffer {
    const char *name;
    uint64_t address, size;
    uint8_t *bytes;
} PtxBuffer;

typedef struct PtxParam {
    uint32_t offset, size;
} PtxParam;

typedef struct PtxThread PtxThread;

typedef struct PtxKernel {
    const char *name; /* as the compiler decorates it */
    void (*run)(PtxThread *thread);
    uint32_t param_count;
    PtxParam params[PTX_PARAMS_MAX];
    uint32_t instructions;
} PtxKernel;

typedef struct PtxModule {
    const char *target;
    const char *refusal; /* why there are no kernels, or NULL */
    const PtxKernel *kernels;
    uint32_t count;
} PtxModule;

typedef struct PtxRange {
    uint32_t first, end;
} PtxRange;

typedef struct PtxLaunch {
    uint32_t grid, block;                   /* blocks; threads of each */
    PtxRange blocks, threads;               /* those that are run */
    const void *arguments[PTX_PARAMS_MAX];  /* as cudaLaunchKernel() takes them */
    PtxBuffer reads[PTX_READS_MAX], stores; /* what may be read, and what may be stored to */
} PtxLaunch;

/* 0; or -EFAULT and which thread broke which rule:
 *   - an access is inside one buffer, and aligned to all of its bytes
 *   - what a launch stores to it does not read
 *   - no byte is stored twice, so threads never race for one
 *   - nothing is divided by 0 */
int ptx_launch(const PtxKernel *kernel, const PtxLaunch *launch, char ret_fault[PTX_FAULT_BYTES]);

/* The kernel whose decorated name has `name` in it, or NULL. */
const PtxKernel *ptx_kernel(const PtxModule *module, const char *name);

/* --- for translated kernels ---------------------------------------------------------------------
 * `where` is the instruction's line and text. */

struct PtxThread {
    uint32_t tid, ctaid, ntid, nctaid;
    uint64_t poison; /* what registers hold that nothing was put in */
    uint8_t params[PTX_PARAM_BYTES];
    uint32_t param_bytes;
    const PtxKernel *kernel;
    const PtxLaunch *launch;
    uint8_t *is_stored; /* for each byte of launch->stores */
    jmp_buf fault;
    char *fault_text;
};

const uint8_t *ptx_param(PtxThread *thread, const char *where, uint64_t address, uint32_t size);
const uint8_t *ptx_load(PtxThread *thread, const char *where, uint64_t address, uint32_t size);
uint8_t *ptx_store(PtxThread *thread, const char *where, uint64_t address, uint32_t size);
uint64_t ptx_divisor(PtxThread *thread, const char *where, uint64_t value);

static inline uint64_t ptx_get(const uint8_t *at, uint32_t offset, uint32_t size) {
    uint64_t value = 0;

    __builtin_memcpy(&value, at + offset, size);
    return value;
}

static inline void ptx_put(uint8_t *at, uint32_t offset, uint32_t size, uint64_t value) {
    __builtin_memcpy(at + offset, &value, size);
}

static inline uint32_t ptx_least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Shifts by more than the width are shifts by the width; of signed numbers, by all but the sign. */
static inline uint64_t ptx_shl(uint64_t value, uint32_t count, uint32_t width) {
    return count < width ? value << count : 0;
}

static inline uint64_t ptx_shr(uint64_t value, uint32_t count, uint32_t width) {
    return count < width ? value >> count : 0;
}

static inline int64_t ptx_shr_signed(int64_t value, uint32_t count, uint32_t width) {
    return value >> ptx_least(count, width - 1);
}

/* high:low << count, for counts to 32. */
static inline uint64_t ptx_shf(uint32_t high, uint32_t low, uint32_t count) {
    return ((uint64_t)high << 32 | low) << count;
}

/* The lowest `count` bits of `value` to those of `into` from `place` on. Both numbers are to 255.
 */
static inline uint64_t ptx_bfi(uint64_t value, uint64_t into, uint32_t place, uint32_t count,
                               uint32_t width) {
    for (uint32_t i = 0; i < count && place + i < width; i++) {
        uint64_t bit = UINT64_C(1) << (place + i);

        into = value >> i & 1 ? into | bit : into & ~bit;
    }
    return into;
}

/* Each four bits of `picks` name a byte of high:low; the fourth bit asks for its sign in all bits.
 */
static inline uint32_t ptx_prmt(uint32_t low, uint32_t high, uint32_t picks) {
    uint64_t bytes = (uint64_t)high << 32 | low;
    uint32_t value = 0;

    for (uint32_t i = 0; i < 4; i++) {
        uint32_t pick = picks >> 4 * i & 15;
        uint32_t byte = bytes >> 8 * (pick & 7) & 255;

        if (pick & 8)
            byte = byte & 128 ? 255 : 0;
        value |= byte << 8 * i;
    }
    return value;
}

static inline uint32_t ptx_clz(uint64_t value, uint32_t width) {
    return value ? (uint32_t)__builtin_clzll(value) - (64 - width) : width;
}
