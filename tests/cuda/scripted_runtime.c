/* SPDX-License-Identifier: MIT */
#include "cuda/scripted_runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"

/* Added to an address it gives one that no machine has. */
#define THERE UINT64_C(0x5a00000000000000)

enum { THINGS_MAX = 256, OPERATIONS_MAX = 4096 };

typedef enum ThingKind {
    THING_NONE,
    THING_MEMORY, /* on the device */
    THING_PINNED,
    THING_REGISTERED,
    THING_STREAM,
    THING_EVENT
} ThingKind;

typedef struct Thing {
    ThingKind kind;
    int device;
    uint8_t *memory;
    uint64_t size;
    uint32_t recorded, done; /* events: records asked for, and done */
} Thing;

typedef enum OperationKind { COPY, SET, LAUNCH, RECORD } OperationKind;

typedef struct Operation {
    OperationKind kind;
    Thing *stream, *event;
    uint8_t *to;
    const uint8_t *from;
    uint8_t *staged; /* a copy of pageable memory, to free */
    uint64_t size, at;
    int value;
    uint32_t record;
    Launch launch;
} Operation;

static Script script;
static Thing things[THINGS_MAX];
static Operation operations[OPERATIONS_MAX];
static uint32_t operation_count, calls, draws;
static bool failed, stuck, hangs, contexts[SCRIPTED_DEVICES_MAX];
static _Thread_local cudaError_t last_error;
static _Thread_local int current;

static void misuse(const char *what) {
    fprintf(stderr, "scripted runtime: %s\n", what);
    abort();
}

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(script.seed, draws++, 1, 0, 0).word[0], bound);
}

static void forget(Thing *thing) {
    if (thing->kind == THING_MEMORY || thing->kind == THING_PINNED)
        free(thing->memory);
    *thing = (Thing){0};
}

static void forget_operations(void) {
    for (uint32_t i = 0; i < operation_count; i++)
        free(operations[i].staged);
    operation_count = 0;
}

void scripted_begin(const Script *begun) {
    forget_operations();
    for (uint32_t i = 0; i < THINGS_MAX; i++)
        forget(&things[i]);
    script = *begun;
    calls = draws = 0;
    failed = stuck = hangs = false;
    memset(contexts, 0, sizeof contexts);
    last_error = cudaSuccess;
    current = 0;
}

void scripted_fail_after(uint32_t count) {
    script.fail_at = calls + count;
}

void scripted_hang(void) {
    hangs = true;
}

bool scripted_failed(void) {
    return failed;
}

uint32_t scripted_things(void) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < THINGS_MAX; i++)
        count += things[i].kind != THING_NONE;
    return count;
}

uint32_t scripted_contexts(void) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < SCRIPTED_DEVICES_MAX; i++)
        count += contexts[i];
    return count;
}

/* Every call passes here: is it the one that fails? */
static cudaError_t enter(void) {
    calls++;
    if (stuck)
        return last_error = script.error;
    if (calls != script.fail_at)
        return cudaSuccess;
    failed = true;
    stuck = script.is_sticky;
    return last_error = script.error;
}

/* The same for calls that need a context. */
static cudaError_t enter_context(void) {
    cudaError_t r = enter();

    contexts[current] = true;
    return r;
}

static Thing *thing_new(ThingKind kind, size_t size) {
    for (uint32_t i = 0; i < THINGS_MAX; i++) {
        Thing *thing = &things[i];

        if (thing->kind != THING_NONE)
            continue;
        *thing = (Thing){.kind = kind, .device = current, .size = size};
        if (kind == THING_MEMORY || kind == THING_PINNED) {
            if (size == 0 || posix_memalign((void **)&thing->memory, 256, size))
                misuse("no memory, or none was asked for");
            memset(thing->memory, 0xdb, size);
        }
        return thing;
    }
    misuse("too many things");
    return NULL;
}

/* The stream or event of a handle. */
static Thing *thing_of(const void *handle, ThingKind kind) {
    uintptr_t at = (uintptr_t)handle, first = (uintptr_t)things;

    if (at < first || at >= first + sizeof things || (at - first) % sizeof *things)
        misuse("a handle that never was one");
    if (things[(at - first) / sizeof *things].kind != kind)
        misuse("a handle that is gone, or of another kind");
    return &things[(at - first) / sizeof *things];
}

/* The thing whose bytes [at, at + size) are, or NULL. */
static Thing *thing_at(ThingKind kind, const uint8_t *at, uint64_t size) {
    for (uint32_t i = 0; i < THINGS_MAX; i++)
        if (things[i].kind == kind && at >= things[i].memory &&
            at + size <= things[i].memory + things[i].size)
            return &things[i];
    return NULL;
}

/* Where a device address really is. */
static uint8_t *there(const void *address, uint64_t size) {
    uint8_t *at = (uint8_t *)((uintptr_t)address - THERE);

    if (!thing_at(THING_MEMORY, at, size))
        misuse("an address that the device does not have");
    return at;
}

