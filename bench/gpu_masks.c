/* SPDX-License-Identifier: MIT */
/* What the CUDA backend does on this machine's GPU, each figure beside its limit in the same run:
 *
 *   kernel    the kernels alone, against cudaMemsetAsync of the same bytes
 *   direct    the kernels storing straight into the registered slot, against kernels and copy
 *   batches   batches through the backend with 1, 2 and 4 lanes, against copies alone on as many
 *             streams: how near it is to the bus, and what overlaps
 *   small     the launches of a small batch, against a launch of nothing
 *   beside    a kernel that fills the GPU, alone and with four lanes at work beside it
 *
 *     gpu_masks [DEVICE]      exits 77 with the reason where there is no GPU */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "base/clock.h"
#include "base/random.h"
#include "bench/gpu_load.h"
#include "cuda/kernels.h"
#include "mask/cell_pack.h"
#include "mask/mask_backend.h"

enum { LANES = 4, TIMES = 50, VALUES = 5, SKIPPED = 77, PAGE = 4096 };

typedef struct Subject {
    const char *name;
    TensorSpec tensors[VALUES];
    MaskStep steps[VALUES];
    uint32_t count, step_count, rows, length;
    uint32_t longest; /* packed: of the sequences that fill each row; 0: one in each */
} Subject;

#define TOKENS \
    { .source = TENSOR_TOKENS, .element = ELEMENT_U16, .width = 1, .dtype = SEQFEED_INT64 }
#define MASK_BOOL                                                         \
    {                                                                     \
        .source = TENSOR_MASK_LENGTHS, .width = 1, .dtype = SEQFEED_BOOL, \
        .polarity = SEQFEED_POLARITY_KEEP                                 \
    }
#define LABELS                                                                               \
    {                                                                                        \
        .source = TENSOR_LABELS, .element = ELEMENT_U16, .width = 1, .dtype = SEQFEED_INT64, \
        .pad = -100                                                                          \
    }
#define PLACES(what, type) \
    { .source = what, .width = 1, .dtype = type }
#define BLOCKS(what) \
    { .source = what, .width = 1, .dtype = SEQFEED_INT32, .block = 128, .step_count = 3 }
#define DENSE(type)                                                                                \
    {                                                                                              \
        .source = TENSOR_MASK_DENSE, .width = 1, .dtype = type, .polarity = SEQFEED_POLARITY_KEEP, \
        .step_count = 3                                                                            \
    }
#define CAUSAL                                   \
    {.op = MASK_CAUSAL}, {.op = MASK_LENGTHS}, { \
        .op = MASK_AND                           \
    }

#define SEGMENTS                                  \
    {.op = MASK_SEGMENTS}, {.op = MASK_CAUSAL}, { \
        .op = MASK_AND                            \
    }
#define PACKED                                               \
    TOKENS, LABELS, PLACES(TENSOR_POSITIONS, SEQFEED_INT64), \
        PLACES(TENSOR_PACK_SEGMENTS, SEQFEED_INT32), PLACES(TENSOR_PACK_CU_SEQLENS, SEQFEED_INT32)

static const Subject subjects[] = {
    {"tokens mask labels [8, 128]", {TOKENS, MASK_BOOL, LABELS}, {{0}}, 3, 0, 8, 128, 0},
    {"tokens mask labels [64, 4096]", {TOKENS, MASK_BOOL, LABELS}, {{0}}, 3, 0, 64, 4096, 0},
    {"tokens mask labels [1024, 4096]", {TOKENS, MASK_BOOL, LABELS}, {{0}}, 3, 0, 1024, 4096, 0},
    {"dense bool [8, 1, 4096, 4096]", {DENSE(SEQFEED_BOOL)}, {CAUSAL}, 1, 3, 8, 4096, 0},
    {"dense bfloat16 [8, 1, 4096, 4096]", {DENSE(SEQFEED_BFLOAT16)}, {CAUSAL}, 1, 3, 8, 4096, 0},
    {"packed [64, 4096]", {PACKED}, {{0}}, 5, 0, 64, 4096, 512},
    {"packed, short ones [64, 4096]", {PACKED}, {{0}}, 5, 0, 64, 4096, 8},
    {"dense segments bool [8, 1, 4096, 4096]",
     {DENSE(SEQFEED_BOOL)},
     {SEGMENTS},
     1,
     3,
     8,
     4096,
     512},
    {"block lists [8, 1, 256, 256]",
     {BLOCKS(TENSOR_BLOCKS_COUNT), BLOCKS(TENSOR_BLOCKS), BLOCKS(TENSOR_BLOCKS_FULL_COUNT),
      BLOCKS(TENSOR_BLOCKS_FULL)},
     {SEGMENTS},
     4,
     3,
     8,
     32768,
     4096},
};

