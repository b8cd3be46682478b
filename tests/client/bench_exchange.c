/* SPDX-License-Identifier: MIT */
/* What the hand-over of a batch costs, without the bytes in it: ring and client in one process, by
 * themselves and across two threads. Prints one line a figure. */
#include <seqfeed/seqfeed.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/fake_daemon.h"

enum { SLOTS = 8, ROUNDS = 2000000, CROSSINGS = 200000, SLEEPS = 2000, SLEEP_US = 2000 };

static FakeDaemon daemon_;
static SeqfeedDescriptor descriptor;
static Seqfeed *feed;

/* The daemon's part without filling the slot. False: all slots are taken. */
static bool publish(void) {
    uint64_t sequence;
    int64_t *slot = ring_writer_claim(daemon_.writer, &sequence);

    if (!slot) {
        (void)ring_writer_accept(daemon_.writer);
        slot = ring_writer_claim(daemon_.writer, &sequence);
    }
    if (!slot)
        return false;
    *slot = clock_now_ns();
    ring_writer_publish(daemon_.writer, &descriptor);
    ring_writer_wake(daemon_.writer);
    return true;
}

static int64_t take(void) {
    SeqfeedBatch batch;
    SeqfeedTensor tensor;
    int64_t published_ns;

    if (seqfeed_next(feed, &batch, -1) != 0 || seqfeed_tensor(&batch, "tokens", &tensor) != 0)
        abort();
    published_ns = *(const int64_t *)tensor.data;
    seqfeed_release(feed, &batch);
    return published_ns;
}

static void report(const char *what, int64_t started_ns, uint64_t count) {
    printf("%-62s %8.0f ns\n", what, (double)(clock_now_ns() - started_ns) / (double)count);
}

/* Both sides on one core: what the instructions cost. */
static void measure_alone(void) {
    int64_t started_ns = clock_now_ns();

    for (uint32_t i = 0; i < ROUNDS; i++) {
        (void)publish();
        (void)take();
    }
    report("publish and take, one thread, a batch", started_ns, ROUNDS);
}

static void *publish_many(void *argument) {
    for (uint32_t i = 0; i < ROUNDS;)
        i += publish();
    return NULL;
}

/* As fast as two cores can hand over. */
static void measure_stream(void) {
    int64_t started_ns = clock_now_ns();
    pthread_t thread;

    pthread_create(&thread, NULL, publish_many, NULL);
    for (uint32_t i = 0; i < ROUNDS; i++)
        (void)take();
    pthread_join(thread, NULL);
    report("publish on one core, take on the other, a batch", started_ns, ROUNDS);
}

static void *publish_after_release(void *argument) {
    for (uint32_t i = 0; i < CROSSINGS; i++) {
        while (__atomic_load_n(&daemon_.writer->members[0].ack->released, __ATOMIC_ACQUIRE) !=
               daemon_.writer->head)
            continue;
        (void)publish();
    }
    return NULL;
}

/* Ping-pong: one batch in flight, both sides spinning. */
static void measure_round_trip(void) {
    int64_t started_ns = clock_now_ns();
    pthread_t thread;

    pthread_create(&thread, NULL, publish_after_release, NULL);
    for (uint32_t i = 0; i < CROSSINGS; i++)
        (void)take();
    pthread_join(thread, NULL);
    report("round trip: publish, take, release, seen by the writer", started_ns, CROSSINGS);
}

static void *publish_slowly(void *argument) {
    struct timespec pause = {0, SLEEP_US * 1000};

    for (uint32_t i = 0; i < SLEEPS; i++) {
        nanosleep(&pause, NULL);
        (void)publish();
    }
    return NULL;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

/* The trainer is faster than the daemon and sleeps for each batch. */
static void measure_sleep(void) {
    static int64_t waits[SLEEPS];
    pthread_t thread;

    pthread_create(&thread, NULL, publish_slowly, NULL);
    for (uint32_t i = 0; i < SLEEPS; i++) {
        int64_t published_ns = take();
        waits[i] = clock_now_ns() - published_ns;
    }
    pthread_join(thread, NULL);
    qsort(waits, SLEEPS, sizeof waits[0], compare);
    printf("%-62s %8.0f ns\n", "one way to a sleeping trainer, median", (double)waits[SLEEPS / 2]);
    printf("%-62s %8.0f ns\n", "one way to a sleeping trainer, 99th percentile",
           (double)waits[SLEEPS * 99 / 100]);
}

int main(void) {
    SeqfeedOptions options = {.feed = "train"};
    SeqfeedError error;

    fake_daemon_start(&daemon_, SLOTS, 4096);
    options.socket = daemon_.address.sun_path;
    if (seqfeed_attach(&feed, &options, &error) < 0)
        return fprintf(stderr, "%s\n", error.text), 1;
    /* Four tensors, as the preset `seed` has them. */
    descriptor.tensor_count = 4;
    for (uint32_t i = 0; i < 4; i++)
        descriptor.tensors[i] = (SeqfeedTensorRecord){
            .dtype = SEQFEED_INT64, .ndim = 1, .shape = {8}, .stride = {1}, .size_bytes = 64};
    strcpy(descriptor.tensors[0].name, "lengths");
    strcpy(descriptor.tensors[1].name, "labels");
    strcpy(descriptor.tensors[2].name, "mask");
    strcpy(descriptor.tensors[3].name, "tokens");
    measure_alone();
    measure_stream();
    measure_round_trip();
    measure_sleep();
    seqfeed_detach(feed);
    fake_daemon_stop(&daemon_);
    return 0;
}
