/* SPDX-License-Identifier: MIT */
/* Streams on a device that is late, disorderly, fails and hangs. Whatever it does, trainers must
 * see the batches of a stream on the CPU, byte for byte, each once. */
#include <errno.h>

#include "base/clock.h"
#include "pipeline/fake_device.h"
#include "pipeline/stream_trace.h"
#include "ring/ring_writer.h"

static const char dense[] = "    batch: {size: 5, last: pad}\n"
                            "    pad: {to: 96}\n"
                            "    tensors:\n"
                            "      tokens: {from: tokens, dtype: int64}\n"
                            "      causal: {mask: causal, shape: dense, dtype: bool}\n"
                            "      both: {mask: {all: [lengths, causal]}, shape: dense}\n"
                            "      low: {mask: lengths, polarity: additive, dtype: float16}\n"
                            "      next: {make: labels, shift: next}\n"
                            "      label: {from: label}\n"
                            "      n: {from: lengths}\n";

static const char packed[] = "    batch: {policy: pack, size: 3, length: 120, last: pad}\n"
                             "    tensors:\n"
                             "      tokens: {from: tokens, dtype: int64}\n"
                             "      segments: {make: segments}\n"
                             "      positions: {make: position_ids, pad: count}\n"
                             "      next: {make: labels, shift: next}\n"
                             "      sums: {make: cu_seqlens}\n"
                             "      begins: {make: cu_seqlens_padded}\n"
                             "      longest: {make: max_seqlen}\n"
                             "      label: {from: label}\n"
                             "      n: {from: lengths}\n"
                             "      own: {mask: {all: [segments, causal]}, shape: dense}\n"
                             "      blocks: {make: block_lists, block: 16}\n";

static BenchOptions usual(const char *extra) {
    BenchOptions options = bench_usual(600, 1);

    options.masks = &fake_device;
    options.extra = extra;
    return options;
}

/* What is claimed from here on goes to the device. */
static void wait_for_device(Bench *bench) {
    StreamStatus status;

    do {
        usleep(50);
        stream_status(bench->stream, &status);
    } while (strcmp(status.masks, fake_device.name) != 0);
}

/* Run the stream on the device; at least `at_least` of its batches must have come from it. */
static void run(const BenchOptions *options, const FakeScript *script, uint32_t rounds,
                uint64_t at_least) {
    FakeCounts counts;
    Bench bench;

    memset(&device, 0, sizeof device);
    fake_device_reset(script);
    bench_make(&bench, options);
    bench_start(&bench, options);
    if (options->threads && at_least > 0)
        wait_for_device(&bench);
    for (uint32_t i = 0; i < rounds; i++)
        take_round(&bench, &device);
    ck_assert_uint_ge(device_batches(&bench), at_least);
    bench_end(&bench);
    compare(options->ring_count);
    counts = fake_device_counts();
    ck_assert_uint_eq(counts.lanes_made, counts.lanes_freed);
    ck_assert_uint_le(counts.closes, counts.opens);
    ck_assert_uint_le(bench.device_events, counts.failed);
    if (counts.was_lost || (counts.failed && !options->threads))
        ck_assert_uint_eq(bench.device_events, 1);
}