/* Waits for the device first, as the real one does. */
static cudaError_t thing_free(const uint8_t *memory, ThingKind kind) {
    scripted_pass(UINT32_MAX);
    for (uint32_t i = 0; i < THINGS_MAX; i++) {
        if (things[i].kind == kind && things[i].memory == memory) {
            forget(&things[i]);
            return cudaSuccess;
        }
    }
    misuse("memory is freed that is not there");
    return cudaErrorInvalidValue;
}

static Operation *operation_new(OperationKind kind, cudaStream_t stream) {
    Operation *operation = &operations[operation_count];

    if (operation_count++ == OPERATIONS_MAX)
        misuse("too many operations");
    *operation = (Operation){.kind = kind, .stream = thing_of(stream, THING_STREAM)};
    return operation;
}

/* Do the next piece of an operation. Returns whether it is done. */
static bool operate(Operation *operation) {
    uint64_t size = operation->size - operation->at;

    switch (operation->kind) {
    case COPY:
        size = operation->at == 0 && size > 1 ? 1 + draw((uint32_t)size) : size;
        memcpy(operation->to + operation->at, operation->from + operation->at, size);
        operation->at += size;
        return operation->at == operation->size;
    case SET:
        memset(operation->to, operation->value, operation->size);
        return true;
    case RECORD:
        operation->event->done = operation->record;
        return true;
    default:
        launch_run(&operation->launch);
        return true;
    }
}

/* A stream that waits for something is drawn, and its oldest operation gets on. */
static bool pass_one(void) {
    uint32_t first;

    if (operation_count == 0 || hangs || (failed && script.stops_at_fail))
        return false;
    first = draw(operation_count);
    for (uint32_t i = 0; i < first; i++) {
        if (operations[i].stream == operations[first].stream) {
            first = i;
            break;
        }
    }
    if (operate(&operations[first])) {
        free(operations[first].staged);
        operation_count--;
        memmove(&operations[first], &operations[first + 1],
                (operation_count - first) * sizeof *operations);
    }
    return true;
}

uint32_t scripted_pass(uint32_t count) {
    uint32_t done = 0;

    while (done < count && pass_one())
        done++;
    return done;
}

/* --- the runtime's functions ---------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count) {
    cudaError_t r = enter();

    if (r == cudaSuccess && script.count_error != cudaSuccess)
        r = last_error = script.count_error;
    if (r == cudaSuccess)
        *count = script.device_count;
    return r;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    cudaError_t r = enter();

    if (r != cudaSuccess)
        return r;
    if (device >= script.device_count)
        misuse("a device that is not there");
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "%s", script.devices[device].name);
    memset(properties->uuid.bytes, script.devices[device].uuid_byte, 16);
    properties->major = script.devices[device].major;
    properties->minor = script.devices[device].minor;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    cudaError_t r = enter();

    if (r != cudaSuccess)
        return r;
    if (attribute == cudaDevAttrComputeMode)
        *value = script.devices[device].mode;
    else if (attribute == cudaDevAttrHostRegisterSupported)
        *value = !script.devices[device].cannot_register;
    else
        misuse("an attribute that the script does not know");
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = script.driver;
    return enter();
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = script.runtime;
    return enter();
}

const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorScripted";
}

const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "scripted error";
}

cudaError_t cudaGetLastError(void) {
    cudaError_t r = last_error;

    last_error = stuck ? script.error : cudaSuccess;
    return r;
}

cudaError_t cudaInitDevice(int device, unsigned int device_flags, unsigned int flags) {
    cudaError_t r = enter();

    if (flags != cudaInitDeviceFlagsAreValid || device_flags != cudaDeviceScheduleBlockingSync)
        misuse("flags of cudaInitDevice");
    if (r == cudaSuccess)
        contexts[device] = true;
    return r;
}

cudaError_t cudaSetDevice(int device) {
    cudaError_t r = enter();

    if (device < 0 || device >= script.device_count)
        misuse("a device that is not there");
    current = device;
    return r;
}

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return enter();
}

cudaError_t cudaDeviceReset(void) {
    calls++;
    if (script.resets_refused > 0) {
        script.resets_refused--;
        return cudaErrorUnknown;
    }
    scripted_pass(draw(4)); /* on the way out */
    forget_operations();
    for (uint32_t i = 0; i < THINGS_MAX; i++)
        if (things[i].device == current)
            forget(&things[i]);
    contexts[current] = false;
    stuck = false;
    last_error = cudaSuccess;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return enter_context();
}

cudaError_t cudaHostRegister(void *memory, size_t size, unsigned int flags) {
    cudaError_t r = enter_context();

    if (r != cudaSuccess)
        return r;
    if (thing_at(THING_REGISTERED, memory, 1))
        return last_error = cudaErrorHostMemoryAlreadyRegistered;
    if (size == 0 || flags != cudaHostRegisterDefault)
        misuse("a registration of nothing, or with flags");
    thing_new(THING_REGISTERED, size)->memory = memory;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *memory) {
    cudaError_t r = enter_context();

    return r == cudaSuccess ? thing_free(memory, THING_REGISTERED) : r;
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned int flags) {
    cudaError_t r = enter_context();

    (void)flags;
    if (r == cudaSuccess)
        *memory = thing_new(THING_PINNED, size)->memory;
    return r;
}

