/* SPDX-License-Identifier: MIT */
/* What workers do for a stream: plan a window, decode a block, copy rows of a window into a slot.
 * None of these holds the baton; each tells what it has finished by an atomic and wakes the stream.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "mask/compute.h"
#include "mask/fill.h"
#include "mask/fill_packed.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"
#include "pipeline/stream_device.h"

/* Scratch of at least `need` items, its old content lost. NULL: no memory. */
static void *scratch(void *memory, size_t *capacity, size_t need, size_t item_bytes) {
    if (need <= *capacity)
        return memory;
    free(memory);
    memory = malloc(need * item_bytes);
    *capacity = memory ? need : 0;
    return memory;
}

static int window_unpack(Window *window, uint32_t *lengths, uint32_t *block_sequences,
                         Error *error) {
    const Catalog *catalog = window->stream->feed->catalog;
    const uint8_t *packed = window->packed;

    for (uint32_t i = 0; i < window->block_count; i++) {
        uint32_t block = window->blocks[i].block;
        int r = catalog_unpack_lengths(catalog, block, packed, lengths, error);
        if (r < 0)
            return r;
        block_sequences[i] = catalog->block_sequences[block];
        lengths += block_sequences[i];
        packed += (size_t)block_sequences[i] * catalog->blocks[block].lengths_width;
    }
    return 0;
}

static int window_make_units(Window *window, Error *error) {
    const Stream *stream = window->stream;
    const PlanWindow *plan =
        &window->epoch->plan->strands[window->strand->number].windows[window->number];
    size_t need = plan->sequences + window->block_count;
    PlanRoom *room = window->room;
    uint64_t pieces = window->unit_count;
    uint32_t *block_sequences;
    PlanTally tally;
    int r;

    room->lengths = scratch(room->lengths, &room->capacity, need, sizeof(uint32_t));
    if (!room->lengths)
        return error_set(error, -ENOMEM, "no memory to plan a window of %zu sequences", need);
    block_sequences = room->lengths + plan->sequences;
    r = window_unpack(window, room->lengths, block_sequences, error);
    if (r < 0)
        return r;
    if (!window->is_fixed) {
        plan_count_pieces(&stream->plan, room->lengths, plan->sequences, &tally);
        pieces = tally.pieces;
    }
    r = pieces <= UINT32_MAX ? window_make_units_room(window, pieces) : -EBADMSG;
    if (r == 0)
        r = plan_window_units_make(&stream->plan, window->epoch->plan, window->strand->number,
                                   window->number, room->lengths, block_sequences, pieces,
                                   &room->scratch, window->units, window->firsts);
    if (r == -ENOMEM)
        return error_set(error, r, "no memory to plan a window of %zu sequences", need);
    if (r < 0)
        return error_set(error, r,
                         "%s: the lengths in the index are not those that were counted: "
                         "the dataset has changed; run 'seqfeed verify' and restart the daemon",
                         stream->feed->catalog->path);
    return 0;
}

void window_plan_run(Task *task, void *context) {
    Window *window = CONTAINER_OF(task, Window, plan);
    Stream *stream = window->stream;
    Error error;

    if (window_make_units(window, &error) < 0) {
        stream_fail(stream, &error);
    } else {
        window->blocks_needed = strand_mark_needed(stream, window);
        atomic_store(&window->blocks_left, window->blocks_needed);
        atomic_store_explicit(&window->planned, true, memory_order_release);
    }
    stream_end(stream);
}

static inline uint32_t packed_length(const uint8_t *packed, uint32_t width, uint32_t i) {
    const uint8_t *at = packed + (size_t)width * i;

    return width == 1 ? *at : width == 2 ? bytes_get_u16(at) : bytes_get_u32(at);
}

/* With a constant width a few vector operations for eight sequences. */
static inline bool lengths_are(const uint8_t *packed, uint32_t width, const BlockColumns *columns) {
    const uint32_t *ends = columns->token_ends;
    uint32_t differ = columns->sequences ? packed_length(packed, width, 0) ^ ends[0] : 0;

    for (uint32_t i = 1; i < columns->sequences; i++)
        differ |= packed_length(packed, width, i) ^ (ends[i] - ends[i - 1]);
    return differ == 0;
}

