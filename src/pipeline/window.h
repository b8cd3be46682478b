/* SPDX-License-Identifier: MIT */
/* window.h: one window of one strand on its way: lengths are read, its sequences planned, its
 * blocks read and decoded, its rows copied into slots; then its blocks go to the cache or back to
 * the pool.
 *
 * Who writes: the baton holder, but for the atomics, with which the fetch thread and workers tell
 * what they have finished. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/task.h"
#include "pipeline/block_cache.h"
#include "pipeline/fetch.h"
#include "plan/plan.h"
#include "shard/block.h"

typedef struct Stream Stream;
typedef struct Strand Strand;
typedef struct StreamEpoch StreamEpoch;
typedef struct Window Window;

/* A place in a strand's sequence of batches: the next row that no window has been opened for. */
typedef struct StrandCursor {
    StreamEpoch *epoch; /* NULL: the epoch is not counted yet */
    uint64_t place;     /* batch place within the epoch; beyond its limit: the epoch has ended */
    uint64_t unit;      /* within the strand: first unit of that batch which is still to come */
} StrandCursor;

typedef enum BlockStage {
    BLOCK_IDLE,     /* not asked for */
    BLOCK_READING,  /* with the fetch thread */
    BLOCK_READ,     /* compressed bytes are here */
    BLOCK_DECODING, /* with a worker */
    BLOCK_DECODED
} BlockStage;

typedef struct WindowBlock {
    FetchRequest read; /* its lengths first, then the block itself */
    Task decode;
    Window *window;
    uint32_t block;         /* of the dataset */
    const uint8_t *lengths; /* within window->packed */
    bool needed;            /* some row of this stream comes from it */
    _Atomic uint32_t stage;
    FetchBuffer *buffer; /* while READING .. DECODING */
    CachedBlock *cached; /* pinned, or NULL */
    SlabPiece raw;       /* own decoded bytes, or none */
} WindowBlock;

/* What planning a window takes; of the stream, lent to one window after another. */
typedef struct PlanRoom {
    uint32_t *lengths; /* of the window's sequences, then how many each block has */
    size_t capacity;
    PlanScratch scratch;
    bool lent;
} PlanRoom;

struct Window {
    Stream *stream;
    Strand *strand;
    Window *next; /* in its strand, oldest first; or in the free list */
    StreamEpoch *epoch;
    StrandCursor begin; /* where the strand's cursor stood when this window was opened */
    uint64_t pass;      /* which time around the strand's batches (repetitions come again) */
    uint32_t number;    /* of the plan's window */
    uint64_t unit_first, unit_count;
    uint64_t units_total; /* units that this stream takes from it … */
    uint64_t units_claimed;
    _Atomic uint64_t units_left; /* … and how many are not copied yet */

    PlanUnit *units; /* pieces of sequences in their order; readable once `planned` */
    size_t unit_capacity;
    uint32_t *firsts; /* [unit_count + 1] unit u is pieces firsts[u] .. firsts[u + 1]; policy fixed
                         has none: unit u is piece u */
    size_t first_capacity;
    bool is_fixed;
    uint8_t *packed; /* lengths as they stand in the index, block after block */
    size_t packed_capacity;
    _Atomic uint32_t lengths_left; /* reads under way */
    bool plan_issued;
    PlanRoom *room; /* while it is being planned */
    _Atomic bool planned;
    Task plan;

    WindowBlock *blocks;
    const uint8_t **columns; /* [block_count][window_block_columns()] of decoded blocks */
    uint32_t block_count, block_capacity;
    uint32_t read_next;     /* blocks before it have been asked for or are not needed */
    uint32_t decode_low;    /* blocks before it have been given to workers */
    uint32_t recycle_low;   /* blocks before it hold no read buffer any more */
    uint32_t blocks_needed; /* valid once planned */
    uint32_t decodes_issued;
    _Atomic uint32_t blocks_left; /* needed ones that are not decoded; valid once planned */
};

/* A Window object of the stream's free list or a new one; NULL: no memory. */
Window *window_new(Stream *stream);
void window_free(Window *window);

/* Set up for the window in which the cursor's unit lies, and start reading its lengths. 0 or
 * -ENOMEM. */
MUST_CHECK int window_open(Window *window, Strand *strand, const StrandCursor *begin, uint64_t pass,
                           uint64_t units_total);

/* The first piece of a unit of the window (or, for unit_count, where the last one ends). */
static inline uint32_t window_piece(const Window *window, uint64_t unit) {
    return window->is_fixed ? (uint32_t)unit : window->firsts[unit];
}

/* The length that a piece's sequence has in the dataset. Readable once `planned`. */
uint32_t window_sequence_length(const Window *window, const PlanUnit *piece);

/* Room for the pieces of a window, where only its lengths tell how many they are, and what the
 * units of other policies need. By the task that plans it. -ENOMEM. */
MUST_CHECK int window_make_units_room(Window *window, uint64_t pieces);

/* Give the room in which it was planned back to the stream, if it still has it. */
void window_give_room(Window *window);

/* May its batches be shaped, and its rows be copied? */
bool window_is_planned(const Window *window);
bool window_is_ready(const Window *window);
/* All rows copied, nothing under way. */
bool window_is_done(const Window *window);

/* Where a decoded block's values lie, for FillRow: columns, ends of sequences, ends in ragged
 * columns.
 */
size_t window_block_columns(const Window *window);
void window_set_columns(Window *window, uint32_t index, const BlockColumns *block);

/* Give its blocks to the cache or back to the pool, and the object to the free list. */
void window_close(Window *window);
