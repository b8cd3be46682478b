/* SPDX-License-Identifier: MIT */
/* The CUDA backend, in C over the runtime API.
 *
 * A lane is a stream with buffers for one batch: the block comes in, the kernels write the tensors
 * into a buffer of the slot's size on the GPU, and what they wrote goes to the slot, which the lane
 * registered. Between the tensors' ends and the next one's begin the buffer's own bytes go along,
 * so that most batches are one copy; a tensor that the slot keeps from an earlier batch is left
 * out.
 *
 * Errors of CUDA stick to the context and may show at any later call, so the first one that a
 * running lane sees marks the device as lost, and from then on every lane says so. Nothing is known
 * then about copies in flight but that they end with the context: mask_cuda_close() ends it. The
 * context is the process's, hence one MaskDevice for each GPU at a time; other processes are not
 * touched. */
#include <assert.h>
#include <cuda_runtime_api.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_device.h"
#include "cuda/kernels.h"
#include "mask/mask_backend.h"

enum { RESETS_MAX = 3 };

struct MaskDevice {
    CudaDevice found;
    int priority;
    atomic_bool is_lost;
    pthread_mutex_t lock; /* of lanes */
    MaskLane *lanes;
};

struct MaskLane {
    MaskDevice *device; /* NULL: closed, and all of CUDA's things are gone */
    MaskLane *next;
    cudaStream_t stream;
    cudaEvent_t done;
    uint8_t *slot, *slot_there; /* here and on the device */
    uint64_t slot_bytes;
    bool is_registered;
    void *input, *input_there;
    uint64_t input_bytes;
    CellPlan *plan_there;
    uint32_t dense; /* bit t: tensor t is a dense mask */
    bool in_flight;
};

static atomic_bool taken[CUDA_DEVICES_MAX];

/* On the data path: 0, or the device is lost. */
static int check(MaskDevice *device, cudaError_t result, const char *doing, Error *error) {
    if (result == cudaSuccess)
        return 0;
    atomic_store(&device->is_lost, true);
    return error_set(error, -EIO, "%s: %s failed: %s (%s)", device->found.name, doing,
                     cudaGetErrorString(result), cudaGetErrorName(result));
}

/* While a lane is made: what is short or refused is no loss, and is not told to the next call. */
static int check_setup(const MaskDevice *device, cudaError_t result, const char *doing,
                       Error *error) {
    if (result == cudaSuccess)
        return 0;
    (void)cudaGetLastError();
    return error_set(error, result == cudaErrorMemoryAllocation ? -ENOMEM : -EIO,
                     "%s: %s failed: %s (%s)", device->found.name, doing,
                     cudaGetErrorString(result), cudaGetErrorName(result));
}

static int mask_cuda_find(const char *device, char ret_reason[MASK_REASON_BYTES]) {
    CudaDevice found;

    return cuda_device_find(device, &found, ret_reason);
}

/* The context, which the thread that calls then has; and what it must be able to do. */
static int enter_context(MaskDevice *device, Error *error) {
    int greatest, r;

    r = check_setup(device,
                    cudaInitDevice(device->found.index, cudaDeviceScheduleBlockingSync,
                                   cudaInitDeviceFlagsAreValid),
                    "making a context", error);
    if (r < 0)
        return r;
    r = check_setup(device, cudaSetDevice(device->found.index), "taking the context", error);
    if (r < 0)
        return r;
    r = check_setup(device, kernels_check(), "loading the kernels", error);
    if (r < 0)
        return r;
    return check_setup(device, cudaDeviceGetStreamPriorityRange(&device->priority, &greatest),
                       "asking for priorities", error);
}

/* Until the reset says that all is well: it may tell of errors that came before it, and so may all
 * calls about the current device. */
static bool end_context(const MaskDevice *device) {
    for (int i = 0; i < RESETS_MAX; i++) {
        int current = device->found.index;

        (void)cudaSetDevice(device->found.index);
        (void)cudaGetDevice(&current);
        if (current == device->found.index && cudaDeviceReset() == cudaSuccess)
            return true;
    }
    return false;
}

static int mask_cuda_open(const char *name, MaskDevice **ret_device, Error *error) {
    char reason[MASK_REASON_BYTES];
    MaskDevice *device = calloc(1, sizeof *device);
    int r;

    if (!device)
        return error_set(error, -ENOMEM, "no memory for a device");
    r = cuda_device_find(name, &device->found, reason);
    if (r < 0) {
        free(device);
        return error_set(error, r, "%s", reason);
    }
    if (atomic_exchange(&taken[device->found.index], true)) {
        r = error_set(error, -EBUSY, "%s is open already", device->found.name);
        free(device);
        return r;
    }
    r = enter_context(device, error);
    if (r < 0) {
        (void)end_context(
            device); /* there may be none, and this thread's current one is another's */
        (void)cudaGetLastError();
        atomic_store(&taken[device->found.index], false);
        free(device);
        return r;
    }
    pthread_mutex_init(&device->lock, NULL);
    *ret_device = device;
    return 0;
}

