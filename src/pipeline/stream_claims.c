/* SPDX-License-Identifier: MIT */
/* Which batch a ring gets next, of which windows its rows come, and the slot they go to. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/memory.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"
#include "pipeline/stream_device.h"
#include "pipeline/stream_parts.h"

/* The ring's next batch. False: its epoch is not counted yet. */
static bool ring_position(Stream *stream, StreamRing *ring, uint64_t *ret_place) {
    while (ring->round >= ring->epoch->rounds) {
        StreamEpoch *old = ring->epoch;
        if (!old->next)
            return false;
        ring->epoch = stream_epoch_ref(old->next);
        ring->round = 0;
        stream_epoch_unref(stream, old);
    }
    *ret_place = ring->epoch->start + ring->round * stream->world + ring->rank;
    return true;
}

typedef struct Span {
    Strand *strand;
    uint64_t pass, first, end; /* units */
} Span;

static Span batch_span(Stream *stream, const StreamRing *ring, uint64_t place, PlanBatch *ret_batch,
                       bool *ret_repeated) {
    *ret_batch = strand_batch(stream, ring->epoch, place, ret_repeated);
    return (Span){
        .strand = &stream->strands[ret_batch->strand],
        .pass = strand_pass(stream, ring->epoch, place),
        .first = ret_batch->unit_first,
        .end = ret_batch->unit_first + ret_batch->unit_count,
    };
}

/* All windows of the span must be open, and planned unless `planned` is false. Asks for one more
 * when the strand has not come so far. Returns how many there are, 0 when the batch has to wait. */
static uint32_t span_windows(const StreamRing *ring, const Span *span, bool planned) {
    uint32_t count = 0;

    for (uint64_t unit = span->first; unit < span->end; count++) {
        Window *window = strand_find_window(span->strand, ring->epoch, span->pass, unit);
        if (!window) {
            if (count > 0 || !span->strand->first)
                span->strand->wanted = span->strand->live >= FEED_WINDOWS_DECODED;
            return 0;
        }
        if (planned && !window_is_planned(window))
            return 0;
        unit = window->unit_first + window->unit_count;
    }
    return count;
}

/* A ring without members: its rows are taken off the windows as if they had been copied. */
static void ring_pass_over(Stream *stream, StreamRing *ring) {
    uint64_t place;

    while (ring_position(stream, ring, &place)) {
        PlanBatch batch;
        Span span = batch_span(stream, ring, place, &batch, NULL);

        if (span_windows(ring, &span, false) == 0)
            return;
        for (uint64_t unit = span.first; unit < span.end;) {
            Window *window = strand_find_window(span.strand, ring->epoch, span.pass, unit);
            uint64_t end = MIN(span.end, window->unit_first + window->unit_count);
            window->units_claimed += end - unit;
            atomic_fetch_sub(&window->units_left, end - unit);
            unit = end;
        }
        ring->round++;
    }
}

/* What truncation has taken from the sequences of a piece. */
static uint64_t piece_truncated(const SlotPiece *piece) {
    const Window *window = piece->window;
    uint32_t length_max = window->stream->plan.length_max;
    uint64_t truncated = 0;

    for (uint32_t i = 0; i < piece->piece_count; i++) {
        const PlanUnit *unit = &window->units[piece->piece_first + i];
        if (unit->length == length_max)
            truncated += window_sequence_length(window, unit) - length_max;
    }
    return truncated;
}

/* Note the rows of a piece: of a packed window each unit is one, else each of its sequences. The
 * sums stay in registers: this runs under the baton. */
