/* SPDX-License-Identifier: MIT */
/* Who is woken, and when: members that wait for batches, and the stream that waits for releases.
 * The calls that tell it are watched, and the clock is the test's. */
#include <errno.h>
#include <time.h>

#include "base/arithmetic.h"
#include "pipeline/fake_device.h"
#include "pipeline/stream.h"
#include "pipeline/stream_bench.h"
#include "ring/ring_writer.h"

enum { SLOTS = 8 };

static Bench bench;
static int64_t now_ns, step_ns; /* each look at the clock takes so long */
static uint64_t wakes, heard;   /* and what had been published at the last one */
static uint64_t most_together;  /* batches that one wake told of */
static bool overtake;           /* who is asked first has released everything just before */

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
void __real_ring_writer_wake(RingWriter *writer);
void __wrap_ring_writer_wake(RingWriter *writer);
void __real_ring_writer_set_wake(RingWriter *writer, uint64_t wake_at, uint32_t waker);
void __wrap_ring_writer_set_wake(RingWriter *writer, uint64_t wake_at, uint32_t waker);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time) {
    now_ns += step_ns;
    *time = (struct timespec){.tv_sec = now_ns / 1000000000, .tv_nsec = now_ns % 1000000000};
    return 0;
}

void __wrap_ring_writer_wake(RingWriter *writer) {
    wakes++;
    most_together = MAX(most_together, writer->head - heard);
    heard = writer->head;
    __real_ring_writer_wake(writer);
}

void __wrap_ring_writer_set_wake(RingWriter *writer, uint64_t wake_at, uint32_t waker) {
    if (overtake && wake_at > 0 && waker < RING_MEMBERS_MAX) {
        overtake = false;
        writer->members[waker].ack->released = writer->head;
    }
    __real_ring_writer_set_wake(writer, wake_at, waker);
}

static BenchOptions usual(uint32_t slots) {
    BenchOptions options = bench_usual(2000, 2);

    options.slots = slots;
    options.cache = UINT64_MAX;
    return options;
}

static void start(const BenchOptions *options, int64_t each_look_ns) {
    step_ns = each_look_ns;
    now_ns = 1000000000;
    wakes = heard = most_together = 0;
    bench_make(&bench, options);
    bench_start(&bench, options);
}

/* Until nothing moves any more. */
static void settle(void) {
    const SeqfeedRingHeader *header = bench.rings[0].header;
    uint64_t head;

    do {
        head = header->head;
        for (int i = 0; i < 50; i++)
            bench_run(&bench);
    } while (header->head != head);
}

static void release_all(void) {
    for (int m = 0; m < 2; m++)
        bench.rings[0].ack[m]->released = bench.rings[0].header->head;
    stream_poke(bench.stream);
}

/* It has nothing more to release and would never answer. */
START_TEST(who_has_overtaken_is_not_the_one_to_ask)
{
    const SeqfeedRingHeader *header;
    BenchOptions options = usual(SLOTS);

    start(&options, 1000);
    settle();
    header = bench.rings[0].header;
    for (int round = 0; round < 200; round++) {
        uint64_t *slow = &bench.rings[0].ack[round % 2]->released;
        uint64_t *other = &bench.rings[0].ack[1 - round % 2]->released;

        *slow = MIN(*slow, *other) + 1; /* room for one batch */
        *other = MAX(*slow, *other);
        overtake = true;
        stream_poke(bench.stream);
        settle();
        ck_assert(!overtake);
        ck_assert_uint_ne(header->wake_at, 0);
        ck_assert_uint_lt(bench.rings[0].ack[header->waker - 1]->released, header->wake_at);
    }
    bench_end(&bench);
}
END_TEST

/* Rounds of full rings; in each of them whatever was published has been told in the end. */
static void take_rings(uint64_t rounds) {
    for (uint64_t round = 1; round <= rounds; round++) {
        settle();
        ck_assert_uint_eq(bench.rings[0].header->head, round * bench.rings[0].header->slot_count);
        ck_assert_uint_eq(heard, bench.rings[0].header->head);
        release_all();
    }
}

