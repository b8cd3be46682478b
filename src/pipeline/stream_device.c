/* SPDX-License-Identifier: MIT */
/* A batch on a device takes this way:
 *
 *   claimed      its ring has a lane for the slot, the device is open (else: the CPU, in pieces)
 *   decoded      all its windows are ready: one worker packs all rows and starts the lane
 *   in flight    nobody touches the slot; its windows stay, for their rows may be needed again
 *   landed       the accelerator's thread counts the job down and wakes the stream
 *
 * After an error it is packed rows that are thrown away, not windows: once the device is closed the
 * CPU fills the slot from the same rows. A batch of more windows than are decoded at a time would
 * wait for a window that waits for the batch; it goes to the CPU, which needs one at a time.
 *
 * Which bytes of a slot are zero is the CPU's knowledge: after a device all of it may be other than
 * zero. What is kept of a batch of the same shape is there whoever wrote it, but not after an
 * error, when anything may have landed in the slot. */
#include "pipeline/stream_device.h"

#include <errno.h>
#include <stdlib.h>

#include "mask/cell_pack.h"
#include "pipeline/pipeline_internal.h"

/* ---- lanes ---- */

static void lanes_released(LaneSet *set) {
    stream_end(set->owner);
}

static LaneSet *make_set(Stream *stream) {
    const Feed *feed = stream->feed;
    LaneSet *set = lane_set_new(stream->ring_count * feed->slots);

    if (!set)
        return NULL;
    if (cell_plan_make(&feed->tensors, &set->plan) < 0) { /* feed_choose_backend() has tried it */
        lane_set_unref(set);
        return NULL;
    }
    for (uint32_t i = 0; i < set->count; i++)
        set->slots[i] = ring_writer_slot(stream->rings[i / feed->slots].writer, i % feed->slots);
    set->slot_bytes = stream->rings[0].writer->slot_bytes;
    set->input_bytes = feed->device_input_bytes;
    set->released = lanes_released;
    set->owner = stream;
    return set;
}

void stream_device_prepare(Stream *stream) {
    Accelerator *accelerator;

    if (!stream->feed->on_device)
        return;
    accelerator = pipeline_accelerator(stream->pipeline, stream->feed);
    if (!accelerator)
        return;
    stream->lanes = make_set(stream);
    if (!stream->lanes)
        return;
    stream->accelerator = accelerator;
    accelerator_prepare(accelerator, stream->lanes);
}

bool stream_device_release(Stream *stream) {
    LaneStage stage;

    if (!stream->lanes)
        return true;
    stage = atomic_load(&stream->lanes->stage);
    if (stream->releasing)
        return stage == LANES_FREED || stage == LANES_KEPT;
    stream->releasing = true;
    stream_begin(stream);
    accelerator_release(stream->accelerator, stream->lanes);
    return false;
}

/* The rings that the device may still write to, and the memory that they take, pass to the
 * accelerator; where there is no memory to note them, they are never unmapped. */
static void bury(Stream *stream) {
    LaneSet *set = stream->lanes;

    set->memories = calloc(stream->ring_count, sizeof *set->memories);
    set->kept_bytes = set->count * set->input_bytes;
    for (uint32_t i = 0; i < stream->ring_count; i++) {
        struct LaneMemory kept;

        kept.memory = ring_writer_abandon(stream->rings[i].writer, &kept.bytes);
        stream->rings[i].writer = NULL;
        set->kept_bytes += kept.bytes;
        if (set->memories)
            set->memories[set->memory_count++] = kept;
    }
    stream->kept_bytes = set->kept_bytes;
    accelerator_bury(stream->accelerator, set);
}

void stream_device_teardown(Stream *stream) {
    LaneStage stage;

    if (!stream->lanes)
        return;
    stage = atomic_load(&stream->lanes->stage);
    /* Else the pipeline ends, and the device has been closed. */
    if (stage == LANES_KEPT ||
        (stage != LANES_FREED && !accelerator_dispose(stream->accelerator, stream->lanes)))
        bury(stream);
}

/* ---- batches ---- */