/* A batch of a subject, here and there. */
typedef struct Batch {
    TensorSet set;
    CellPlan plan;
    TensorLayout layout;
    uint32_t dense;
    CellBatch *input;
    uint64_t input_bytes, slot_bytes;
    uint8_t *slot; /* registered by whom it concerns */
    void *plan_there, *input_there, *slot_there;
} Batch;

static void check(cudaError_t result, const char *what) {
    if (result == cudaSuccess)
        return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(result));
    exit(EXIT_FAILURE);
}

/* The sequences of a subject's rows, and where each row begins. */
static FillRow *make_rows(const Subject *subject, const uint8_t *const *columns, uint32_t *firsts,
                          uint32_t *ret_tokens) {
    uint64_t most = (uint64_t)subject->rows * (subject->longest ? subject->length : 1);
    FillRow *rows = calloc(most, sizeof *rows);
    uint32_t count = 0, start = 0;

    for (uint32_t r = 0; r < subject->rows; r++) {
        uint32_t left = subject->length;

        firsts[r] = count;
        do {
            uint32_t bound = subject->longest ? subject->longest : left;
            uint32_t length = 1 + random_below(random_philox(1, count, 0, 0, 0).word[0], bound);

            length = MIN(length, left);
            rows[count++] = (FillRow){.columns = columns, .start = start, .length = length};
            start += length;
            left -= length;
        } while (subject->longest && left > 0);
    }
    firsts[subject->rows] = count;
    *ret_tokens = start;
    return rows;
}

static void batch_pack(Batch *batch, const Subject *subject, const FillRow *rows,
                       const uint32_t *firsts) {
    uint32_t count = firsts[subject->rows];
    const CellExtent extent = {.rows = subject->rows,
                               .sequences = count,
                               .tokens = (uint64_t)subject->rows * subject->length};
    const FillPacked part = {
        .row_count = subject->rows, .sequence_count = count, .sources = rows, .firsts = firsts};
    const CellSource source = {.rows = rows, .count = count, .parts = &part, .part_count = 1};
    uint64_t capacity;

    if (cell_plan_make(&batch->set, &batch->plan) < 0)
        exit(EXIT_FAILURE);
    batch->dense = cell_dense_tensors(&batch->plan);
    capacity = align_up(cell_pack_bytes(&batch->set, &batch->plan, &extent), PAGE);
    batch->input = aligned_alloc(PAGE, capacity);
    batch->input_bytes = cell_pack(&batch->set, &batch->plan, &batch->layout, subject->length,
                                   &source, batch->input, capacity);
}

static void batch_init(Batch *batch, const Subject *subject) {
    const uint8_t **columns = calloc(4, sizeof *columns);
    uint16_t *tokens = calloc((uint64_t)subject->rows * subject->length, sizeof *tokens);
    uint32_t *firsts = calloc(subject->rows + 1, sizeof *firsts), count;
    FillRow *rows;

    *batch = (Batch){.set = {.count = subject->count,
                             .rows_max = subject->rows,
                             .length_max = subject->length,
                             .packed = subject->longest > 0,
                             .token_element = ELEMENT_U16,
                             .column_count = 1,
                             .step_count = subject->step_count}};
    memcpy(batch->set.tensors, subject->tensors, sizeof subject->tensors);
    memcpy(batch->set.steps, subject->steps, sizeof subject->steps);
    columns[0] = (const uint8_t *)tokens;
    rows = make_rows(subject, columns, firsts, &count);
    batch->set.sequences_max = firsts[subject->rows];
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint16_t)(i * 40503u);
    if (subject->longest)
        tensor_layout_packed(&batch->set, subject->rows, subject->length, batch->set.sequences_max,
                             count, &batch->layout);
    else
        tensor_layout(&batch->set, subject->rows, subject->length, &batch->layout);
    batch_pack(batch, subject, rows, firsts);
    batch->slot_bytes = align_up(batch->layout.bytes, PAGE);
    batch->slot = aligned_alloc(PAGE, batch->slot_bytes);
    memset(batch->slot, 0, batch->slot_bytes);
    free(tokens);
    free(columns);
    free(firsts);
    free(rows);
}

