/* SPDX-License-Identifier: MIT */
/* steps: the whole pipeline in one thread, step by step, so that what each stage costs can be
 * counted exactly:
 *
 *   valgrind --tool=callgrind --toggle-collect=steps_measured bench/steps CONFIG -n BATCHES
 *
 * Trainers release each batch as soon as it is published; nothing waits and nothing contends.
 * Prints one line of JSON: how often each stage ran between the warm-up and the end, and the
 * thread's CPU time. --ranks R gives R rings of a world of R. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/arithmetic.h"
#include "feed/feed.h"
#include "format/ring_format.h"
#include "pipeline/pipeline.h"
#include "settings/settings.h"

enum { RANKS_MAX = 64 };

typedef struct Steps {
    Pipeline *pipeline;
    Stream *stream;
    uint32_t ranks;
    const SeqfeedRingHeader *headers[RANKS_MAX];
    SeqfeedAck *acks[RANKS_MAX];
    uint64_t taken, tasks, fetches, pokes;
} Steps;

static void stop(const char *what) {
    fprintf(stderr, "steps: %s\n", what);
    exit(1);
}

static void step(Steps *steps) {
    PipelineEvent event;
    int worked;

    steps->fetches += (uint64_t)pipeline_step_fetch(steps->pipeline);
    worked = pipeline_step_worker(steps->pipeline, 0);
    if (!worked)
        (void)pipeline_step_setup(steps->pipeline);
    steps->tasks += (uint64_t)worked;
    while (pipeline_next_event(steps->pipeline, &event))
        if (event.kind != PIPELINE_EVENT_READY)
            stop(event.text);
}

static void take_batches(Steps *steps) {
    bool any = false;

    for (uint32_t r = 0; r < steps->ranks; r++) {
        uint64_t head = __atomic_load_n(&steps->headers[r]->head, __ATOMIC_ACQUIRE);
        uint64_t wake_at = __atomic_load_n(&steps->headers[r]->wake_at, __ATOMIC_SEQ_CST);
        uint64_t before = steps->acks[r]->released;

        steps->taken += head - before;
        __atomic_store_n(&steps->acks[r]->released, head, __ATOMIC_SEQ_CST);
        any |= wake_at && before < wake_at && head >= wake_at;
    }
    if (any) {
        steps->pokes++;
        stream_poke(steps->stream);
    }
}

/* The part that is counted; not inlined, so that callgrind finds it. */
__attribute__((noinline)) void steps_measured(Steps *steps, uint64_t batches);
void steps_measured(Steps *steps, uint64_t batches) {
    while (steps->taken < batches) {
        step(steps);
        take_batches(steps);
    }
}

static void attach(Steps *steps, Feed *feed) {
    uint32_t ranks[RANKS_MAX];
    StreamRequest request = {.feed = feed,
                             .seed = feed->plan.seed,
                             .world = steps->ranks,
                             .ring_count = steps->ranks,
                             .ranks = ranks,
                             .members = 1};
    uint64_t reserved;
    PipelineEvent event;
    Error error = {0};

    for (uint32_t r = 0; r < steps->ranks; r++)
        ranks[r] = r;
    if (pipeline_reserve(steps->pipeline, feed, steps->ranks, steps->ranks, &reserved, &error) !=
            0 ||
        stream_new(steps->pipeline, &request, reserved, &steps->stream, &error) < 0)
        stop(error.text);
    while (!pipeline_next_event(steps->pipeline, &event))
        (void)pipeline_step_setup(steps->pipeline);
    if (event.kind != PIPELINE_EVENT_READY)
        stop(event.text);
    for (uint32_t r = 0; r < steps->ranks; r++) {
        StreamSeat seat;
        stream_seat(steps->stream, r, 0, &seat);
        steps->headers[r] = mmap(NULL, seat.ring_bytes, PROT_READ, MAP_SHARED, seat.data_fd, 0);
        steps->acks[r] = mmap(NULL, SEQFEED_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, seat.ack_fd,
                              0);
        if (steps->headers[r] == MAP_FAILED || steps->acks[r] == MAP_FAILED)
            stop("cannot map a ring");
    }
}

static double cpu_seconds(void) {
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    Steps steps = {.ranks = 1};
    uint64_t batches = 0, warm_up, tasks, fetches, pokes;
    StreamStatus before, after;
    Settings *settings;
    Feed *feed;
    Error error = {0};
    double seconds;

    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "-n") == 0)
            batches = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--ranks") == 0)
            steps.ranks = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    }
    if (batches == 0 || steps.ranks == 0 || steps.ranks > RANKS_MAX) {
        fprintf(stderr, "usage: steps CONFIG -n BATCHES [--ranks 1..64]\n");
        return 2;
    }
    if (settings_load(argv[1], NULL, 0, &settings, &error) < 0 ||
        feed_open(settings, &settings->feeds[0], &feed, &error) < 0 ||
        pipeline_new(
            &(PipelineOptions){.workers = 1,
                               .memory = settings->memory,
                               .cache = settings->cache_auto ? UINT64_MAX : settings->cache},
            &steps.pipeline, &error) < 0)
        stop(error.text);
    attach(&steps, feed);
    /* Slots are populated and buffers are mapped at first use: that is start-up, not speed. */
    warm_up = MAX(UINT64_C(600), feed->window_batches_max) * steps.ranks;
    while (steps.taken < warm_up) {
        step(&steps);
        take_batches(&steps);
    }
    tasks = steps.tasks, fetches = steps.fetches, pokes = steps.pokes;
    stream_status(steps.stream, &before);
    seconds = cpu_seconds();
    steps_measured(&steps, steps.taken + batches);
    seconds = cpu_seconds() - seconds;
    stream_status(steps.stream, &after);
    printf(
        "{\"batches\":%lu,\"tokens\":%lu,\"slots\":%lu,\"blocks\":%lu,\"hits\":%lu,\"tasks\":%lu,"
        "\"fetches\":%lu,\"pokes\":%lu,\"cpu_seconds\":%.6f}\n",
        (unsigned long)(after.counts.batches - before.counts.batches),
        (unsigned long)(after.counts.tokens - before.counts.tokens),
        (unsigned long)(after.counts.slots - before.counts.slots),
        (unsigned long)(after.blocks_decoded - before.blocks_decoded),
        (unsigned long)(after.cache_hits - before.cache_hits), (unsigned long)(steps.tasks - tasks),
        (unsigned long)(steps.fetches - fetches), (unsigned long)(steps.pokes - pokes), seconds);
    fflush(stdout);
    _exit(0); /* taking down is not measured */
}