START_TEST(batches_that_follow_fast_are_told_together)
{
    const struct {
        uint32_t slots;
        int64_t each_look_ns;
        uint64_t together;
    } cases[] = {{8, 1000, 4},  {64, 1000, 4}, {6, 1000, 3},  {3, 1000, 1},
                 {8, 30000, 3}, {8, 45000, 2}, {8, 60000, 1}, {8, 1000000, 1}};

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        BenchOptions options = usual(cases[i].slots);

        start(&options, cases[i].each_look_ns);
        take_rings(20);
        ck_assert_uint_eq(most_together, cases[i].together);
        if (cases[i].together == 1)
            ck_assert_uint_eq(wakes, 20 * cases[i].slots);
        bench_end(&bench);
    }
}
END_TEST

/* One task at a time: never is a batch kept quiet while the next one waits for a window, or may
 * wait in the queue behind a decode. Returns how often one was kept quiet. */
static uint64_t watch_each_task(uint64_t *while_decoding, uint64_t *while_waiting) {
    const StreamRing *ring = &bench.stream->rings[0];
    uint64_t quiet = 0;

    for (int i = 0; i < 20000; i++) {
        uint32_t decodes = atomic_load(&bench.stream->decodes_in_flight);
        uint64_t head = ring->writer->head;
        const SlotJob *next;

        if (i % 32 == 0)
            pipeline_step_fetch(bench.pipeline);
        pipeline_step_setup(bench.pipeline);
        pipeline_step_worker(bench.pipeline, 0);
        next = &ring->jobs[ring->writer->head % SLOTS];
        if (ring->writer->head > head && decodes >= 2 &&
            atomic_load(&bench.stream->decodes_in_flight) >= 2) {
            ++*while_decoding;
            ck_assert_uint_eq(heard, ring->writer->head);
        }
        if (ring->writer->head < ring->writer->claimed && next->pieces_issued < next->piece_count) {
            ++*while_waiting;
            ck_assert_uint_eq(heard, ring->writer->head);
        }
        if (heard < ring->writer->head) {
            quiet++;
            ck_assert_uint_lt(ring->writer->head, ring->writer->claimed);
        }
        if (i % 7 == 0)
            release_all();
    }
    return quiet;
}

START_TEST(nobody_waits_for_more_than_a_worker)
{
    uint64_t quiet = 0, while_decoding = 0, while_waiting = 0;

    for (int i = 0; i < 2; i++) {
        BenchOptions options = usual(SLOTS);

        options.cache = 0;
        options.window = i == 0 ? 16 : 1;
        options.extra = i == 0 ? "    batch: {size: 16}\n" : "    batch: {size: 100}\n";
        start(&options, 1000);
        quiet += watch_each_task(&while_decoding, &while_waiting);
        bench_end(&bench);
    }
    ck_assert_uint_gt(quiet, 100);
    ck_assert_uint_gt(while_decoding, 100);
    ck_assert_uint_gt(while_waiting, 100);
}
END_TEST

/* It may have a training kernel before it. */
START_TEST(a_device_is_not_waited_for)
{
    BenchOptions options = usual(SLOTS);

    options.masks = &fake_device;
    fake_device_reset(&(FakeScript){.slowness = 3, .seed = 1});
    start(&options, 1000);
    take_rings(20);
    ck_assert_uint_gt(fake_device_counts().completed, 10 * SLOTS);
    ck_assert_uint_lt(most_together, 4);
    bench_end(&bench);
}
END_TEST

START_TEST(a_drain_leaves_nothing_untold)
{
    BenchOptions options = usual(SLOTS);

    start(&options, 1000);
    (void)bench_next(&bench, 0);
    stream_drain(bench.stream);
    settle();
    ck_assert_uint_eq(bench.rings[0].header->state, SEQFEED_RING_DRAIN);
    ck_assert_uint_eq(heard, bench.rings[0].header->head);
    bench_end(&bench);
}
END_TEST

CHECK_MAIN("wakes", who_has_overtaken_is_not_the_one_to_ask,
           batches_that_follow_fast_are_told_together, nobody_waits_for_more_than_a_worker,
           a_device_is_not_waited_for, a_drain_leaves_nothing_untold)
