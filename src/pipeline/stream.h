/* SPDX-License-Identifier: MIT */
/* stream.h: the inside of a Stream, for the files that implement it (stream.c, stream_setup.c,
 * stream_step.c, stream_device.c, strand.c, window.c, assemble.c).
 *
 * The baton. Everything here without an atomic belongs to whoever holds the stream's baton: the
 * thread whose stream_wake() found nobody there. It runs stream_step() until no further wake came
 * meanwhile. So there is one writer at a time, no lock, no thread of its own, and no lost wake. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/queue.h"
#include "base/task.h"
#include "feed/feed.h"
#include "mask/fill_packed.h"
#include "mask/label_count.h"
#include "mask/slate.h"
#include "pipeline/accelerator.h"
#include "pipeline/pipeline.h"
#include "pipeline/setup_pool.h"
#include "pipeline/window.h"
#include "ring/ring_writer.h"

/* One epoch as this stream goes through it. */
struct StreamEpoch {
    StreamEpoch *next; /* the following one, once counted */
    FeedEpoch *counted;
    const PlanEpoch *plan; /* counted->plan */
    uint64_t start;        /* place of the first round */
    uint64_t rounds;
    uint64_t whole_rounds; /* of a stream that starts with the epoch */
    uint64_t limit;        /* start + rounds * world: one past the last place */
    uint64_t dropped;      /* tokens of the epoch that stand in no batch */
    uint32_t references;   /* rings, cursors and windows in it */
};

typedef struct SlotJob SlotJob;

/* The rows of one slot that come from one window. */
typedef struct SlotPiece {
    Task task;
    SlotJob *job;
    Window *window;
    uint32_t piece_first, piece_count; /* of window->units */
    uint32_t row_first;
    uint32_t sequence_first; /* of the batch, and … */
    uint64_t token_first;    /* … its real tokens before them */
    uint32_t unit;           /* of the window, the first */
    uint32_t units;          /* what the window is done with when these are copied */
} SlotPiece;

/* A claimed slot until it is published. */
struct SlotJob {
    uint8_t *memory;
    StreamEpoch *epoch;
    uint64_t place, round;
    uint32_t rows, length;
    uint32_t rows_real; /* rows beyond are empty (last: pad) */
    uint32_t sequences;
    uint64_t tokens, squares, truncated;
    _Atomic uint64_t items, items_first; /* labels that count, added up by who fills the pieces */
    bool repeated;
    TensorLayout layout;
    Slate slate;                     /* what the slot holds of its last batch … */
    uint32_t held_rows, held_length; /* … and its shape; rows 0: nothing yet */
    uint32_t *lengths;               /* [rows_max]: real tokens of each row */
    SlotPiece *pieces;
    uint32_t piece_count, piece_capacity, pieces_issued;
    _Atomic uint32_t pieces_left;
    /* With a device (stream_device.c). */
    Task batch; /* all pieces at once */
    Flight flight;
    bool on_device; /* claimed for it; it may still be the CPU that fills the slot */
    bool refill;    /* by the CPU, after the device was lost */
};

typedef struct StreamRing {
    uint32_t rank;
    RingWriter *writer;
    bool closed;        /* no member left: its rows are passed over */
    bool blocked;       /* within one step: its next batch cannot be claimed */
    StreamEpoch *epoch; /* of the next batch to claim */
    uint64_t round;
    SlotJob jobs[SEQFEED_SLOTS_MAX]; /* by slot */
    uint64_t member_first[RING_MEMBERS_MAX];
    uint32_t unheard;     /* batches published since sleeping members were last woken */
    int64_t published_ns; /* when the last ones were, and … */
    int64_t pace_ns;      /* … how long one took then */
    uint64_t wake_at;     /* what the header says … */
    uint32_t waker;       /* … and who is asked */
    _Atomic uint64_t status_head, status_tail, status_epoch, status_index;
    _Atomic uint32_t status_slowest;
    _Atomic uint64_t status_released[RING_MEMBERS_MAX]; /* UINT64_MAX: not there */
} StreamRing;

