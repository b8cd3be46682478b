/* SPDX-License-Identifier: MIT */
/* stream_trace.h: all that trainers see of a stream, to compare one with another. */
#pragma once

#include "pipeline/stream_bench.h"

enum { BATCHES_MAX = 4000 };

typedef struct Trace {
    uint64_t batches[BENCH_RINGS][BATCHES_MAX];
    uint32_t count[BENCH_RINGS];
} Trace;

static inline uint64_t digest(uint64_t sum, const void *bytes, size_t size) {
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ at[i]) * UINT64_C(1099511628211);
    return sum;
}

/* All that a trainer may look at. */
static inline uint64_t digest_batch(const Bench *bench, uint32_t ring,
                                    const SeqfeedDescriptor *batch) {
    uint64_t sum = digest(1, batch, offsetof(SeqfeedDescriptor, tensors));

    sum = digest(sum, batch->tensors, batch->tensor_count * sizeof *batch->tensors);
    for (uint32_t t = 0; t < batch->tensor_count; t++) {
        SeqfeedTensorRecord record;
        const uint8_t *bytes = bench_tensor(bench, ring, batch, batch->tensors[t].name, &record);
        sum = digest(sum, bytes, record.size_bytes);
    }
    return sum;
}

/* The next batch of each ring, which must not change while it is held. */
static inline void take_round(Bench *bench, Trace *trace) {
    for (uint32_t r = 0; r < bench->ring_count; r++) {
        const SeqfeedDescriptor *batch = bench_next(bench, r);
        uint64_t sum = digest_batch(bench, r, batch);

        bench_run(bench);
        ck_assert_msg(digest_batch(bench, r, batch) == sum, "a published batch was written to");
        ck_assert_uint_lt(trace->count[r], BATCHES_MAX);
        trace->batches[r][trace->count[r]++] = sum;
        bench_release(bench, r);
    }
}

/* What the CPU made, and what a device did. */
static Trace cpu, device;

static inline void trace_cpu(const BenchOptions *options, uint32_t rounds) {
    BenchOptions plain = *options;
    Bench bench;

    plain.masks = NULL;
    plain.input_bytes = 0;
    plain.threads = false;
    memset(&cpu, 0, sizeof cpu);
    bench_make(&bench, &plain);
    bench_start(&bench, &plain);
    for (uint32_t i = 0; i < rounds; i++)
        take_round(&bench, &cpu);
    bench_end(&bench);
}

static inline void compare(uint32_t rings) {
    for (uint32_t r = 0; r < rings; r++)
        for (uint32_t i = 0; i < device.count[r]; i++)
            if (device.batches[r][i] != cpu.batches[r][i])
                ck_abort_msg("ring %u, batch %u of %u differs from the CPU's", r, i,
                             device.count[r]);
}

/* Which of the stream's batches came from the device. */
static inline uint64_t device_batches(const Bench *bench) {
    StreamStatus status;

    stream_status(bench->stream, &status);
    return status.device_batches;
}
