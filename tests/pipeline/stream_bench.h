/* SPDX-License-Identifier: MIT */
/* stream_bench.h: a whole pipeline in one thread: a dataset, a feed, a stream, and trainers that
 * look at the shared memory as real ones do. */
#pragma once

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "feed/feed.h"
#include "pipeline/pipeline.h"
#include "plan/plan.h"
#include "settings/settings.h"
#include "support/check_main.h"
#include "support/dataset.h"

enum { BENCH_RINGS = 8, BENCH_WORKERS = 2 };

typedef struct Bench {
    char dir[64];
    Settings *settings;
    Feed *feed;
    Pipeline *pipeline;
    Stream *stream;
    uint32_t world, ring_count, members;
    bool threads;
    bool hold_devices; /* they take no step */
    void (*pass_time)(void);
    uint32_t device_events;
    char device_text[512];
    struct {
        SeqfeedRingHeader *header;
        uint8_t *data;
        SeqfeedAck *ack[4];
        uint64_t taken;
    } rings[BENCH_RINGS];
} Bench;

typedef struct BenchOptions {
    uint64_t sequences;
    uint32_t block_target, window, strands, size, world, ring_count, members, slots;
    const uint32_t *ranks;
    const char *extra; /* more lines of the feed, indented by 4 */
    uint64_t epoch, index, cache, shard_bytes;
    bool pread, threads;
    const MaskBackend *masks; /* the feed is for a device of this backend */
    int64_t patience_ns;
    uint64_t input_bytes; /* instead of what the feed says; 0: that */
} BenchOptions;

/* One ring, in batches of 16 sequences. */
static inline BenchOptions bench_usual(uint64_t sequences, uint32_t members) {
    static const uint32_t ranks[BENCH_RINGS] = {0, 1, 2, 3, 4, 5, 6, 7};

    return (BenchOptions){.sequences = sequences,
                          .block_target = 4096,
                          .window = 2,
                          .strands = 1,
                          .world = 1,
                          .ring_count = 1,
                          .members = members,
                          .ranks = ranks,
                          .extra = "    batch: {size: 16}\n"};
}

static inline void bench_make(Bench *bench, const BenchOptions *options) {
    char path[128];
    FILE *file;
    Error error = {0};

    *bench = (Bench){.world = options->world,
                     .ring_count = options->ring_count,
                     .members = options->members,
                     .threads = options->threads};
    snprintf(bench->dir, sizeof bench->dir, "/tmp/seqfeed-stream-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(bench->dir));
    snprintf(path, sizeof path, "%s/data", bench->dir);
    dataset_make(path, &(DatasetMake){.sequences = options->sequences,
                                      .block_target = options->block_target,
                                      .shard_bytes = options->shard_bytes,
                                      .jobs = 1});
    snprintf(path, sizeof path, "%s/config.yaml", bench->dir);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file,
            "memory: 256MiB\nfeeds:\n  train:\n    dataset: data\n    order: {seed: 7, window: %u, "
            "strands: %u}\n    ring: {slots: %u}\n%s",
            options->window, options->strands, options->slots ? options->slots : 3, options->extra);
    fclose(file);
    ck_assert_msg(settings_load(path, NULL, 0, &bench->settings, &error) == 0, "%s", error.text);
    ck_assert_msg(feed_open(bench->settings, &bench->settings->feeds[0], &bench->feed, &error) == 0,
                  "%s", error.text);
    if (options->masks) {
        ck_assert_int_eq(feed_choose_backend(bench->feed, bench->settings,
                                             &bench->settings->feeds[0], options->masks, &error),
                         0);
        ck_assert_msg(bench->feed->on_device, "%s", bench->feed->backend_reason);
    }
    if (options->input_bytes)
        bench->feed->device_input_bytes = options->input_bytes;
    ck_assert_msg(pipeline_new(&(PipelineOptions){.workers = BENCH_WORKERS,
                                                  .masks = options->masks,
                                                  .device_patience_ns = options->patience_ns,
                                                  .memory = bench->settings->memory,
                                                  .cache = options->cache,
                                                  .force_pread = options->pread},
                               &bench->pipeline, &error) == 0,
                  "%s", error.text);
    if (options->threads)
        ck_assert_int_eq(pipeline_start(bench->pipeline, &error), 0);
}

/* Let every stage take some steps. */
static inline void bench_run(Bench *bench) {
    if (bench->threads) {
        usleep(20); /* the processors are the threads' */
        return;
    }
    for (int i = 0; i < 8; i++) {
        pipeline_step_fetch(bench->pipeline);
        pipeline_step_setup(bench->pipeline);
        for (uint32_t w = 0; w < BENCH_WORKERS; w++)
            pipeline_step_worker(bench->pipeline, w);
        if (bench->pass_time)
            bench->pass_time();
        if (!bench->hold_devices)
            pipeline_step_devices(bench->pipeline);
    }
}

/* The next event that is about a stream. */
static inline bool bench_event(Bench *bench, PipelineEvent *ret_event) {
    while (pipeline_next_event(bench->pipeline, ret_event)) {
        if (ret_event->kind != PIPELINE_EVENT_DEVICE)
            return true;
        bench->device_events++;
        memcpy(bench->device_text, ret_event->text, sizeof bench->device_text);
    }
    return false;
}