START_TEST(batches_are_the_cpus)
{
    static const char *const feeds[] = {
        "    batch: {size: 16}\n",
        "    batch: {size: 16, last: pad}\n    pad: {side: left, multiple_of: 8}\n",
        "    batch: {size: 7, last: pad}\n    layout: time_first\n",
        "    batch: {policy: bucket, size: 8}\n",
        "    batch: {policy: tokens, tokens: 600, multiple_of: 4, last: pad}\n",
        "    batch: {size: 16}\n    length: {max: 20, overflow: split}\n",
        "    batch: {size: 16}\n    tensors: {blocks: {make: block_lists, block: 16}}\n",
        "    batch: {policy: pack, size: 1, length: 200}\n    tensors: hf_packed_lm\n",
        "    batch: {policy: pack, size: 4, length: 100}\n    pad: {side: left}\n"
        "    tensors: seed\n",
        "    batch: {policy: pack, size: 2, length: 90}\n    length: {max: 30, overflow: split}\n"
        "    tensors: megatron\n",
        packed,
        dense,
    };

    for (size_t i = 0; i < ARRAY_COUNT(feeds); i++) {
        BenchOptions options = usual(feeds[i]);
        FakeScript script = {.slowness = 9, .seed = (uint32_t)i};

        options.strands = 1 + (uint32_t)i % 3;
        options.world = options.ring_count = 1 + (uint32_t)i % 2 * 2;
        trace_cpu(&options, 60);
        run(&options, &script, 60, 20);
        script = (FakeScript){.slowness = 8, .seed = 77, .threads = true};
        options.threads = true;
        run(&options, &script, 30, 20);
    }
}
END_TEST

/* Nearly everything is dropped: batches of more windows than are ever decoded together. */
START_TEST(batches_of_many_windows_stay_with_the_cpu)
{
    BenchOptions options = usual(
        "    batch: {size: 16}\n    length: {max: 1, overflow: drop, empty: drop}\n");

    options.sequences = 6000;
    options.window = 1;
    trace_cpu(&options, 10);
    run(&options, &(FakeScript){.slowness = 5}, 10, 0);
}
END_TEST

START_TEST(batches_that_are_too_large_for_a_lane_go_to_the_cpu)
{
    BenchOptions options = usual("    batch: {size: 16}\n");

    options.input_bytes = 2700; /* about what half of the batches need */
    trace_cpu(&options, 150);
    run(&options, &(FakeScript){.slowness = 5}, 150, 20);
    ck_assert_uint_lt(fake_device_counts().starts, 130);
    options = usual(packed);
    options.input_bytes = 1360; /* the same */
    trace_cpu(&options, 90);
    run(&options, &(FakeScript){.slowness = 5}, 90, 10);
    ck_assert_uint_lt(fake_device_counts().starts, 80);
}
END_TEST

/* The change falls between two batches, whenever the device comes; or it never does. */
START_TEST(streams_begin_on_the_cpu)
{
    BenchOptions options = usual(dense);

    trace_cpu(&options, 60);
    for (uint32_t late = 0; late <= 60; late += 15) {
        Bench bench;

        memset(&device, 0, sizeof device);
        fake_device_reset(&(FakeScript){.slowness = 6, .seed = late});
        bench_make(&bench, &options);
        bench.hold_devices = true;
        bench_start(&bench, &options);
        for (uint32_t i = 0; i < 60; i++) {
            if (i == late)
                bench.hold_devices = false;
            if (i <= late)
                ck_assert_uint_eq(device_batches(&bench), 0);
            take_round(&bench, &device);
        }
        if (late < 45)
            ck_assert_uint_gt(device_batches(&bench), 0);
        bench_end(&bench);
        compare(1);
    }
}
END_TEST

/* Every call that can fail fails once; after an error bytes land where they should not, until
 * close() is over. */
static void fail_any_call(const char *feed) {
    BenchOptions options = usual(feed);

    trace_cpu(&options, 40);
    for (uint32_t n = 1;; n++) {
        run(&options, &(FakeScript){.slowness = 3, .seed = n, .fail_at = n}, 40, 0);
        ck_assert_uint_lt(n, 2000);
        if (!fake_device_counts().failed)
            break;
        if (fake_device_counts().was_lost)
            ck_assert_uint_eq(fake_device_counts().closes, 1);
        if (n > 60)
            n += n / 4; /* all the same by then */
    }
}

START_TEST(any_call_may_fail)
{
    fail_any_call(dense);
    fail_any_call(packed);
}
END_TEST