struct Strand {
    uint32_t number;
    StrandCursor cursor;
    Window *first, *last; /* live windows, oldest first */
    uint32_t live;
    bool wanted; /* a batch cannot be shaped without one more window */
};

typedef enum StreamState {
    STREAM_MAKING,
    STREAM_RUNNING,
    STREAM_DRAINING, /* rings say so; nothing new is claimed */
    STREAM_FAILED,   /* the same, with an error */
    STREAM_CLOSING,  /* waits for what is under way */
    STREAM_ENDING,   /* a set-up thread has the baton and takes it down */
    STREAM_CLOSED
} StreamState;

typedef enum StreamCommandKind {
    COMMAND_JOIN,
    COMMAND_LEAVE,
    COMMAND_DRAIN,
    COMMAND_CLOSE
} StreamCommandKind;

typedef struct StreamCommand {
    StreamCommandKind kind;
    uint32_t ring, member;
    void *token;
} StreamCommand;

struct Stream {
    Pipeline *pipeline;
    Stream *previous, *next_stream; /* in the pipeline's list; its lock */
    Feed *feed;
    void *owner;
    uint64_t seed;
    PlanSpec plan;
    uint64_t start_epoch, start_index;
    uint64_t start_rounds;       /* from there to the end of that epoch … */
    uint64_t start_whole_rounds; /* … and of all of it */
    uint32_t world, members;
    uint8_t instance[16];
    FeedCursorHead cursor;
    uint64_t reserved_bytes;

    _Atomic uint32_t pokes;      /* the baton: 0 = nobody holds it */
    _Atomic uint32_t references; /* control, tasks, reads; the last one frees the struct */
    _Atomic uint32_t in_flight;  /* tasks and reads under way */
    StreamState state;
    bool closing_asked, forgetting, drained;
    SetupJob make, count, end;
    _Atomic bool cancelled; /* whatever is being set up is wanted by nobody */
    Task handed, step;
    _Atomic bool step_queued;
    Queue commands;
    FetchForget forget;

    pthread_mutex_t error_lock; /* of the two below; first error wins */
    _Atomic bool failed;
    Error error;

    StreamRing *rings;
    uint32_t ring_count, rings_open;
    uint32_t *ring_of_rank; /* [world]: ring index + 1, 0: not ours */
    Strand *strands;
    uint32_t strand_count;
    uint32_t windows_limit; /* that memory is reserved for */
    Window *free_windows;
    PlanRoom rooms[FEED_PLANNERS];
    uint32_t room_count;
    StreamEpoch *newest_epoch;
    bool counting;
    _Atomic bool count_done;
    FeedEpoch *count_result;
    uint64_t count_dropped;
    bool count_failed; /* why: */
    Error count_error;
    bool truncates; /* some sequence of the feed is cut */
    LabelKind labels;

    FetchFile *files; /* [shards] */
    FetchBuffer *buffers;
    FetchBuffer **free_buffers;
    uint32_t free_buffer_count;
    SlabPiece *free_blocks; /* pool of ordinary block buffers */
    uint32_t free_block_count, free_block_capacity;
    Slab *slab; /* that new ones are taken from; NULL: none yet */
    _Atomic uint32_t decodes_in_flight;

    pthread_mutex_t counts_lock; /* of the next: its numbers belong together */
    StreamCounts counts;

    /* With a device; NULL: the CPU fills all slots. */
    Accelerator *accelerator;
    LaneSet *lanes;      /* ring after ring; until the last unref */
    bool releasing;      /* its lanes */
    uint64_t kept_bytes; /* of the reservation: they are the accelerator's or the remains' now */
    _Atomic uint64_t device_batches, oversize_batches;

    _Atomic uint64_t blocks_read, bytes_read, blocks_decoded, cache_hits;
};