/* The planner went by the index, the copy will go by the block: they must tell the same lengths. */
static bool lengths_agree(const Window *window, uint32_t index, const BlockColumns *columns) {
    const WindowBlock *block = &window->blocks[index];

    switch (window->stream->feed->catalog->blocks[block->block].lengths_width) {
    case 1:
        return lengths_are(block->lengths, 1, columns);
    case 2:
        return lengths_are(block->lengths, 2, columns);
    default:
        return lengths_are(block->lengths, 4, columns);
    }
}

void window_decode_run(Task *task, void *context) {
    WindowBlock *block = CONTAINER_OF(task, WindowBlock, decode);
    PipelineWorker *worker = context;
    Window *window = block->window;
    Stream *stream = window->stream;
    uint32_t index = (uint32_t)(block - window->blocks), number;
    const Catalog *catalog = catalog_part(stream->feed->catalog, block->block, &number);
    BlockColumns columns;
    Error error;
    int r;

    r = block_decode(worker->decoder, catalog, number, block->read.memory, block->raw.memory,
                     block->raw.size, &columns, &error);
    if (r == 0 && !lengths_agree(window, index, &columns))
        r = catalog_block_damaged(catalog, number, CATALOG_CONTENT,
                                  "it holds other lengths than the index says", &error);
    if (r < 0) {
        stream_fail(stream, &error);
    } else {
        window_set_columns(window, index, &columns);
        atomic_fetch_add_explicit(&stream->blocks_decoded, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&stream->pipeline->blocks_decoded, 1, memory_order_relaxed);
        atomic_store(&block->stage, BLOCK_DECODED);
        atomic_fetch_sub_explicit(&window->blocks_left, 1, memory_order_release);
    }
    atomic_fetch_sub(&stream->decodes_in_flight, 1);
    stream_end(stream);
}

/* The rows of a piece, and behind the last piece those that stand for nothing (last: pad). */
static void fill_padded_piece(SlotJob *job, const SlotPiece *piece, const FillRow *rows) {
    const TensorSet *tensors = &piece->window->stream->feed->tensors;

    if (piece == job->pieces && job->layout.zeroed)
        slate_turn(&job->slate, tensors, &job->layout, job->memory, job->rows, job->length,
                   job->lengths);
    fill_rows(tensors, &job->layout, job->memory, job->rows, job->length, piece->row_first, rows,
              piece->piece_count);
    if (piece == &job->pieces[job->piece_count - 1] && job->rows > job->rows_real)
        fill_empty_rows(tensors, &job->layout, job->memory, job->rows, job->length, job->rows_real,
                        job->rows - job->rows_real);
}

FillPacked assemble_packed(const SlotPiece *piece, const FillRow *rows) {
    return (FillPacked){.first_row = piece->row_first,
                        .row_count = piece->units,
                        .first_sequence = piece->sequence_first,
                        .sequence_count = piece->piece_count,
                        .first_token = piece->token_first,
                        .sources = rows,
                        .firsts = piece->window->firsts + piece->unit};
}

static void fill_packed_piece(const SlotJob *job, const SlotPiece *piece, const FillRow *rows) {
    const TensorSet *tensors = &piece->window->stream->feed->tensors;
    const FillPacked real = assemble_packed(piece, rows);
    const FillPacked empty = {.first_row = job->rows_real,
                              .row_count = job->rows - job->rows_real,
                              .first_sequence = job->sequences,
                              .first_token = job->tokens};

    fill_packed(tensors, &job->layout, job->memory, job->length, &real);
    if (piece == &job->pieces[job->piece_count - 1])
        fill_packed(tensors, &job->layout, job->memory, job->length, &empty);
}

static void fill_piece(SlotJob *job, const SlotPiece *piece, const FillRow *rows) {
    if (piece->window->stream->feed->tensors.packed)
        fill_packed_piece(job, piece, rows);
    else
        fill_padded_piece(job, piece, rows);
}

/* Lists in the dataset may name places that a row does not have. */
static bool rows_are_allowed(const SlotPiece *piece, const FillRow *rows, Error *error) {
    const Window *window = piece->window;
    const Feed *feed = window->stream->feed;
    Error reason;

    if (!compute_checks(&feed->tensors))
        return true;
    for (uint32_t i = 0; i < piece->piece_count; i++) {
        const PlanUnit *unit = &window->units[piece->piece_first + i];

        if (compute_check_row(&feed->tensors, &rows[i], piece->job->length, &reason) < 0) {
            (void)catalog_block_error(
                feed->catalog, window->blocks[unit->block].block, CATALOG_CONTENT, reason.code,
                error, "does not suit feed %s: its sequence %u, in batch %" PRIu64 ": %s",
                feed->name, unit->sequence, piece->job->place, reason.text);
            return false;
        }
    }
    return true;
}

