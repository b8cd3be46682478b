/* SPDX-License-Identifier: MIT */
/* pipeline.h: the data plane as the server sees it. It owns the fetch thread, the workers, the
 * threads that set streams up, the block cache and all Streams. Functions marked [control] are
 * called by the control thread only; they never block and never touch batch bytes. What happens is
 * told by events. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "feed/feed.h"

typedef struct Pipeline Pipeline;
typedef struct Stream Stream;

typedef struct PipelineOptions {
    uint32_t workers;   /* >= 1 */
    bool fewer_workers; /* where the system refuses some of the threads, go on with the others */
    uint64_t memory;    /* bytes in all; the budget has what the next leaves */
    uint64_t index;     /* of it: what the feeds themselves take */
    uint64_t cache;     /* limit of the block cache, bytes; UINT64_MAX: what memory leaves */
    bool force_pread;   /* do not try io_uring */
    const MaskBackend *masks;   /* of the devices that feeds are for; NULL: what this build has */
    int64_t device_patience_ns; /* until one counts as hanging when it is closed; 0: 10 s */
} PipelineOptions;

/* Nothing runs until pipeline_start(). 0 or negative errno. How many workers there are then says
 * PipelineStatus. */
MUST_CHECK int pipeline_new(const PipelineOptions *options, Pipeline **ret_pipeline, Error *error);
MUST_CHECK int pipeline_start(Pipeline *pipeline, Error *error);
/* Stops the threads and frees every stream; the server has forgotten them before. Accepts NULL. */
void pipeline_free(Pipeline *pipeline);

/* "io_uring" or "pread", and why. */
const char *pipeline_fetch_backend(const Pipeline *pipeline);
const char *pipeline_fetch_reason(const Pipeline *pipeline);
MemoryBudget *pipeline_budget(Pipeline *pipeline);
/* Readable (epoll) when there are events. */
int pipeline_event_fd(const Pipeline *pipeline);
/* [control] For the watchdog: a thread that has taken no step since the last call, in words, or
 * NULL; a set-up thread also lives by what it does within a step. Rings every bell, so that who
 * sleeps has taken one by the next call. The first call finds nobody. Not of devices. */
const char *pipeline_silent_thread(Pipeline *pipeline);

/* [control] Does a device hang? To be asked about once a second while feeds are for one. */
void pipeline_watch_devices(Pipeline *pipeline);

/* Where a stream begins and whom it serves. */
typedef struct StreamRequest {
    Feed *feed; /* the stream takes a reference of its own */
    uint64_t seed;
    uint64_t epoch, index; /* starting cursor */
    uint32_t world;
    uint32_t ring_count;   /* local ranks */
    const uint32_t *ranks; /* [ring_count], distinct, < world */
    uint32_t members;      /* seats of each ring, taken at start */
    uint8_t instance[16];
    void *owner; /* handed back in events */
} StreamRequest;

/* [control] Reserve memory for the request: FeedMemory.total, which *ret_bytes tells in any case.
 * 0; -ENOMEM with the arithmetic when it can never fit; PIPELINE_E_WAIT when others that let go
 * would make it fit: EVENT_MEMORY follows when a stream has. Released by pipeline_cancel() or
 * carried over to the stream. */
enum { PIPELINE_E_WAIT = 1 };
MUST_CHECK int pipeline_reserve(Pipeline *pipeline, Feed *feed, uint32_t world, uint32_t ring_count,
                                uint64_t *ret_bytes, Error *error);
void pipeline_cancel(Pipeline *pipeline, uint64_t bytes);

/* [control] Begin making the stream on a set-up thread; `reserved_bytes` passes to it. Answered by
 * EVENT_READY or EVENT_FAILED. 0 or -ENOMEM. */
MUST_CHECK int stream_new(Pipeline *pipeline, const StreamRequest *request, uint64_t reserved_bytes,
                          Stream **ret_stream, Error *error);
/* [control] Nobody waits for the stream any more: EVENT_FAILED with -ECANCELED comes soon, or
 * EVENT_READY is on its way already. Nobody may join it; all members are to leave. */
void stream_cancel(Stream *stream);

/* [control] Ask for one more member of ring `ring` (join: next). Answered by EVENT_JOINED. -EAGAIN:
 * try again later (the queue is full). */
MUST_CHECK int stream_join(Stream *stream, uint32_t ring, void *token);
/* [control] A member has gone. When the last member of the last ring has left, EVENT_CLOSED
 * follows. */