static void batch_upload(Batch *batch) {
    check(cudaMalloc(&batch->plan_there, sizeof batch->plan), "memory");
    check(cudaMalloc(&batch->input_there, batch->input_bytes), "memory");
    check(cudaMalloc(&batch->slot_there, batch->slot_bytes), "memory");
    check(cudaMemcpy(batch->plan_there, &batch->plan, sizeof batch->plan, cudaMemcpyHostToDevice),
          "copy");
    check(cudaMemcpy(batch->input_there, batch->input, batch->input_bytes, cudaMemcpyHostToDevice),
          "copy");
    check(cudaHostRegister(batch->slot, batch->slot_bytes, cudaHostRegisterDefault), "register");
}

static void batch_deinit(Batch *batch) {
    if (batch->plan_there) {
        check(cudaHostUnregister(batch->slot), "unregister");
        check(cudaFree(batch->plan_there), "free");
        check(cudaFree(batch->input_there), "free");
        check(cudaFree(batch->slot_there), "free");
    }
    free(batch->input);
    free(batch->slot);
}

/* What is repeated on a stream. */
typedef enum Work { NOTHING, MEMSET, KERNELS, KERNELS_AND_COPY, DIRECT } Work;

static void do_work(Work work, Batch *batch, cudaStream_t stream) {
    void *slot = batch->slot_there;

    if (work == NOTHING)
        check(gpu_load_nothing(stream), "launch");
    if (work == MEMSET)
        check(cudaMemsetAsync(slot, 1, batch->layout.bytes, stream), "memset");
    if (work == DIRECT)
        check(cudaHostGetDevicePointer(&slot, batch->slot, 0), "mapping");
    if (work >= KERNELS)
        check(kernels_write_batch(batch->plan_there, batch->input_there, batch->input, batch->dense,
                                  slot, stream),
              "launch");
    if (work == KERNELS_AND_COPY)
        check(
            cudaMemcpyAsync(batch->slot, slot, batch->layout.bytes, cudaMemcpyDeviceToHost, stream),
            "copy");
}

/* Microseconds of one, the mean of TIMES after a few to warm up. */
static double time_work(Work work, Batch *batch, cudaStream_t stream) {
    cudaEvent_t begin, end;
    float milliseconds;

    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    for (uint32_t i = 0; i < 5; i++)
        do_work(work, batch, stream);
    check(cudaEventRecord(begin, stream), "event");
    for (uint32_t i = 0; i < TIMES; i++)
        do_work(work, batch, stream);
    check(cudaEventRecord(end, stream), "event");
    check(cudaEventSynchronize(end), "work");
    check(cudaEventElapsedTime(&milliseconds, begin, end), "time");
    check(cudaEventDestroy(begin), "event");
    check(cudaEventDestroy(end), "event");
    return milliseconds * 1000.0 / TIMES;
}