cudaError_t cudaFreeHost(void *memory) {
    cudaError_t r = enter_context();

    return r == cudaSuccess && memory ? thing_free(memory, THING_PINNED) : r;
}

cudaError_t cudaMalloc(void **memory, size_t size) {
    cudaError_t r = enter_context();

    if (r == cudaSuccess)
        *memory = (void *)((uintptr_t)thing_new(THING_MEMORY, size)->memory + THERE);
    return r;
}

cudaError_t cudaFree(void *memory) {
    cudaError_t r = enter_context();

    if (r != cudaSuccess || !memory)
        return r;
    return thing_free((uint8_t *)((uintptr_t)memory - THERE), THING_MEMORY);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority) {
    cudaError_t r = enter_context();

    if (flags != cudaStreamNonBlocking || priority != 0)
        misuse("a stream that would get in the way of others");
    if (r == cudaSuccess)
        *stream = (cudaStream_t)(void *)thing_new(THING_STREAM, 0);
    return r;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    cudaError_t r = enter_context();

    if (r != cudaSuccess)
        return r;
    scripted_pass(UINT32_MAX);
    forget(thing_of(stream, THING_STREAM));
    return r;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    cudaError_t r = enter_context();
    bool is_idle = false;

    if (r != cudaSuccess)
        return r;
    while (!is_idle) {
        is_idle = true;
        for (uint32_t i = 0; i < operation_count; i++)
            is_idle &= operations[i].stream != thing_of(stream, THING_STREAM);
        if (!is_idle && !pass_one())
            misuse("a wait without end");
    }
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags) {
    cudaError_t r = enter_context();

    if (flags != (cudaEventDisableTiming | cudaEventBlockingSync))
        misuse("an event that spins or is timed");
    if (r == cudaSuccess)
        *event = (cudaEvent_t)(void *)thing_new(THING_EVENT, 0);
    return r;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    cudaError_t r = enter_context();

    if (r == cudaSuccess)
        forget(thing_of(event, THING_EVENT));
    return r;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    cudaError_t r = enter_context();
    Operation *operation;

    if (r != cudaSuccess)
        return r;
    operation = operation_new(RECORD, stream);
    operation->event = thing_of(event, THING_EVENT);
    operation->record = ++operation->event->recorded;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    cudaError_t r = enter_context();
    const Thing *thing;

    if (r != cudaSuccess)
        return r;
    thing = thing_of(event, THING_EVENT);
    scripted_pass(draw(4));
    return thing->done == thing->recorded ? cudaSuccess : (last_error = cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    cudaError_t r = enter_context();
    const Thing *thing;

    if (r != cudaSuccess)
        return r;
    thing = thing_of(event, THING_EVENT);
    while (thing->done != thing->recorded)
        if (!pass_one())
            misuse("a wait without end");
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    cudaError_t r = enter_context();
    Operation *operation;

    if (r != cudaSuccess)
        return r;
    operation = operation_new(COPY, stream);
    operation->size = size;
    if (kind == cudaMemcpyDeviceToHost) {
        if (!thing_at(THING_REGISTERED, to, size))
            misuse("a copy to memory that is not registered");
        operation->to = to;
        operation->from = there(from, size);
    } else {
        operation->to = there(to, size);
        operation->from = from;
        if (!thing_at(THING_PINNED, from, size)) { /* pageable: taken before the call returns */
            operation->staged = malloc(size);
            operation->from = memcpy(operation->staged, from, size);
        }
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream) {
    cudaError_t r = enter_context();
    Operation *operation;

    if (r != cudaSuccess)
        return r;
    operation = operation_new(SET, stream);
    operation->to = there(to, size);
    operation->size = size;
    operation->value = value;
    return cudaSuccess;
}

/* --- in place of kernels.cu ----------------------------------------------------------------- */

cudaError_t kernels_check(void) {
    return enter_context();
}

cudaError_t kernels_write_batch(const CellPlan *plan, const CellBatch *batch,
                                const CellBatch *shape, uint32_t dense, void *slot,
                                cudaStream_t stream) {
    for (int is_dense = 0; is_dense < 2; is_dense++) {
        cudaError_t r = enter_context();
        Operation *operation;

        if (r != cudaSuccess)
            return r;
        if (thing_of(stream, THING_STREAM)->device != current)
            misuse("a launch by a thread with another device");
        operation = operation_new(LAUNCH, stream);
        operation->launch = launch_make((const void *)there(plan, sizeof *plan), shape, dense,
                                        is_dense, WRITE_BLOCKS_MAX, there(slot, 1));
        operation->launch.batch = (const void *)there(batch, shape->bytes);
        if (last_error != cudaSuccess) /* what this thread left unread, as after <<<>>> */
            return cudaGetLastError();
    }
    return cudaSuccess;
}