/* Which labels count; before the piece is told to be done, so that publish() sees all of it. */
static void count_labels(const SlotPiece *piece, const FillRow *rows) {
    const Window *window = piece->window;
    const TensorSet *tensors = &window->stream->feed->tensors;
    SlotJob *job = piece->job;
    LabelCount count;

    if (window->stream->labels == LABEL_NONE)
        return;
    count = label_count(tensors, job->length, rows, piece->piece_count,
                        tensors->packed ? window->firsts + piece->unit : NULL, piece->units,
                        piece->piece_first);
    atomic_fetch_add_explicit(&job->items, count.items, memory_order_relaxed);
    atomic_fetch_add_explicit(&job->items_first, count.items_first, memory_order_relaxed);
}

/* The rows of a piece, as they lie in decoded blocks. */
static void find_rows(const SlotPiece *piece, FillRow *ret_rows) {
    const Window *window = piece->window;
    size_t columns = window_block_columns(window);

    for (uint32_t i = 0; i < piece->piece_count; i++) {
        const PlanUnit *unit = &window->units[piece->piece_first + i];
        ret_rows[i] = (FillRow){.columns = window->columns + unit->block * columns,
                                .sequence = unit->sequence,
                                .start = unit->start,
                                .length = unit->length};
    }
}

/* Rows of `count` pieces one after another in the worker's scratch; NULL, and the stream fails. */
static FillRow *take_rows(SlotPiece *pieces, uint32_t count, PipelineWorker *worker) {
    Stream *stream = pieces->window->stream;
    uint32_t rows = 0, at = 0;
    Error error;

    for (uint32_t i = 0; i < count; i++)
        rows += pieces[i].piece_count;
    worker->rows = scratch(worker->rows, &worker->rows_capacity, rows, sizeof(FillRow));
    if (!worker->rows) {
        error_set(&error, -ENOMEM, "no memory for a batch of %u rows", rows);
        stream_fail(stream, &error);
        return NULL;
    }
    for (uint32_t i = 0; i < count; at += pieces[i++].piece_count)
        find_rows(&pieces[i], worker->rows + at);
    fill_prefetch(&stream->feed->tensors, worker->rows, rows);
    at = 0;
    for (uint32_t i = 0; i < count; at += pieces[i++].piece_count) {
        if (!rows_are_allowed(&pieces[i], worker->rows + at, &error)) {
            stream_fail(stream, &error);
            return NULL;
        }
    }
    return worker->rows;
}

void assemble_piece_run(Task *task, void *context) {
    SlotPiece *piece = CONTAINER_OF(task, SlotPiece, task);
    SlotJob *job = piece->job;
    Window *window = piece->window;
    Stream *stream = window->stream;
    const FillRow *rows = take_rows(piece, 1, context);

    if (rows) {
        fill_piece(job, piece, rows);
        count_labels(piece, rows);
        atomic_fetch_sub_explicit(&window->units_left, piece->units, memory_order_release);
        atomic_fetch_sub_explicit(&job->pieces_left, 1, memory_order_release);
    }
    stream_end(stream);
}

void assemble_batch_done(SlotJob *job) {
    for (uint32_t i = 0; i < job->piece_count; i++)
        atomic_fetch_sub_explicit(&job->pieces[i].window->units_left, job->pieces[i].units,
                                  memory_order_release);
    atomic_store_explicit(&job->pieces_left, 0, memory_order_release);
}

/* A whole batch, for a device; or, where that cannot take it, for us. */
void assemble_batch_run(Task *task, void *context) {
    SlotJob *job = CONTAINER_OF(task, SlotJob, batch);
    Stream *stream = job->pieces->window->stream;
    const FillRow *rows = take_rows(job->pieces, job->piece_count, context);

    if (rows && !job->refill)
        for (uint32_t i = 0; i < job->piece_count; i++)
            count_labels(&job->pieces[i], rows + job->pieces[i].sequence_first);
    if (rows && stream_device_launch(job, rows))
        return;
    if (rows) {
        for (uint32_t i = 0; i < job->piece_count; i++)
            fill_piece(job, &job->pieces[i], rows + job->pieces[i].sequence_first);
        assemble_batch_done(job);
    }
    stream_end(stream);
}
