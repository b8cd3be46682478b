/* SPDX-License-Identifier: MIT */
/* One step of a stream, run by whoever holds its baton: bounded work, no waiting, no batch bytes.
 *
 *   commands     join, leave, drain, close
 *   commit       publish completed slots in order
 *   accept       take what members have released
 *   windows      close those whose rows are copied, open the next ones, plan, read, decode
 *   claim        shape the next batches and hand their pieces to workers, emptiest ring first
 *   wake         members that sleep, unless more batches for them are almost done
 *   sleep        if rings are full, say from when on a release should wake us
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/clock.h"
#include "base/memory.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"
#include "pipeline/stream_device.h"
#include "pipeline/stream_parts.h"

enum { TOGETHER_MOST = 4, TOGETHER_NS = 100000 };

void stream_push(Stream *stream, Task *task, bool urgent, Pushed *pushed) {
    stream_begin(stream);
    pipeline_push(stream->pipeline, task, urgent);
    if (urgent)
        pushed->urgent++;
    else
        pushed->ahead++;
}

void stream_fail_for_memory(Stream *stream, const char *what) {
    Error error;

    error_set(&error, -ENOMEM, "no memory for %s", what);
    stream_fail(stream, &error);
}

/* ---- commands ---- */

static void command_join(Stream *stream, const StreamCommand *command) {
    StreamRing *ring = &stream->rings[command->ring];
    PipelineEvent event = {
        .kind = PIPELINE_EVENT_JOINED, .ring = command->ring, .token = command->token};
    int r = -ESHUTDOWN;

    if (stream->state == STREAM_RUNNING && !ring->closed)
        r = ring_writer_join(ring->writer, &event.first);
    if (r >= 0) {
        event.member = (uint32_t)r;
        ring->member_first[r] = event.first;
    } else {
        event.code = r;
    }
    stream_event(stream, &event);
}

/* The ring has one member less. */
static void member_is_gone(Stream *stream, uint32_t index, uint32_t member) {
    StreamRing *ring = &stream->rings[index];

    atomic_store(&ring->status_released[member], UINT64_MAX);
    if (ring->writer->member_count > 0 || ring->closed)
        return;
    ring->closed = true;
    if (--stream->rings_open == 0)
        stream->closing_asked = true;
}

static void command_leave(Stream *stream, const StreamCommand *command) {
    const StreamRing *ring = &stream->rings[command->ring];
    const RingMember *member;

    if (!ring->writer)
        return;
    member = &ring->writer->members[command->member];
    if (!member->used && !member->expelled)
        return;
    ring_writer_leave(ring->writer, command->member);
    member_is_gone(stream, command->ring, command->member);
}

static void set_all_states(Stream *stream, uint32_t state, int code, const char *text) {
    for (uint32_t i = 0; i < stream->ring_count; i++)
        if (stream->rings[i].writer)
            ring_writer_set_state(stream->rings[i].writer, state, code, text);
}

static void step_commands(Stream *stream) {
    StreamCommand command;

    while (queue_pop(&stream->commands, &command)) {
        switch (command.kind) {
        case COMMAND_JOIN:
            command_join(stream, &command);
            break;
        case COMMAND_LEAVE:
            command_leave(stream, &command);
            break;
        case COMMAND_DRAIN:
            if (stream->state == STREAM_RUNNING) {
                stream->state = STREAM_DRAINING;
                stream_stop_counting(stream);
            }
            break;
        case COMMAND_CLOSE:
            stream->closing_asked = true;
            break;
        }
    }
}

/* ---- commit and accept ---- */