START_TEST(any_call_may_fail_among_threads)
{
    BenchOptions options = usual("    batch: {size: 8}\n");

    options.world = options.ring_count = 2;
    options.threads = true;
    trace_cpu(&options, 60);
    for (uint32_t n = 1; n <= 100; n += 1 + n / 2)
        run(&options, &(FakeScript){.threads = true, .slowness = 4, .seed = n, .fail_at = n}, 30,
            0);
}
END_TEST

/* Trainers leave while batches are in flight: the stream ends when they have landed, not before. */
START_TEST(a_stream_waits_for_its_flights)
{
    BenchOptions options = usual("    batch: {size: 16}\n");
    PipelineEvent event;
    Bench bench;

    fake_device_reset(&(FakeScript){.slowness = 0});
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    while (device_batches(&bench) == 0) {
        (void)bench_next(&bench, 0);
        bench_release(&bench, 0);
    }
    bench.hold_devices = true;
    for (int i = 0; i < 4; i++) {
        bench_run(&bench);
        stream_poke(bench.stream);
        __atomic_store_n(&bench.rings[0].ack[0]->released, bench.rings[0].header->head,
                         __ATOMIC_RELEASE);
    }
    ck_assert_uint_gt(fake_device_counts().starts, fake_device_counts().completed);
    stream_leave(bench.stream, 0, 0);
    for (int i = 0; i < 50; i++) {
        bench_run(&bench);
        ck_assert(!bench_event(&bench, &event));
    }
    bench.hold_devices = false;
    ck_assert_int_eq(bench_wait_event(&bench).kind, PIPELINE_EVENT_CLOSED);
    stream_free(bench.stream);
    bench.stream = NULL;
    bench_run(&bench);
    bench_end(&bench);
    ck_assert_uint_eq(fake_device_counts().lanes_freed, fake_device_counts().lanes_made);
}
END_TEST

START_TEST(drain_publishes_what_is_in_flight)
{
    BenchOptions options = usual("    batch: {size: 16}\n");
    Bench bench;

    trace_cpu(&options, 40);
    memset(&device, 0, sizeof device);
    fake_device_reset(&(FakeScript){.slowness = 20});
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    for (int i = 0; i < 20; i++)
        take_round(&bench, &device);
    stream_drain(bench.stream);
    while (__atomic_load_n(&bench.rings[0].header->state, __ATOMIC_ACQUIRE) != SEQFEED_RING_DRAIN)
        bench_run(&bench);
    while (bench.rings[0].taken < bench.rings[0].header->head)
        take_round(&bench, &device);
    ck_assert_uint_eq(fake_device_counts().starts, fake_device_counts().completed);
    bench_end(&bench);
    compare(1);
}
END_TEST

/* The pipeline ends with batches in flight, as a daemon does whose trainers stay. */
START_TEST(a_pipeline_may_end_at_any_time)
{
    for (uint32_t i = 0; i < 12; i++) {
        BenchOptions options = usual("    batch: {size: 16}\n");
        Bench bench;

        options.threads = true;
        memset(&device, 0, sizeof device);
        fake_device_reset(&(FakeScript){.threads = true, .slowness = 15, .seed = i});
        bench_make(&bench, &options);
        bench_start(&bench, &options);
        for (uint32_t k = 0; k < i * 3; k++)
            take_round(&bench, &device);
        bench.stream = NULL;
        bench_end(&bench);
    }
}
END_TEST

/* ---- a device that hangs ---- */

static uint64_t kept(const Bench *bench, uint64_t *ret_reserved) {
    PipelineStatus status;

    pipeline_status(bench->pipeline, &status);
    *ret_reserved = status.memory_reserved;
    return status.memory_kept;
}