static inline PipelineEvent bench_wait_event(Bench *bench) {
    PipelineEvent event;

    while (!bench_event(bench, &event))
        bench_run(bench);
    return event;
}

static inline void bench_start(Bench *bench, const BenchOptions *options) {
    StreamRequest request = {.feed = bench->feed,
                             .seed = bench->feed->plan.seed,
                             .epoch = options->epoch,
                             .index = options->index,
                             .world = options->world,
                             .ring_count = options->ring_count,
                             .ranks = options->ranks,
                             .members = options->members};
    PipelineEvent event;
    uint64_t reserved;
    Error error = {0};

    ck_assert_msg(pipeline_reserve(bench->pipeline, bench->feed, options->world,
                                   options->ring_count, &reserved, &error) == 0,
                  "%s", error.text);
    ck_assert_int_eq(stream_new(bench->pipeline, &request, reserved, &bench->stream, &error), 0);
    event = bench_wait_event(bench);
    ck_assert_msg(event.kind == PIPELINE_EVENT_READY, "%s", event.text);
    for (uint32_t r = 0; r < options->ring_count; r++)
        for (uint32_t m = 0; m < options->members; m++) {
            StreamSeat seat;
            stream_seat(bench->stream, r, m, &seat);
            if (m == 0) {
                bench->rings[r].data = mmap(NULL, seat.ring_bytes, PROT_READ, MAP_SHARED,
                                            seat.data_fd, 0);
                ck_assert_ptr_ne(bench->rings[r].data, MAP_FAILED);
                bench->rings[r].header = (void *)bench->rings[r].data;
            }
            bench->rings[r].ack[m] = mmap(NULL, SEQFEED_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                                          seat.ack_fd, 0);
            ck_assert_ptr_ne(bench->rings[r].ack[m], MAP_FAILED);
        }
}

/* The ring's next batch, waiting for it. */
static inline const SeqfeedDescriptor *bench_next(Bench *bench, uint32_t ring) {
    SeqfeedRingHeader *header = bench->rings[ring].header;

    for (uint64_t i = 0;
         __atomic_load_n(&header->head, __ATOMIC_ACQUIRE) <= bench->rings[ring].taken; i++) {
        PipelineEvent event;
        bench_run(bench);
        if (!bench_event(bench, &event)) {
            if (bench->threads || i % 16 == 15)
                stream_poke(bench->stream); /* what a trainer's byte does */
            continue;
        }
        ck_abort_msg("event %d: %s", event.kind, event.text);
    }
    return (const void *)(bench->rings[ring].data + header->descriptors_offset +
                          bench->rings[ring].taken % header->slot_count * header->descriptor_bytes);
}

static inline const uint8_t *bench_tensor(const Bench *bench, uint32_t ring,
                                          const SeqfeedDescriptor *descriptor, const char *name,
                                          SeqfeedTensorRecord *ret) {
    const SeqfeedRingHeader *header = bench->rings[ring].header;

    for (uint32_t t = 0; t < descriptor->tensor_count; t++)
        if (strcmp(descriptor->tensors[t].name, name) == 0) {
            *ret = descriptor->tensors[t];
            return bench->rings[ring].data + header->slots_offset +
                   descriptor->sequence % header->slot_count * header->slot_bytes + ret->offset;
        }
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

static inline void bench_release(Bench *bench, uint32_t ring) {
    uint64_t released = ++bench->rings[ring].taken;

    for (uint32_t m = 0; m < bench->members; m++)
        __atomic_store_n(&bench->rings[ring].ack[m]->released, released, __ATOMIC_RELEASE);
}

/* The trainers leave and the stream ends; another may be started. */
static inline void bench_stop(Bench *bench) {
    PipelineStatus status;

    if (!bench->stream)
        return;
    for (uint32_t r = 0; r < bench->ring_count; r++)
        for (uint32_t m = 0; m < bench->members; m++)
            stream_leave(bench->stream, r, m);
    while (bench_wait_event(bench).kind != PIPELINE_EVENT_CLOSED)
        ;
    stream_free(bench->stream);
    bench->stream = NULL;
    bench_run(bench);
    pipeline_status(bench->pipeline, &status);
    ck_assert_uint_eq(status.memory_reserved, status.memory_kept); /* by these mappings */
    for (uint32_t r = 0; r < bench->ring_count; r++) {
        if (bench->rings[r].data)
            munmap(bench->rings[r].data, bench->rings[r].header->ring_bytes);
        for (uint32_t m = 0; m < bench->members; m++)
            if (bench->rings[r].ack[m])
                munmap(bench->rings[r].ack[m], SEQFEED_PAGE);
    }
    memset(bench->rings, 0, sizeof bench->rings);
    pipeline_status(bench->pipeline, &status);
    ck_assert_uint_eq(status.memory_reserved, 0);
}

static inline void bench_end(Bench *bench) {
    char command[128];

    bench_stop(bench);
    pipeline_free(bench->pipeline);
    feed_unref(bench->feed);
    settings_free(bench->settings);
    snprintf(command, sizeof command, "rm -rf %s", bench->dir);
    ck_assert_int_eq(system(command), 0);
}
