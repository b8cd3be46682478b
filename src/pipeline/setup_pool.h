/* SPDX-License-Identifier: MIT */
/* setup_pool.h: threads for what takes long before a stream can go on and after it has ended:
 * counting an epoch, which reads lengths wherever they lie, allocating rings, and giving them back.
 * Workers, which all streams share, do none of it, so who waits for a slow disk, or for the kernel
 * to free the pages of a large ring, keeps nobody else waiting.
 *
 * Threads are started when there is a job and no other one is idle, and stay. Of one feed and kind
 * few jobs run at a time, so that the threads that are left are there for others; one is there for
 * ends only, whose memory others may be waiting for. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/worker.h"

typedef struct Feed Feed;

enum {
    SETUP_THREADS_MAX = 16,
    SETUP_JOBS_EACH = 2 /* of a feed and kind, at a time */
};

typedef enum SetupKind {
    SETUP_MAKE,  /* a stream: a trainer's attach waits for it */
    SETUP_COUNT, /* the next epoch of a stream that runs */
    SETUP_END    /* of a stream, whose memory goes back */
} SetupKind;

/* A node that lies in the object it works on. It may go as soon as `run` has begun its end. */
typedef struct SetupJob SetupJob;
struct SetupJob {
    SetupJob *next;
    const Feed *feed;
    SetupKind kind;
    /* `beats` is raised whenever it gets on: see heartbeat.h. */
    void (*run)(SetupJob *job, _Atomic uint64_t *beats);
};

typedef struct SetupPool SetupPool;

typedef struct SetupThread {
    Worker worker;
    SetupPool *pool;
    const Feed *feed; /* of the job under way, which may be gone itself; NULL: idle */
    SetupKind kind;
} SetupThread;

struct SetupPool {
    Bell bell;
    pthread_mutex_t lock; /* of all below; never held while a job runs */
    SetupJob *first, *last;
    SetupThread threads[SETUP_THREADS_MAX];
    uint32_t thread_count;
    bool started, refused; /* refused: more threads than these were not to be had */
};

void setup_pool_init(SetupPool *pool);
void setup_pool_deinit(SetupPool *pool); /* stopped; jobs that have not begun are forgotten */
/* 0 or negative errno: not even one thread. Without it call setup_pool_step(). */
MUST_CHECK int setup_pool_start(SetupPool *pool);
/* Wait for the jobs under way; none is begun any more. Does nothing if it never started. */
void setup_pool_stop(SetupPool *pool);

/* Any thread. */
void setup_pool_push(SetupPool *pool, SetupJob *job);
/* True: the job had not begun, and will not. */
MUST_CHECK bool setup_pool_take_back(SetupPool *pool, const SetupJob *job);

/* Does one of the threads get on with nothing since the last look? None that gives memory back: one
 * call of the kernel may take seconds then, and always ends. [control] */
MUST_CHECK bool setup_pool_is_silent(SetupPool *pool);

/* For tests that run everything in one thread: one job, if there is any. Returns how many. */
int setup_pool_step(SetupPool *pool);