/* Take batches until the device hangs and the stream is given up; then let it go. */
static void run_until_given_up(Bench *bench, Trace *trace) {
    SeqfeedRingHeader *header = bench->rings[0].header;
    PipelineEvent event;

    for (;;) {
        bool is_there = __atomic_load_n(&header->head, __ATOMIC_ACQUIRE) > bench->rings[0].taken;

        pipeline_watch_devices(bench->pipeline);
        if (is_there) {
            take_round(bench, trace);
        } else if (bench_event(bench, &event)) {
            break;
        } else {
            stream_poke(bench->stream);
            usleep(100);
        }
    }
    ck_assert_int_eq(event.kind, PIPELINE_EVENT_FAILED);
    ck_assert_int_eq(event.code, -ECONNRESET);
    ck_assert_ptr_nonnull(strstr(event.text, "attach again at the last cursor"));
    ck_assert_uint_eq(__atomic_load_n(&header->state, __ATOMIC_ACQUIRE), SEQFEED_RING_FAILED);
    ck_assert_uint_eq(bench->device_events, 1);
    stream_leave(bench->stream, 0, 0);
    do
        event = bench_wait_event(bench);
    while (event.kind != PIPELINE_EVENT_CLOSED);
    stream_free(bench->stream);
    bench->stream = NULL;
}

static void forget_rings(Bench *bench) {
    munmap(bench->rings[0].data, bench->rings[0].header->ring_bytes);
    munmap(bench->rings[0].ack[0], SEQFEED_PAGE);
    memset(bench->rings, 0, sizeof bench->rings);
}

/* Where nothing of it is in flight a ring is safe, and its trainers go on. */
static void hang(const FakeScript *script, bool is_for_ever) {
    BenchOptions options = usual("    batch: {size: 16}\n");
    uint64_t reserved, ring;
    Bench bench;

    trace_cpu(&options, 200);
    memset(&device, 0, sizeof device);
    fake_device_reset(script);
    options.threads = true;
    options.patience_ns = 20 * NS_PER_MS;
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    ring = ring_bytes(bench.feed->slots, bench.feed->slot_bytes) +
           bench.feed->slots * bench.feed->device_input_bytes;
    run_until_given_up(&bench, &device);
    compare(1);
    ck_assert_uint_eq(kept(&bench, &reserved), ring);
    ck_assert_uint_eq(reserved, ring);
    forget_rings(&bench);

    /* The trainer attaches again, here from the beginning: on the CPU. */
    memset(&device, 0, sizeof device);
    bench_start(&bench, &options);
    for (int i = 0; i < 30; i++)
        take_round(&bench, &device);
    compare(1);
    ck_assert_uint_eq(device_batches(&bench), 0);
    stream_leave(bench.stream, 0, 0);
    ck_assert_int_eq(bench_wait_event(&bench).kind, PIPELINE_EVENT_CLOSED);
    stream_free(bench.stream);
    bench.stream = NULL;
    forget_rings(&bench);
    ck_assert_uint_eq(kept(&bench, &reserved), ring);
    fake_device_let_go();
    while (!is_for_ever && kept(&bench, &reserved) > 0)
        usleep(100);
    if (!is_for_ever)
        ck_assert_uint_eq(reserved, 0);
    bench_end(&bench);
    ck_assert_uint_eq(fake_device_counts().lanes_freed, fake_device_counts().lanes_made);
}

START_TEST(a_device_that_hangs_is_left_behind)
{
    hang(&(FakeScript){.threads = true, .slowness = 10, .fail_at = 30, .close_hangs = true}, false);
    hang(&(FakeScript){.threads = true, .slowness = 10, .wait_hangs = true}, false);
}
END_TEST

START_TEST(memory_that_a_driver_does_not_let_go_of_is_kept)
{ hang(&(FakeScript){.threads = true, .slowness = 10, .fail_at = 30, .close_fails = true}, true); }
END_TEST

CHECK_MAIN("device", batches_are_the_cpus, batches_of_many_windows_stay_with_the_cpu,
           batches_that_are_too_large_for_a_lane_go_to_the_cpu, streams_begin_on_the_cpu,
           any_call_may_fail, any_call_may_fail_among_threads, a_stream_waits_for_its_flights,
           drain_publishes_what_is_in_flight, a_pipeline_may_end_at_any_time,
           a_device_that_hangs_is_left_behind, memory_that_a_driver_does_not_let_go_of_is_kept)