static uint32_t job_add_rows(SlotJob *job, const SlotPiece *piece, bool packed) {
    const PlanUnit *units = &piece->window->units[piece->piece_first];
    uint32_t count = piece->piece_count, longest = 0;
    uint32_t *lengths = job->lengths + job->rows_real;
    uint64_t tokens = 0, squares = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = units[i].length;
        longest = MAX(longest, length);
        tokens += length;
        squares += (uint64_t)length * length;
    }
    for (uint32_t i = 0; i < count && !packed; i++)
        lengths[i] = units[i].length;
    if (piece->window->stream->truncates)
        job->truncated += piece_truncated(piece);
    job->tokens += tokens;
    job->squares += squares;
    job->sequences += count;
    job->rows_real += packed ? piece->units : count;
    return longest;
}

static bool job_has_room(const SlotJob *job, const SlotPiece *piece, const TensorSet *tensors) {
    uint64_t rows = (uint64_t)job->rows_real +
                    (tensors->packed ? piece->units : piece->piece_count);
    uint64_t sequences = (uint64_t)job->sequences + piece->piece_count;

    return rows <= tensors->rows_max && (!tensors->packed || sequences <= tensors->sequences_max);
}

/* False: the batch has more rows or sequences than there can be. */
static bool job_make_pieces(SlotJob *job, const StreamRing *ring, const Span *span,
                            const TensorSet *tensors) {
    uint32_t longest = 0;

    job->tokens = job->squares = job->truncated = 0;
    atomic_store_explicit(&job->items, 0, memory_order_relaxed);
    atomic_store_explicit(&job->items_first, 0, memory_order_relaxed);
    job->piece_count = job->rows_real = job->sequences = 0;
    for (uint64_t unit = span->first; unit < span->end;) {
        Window *window = strand_find_window(span->strand, ring->epoch, span->pass, unit);
        uint64_t end = MIN(span->end, window->unit_first + window->unit_count);
        uint32_t first = window_piece(window, unit - window->unit_first);
        uint32_t last = window_piece(window, end - window->unit_first);

        SlotPiece *piece = &job->pieces[job->piece_count++];
        uint32_t own;

        *piece = (SlotPiece){.task.run = assemble_piece_run,
                             .job = job,
                             .window = window,
                             .piece_first = first,
                             .piece_count = last - first,
                             .row_first = job->rows_real,
                             .sequence_first = job->sequences,
                             .token_first = job->tokens,
                             .unit = (uint32_t)(unit - window->unit_first),
                             .units = (uint32_t)(end - unit)};
        if (!job_has_room(job, piece, tensors))
            return false;
        own = job_add_rows(job, piece, tensors->packed);
        longest = MAX(longest, own);
        window->units_claimed += end - unit;
        unit = end;
    }
    job->length = longest;
    return true;
}

/* What a slot keeps beside its batch; most of it is made at its first use. */
static bool job_make_room(SlotJob *job, const TensorSet *tensors, uint32_t windows) {
    if (windows > job->piece_capacity) {
        free(job->pieces);
        job->pieces = calloc(windows, sizeof *job->pieces);
        job->piece_capacity = job->pieces ? windows : 0;
        if (!job->pieces)
            return false;
    }
    if (job->lengths)
        return true;
    job->lengths = calloc(tensors->rows_max, sizeof *job->lengths);
    return job->lengths && slate_init(&job->slate, tensors) == 0;
}

/* Its padded shape, and where its tensors lie. False: it is larger than a slot. */
static bool job_shape(const Stream *stream, SlotJob *job) {
    const Feed *feed = stream->feed;
    uint32_t longest = job->length;

    job->rows = plan_batch_rows(&stream->plan, job->rows_real);
    job->length = feed_padded_length(feed, longest);
    if (job->rows > feed->tensors.rows_max || job->length > feed->tensors.length_max)
        return false;
    if (feed->tensors.packed)
        tensor_layout_packed(&feed->tensors, job->rows, job->length, job->sequences, job->tokens,
                             &job->layout);
    else
        tensor_layout(&feed->tensors, job->rows, job->length, &job->layout);
    job->layout.longest = longest;
    job->layout.zeroed = slate_tensors(&feed->tensors);
    return job->layout.bytes <= feed->slot_bytes;
}