/* stream.c */
/* Run the step now, or leave it to who holds the baton. Any thread but control. */
void stream_wake(Stream *stream);
void stream_ref(Stream *stream);
void stream_unref(Stream *stream);
/* Something of this stream goes to another thread, and is back. end() wakes the stream. */
void stream_begin(Stream *stream);
void stream_end(Stream *stream);
/* The same from a set-up thread: the step is a worker's. */
void stream_end_setup(Stream *stream);
/* Note an error; the stream ends with the first one. Any thread. */
void stream_fail(Stream *stream, const Error *error);
void stream_fail_cancelled(Stream *stream);
/* It has been made or taken down, or will not be made: a worker takes the baton over, and what
 * stream_begin() was said for. */
void stream_hand_over(Stream *stream);
StreamEpoch *stream_epoch_ref(StreamEpoch *epoch);
void stream_epoch_unref(Stream *stream, StreamEpoch *epoch);
/* Wrap a counted epoch. NULL: no memory. Takes over `counted`. */
StreamEpoch *stream_epoch_new(Stream *stream, FeedEpoch *counted, uint64_t start, uint64_t dropped);
/* Tokens of a counted epoch that this stream, entering it at `start`, leaves out. May read lengths:
 * for set-up threads. */
MUST_CHECK int stream_epoch_dropped(const Stream *stream, const FeedEpoch *counted, uint64_t start,
                                    const Heartbeat *heartbeat, uint64_t *ret_tokens, Error *error);
void stream_event(Stream *stream, PipelineEvent *event);

/* stream_setup.c */
/* Has the counted epoch a round at all? With `drop` it takes a batch for each rank. */
MUST_CHECK int stream_check_rounds(const Stream *stream, const FeedEpoch *counted, Error *error);
/* The jobs of a set-up thread, which has the baton. */
void stream_make_run(SetupJob *job, _Atomic uint64_t *beats);
void stream_end_run(SetupJob *job, _Atomic uint64_t *beats);
/* Free everything but the struct. */
void stream_teardown(Stream *stream);

/* stream_step.c */
/* Returns how many tasks it has pushed: workers are still to be woken for them. */
MUST_CHECK uint32_t stream_step(Stream *stream);

/* strand.c: which rows of a strand this stream takes, in order. */
/* Put the cursor on the first place of the epoch that is this strand's and this stream's. */
void strand_enter(Stream *stream, Strand *strand, StreamEpoch *epoch);
/* Open the window at the cursor and move the cursor behind it. 0, -ENOMEM, or STRAND_E_WAIT: the
 * next epoch is not counted yet. */
enum { STRAND_E_WAIT = 1 };
MUST_CHECK int strand_open_window(Stream *stream, Strand *strand);
/* Mark the blocks of a planned window that the stream needs; returns how many. */
uint32_t strand_mark_needed(const Stream *stream, Window *window);
/* Which time around its strand's batches a place is. */
uint64_t strand_pass(const Stream *stream, const StreamEpoch *epoch, uint64_t place);
/* The batch at a place. */
PlanBatch strand_batch(const Stream *stream, const StreamEpoch *epoch, uint64_t place,
                       bool *ret_repeated);
/* The live window that holds `unit` in this epoch and pass, or NULL. */
Window *strand_find_window(const Strand *strand, const StreamEpoch *epoch, uint64_t pass,
                           uint64_t unit);

/* assemble.c: the tasks of workers; `context` is the PipelineWorker. */
void assemble_batch_run(Task *task, void *context);
/* The job's slot is filled, all at once. */
void assemble_batch_done(SlotJob *job);
void assemble_piece_run(Task *task, void *context);
/* The piece as a part of a packed batch; its sequences are in `rows`. */
FillPacked assemble_packed(const SlotPiece *piece, const FillRow *rows);
void window_plan_run(Task *task, void *context);
void window_decode_run(Task *task, void *context);