static int mask_cuda_close(MaskDevice *device) {
    bool is_ended = end_context(device);

    for (MaskLane *lane = device->lanes; lane; lane = lane->next)
        lane->device = NULL;
    /* A GPU that did not let go stays taken. */
    if (is_ended)
        atomic_store(&taken[device->found.index], false);
    pthread_mutex_destroy(&device->lock);
    free(device);
    return is_ended ? 0 : -EIO;
}

static void lane_release(MaskLane *lane) {
    (void)cudaSetDevice(lane->device->found.index);
    if (lane->done)
        (void)cudaEventDestroy(lane->done);
    if (lane->stream)
        (void)cudaStreamDestroy(lane->stream);
    if (lane->is_registered)
        (void)cudaHostUnregister(lane->slot);
    if (lane->input)
        (void)cudaFreeHost(lane->input);
    (void)cudaFree(lane->input_there);
    (void)cudaFree(lane->slot_there);
    (void)cudaFree(lane->plan_there);
    (void)cudaGetLastError();
}

static int lane_make_memory(MaskLane *lane, Error *error) {
    const MaskDevice *device = lane->device;
    int r;

    r = check_setup(device, cudaHostRegister(lane->slot, lane->slot_bytes, cudaHostRegisterDefault),
                    "registering a slot", error);
    if (r < 0)
        return r;
    lane->is_registered = true;
    r = check_setup(device, cudaHostAlloc(&lane->input, lane->input_bytes, cudaHostAllocDefault),
                    "taking pinned memory", error);
    if (r < 0)
        return r;
    r = check_setup(device, cudaMalloc(&lane->input_there, lane->input_bytes),
                    "taking memory for a batch", error);
    if (r < 0)
        return r;
    r = check_setup(device, cudaMalloc((void **)&lane->slot_there, lane->slot_bytes),
                    "taking memory for a slot", error);
    if (r < 0)
        return r;
    return check_setup(device, cudaMalloc((void **)&lane->plan_there, sizeof *lane->plan_there),
                       "taking memory for a plan", error);
}

/* The plan goes there, and bytes that no tensor has are zero. */
static int lane_make_contents(MaskLane *lane, const CellPlan *plan, Error *error) {
    const MaskDevice *device = lane->device;
    int r;

    r = check_setup(
        device,
        cudaStreamCreateWithPriority(&lane->stream, cudaStreamNonBlocking, device->priority),
        "making a stream", error);
    if (r < 0)
        return r;
    r = check_setup(
        device,
        cudaEventCreateWithFlags(&lane->done, cudaEventDisableTiming | cudaEventBlockingSync),
        "making an event", error);
    if (r < 0)
        return r;
    r = check_setup(
        device,
        cudaMemcpyAsync(lane->plan_there, plan, sizeof *plan, cudaMemcpyHostToDevice, lane->stream),
        "copying a plan", error);
    if (r < 0)
        return r;
    r = check_setup(device, cudaMemsetAsync(lane->slot_there, 0, lane->slot_bytes, lane->stream),
                    "clearing a slot", error);
    if (r < 0)
        return r;
    return check_setup(device, cudaStreamSynchronize(lane->stream), "clearing a slot", error);
}

static int mask_cuda_lane_new(MaskDevice *device, const CellPlan *plan, void *slot,
                              uint64_t slot_bytes, uint64_t input_bytes, MaskLane **ret_lane,
                              Error *error) {
    MaskLane *lane = calloc(1, sizeof *lane);
    int r;

    if (!lane)
        return error_set(error, -ENOMEM, "no memory for a lane");
    *lane = (MaskLane){.device = device,
                       .slot = slot,
                       .slot_bytes = slot_bytes,
                       .input_bytes = input_bytes,
                       .dense = cell_dense_tensors(plan)};
    r = check_setup(device, cudaSetDevice(device->found.index), "taking the context", error);
    if (r == 0)
        r = lane_make_memory(lane, error);
    if (r == 0)
        r = lane_make_contents(lane, plan, error);
    if (r < 0) {
        lane_release(lane);
        free(lane);
        return r;
    }
    pthread_mutex_lock(&device->lock);
    lane->next = device->lanes;
    device->lanes = lane;
    pthread_mutex_unlock(&device->lock);
    *ret_lane = lane;
    return 0;
}

static void mask_cuda_lane_free(MaskLane *lane) {
    if (!lane)
        return;
    if (lane->device) {
        assert(!lane->in_flight);
        pthread_mutex_lock(&lane->device->lock);
        for (MaskLane **at = &lane->device->lanes; *at; at = &(*at)->next) {
            if (*at == lane) {
                *at = lane->next;
                break;
            }
        }
        pthread_mutex_unlock(&lane->device->lock);
        lane_release(lane);
    }
    free(lane);
}