static void add_counts(Stream *stream, const SeqfeedDescriptor *batch) {
    bool repeated = batch->flags & SEQFEED_BATCH_REPEATED;
    const StreamCounts counts = {
        .batches = 1,
        .rows = batch->rows,
        .sequences = batch->sequences,
        .slots = batch->slots,
        .tokens_in = batch->tokens + batch->truncated + batch->dropped,
        .trained = batch->tokens - batch->ignored,
        .ignored = batch->ignored,
        .truncated = batch->truncated,
        .dropped = batch->dropped,
        .tokens = batch->tokens,
        .repeated = repeated ? batch->tokens + batch->truncated : 0,
        .repeated_tokens = repeated ? batch->tokens : 0,
        .items = batch->items,
        .squares = batch->squares,
    };

    pthread_mutex_lock(&stream->counts_lock);
    stream_counts_add(&stream->counts, &counts);
    pthread_mutex_unlock(&stream->counts_lock);
}

static void publish(Stream *stream, StreamRing *ring, SlotJob *job) {
    StreamEpoch *epoch = job->epoch;
    bool is_last = job->round + 1 == epoch->rounds;
    uint64_t items = atomic_load_explicit(&job->items, memory_order_relaxed);
    SeqfeedDescriptor descriptor = {
        .epoch = epoch->plan->epoch,
        .index = job->place,
        .tokens = job->tokens,
        .slots = (uint64_t)job->rows * job->length,
        .rows = job->rows,
        .flags = (job->repeated ? SEQFEED_BATCH_REPEATED : 0) |
                 (job->round == 0 ? SEQFEED_BATCH_FIRST : 0) |
                 (is_last ? SEQFEED_BATCH_EPOCH_END : 0),
        .epoch_length = epoch->rounds,
        .whole_length = epoch->whole_rounds,
        .tensor_count = stream->feed->tensors.count,
        .sequences = job->sequences,
        .squares = job->squares,
        .truncated = job->truncated,
        .ignored = stream->labels == LABEL_TOKEN ? job->tokens - items : 0,
        .dropped = is_last && ring->rank == 0 ? epoch->dropped : 0,
        .items = items,
        .items_first = atomic_load_explicit(&job->items_first, memory_order_relaxed),
    };

    plan_round_cursor(stream->plan.tail, epoch->plan->epoch, epoch->plan->batch_count, epoch->start,
                      stream->world, job->round, &descriptor.next_epoch, &descriptor.next_index);
    feed_cursor_complete(&stream->cursor, descriptor.next_epoch, descriptor.next_index,
                         descriptor.cursor);
    tensor_describe(&stream->feed->tensors, job->rows, job->length, &job->layout,
                    descriptor.tensors);
    ring_writer_publish(ring->writer, &descriptor);

    add_counts(stream, &descriptor);
    atomic_store_explicit(&ring->status_epoch, descriptor.epoch, memory_order_relaxed);
    atomic_store_explicit(&ring->status_index, descriptor.index, memory_order_relaxed);
    stream_epoch_unref(stream, epoch);
    job->epoch = NULL;
}

static bool job_is_complete(const SlotJob *job) {
    return job->pieces_issued == job->piece_count &&
           atomic_load_explicit(&((SlotJob *)job)->pieces_left, memory_order_acquire) == 0;
}

static void commit(Stream *stream, StreamRing *ring) {
    RingWriter *writer = ring->writer;
    uint64_t head = writer->head;
    int64_t now_ns;

    while (writer->head < writer->claimed) {
        SlotJob *job = &ring->jobs[writer->head % writer->slot_count];
        if (!job_is_complete(job))
            break;
        publish(stream, ring, job);
    }
    if (writer->head == head)
        return;
    now_ns = clock_now_ns();
    ring->unheard += (uint32_t)(writer->head - head);
    ring->pace_ns = (now_ns - ring->published_ns) / (int64_t)(writer->head - head);
    ring->published_ns = now_ns;
}

/* Does the next batch wait for nothing but a worker, which was quick about the last ones? Its end
 * is a step. A decode takes as long as many batches, and workers take tasks in the order of the
 * queue, so while one is under way nobody knows how soon. */
