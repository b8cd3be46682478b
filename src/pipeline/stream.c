/* SPDX-License-Identifier: MIT */
/* A stream as others see it: its references and baton, and what control tells it. How it is made
 * and taken down stands in stream_setup.c, what it does in between in stream_step.c. */
#include "pipeline/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"
#include "pipeline/pipeline_internal.h"

/* Two counters and not one: `in_flight` says whether memory is in use, `references` whether the
 * struct itself is, which is a little longer because end() still has to wake. */
void stream_ref(Stream *stream) {
    atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed);
}

void stream_unref(Stream *stream) {
    if (atomic_fetch_sub(&stream->references, 1) != 1)
        return;
    pipeline_forget_stream(stream->pipeline, stream);
    queue_deinit(&stream->commands);
    pthread_mutex_destroy(&stream->error_lock);
    lane_set_unref(stream->lanes);
    pthread_mutex_destroy(&stream->counts_lock);
    feed_unref(stream->feed);
    free(stream->ring_of_rank);
    free(stream->rings);
    free(stream);
}

void stream_begin(Stream *stream) {
    stream_ref(stream);
    atomic_fetch_add(&stream->in_flight, 1);
}

void stream_end(Stream *stream) {
    atomic_fetch_sub(&stream->in_flight, 1);
    stream_wake(stream);
    stream_unref(stream);
}

void stream_end_setup(Stream *stream) {
    atomic_fetch_sub(&stream->in_flight, 1);
    stream_poke(stream);
    stream_unref(stream);
}

/* The baton goes to a set-up thread: pokes stay counted, so that no wake finds nobody there. */
static void baton_pass(Stream *stream) {
    stream_begin(stream);
    setup_pool_push(&stream->pipeline->setups, &stream->end);
}

/* The baton is ours with one poke counted: step until no more came. Waking workers costs more than
 * a step, so the baton is laid down first. */
static void baton_run(Stream *stream) {
    uint32_t seen = 1;

    for (;;) {
        uint32_t pushed = stream_step(stream);
        uint32_t before;

        if (stream->state == STREAM_ENDING) {
            baton_pass(stream);
            return;
        }
        before = atomic_fetch_sub(&stream->pokes, seen);
        if (pushed > 0)
            pipeline_wake(stream->pipeline, pushed);
        if (before == seen)
            return;
        seen = before - seen;
    }
}

void stream_wake(Stream *stream) {
    if (atomic_fetch_add(&stream->pokes, 1) == 0)
        baton_run(stream); /* else the holder will see it */
}

void stream_fail(Stream *stream, const Error *error) {
    pthread_mutex_lock(&stream->error_lock);
    if (!atomic_load(&stream->failed)) {
        stream->error = *error;
        atomic_store(&stream->failed, true);
    }
    pthread_mutex_unlock(&stream->error_lock);
}

void stream_event(Stream *stream, PipelineEvent *event) {
    event->stream = stream;
    event->owner = stream->owner;
    pipeline_post(stream->pipeline, event);
}

StreamEpoch *stream_epoch_ref(StreamEpoch *epoch) {
    epoch->references++;
    return epoch;
}

void stream_epoch_unref(Stream *stream, StreamEpoch *epoch) {
    while (epoch && --epoch->references == 0) {
        StreamEpoch *next = epoch->next;
        feed_epoch_unref(stream->feed, epoch->counted);
        free(epoch);
        epoch = next;
    }
}

int stream_epoch_dropped(const Stream *stream, const FeedEpoch *counted, uint64_t start,
                         const Heartbeat *heartbeat, uint64_t *ret_tokens, Error *error) {
    uint64_t batches = counted->plan->batch_count;
    uint64_t rounds = plan_round_count(stream->plan.tail, batches, start, stream->world);
    uint64_t limit = MIN(start + rounds * stream->world, batches);

    *ret_tokens = 0;
    if (stream->ring_of_rank[0] == 0)
        return 0; /* rank 0 tells it, and is served elsewhere */
    return feed_epoch_dropped(stream->feed, counted, limit, heartbeat, ret_tokens, error);
}

StreamEpoch *stream_epoch_new(Stream *stream, FeedEpoch *counted, uint64_t start,
                              uint64_t dropped) {
    StreamEpoch *epoch = calloc(1, sizeof *epoch);

    if (!epoch)
        return NULL;
    epoch->counted = counted;
    epoch->plan = counted->plan;
    epoch->start = start;
    epoch->rounds = plan_round_count(stream->plan.tail, epoch->plan->batch_count, start,
                                     stream->world);
    epoch->whole_rounds = plan_round_count(stream->plan.tail, epoch->plan->batch_count, 0,
                                           stream->world);
    epoch->limit = start + epoch->rounds * stream->world;
    epoch->dropped = dropped;
    epoch->references = 1;
    return epoch;
}