static void *mask_cuda_lane_input(MaskLane *lane) {
    return lane->input;
}

/* The tensors that a batch writes, by their places. */
static uint32_t sort_tensors(const CellBatch *batch, uint32_t ret_order[SEQFEED_TENSORS_MAX]) {
    uint32_t count = 0;

    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++) {
        uint32_t i = count;

        if (batch->size_bytes[t] == 0)
            continue;
        for (; i > 0 && batch->offset[ret_order[i - 1]] > batch->offset[t]; i--)
            ret_order[i] = ret_order[i - 1];
        ret_order[i] = t;
        count++;
    }
    return count;
}

/* Tensors with less than SEQFEED_TENSOR_ALIGN between them have no other one there. */
static int copy_out(MaskLane *lane, const CellBatch *batch, Error *error) {
    uint32_t order[SEQFEED_TENSORS_MAX], count = sort_tensors(batch, order);

    for (uint32_t i = 0; i < count;) {
        uint64_t begin = batch->offset[order[i]], end = begin + batch->size_bytes[order[i]];
        int r;

        for (i++; i < count && batch->offset[order[i]] - end < SEQFEED_TENSOR_ALIGN; i++)
            end = batch->offset[order[i]] + batch->size_bytes[order[i]];
        assert(end <= lane->slot_bytes);
        r = check(lane->device,
                  cudaMemcpyAsync(lane->slot + begin, lane->slot_there + begin, end - begin,
                                  cudaMemcpyDeviceToHost, lane->stream),
                  "copying a batch out", error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int lost(const MaskDevice *device, Error *error) {
    return error_set(error, -EIO, "%s is lost", device->found.name);
}

/* Not that asking after an event needed it: a thread that has no current device would make a
 * context on the first one. */
static int enter_lane(const MaskLane *lane, Error *error) {
    MaskDevice *device = lane->device;

    if (atomic_load(&device->is_lost))
        return lost(device, error);
    return check(device, cudaSetDevice(device->found.index), "taking the context", error);
}

static int mask_cuda_lane_start(MaskLane *lane, Error *error) {
    const CellBatch *batch = lane->input;
    MaskDevice *device = lane->device;
    int r;

    assert(device && !lane->in_flight && batch->bytes <= lane->input_bytes);
    lane->in_flight = true; /* and so it stays if this fails */
    r = enter_lane(lane, error);
    if (r < 0)
        return r;
    r = check(device,
              cudaMemcpyAsync(lane->input_there, lane->input, batch->bytes, cudaMemcpyHostToDevice,
                              lane->stream),
              "copying a batch in", error);
    if (r < 0)
        return r;
    r = check(device,
              kernels_write_batch(lane->plan_there, lane->input_there, batch, lane->dense,
                                  lane->slot_there, lane->stream),
              "starting a kernel", error);
    if (r < 0)
        return r;
    r = copy_out(lane, batch, error);
    if (r < 0)
        return r;
    return check(device, cudaEventRecord(lane->done, lane->stream), "recording an event", error);
}

/* An event that is done vouches for its copies only as long as nothing went wrong. */
static int finish(MaskLane *lane, cudaError_t result, const char *doing, Error *error) {
    int r = check(lane->device, result, doing, error);

    if (r < 0)
        return r;
    if (atomic_load(&lane->device->is_lost))
        return lost(lane->device, error);
    lane->in_flight = false;
    return 0;
}

static int mask_cuda_lane_poll(MaskLane *lane, Error *error) {
    cudaError_t result;
    int r;

    if (!lane->in_flight)
        return 0;
    r = enter_lane(lane, error);
    if (r < 0)
        return r;
    result = cudaEventQuery(lane->done);
    if (result == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return MASK_E_BUSY;
    }
    return finish(lane, result, "a batch", error);
}

static int mask_cuda_lane_wait(MaskLane *lane, Error *error) {
    int r;

    if (!lane->in_flight)
        return 0;
    r = enter_lane(lane, error);
    if (r < 0)
        return r;
    return finish(lane, cudaEventSynchronize(lane->done), "a batch", error);
}

const MaskBackend *mask_backend_cuda(void) {
    static const MaskBackend backend = {
        .name = "cuda",
        .find = mask_cuda_find,
        .open = mask_cuda_open,
        .close = mask_cuda_close,
        .lane_new = mask_cuda_lane_new,
        .lane_free = mask_cuda_lane_free,
        .lane_input = mask_cuda_lane_input,
        .lane_start = mask_cuda_lane_start,
        .lane_poll = mask_cuda_lane_poll,
        .lane_wait = mask_cuda_lane_wait,
    };
    return &backend;
}