static bool more_comes_soon(const Stream *stream, const StreamRing *ring) {
    const RingWriter *writer = ring->writer;
    const SlotJob *next = &ring->jobs[writer->head % writer->slot_count];

    return writer->head < writer->claimed && next->pieces_issued == next->piece_count &&
           !next->on_device && (ring->unheard + 1) * ring->pace_ns < TOGETHER_NS &&
           atomic_load(&((Stream *)stream)->decodes_in_flight) == 0;
}

/* To wake a sleeper costs as much as to fill a small batch, for the one who wakes and for the one
 * who is woken. Where trainers wait for every batch they are told of several at once. */
static void wake_members(const Stream *stream, StreamRing *ring) {
    uint32_t most = MIN(ring->writer->slot_count / 2, (uint32_t)TOGETHER_MOST);

    if (ring->unheard == 0 || (ring->unheard < most && more_comes_soon(stream, ring)))
        return;
    ring->unheard = 0;
    ring_writer_wake(ring->writer);
}

static void accept_released(Stream *stream, uint32_t index) {
    StreamRing *ring = &stream->rings[index];
    RingWriter *writer = ring->writer;
    uint64_t least = UINT64_MAX;
    int violator;

    while ((violator = ring_writer_accept(writer)) >= 0) {
        PipelineEvent event = {
            .kind = PIPELINE_EVENT_VIOLATION, .ring = index, .member = (uint32_t)violator};

        ring_writer_expel(writer, (uint32_t)violator);
        member_is_gone(stream, index, (uint32_t)violator);
        stream_event(stream, &event);
    }
    for (uint32_t m = 0, seen = 0; seen < writer->member_count; m++) {
        if (!writer->members[m].used)
            continue;
        seen++;
        atomic_store_explicit(&ring->status_released[m], writer->members[m].released,
                              memory_order_relaxed);
        if (writer->members[m].released < least) {
            least = writer->members[m].released;
            atomic_store_explicit(&ring->status_slowest, m, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&ring->status_head, writer->head, memory_order_relaxed);
    atomic_store_explicit(&ring->status_tail, writer->tail, memory_order_relaxed);
}

/* All slots hold published batches: only a release by the slowest member can make work. Half of
 * them released, or that member's waiting (it rings by itself), wakes us. Who was asked last is
 * likely to be the last again; if it has overtaken another before it was asked, it may have nothing
 * more to release, and that one is asked. While a slot is being filled its completion will wake us.
 */
static bool ask_for_wakes(Stream *stream) {
    bool again = false;

    for (uint32_t i = 0; i < stream->ring_count; i++) {
        StreamRing *ring = &stream->rings[i];
        RingWriter *writer = ring->writer;
        bool full = writer->head - writer->tail >= writer->slot_count;
        uint64_t wake_at = full && !ring->closed ? writer->tail + (writer->slot_count + 1) / 2 : 0;
        uint32_t waker = wake_at ? ring_writer_slowest(writer, ring->waker) : ring->waker;

        if (wake_at == ring->wake_at && waker == ring->waker)
            continue;
        ring->wake_at = wake_at;
        ring->waker = waker;
        ring_writer_set_wake(writer, wake_at, waker);
        if (wake_at) {
            uint64_t tail = writer->tail;
            accept_released(stream, i);
            again |= writer->tail != tail || ring_writer_slowest(writer, waker) != waker;
        }
    }
    return again;
}

/* ---- the step ---- */

static void finish_rings(Stream *stream, uint32_t state, int code, const char *text) {
    for (uint32_t i = 0; i < stream->ring_count; i++)
        if (stream->rings[i].writer)
            commit(stream, &stream->rings[i]);
    set_all_states(stream, state, code, text);
}

static void forget_done(FetchForget *forget) {
    Stream *stream = CONTAINER_OF(forget, Stream, forget);

    stream_end(stream);
}

/* First the kernel forgets files and buffers, then the memory goes (stream_end_run()). */
static void step_closing(Stream *stream) {
    if (atomic_load(&stream->in_flight) > 0)
        return;
    if (!stream_device_release(stream))
        return;
    if (!stream->forgetting && stream->files) {
        stream->forgetting = true;
        stream->forget = (FetchForget){
            .files = stream->files,
            .file_count = stream->feed->catalog->shard_count,
            .buffers = stream->buffers,
            .buffer_count = stream->buffers ? FEED_READS_IN_FLIGHT : 0,
            .done = forget_done,
        };
        stream_begin(stream);
        fetch_forget(stream->pipeline->fetch, &stream->forget);
        return;
    }
    stream->state = STREAM_ENDING;
}

static void step_failed(Stream *stream) {
    PipelineEvent event = {.kind = PIPELINE_EVENT_FAILED};

    pthread_mutex_lock(&stream->error_lock);
    event.code = stream->error.code;
    memcpy(event.text, stream->error.text, sizeof event.text - 1);
    pthread_mutex_unlock(&stream->error_lock);
    finish_rings(stream, SEQFEED_RING_FAILED, event.code, event.text);
    stream->state = STREAM_FAILED;
    stream_event(stream, &event);
}

static void note_failure(Stream *stream) {
    if (atomic_load(&stream->failed) && stream->state != STREAM_FAILED &&
        stream->state != STREAM_CLOSING)
        step_failed(stream);
}

static uint32_t step_running(Stream *stream) {
    Pushed pushed = {0};
    bool again;

    do {
        for (uint32_t i = 0; i < stream->ring_count; i++) {
            commit(stream, &stream->rings[i]);
            accept_released(stream, i);
        }
        stream_adopt_epoch(stream);
        stream_claim_all(stream, &pushed);
        for (uint32_t i = 0; i < stream->ring_count; i++)
            wake_members(stream, &stream->rings[i]);
        stream_close_windows(stream);
        stream_open_windows(stream);
        again = stream_advance_windows(stream, &pushed);
        again |= ask_for_wakes(stream);
    } while (again);
    return pushed.urgent + pushed.ahead;
}

/* Batches that were claimed before are still filled and published, in order. */
static uint32_t step_draining(Stream *stream) {
    Pushed pushed = {0};
    bool done = true;

    stream_close_windows(stream); /* one that is still to be decoded may wait for its turn */
    (void)stream_advance_windows(stream, &pushed);
    for (uint32_t i = 0; i < stream->ring_count; i++) {
        stream_issue_pieces(stream, &stream->rings[i], &pushed);
        commit(stream, &stream->rings[i]);
        wake_members(stream, &stream->rings[i]);
        done &= stream->rings[i].writer->head == stream->rings[i].writer->claimed;
    }
    if (done && !stream->drained) {
        stream->drained = true;
        set_all_states(stream, SEQFEED_RING_DRAIN, 0, NULL);
    }
    return pushed.urgent + pushed.ahead;
}

uint32_t stream_step(Stream *stream) {
    uint32_t pushed = 0;

    step_commands(stream);
    if (stream->state == STREAM_CLOSED)
        return 0;
    note_failure(stream);
    if (stream->closing_asked && stream->state != STREAM_CLOSING) {
        /* A trainer that has not looked yet must still find the reason, or that it was drained. */
        if (stream->state != STREAM_FAILED && !stream->drained)
            set_all_states(stream, SEQFEED_RING_CLOSED, 0, NULL);
        stream->state = STREAM_CLOSING;
        stream_stop_counting(stream);
    }
    if (stream->state == STREAM_RUNNING)
        pushed = step_running(stream);
    else if (stream->state == STREAM_DRAINING)
        pushed = step_draining(stream);
    note_failure(stream); /* the step's own: nobody would wake us for it */
    if (stream->state == STREAM_CLOSING)
        step_closing(stream);
    return pushed;
}