void stream_leave(Stream *stream, uint32_t ring, uint32_t member);
/* [control] Publish what is complete, then set state DRAIN on all rings. */
void stream_drain(Stream *stream);
/* [control] Members may have released: let a worker look. */
void stream_poke(Stream *stream);
/* [control] After EVENT_CLOSED or EVENT_FAILED: forget the stream. Its reservation returns when the
 * last read and copy have ended. */
void stream_free(Stream *stream);

typedef enum PipelineEventKind {
    PIPELINE_EVENT_READY,  /* stream made: all first seats have members 0..members-1 in each ring */
    PIPELINE_EVENT_FAILED, /* it could not be made, or its data is damaged: `code`, `text`. A
                              running stream's rings are already in state FAILED */
    PIPELINE_EVENT_JOINED, /* `token`: member `member` of `ring` from `first` on; code < 0: refused
                            */
    PIPELINE_EVENT_VIOLATION, /* member `member` of `ring` wrote what it must not and takes no part
                                 any more: disconnect it, and say stream_leave() as for any other */
    PIPELINE_EVENT_CLOSED,    /* last member left; nothing is in flight any more */
    PIPELINE_EVENT_DEVICE,    /* no stream's: why a device is not used (any more), in `text` */
    PIPELINE_EVENT_MEMORY,    /* no stream's: after PIPELINE_E_WAIT a reservation has returned */
    PIPELINE_EVENT_WARNING    /* no stream's: what this machine cannot do, in `text` */
} PipelineEventKind;

typedef struct PipelineEvent {
    PipelineEventKind kind;
    Stream *stream;
    void *owner; /* StreamRequest.owner */
    void *token;
    uint32_t ring, member;
    uint64_t first;
    int code;
    char text[512];
} PipelineEvent;

/* [control] False when there is none. */
MUST_CHECK bool pipeline_next_event(Pipeline *pipeline, PipelineEvent *ret_event);

/* [control] What WELCOME needs for one member. Descriptors stay the stream's. */
typedef struct StreamSeat {
    int data_fd, ack_fd;
    uint64_t ring_bytes;
    uint64_t first;
    uint64_t start_epoch, start_index;
    uint64_t epoch_length; /* rounds from there to the end of that epoch … */
    uint64_t whole_length; /* … and of all of it */
} StreamSeat;
void stream_seat(const Stream *stream, uint32_t ring, uint32_t member, StreamSeat *ret_seat);

/* [control] A snapshot for status and metrics; numbers are as of some moment near now. */
typedef struct StreamRingStatus {
    uint32_t rank;
    uint64_t head, tail;   /* published, released by all */
    uint64_t epoch, index; /* of the newest published batch */
    uint32_t slowest_member;
} StreamRingStatus;
/* Sums over published batches, in the words of docs/formats/ring.md. */
typedef struct StreamCounts {
    uint64_t batches, rows, sequences, slots;
    uint64_t tokens_in, trained, ignored, truncated, dropped;
    uint64_t tokens; /* real ones, as trainers see them */
    uint64_t repeated, repeated_tokens;
    uint64_t items, squares;
} StreamCounts;
void stream_counts_add(StreamCounts *sum, const StreamCounts *more);
typedef struct StreamStatus {
    StreamCounts counts; /* since the start, over all rings */
    uint64_t blocks_read, bytes_read, blocks_decoded, cache_hits;
    uint64_t reserved_bytes;
    uint32_t ring_count;
    const char *masks, *masks_reason; /* who writes the next batches, and why */
    uint64_t device_batches;          /* written by a device */
} StreamStatus;
void stream_status(Stream *stream, StreamStatus *ret_status);
void stream_ring_status(const Stream *stream, uint32_t ring, StreamRingStatus *ret_status);
/* [control] Batches published to this member that it has not released yet; 0 for a member that
 * left. */
uint64_t stream_member_behind(const Stream *stream, uint32_t ring, uint32_t member);

typedef struct PipelineStatus {
    uint64_t memory_limit, memory_index, memory_reserved, memory_cached;
    uint64_t memory_kept; /* reserved: rings that a hanging device may still write to, and those
                             that trainers which have left still have */
    uint64_t blocks_read, bytes_read, blocks_decoded, cache_hits;
    StreamCounts counts; /* of all streams, those that have ended included */
    uint32_t workers;
} PipelineStatus;
void pipeline_status(Pipeline *pipeline, PipelineStatus *ret_status);

/* For tests that run everything in one thread: one step of the fetch stage, of setting up, of all
 * devices, and of worker `worker`.
 * Returns how much was done. Never mixed with pipeline_start(). */
int pipeline_step_fetch(Pipeline *pipeline);
int pipeline_step_setup(Pipeline *pipeline);
int pipeline_step_devices(Pipeline *pipeline);
int pipeline_step_worker(Pipeline *pipeline, uint32_t worker);
