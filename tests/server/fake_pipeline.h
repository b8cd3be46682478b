/* SPDX-License-Identifier: MIT */
/* fake_pipeline.h: the pipeline and the feeds as the server sees them, without data or threads. A
 * test says what happens, and reads what the server asked for. */
#pragma once

#include "pipeline/pipeline.h"

enum { FAKE_STREAMS_MAX = 64, FAKE_RINGS_MAX = 16 };

struct Stream {
    bool used, freed, drained, cancelled;
    Feed *feed;
    void *owner;
    uint64_t seed, epoch, index, bytes;
    uint32_t world, ring_count, members;
    uint32_t ranks[FAKE_RINGS_MAX];
    uint32_t left[FAKE_RINGS_MAX]; /* calls of stream_leave() */
    uint32_t member_next[FAKE_RINGS_MAX];
    uint32_t joins, pokes;
    void *join_token; /* of the newest */
    uint32_t join_ring;
    StreamRingStatus rings[FAKE_RINGS_MAX];
    uint64_t behind[FAKE_RINGS_MAX][8];
    int fd; /* stands for the memory of all rings */
};

typedef struct FakePipeline {
    uint64_t memory, memory_each; /* of all, and what a ring takes */
    uint64_t reserved;
    uint64_t epoch_length;      /* rounds from a stream's start to the end of its epoch */
    bool hold;                  /* streams are not ready at once: fake_ready() */
    bool queue_full;            /* stream_join() says -EAGAIN */
    int new_code;               /* what stream_new() returns */
    uint32_t reserves, cancels; /* calls */
    const char *silent;         /* what pipeline_silent_thread() says */
    Stream streams[FAKE_STREAMS_MAX];
    uint32_t stream_count;
} FakePipeline;

extern FakePipeline fake;

/* As before the first test. */
void fake_reset(void);
Feed *fake_feed(const char *name, uint32_t slots);

void fake_ready(Stream *stream);
void fake_failed(Stream *stream, int code, const char *text);
void fake_device_gone(const char *text);
void fake_memory_returned(void);
void fake_closed(Stream *stream);
/* The end of a stream that was freed long ago, when another one stands at its address. */
void fake_closed_late(const Stream *stream, Stream *at);
void fake_joined(Stream *stream, void *token, uint32_t ring, int code);
void fake_violation(Stream *stream, uint32_t ring, uint32_t member);