static void measure_kernels(const Subject *subject) {
    cudaStream_t stream;
    double nothing, set, kernels, copied, direct, bytes;
    Batch batch;

    batch_init(&batch, subject);
    batch_upload(&batch);
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    nothing = time_work(NOTHING, &batch, stream);
    set = time_work(MEMSET, &batch, stream);
    kernels = time_work(KERNELS, &batch, stream);
    copied = time_work(KERNELS_AND_COPY, &batch, stream);
    direct = time_work(DIRECT, &batch, stream);
    bytes = (double)batch.layout.bytes;
    printf("%-36s %8.1f MB  kernel %8.1f us %7.1f GB/s  memset %7.1f GB/s  ratio %.2f\n",
           subject->name, bytes / 1e6, kernels, bytes / kernels / 1e3, bytes / set / 1e3,
           set / kernels);
    printf("%-36s kernel and copy %8.1f us  stored straight into the slot %8.1f us  ratio %.2f\n",
           "", copied, direct, copied / direct);
    printf("%-36s kernel %8.1f us  launch of nothing %6.2f us\n", "", kernels, nothing);
    check(cudaStreamDestroy(stream), "stream");
    batch_deinit(&batch);
}

typedef struct Lanes {
    MaskLane *lane[LANES];
    Batch batch[LANES];
    uint32_t count;
    uint64_t batches;
} Lanes;

static void complain(const Error *error) {
    fprintf(stderr, "%s\n", error->text);
    exit(EXIT_FAILURE);
}

static void lanes_init(Lanes *lanes, MaskDevice *device, const Subject *subject, uint32_t count) {
    Error error = {0};

    *lanes = (Lanes){.count = count};
    for (uint32_t l = 0; l < count; l++) {
        Batch *batch = &lanes->batch[l];

        batch_init(batch, subject);
        if (mask_backend_cuda()->lane_new(device, &batch->plan, batch->slot, batch->slot_bytes,
                                          batch->input_bytes, &lanes->lane[l], &error) < 0)
            complain(&error);
        memcpy(mask_backend_cuda()->lane_input(lanes->lane[l]), batch->input, batch->input_bytes);
    }
}

static void lanes_deinit(Lanes *lanes) {
    for (uint32_t l = 0; l < lanes->count; l++) {
        mask_backend_cuda()->lane_free(lanes->lane[l]);
        batch_deinit(&lanes->batch[l]);
    }
}

/* Start what is idle, once `wanted` batches are under way only wait. */
static void lanes_turn(Lanes *lanes, uint64_t batch, bool starts) {
    MaskLane *lane = lanes->lane[batch % lanes->count];
    Error error = {0};

    if (mask_backend_cuda()->lane_wait(lane, &error) < 0)
        complain(&error);
    if (starts && mask_backend_cuda()->lane_start(lane, &error) < 0)
        complain(&error);
}

static double time_batches(Lanes *lanes) {
    uint64_t many = (uint64_t)TIMES * lanes->count;
    int64_t from;

    for (uint64_t b = 0; b < lanes->count; b++)
        lanes_turn(lanes, b, true);
    from = clock_now_ns();
    for (uint64_t b = 0; b < many; b++)
        lanes_turn(lanes, b, true);
    for (uint64_t b = 0; b < lanes->count; b++)
        lanes_turn(lanes, b, false);
    return (double)(clock_now_ns() - from) / 1e3 / (double)(many + lanes->count);
}

/* The same copies with nothing between them. */
static double time_copies(Lanes *lanes) {
    cudaStream_t streams[LANES];
    uint64_t many = (uint64_t)TIMES * lanes->count;
    int64_t from;
    void *in, *out;

    check(cudaMalloc(&in, lanes->batch[0].input_bytes), "memory");
    check(cudaMalloc(&out, lanes->batch[0].slot_bytes), "memory");
    for (uint32_t l = 0; l < lanes->count; l++)
        check(cudaStreamCreateWithFlags(&streams[l], cudaStreamNonBlocking), "stream");
    from = clock_now_ns();
    for (uint64_t b = 0; b < many; b++) {
        const Batch *batch = &lanes->batch[b % lanes->count];
        cudaStream_t stream = streams[b % lanes->count];

        check(cudaMemcpyAsync(in, mask_backend_cuda()->lane_input(lanes->lane[b % lanes->count]),
                              batch->input_bytes, cudaMemcpyHostToDevice, stream),
              "copy");
        check(
            cudaMemcpyAsync(batch->slot, out, batch->layout.bytes, cudaMemcpyDeviceToHost, stream),
            "copy");
    }
    for (uint32_t l = 0; l < lanes->count; l++) {
        check(cudaStreamSynchronize(streams[l]), "copies");
        check(cudaStreamDestroy(streams[l]), "stream");
    }
    check(cudaFree(in), "free");
    check(cudaFree(out), "free");
    return (double)(clock_now_ns() - from) / 1e3 / (double)many;
}