/* Worker task: lay down the baton that a set-up thread has held. */
static void stream_handed_run(Task *task, void *worker) {
    Stream *stream = CONTAINER_OF(task, Stream, handed);

    atomic_fetch_sub(&stream->in_flight, 1);
    baton_run(stream);
    stream_unref(stream);
}

/* The first step is a worker's, who may end the stream at once. */
void stream_hand_over(Stream *stream) {
    Pipeline *pipeline = stream->pipeline;

    pipeline_push(pipeline, &stream->handed, true);
    pipeline_wake(pipeline, 1);
}

void stream_fail_cancelled(Stream *stream) {
    Error error;

    error_set(&error, -ECANCELED, "nobody waits for the stream any more");
    stream_fail(stream, &error);
}

static void stream_step_run(Task *task, void *worker) {
    Stream *stream = CONTAINER_OF(task, Stream, step);

    atomic_store(&stream->step_queued, false);
    stream_wake(stream);
    stream_unref(stream);
}

static uint32_t gcd(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Rank r takes the places p with (p - start) mod W = r, so in mod gcd(W, S) it sees one residue: S
 * / g strands. More ranks see at most so many times more. */
static uint32_t strands_served(const Feed *feed, uint32_t world, uint32_t ring_count) {
    uint64_t strands = feed->plan.strands;
    uint64_t each = strands / gcd((uint32_t)strands, world);

    return (uint32_t)MIN(strands, each * ring_count);
}

int pipeline_reserve(Pipeline *pipeline, Feed *feed, uint32_t world, uint32_t ring_count,
                     uint64_t *ret_bytes, Error *error) {
    FeedMemory need = feed_memory(feed, ring_count, strands_served(feed, world, ring_count));
    char total[32], rings[32], windows[32], buffers[32], limit[32], index[32], inputs[64] = "";

    *ret_bytes = need.total;
    ring_remains_collect(pipeline->remains);
    if (memory_budget_reserve(&pipeline->budget, need.total))
        return 0;
    if (need.total <= pipeline->budget.limit) {
        /* Wanted first, then a last try: of it and a release meanwhile one sees the other. */
        atomic_store(&pipeline->memory_wanted, true);
        return memory_budget_reserve(&pipeline->budget, need.total) ? 0 : PIPELINE_E_WAIT;
    }
    if (need.inputs)
        snprintf(inputs, sizeof inputs, ", pinned inputs %s", text_format_size(total, need.inputs));
    error_set(
        error, -ENOMEM,
        "feed %s with %u rings needs %s (rings %s, windows %s, buffers %s%s), memory is %s, the "
        "indexes "
        "of all feeds take %s of it and %lu bytes are in use: raise memory, or lower ring.slots, "
        "order.window or length.max",
        feed->name, ring_count, text_format_size(total, need.total),
        text_format_size(rings, need.rings), text_format_size(windows, need.windows),
        text_format_size(buffers, need.buffers), inputs,
        text_format_size(limit, pipeline->options.memory),
        text_format_size(index, pipeline->options.index),
        (unsigned long)atomic_load(&pipeline->budget.reserved));
    return -ENOMEM;
}

void pipeline_cancel(Pipeline *pipeline, uint64_t bytes) {
    memory_budget_release(&pipeline->budget, bytes);
}

static int stream_init(Stream *stream, const StreamRequest *request) {
    stream->seed = request->seed;
    stream->plan = feed_plan_spec(request->feed, request->seed);
    stream->labels = label_kind(&request->feed->tensors, NULL);
    stream->truncates = plan_truncates(&stream->plan, request->feed->catalog->length_max);
    stream->start_epoch = request->epoch;
    stream->start_index = request->index;
    stream->world = request->world;
    stream->members = request->members;
    stream->owner = request->owner;
    memcpy(stream->instance, request->instance, sizeof stream->instance);
    feed_cursor_head(request->feed, request->seed, &stream->cursor);
    stream->ring_count = stream->rings_open = request->ring_count;
    stream->strand_count = stream->plan.strands;
    stream->windows_limit = (FEED_WINDOWS_DECODED + FEED_WINDOWS_PLANNED) *
                            strands_served(request->feed, request->world, request->ring_count);
    stream->room_count = feed_planners(
        request->feed, strands_served(request->feed, request->world, request->ring_count));
    stream->make = (SetupJob){.feed = stream->feed, .kind = SETUP_MAKE, .run = stream_make_run};
    stream->end = (SetupJob){.feed = stream->feed, .kind = SETUP_END, .run = stream_end_run};
    stream->handed.run = stream_handed_run;
    stream->step.run = stream_step_run;
    stream->rings = calloc(request->ring_count, sizeof *stream->rings);
    stream->ring_of_rank = calloc(request->world, sizeof *stream->ring_of_rank);
    if (!stream->rings || !stream->ring_of_rank)
        return -ENOMEM;
    for (uint32_t i = 0; i < request->ring_count; i++) {
        stream->rings[i].rank = request->ranks[i];
        stream->ring_of_rank[request->ranks[i]] = i + 1;
    }
    /* Each seat can join and leave; some room for those that join later and for drain and close. */
    return queue_init(&stream->commands, sizeof(StreamCommand),
                      request->ring_count * 2 * RING_MEMBERS_MAX + 16);
}

int stream_new(Pipeline *pipeline, const StreamRequest *request, uint64_t reserved_bytes,
               Stream **ret_stream, Error *error) {
    Stream *stream = calloc(1, sizeof *stream);

    if (!stream)
        return error_set(error, -ENOMEM, "no memory for a stream");
    pthread_mutex_init(&stream->error_lock, NULL);
    pthread_mutex_init(&stream->counts_lock, NULL);
    stream->pipeline = pipeline;
    stream->feed = feed_ref(request->feed);
    stream->reserved_bytes = reserved_bytes;
    pipeline_remember_stream(pipeline, stream);
    atomic_init(&stream->references, 1);
    atomic_init(&stream->pokes, 1); /* the baton: stream_handed_run() lays it down */
    if (stream_init(stream, request) < 0) {
        stream_unref(stream);
        return error_set(error, -ENOMEM, "no memory for a stream");
    }
    *ret_stream = stream;

    stream_begin(stream);
    setup_pool_push(&pipeline->setups, &stream->make);
    return 0;
}

void stream_cancel(Stream *stream) {
    atomic_store(&stream->cancelled, true);
    if (!setup_pool_take_back(&stream->pipeline->setups, &stream->make))
        return;
    stream_fail_cancelled(stream);
    stream_hand_over(stream);
}

static bool stream_command(Stream *stream, StreamCommandKind kind, uint32_t ring, uint32_t member,
                           void *token) {
    StreamCommand command = {.kind = kind, .ring = ring, .member = member, .token = token};
    bool pushed = queue_push(&stream->commands, &command);

    stream_poke(stream);
    return pushed;
}

int stream_join(Stream *stream, uint32_t ring, void *token) {
    /* Leave room for everybody to leave. */
    if (queue_count(&stream->commands) >= stream->ring_count * RING_MEMBERS_MAX)
        return -EAGAIN;
    return stream_command(stream, COMMAND_JOIN, ring, 0, token) ? 0 : -EAGAIN;
}

void stream_leave(Stream *stream, uint32_t ring, uint32_t member) {
    bool pushed = stream_command(stream, COMMAND_LEAVE, ring, member, NULL);

    assert(pushed); /* sized for every seat */
    (void)pushed;
}

void stream_drain(Stream *stream) {
    (void)stream_command(stream, COMMAND_DRAIN, 0, 0, NULL);
}

void stream_poke(Stream *stream) {
    if (atomic_exchange(&stream->step_queued, true))
        return;
    stream_ref(stream);
    pipeline_push(stream->pipeline, &stream->step, true);
    pipeline_wake(stream->pipeline, 1);
}

void stream_free(Stream *stream) {
    (void)stream_command(stream, COMMAND_CLOSE, 0, 0, NULL);
    stream_unref(stream);
}

void stream_seat(const Stream *stream, uint32_t ring, uint32_t member, StreamSeat *ret_seat) {
    const StreamRing *at = &stream->rings[ring];

    *ret_seat = (StreamSeat){
        .data_fd = at->writer->data_fd,
        .ack_fd = at->writer->members[member].ack_fd,
        .ring_bytes = at->writer->memory_bytes,
        .first = at->member_first[member],
        .start_epoch = stream->start_epoch,
        .start_index = stream->start_index,
        .epoch_length = stream->start_rounds, /* slots may be of the next epoch by now */
        .whole_length = stream->start_whole_rounds,
    };
}
