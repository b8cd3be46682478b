/* SPDX-License-Identifier: MIT */
/* Who is woken, and when: members that wait for batches, and the stream that waits for releases.
 * The calls that tell it are watched, and the clock is the test's. */
#include <errno.h>
#include <time.h>

#include "base/arithmetic.h"
#include "pipeline/stream_bench.h"
#include "ring/ring_writer.h"

enum { SLOTS = 8 };

static const uint32_t ranks_all[] = {0};
static Bench bench;
static int64_t now_ns, step_ns; /* each look at the clock takes so long */
static uint64_t wakes, heard;   /* and what had been published at the last one */
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

static BenchOptions start(uint32_t slots) {
    BenchOptions options = {.sequences = 2000,
                            .block_target = 4096,
                            .window = 2,
                            .strands = 1,
                            .world = 1,
                            .ring_count = 1,
                            .members = 2,
                            .slots = slots,
                            .ranks = ranks_all,
                            .extra = "    batch: {size: 16}\n"};

    now_ns = 1000000000;
    wakes = heard = 0;
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    return options;
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

    step_ns = 1000;
    (void)start(SLOTS);
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

START_TEST(batches_that_follow_fast_are_told_together)
{
    uint64_t before;

    step_ns = 1000;
    (void)start(SLOTS);
    for (int round = 0; round < 50; round++) {
        settle();
        ck_assert_uint_eq(bench.rings[0].header->head, (uint64_t)(round + 1) * SLOTS);
        ck_assert_uint_eq(heard, bench.rings[0].header->head); /* none is left untold */
        before = wakes;
        release_all();
    }
    settle();
    ck_assert_uint_ge(wakes - before, 2); /* and not all of a full ring at once */
    ck_assert_uint_le(wakes, 50 * (SLOTS / 4 + 1) + SLOTS);
    bench_end(&bench);
}
END_TEST

/* Half of so few slots is one. */
START_TEST(in_a_short_ring_each_batch_is_told)
{
    step_ns = 1000;
    (void)start(3);
    settle();
    ck_assert_uint_eq(wakes, 3);
    bench_end(&bench);
}
END_TEST

START_TEST(batches_that_take_long_are_told_one_by_one)
{
    step_ns = 1000000;
    (void)start(SLOTS);
    for (int round = 0; round < 10; round++) {
        settle();
        ck_assert_uint_eq(wakes, bench.rings[0].header->head);
        release_all();
    }
    bench_end(&bench);
}
END_TEST

START_TEST(a_drain_leaves_nothing_untold)
{
    step_ns = 1000;
    (void)start(SLOTS);
    (void)bench_next(&bench, 0);
    stream_drain(bench.stream);
    settle();
    ck_assert_uint_eq(bench.rings[0].header->state, SEQFEED_RING_DRAIN);
    ck_assert_uint_eq(heard, bench.rings[0].header->head);
    bench_end(&bench);
}
END_TEST

CHECK_MAIN("wakes", who_has_overtaken_is_not_the_one_to_ask,
           batches_that_follow_fast_are_told_together, in_a_short_ring_each_batch_is_told,
           batches_that_take_long_are_told_one_by_one, a_drain_leaves_nothing_untold)