static void measure_batches(MaskDevice *device, const Subject *subject) {
    for (uint32_t count = 1; count <= LANES; count *= 2) {
        double batches, copies;
        Lanes lanes;

        lanes_init(&lanes, device, subject, count);
        batches = time_batches(&lanes);
        copies = time_copies(&lanes);
        printf("%-36s %u lanes: %9.1f batches/s %6.2f GB/s  copies alone %6.2f GB/s  ratio %.2f\n",
               subject->name, count, 1e6 / batches,
               (double)lanes.batch[0].layout.bytes / batches / 1e3,
               (double)lanes.batch[0].layout.bytes / copies / 1e3, copies / batches);
        lanes_deinit(&lanes);
    }
}

/* Milliseconds of a kernel of many, with lanes at work meanwhile or not. */
static double time_beside(Lanes *lanes, float *values, uint64_t count, uint32_t rounds) {
    enum { KERNELS_IN_ALL = 200 };
    cudaStream_t stream;
    cudaEvent_t begin, end;
    float milliseconds;
    uint64_t batch = 0;

    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    check(cudaEventRecord(begin, stream), "event");
    for (uint32_t i = 0; i < KERNELS_IN_ALL; i++)
        check(gpu_load_work(values, count, rounds, stream), "launch");
    check(cudaEventRecord(end, stream), "event");
    while (lanes && cudaEventQuery(end) == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* or the next launch would tell of it */
        lanes_turn(lanes, batch++, true);
    }
    for (uint64_t b = 0; lanes && b < lanes->count; b++)
        lanes_turn(lanes, b, false);
    if (lanes)
        lanes->batches = batch;
    check(cudaEventSynchronize(end), "work");
    check(cudaEventElapsedTime(&milliseconds, begin, end), "time");
    check(cudaEventDestroy(begin), "event");
    check(cudaEventDestroy(end), "event");
    check(cudaStreamDestroy(stream), "stream");
    return milliseconds / KERNELS_IN_ALL;
}

static void measure_beside(MaskDevice *device, const Subject *subject) {
    static const struct {
        const char *name;
        uint32_t rounds;
    } loads[] = {{"of memory", 1}, {"of arithmetic", 400}};
    const uint64_t count = UINT64_C(1) << 26;
    float *values;
    Lanes lanes;

    check(cudaMalloc((void **)&values, count * sizeof *values), "memory");
    check(cudaMemset(values, 0, count * sizeof *values), "memset");
    lanes_init(&lanes, device, subject, LANES);
    for (uint32_t i = 0; i < ARRAY_COUNT(loads); i++) {
        double alone, beside;

        (void)time_beside(NULL, values, count, loads[i].rounds);
        alone = time_beside(NULL, values, count, loads[i].rounds);
        beside = time_beside(&lanes, values, count, loads[i].rounds);
        printf("%-36s a kernel %s: alone %.3f ms, beside %lu batches %.3f ms, ratio %.3f\n",
               subject->name, loads[i].name, alone, (unsigned long)lanes.batches, beside,
               beside / alone);
    }
    lanes_deinit(&lanes);
    check(cudaFree(values), "free");
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : NULL;
    char reason[MASK_REASON_BYTES];
    MaskDevice *device;
    Error error = {0};

    if (mask_backend_cuda()->find(name, reason) < 0) {
        printf("skipped: %s\n", reason);
        return SKIPPED;
    }
    if (mask_backend_cuda()->open(name, &device, &error) < 0)
        complain(&error);
    printf("%s\n", reason);
    for (uint32_t i = 0; i < ARRAY_COUNT(subjects); i++)
        measure_kernels(&subjects[i]);
    for (uint32_t i = 0; i < ARRAY_COUNT(subjects); i++)
        measure_batches(device, &subjects[i]);
    measure_beside(device, &subjects[1]);
    return mask_backend_cuda()->close(device) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
