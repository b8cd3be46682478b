/* SPDX-License-Identifier: MIT */
/* scripted_runtime.h: a CUDA runtime that does nothing on time. Copies, kernels and events wait in
 * their streams and are done one after another in each stream, at a time and in an order among
 * streams that the script draws; copies half by half, from what the source holds then. It fails at
 * the call that the script says, goes on copying after that, hangs, refuses to reset; and it ends
 * the test (abort, with a sentence) when it is used as the real one may not be used:
 *
 *   - a device address is touched by the host (they are no addresses at all);
 *   - a copy out goes to memory that is not registered;
 *   - a handle is used after it was destroyed or its context reset, memory is freed twice;
 *   - a kernel is launched by a thread that did not select the stream's device.
 *
 * One thread at a time. */
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

enum { SCRIPTED_DEVICES_MAX = 4 };

typedef struct ScriptedDevice {
    const char *name;
    int major, minor;
    int mode; /* cudaComputeMode* */
    bool cannot_register;
    uint8_t uuid_byte; /* all sixteen */
} ScriptedDevice;

typedef struct Script {
    uint32_t seed;
    int driver, runtime; /* versions as CUDA tells them */
    cudaError_t count_error;
    ScriptedDevice devices[SCRIPTED_DEVICES_MAX];
    int device_count;
    uint32_t fail_at;   /* this call fails, counted from 1; 0: none does */
    cudaError_t error;  /* so … */
    bool is_sticky;     /* … and all others after it, until a reset */
    bool stops_at_fail; /* nothing more is done in any stream after the failure */
    uint32_t resets_refused;
} Script;

/* Begin anew; frees what an earlier test left. */
void scripted_begin(const Script *script);

/* Do up to `operations` of what waits, as time passes without a call. Returns how many were done.
 */
uint32_t scripted_pass(uint32_t operations);

/* The `count`-th call from now on fails, if none has. */
void scripted_fail_after(uint32_t count);
/* From now on nothing is done in any stream, and nothing fails. */
void scripted_hang(void);

/* Did it come to the call that fails? */
bool scripted_failed(void);
/* Memory, registrations, streams and events that are not freed. */
uint32_t scripted_things(void);
/* Contexts that exist. */
uint32_t scripted_contexts(void);
