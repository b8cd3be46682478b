/* SPDX-License-Identifier: MIT */
/* worker.h: a named thread that calls a step function for ever, and the bell it sleeps on.
 *
 * A step does bounded work, never blocks, and returns how much it did (threads for what does block
 * say so: fetch.h, setup_pool.h, accelerator.h). When it did nothing the worker spins shortly and
 * then sleeps until somebody rings its bell. The bell counts, so a ring between the last look and
 * the sleep is never lost. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Bell {
    _Atomic uint32_t count; /* futex word; +1 for each ring */
    _Atomic uint32_t waiters;
} Bell;

/* Wake `wake_count` sleepers, if there are any. Costs one atomic add when nobody sleeps. */
void bell_ring(Bell *bell, uint32_t wake_count);

/* What to hand to bell_wait(); read it before looking for work. */
uint32_t bell_read(const Bell *bell);

/* Sleep until the bell has been rung since `seen`, or `timeout_ns` have passed (negative: for
 * ever). */
void bell_wait(Bell *bell, uint32_t seen, int64_t timeout_ns);

typedef struct Worker {
    pthread_t thread;
    const char *name; /* at most 15 bytes; not copied */
    Bell *bell;       /* shared by all workers that look at the same queues */
    int (*step)(void *argument);
    /* How to sleep and how to end that sleep from another thread; NULL: on the bell. A thread that
     * waits for the kernel (completions) brings its own. */
    void (*sleep)(void *argument);
    void (*wake)(void *argument);
    void *argument;
    int64_t spin_ns; /* at most, before it sleeps */
    bool yields;     /* when it is woken it does not take the CPU from who runs; private: */
    int32_t spin_worth;
    uint32_t idles;
    bool started;
    _Atomic bool stop;
    /* How a watchdog sees that the thread lives: steps taken, and beats of long ones. */
    _Atomic uint64_t steps;
    uint64_t steps_seen; /* private: and one more; 0: never looked */
} Worker;

/* Fill every field but the private ones, then start. The struct must stay where it is until
 * worker_stop(). Returns 0 or a negative errno. */
MUST_CHECK int worker_start(Worker *worker);

/* End the worker's sleep, if it sleeps. Any thread. */
void worker_wake(Worker *worker);

/* Has it got on since it was last asked? True the first time. One thread may ask; one that sleeps
 * is to be woken after it, so that it has by the next time. */
MUST_CHECK bool worker_has_stepped(Worker *worker);

/* Ask the thread to end after its current step, and wait for it. Does nothing if it never started.
 */
void worker_stop(Worker *worker);