/* Lengths are checked against the index, and room is made by it: only a dataset that lies in a way
 * nobody has thought of gets here, and it must not write beside its slot. */
static void fail_for_size(Stream *stream) {
    Error error;

    error_set(&error, -EBADMSG,
              "a batch of feed %s is larger than the index of its dataset allows: run seqfeed "
              "verify on %s",
              stream->feed->name, stream->feed->catalog->path);
    stream_fail(stream, &error);
}

/* Claim and shape the ring's next batch. False: nothing to claim now. */
static bool claim_next(Stream *stream, StreamRing *ring) {
    RingWriter *writer = ring->writer;
    uint64_t place, sequence;
    uint32_t windows;
    PlanBatch batch;
    bool repeated;
    SlotJob *job;
    Span span;

    if (ring->closed || writer->claimed - writer->tail >= writer->slot_count ||
        !ring_position(stream, ring, &place))
        return false;
    span = batch_span(stream, ring, place, &batch, &repeated);
    windows = span_windows(ring, &span, true);
    if (windows == 0 ||
        !window_is_ready(strand_find_window(span.strand, ring->epoch, span.pass, span.first)))
        return false;
    job = &ring->jobs[writer->claimed % writer->slot_count];
    if (!job_make_room(job, &stream->feed->tensors, windows)) {
        stream_fail_for_memory(stream, "a batch");
        return false;
    }
    if (!job_make_pieces(job, ring, &span, &stream->feed->tensors) || !job_shape(stream, job)) {
        fail_for_size(stream);
        return false;
    }
    job->memory = ring_writer_claim(writer, &sequence);
    assert(job->memory);
    for (uint32_t row = job->rows_real; row < job->rows; row++)
        job->lengths[row] = 0;
    job->epoch = stream_epoch_ref(ring->epoch);
    job->place = place;
    job->round = ring->round++;
    job->repeated = repeated;
    job->pieces_issued = 0;
    atomic_store(&job->pieces_left, job->piece_count);
    job->on_device = stream->lanes && stream_device_takes(stream, ring, job);
    if (job->rows == job->held_rows && job->length == job->held_length)
        job->layout.kept = tensor_constant(&stream->feed->tensors);
    job->held_rows = job->rows;
    job->held_length = job->length;
    return true;
}

void stream_issue_pieces(Stream *stream, StreamRing *ring, Pushed *pushed) {
    RingWriter *writer = ring->writer;

    for (uint64_t sequence = writer->head; sequence < writer->claimed; sequence++) {
        SlotJob *job = &ring->jobs[sequence % writer->slot_count];
        if (job->pieces_issued == job->piece_count)
            continue;
        if (job->on_device)
            stream_device_issue(stream, job, pushed);
        while (!job->on_device && job->pieces_issued < job->piece_count &&
               window_is_ready(job->pieces[job->pieces_issued].window))
            stream_push(stream, &job->pieces[job->pieces_issued++].task, true, pushed);
    }
}

void stream_claim_all(Stream *stream, Pushed *pushed) {
    for (uint32_t i = 0; i < stream->ring_count; i++)
        if (stream->rings[i].closed)
            ring_pass_over(stream, &stream->rings[i]);
    for (;;) {
        StreamRing *emptiest = NULL;
        uint64_t least = UINT64_MAX;

        for (uint32_t i = 0; i < stream->ring_count; i++) {
            StreamRing *ring = &stream->rings[i];
            uint64_t filled = ring->writer->claimed - ring->writer->tail;
            if (!ring->closed && filled < least && filled < ring->writer->slot_count &&
                !ring->blocked) {
                least = filled;
                emptiest = ring;
            }
        }
        if (!emptiest)
            break;
        if (!claim_next(stream, emptiest))
            emptiest->blocked = true;
    }
    for (uint32_t i = 0; i < stream->ring_count; i++) {
        stream->rings[i].blocked = false;
        stream_issue_pieces(stream, &stream->rings[i], pushed);
    }
}