bool stream_device_takes(const Stream *stream, const StreamRing *ring, SlotJob *job) {
    uint32_t lane = (uint32_t)(ring - stream->rings) * stream->feed->slots +
                    (uint32_t)(job - ring->jobs);

    if (atomic_load_explicit(&stream->lanes->stage, memory_order_acquire) != LANES_READY ||
        !accelerator_is_open(stream->accelerator) || job->piece_count > FEED_WINDOWS_DECODED)
        return false;
    job->flight.lane = stream->lanes->lanes[lane];
    return true;
}

void stream_device_issue(Stream *stream, SlotJob *job, Pushed *pushed) {
    if (job->pieces_issued > 0)
        return;
    for (uint32_t i = 0; i < job->piece_count; i++)
        if (!window_is_ready(job->pieces[i].window))
            return;
    job->pieces_issued = job->piece_count;
    job->batch.run = assemble_batch_run;
    job->refill = false;
    stream_push(stream, &job->batch, true, pushed);
}

/* The slot's bytes are lost, or will be: all of it is to be written again. A worker may do that,
 * and the stream end and be freed, before it is woken. */
static void fill_again(Stream *stream, SlotJob *job) {
    Pipeline *pipeline = stream->pipeline;

    slate_spoil(&job->slate, stream->lanes->slot_bytes);
    job->layout.kept = 0;
    job->refill = true;
    pipeline_push(pipeline, &job->batch, true);
    pipeline_wake(pipeline, 1);
}

static void flight_landed(Flight *flight, FlightEnd end) {
    SlotJob *job = CONTAINER_OF(flight, SlotJob, flight);
    Stream *stream = job->pieces->window->stream;
    Error error;

    if (end == FLIGHT_LOST) {
        fill_again(stream, job);
        return;
    }
    if (end == FLIGHT_COMPLETE) {
        atomic_fetch_add_explicit(&stream->device_batches, 1, memory_order_relaxed);
        assemble_batch_done(job);
    } else {
        error_set(&error, -ECONNRESET,
                  "the GPU does not answer and may still write to this ring: attach again at the "
                  "last cursor");
        stream_fail(stream, &error);
    }
    stream_end(stream);
}

static uint64_t pack_batch(const SlotJob *job, const FillRow *rows) {
    const Stream *stream = job->pieces->window->stream;
    FillPacked parts[FEED_WINDOWS_DECODED]; /* else it would not be here */
    const CellSource source = {
        .rows = rows, .count = job->sequences, .parts = parts, .part_count = job->piece_count};

    for (uint32_t i = 0; stream->feed->tensors.packed && i < job->piece_count; i++)
        parts[i] = assemble_packed(&job->pieces[i], rows + job->pieces[i].sequence_first);
    return cell_pack(&stream->feed->tensors, &stream->lanes->plan, &job->layout, job->length,
                     &source, stream->pipeline->masks->lane_input(job->flight.lane),
                     stream->lanes->input_bytes);
}

/* A flight may land, and its stream end and be freed, before accelerator_launch() returns. */
bool stream_device_launch(SlotJob *job, const FillRow *rows) {
    Stream *stream = job->pieces->window->stream;
    Accelerator *accelerator = stream->accelerator;
    uint64_t bytes;

    if (job->refill || !accelerator_enter(accelerator))
        return false;
    bytes = pack_batch(job, rows);
    if (bytes > 0) {
        slate_spoil(&job->slate, job->layout.bytes);
        job->flight.landed = flight_landed;
        accelerator_launch(accelerator, &job->flight);
    } else {
        atomic_fetch_add_explicit(&stream->oversize_batches, 1, memory_order_relaxed);
    }
    accelerator_leave(accelerator);
    return bytes > 0;
}

/* ---- what is told ---- */

const char *stream_device_status(const Stream *stream, const char **ret_reason) {
    const LaneSet *lanes = stream->lanes;
    LaneStage stage;

    *ret_reason = stream->feed->backend_reason;
    if (!stream->feed->on_device)
        return "cpu";
    if (!lanes || !stream->accelerator) {
        *ret_reason = "no memory to use the device";
        return "cpu";
    }
    stage = atomic_load(&((LaneSet *)lanes)->stage);
    if (stage == LANES_REFUSED)
        *ret_reason = lanes->error.text;
    else
        *ret_reason = accelerator_reason(stream->accelerator);
    return stage == LANES_READY && accelerator_is_open(stream->accelerator)
               ? stream->pipeline->masks->name
               : "cpu";
}
