/* SPDX-License-Identifier: MIT */
/* ahead.c: who may use what is told by one word:
 *
 *   IDLE       all is the trainer's. ask: -> ASKED
 *   ASKED      the thread may begin, by going to WORKING; the trainer may take the request back, by
 *              going to IDLE. Whoever changes the word first has won.
 *   WORKING    all is the thread's, for the moment that it takes to look for a batch, or to put the
 *              copy where it is found. -> ASKED when there was no batch yet, COPYING, or IDLE
 *   COPYING    the attachment and the batch may be taken by the trainer, by going to ABANDONED; the
 *              thread reads the slot and writes to the chunk. -> WORKING when it is done
 *   ABANDONED  the trainer copies for itself. What the thread reads may change under it, and is
 * thrown away: only the chunk is still its own. -> IDLE
 *
 * So a trainer does not wait for a thread that has not begun, or that lost its CPU in the middle of
 * a copy: where the CPUs are busy, or there is a single one, it is as if there were no thread.
 *
 * The thread only looks, it does not wait in the client: so whoever comes meanwhile need not wait
 * for a wait. It looks again after pauses that double, and gives up after two seconds: the trainer
 * then waits for itself, and says so. Errors and outcomes other than a batch it leaves to the
 * trainer as well, who gets them anew. */
#include "ahead.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/worker.h"

enum {
    AHEAD_IDLE,
    AHEAD_ASKED,
    AHEAD_WORKING,
    AHEAD_COPYING,
    AHEAD_ABANDONED,
    AHEAD_LOOKS = 11, /* the first pause is a millisecond */
};

struct Ahead {
    Attachment *attachment;
    Worker worker;
    Bell asked, done;
    uint32_t state;
    /* Of whom the state names. */
    PoolChunk *chunk;
    Lease *blank; /* made beforehand: a batch that was taken must be kept, whatever happens */
    Lease *lease; /* ready, and not taken yet */
    int looks;    /* that found nothing */
    /* The thread's own. */
    uint32_t seen;
    int64_t pause_ns; /* negative: until it is asked */
};

static bool ahead_change(Ahead *ahead, uint32_t from, uint32_t to) {
    return __atomic_compare_exchange_n(&ahead->state, &from, to, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* ---- the thread ---- */

/* A copy, if it fits. The batch is looked at through a struct of our own, for the trainer may take
 * the other one and release it. */
static void ahead_copy(Ahead *ahead) {
    Lease source = {.batch = ahead->lease->batch}, *copy = NULL;
    size_t size;

    __atomic_store_n(&ahead->state, AHEAD_COPYING, __ATOMIC_RELEASE);
    bell_ring(&ahead->done, 1); /* who waited for the look need not wait for the copy */
    if (lease_measure(&source, &size) < 0 || size > ahead->chunk->size ||
        lease_copy(&source, ahead->chunk, &copy) < 0)
        copy = NULL;
    if (!ahead_change(ahead, AHEAD_COPYING, AHEAD_WORKING)) {
        lease_unref(copy);
        pool_chunk_unref(ahead->chunk);
        ahead->chunk = NULL;
    } else if (copy) {
        lease_unref(ahead->lease);
        ahead->lease = copy;
    }
}

/* Is there a next batch? As seqfeed_next(). */
static int ahead_look(Ahead *ahead) {
    int r = seqfeed_next(ahead->attachment->feed, &ahead->blank->batch, 0);

    if (r != 0)
        return r;
    ahead->lease = ahead->blank;
    ahead->lease->released = false;
    ahead->blank = NULL;
    return 0;
}

static int ahead_step(void *argument) {
    Ahead *ahead = argument;
    bool again = false;
    int r;

    ahead->seen = bell_read(&ahead->asked);
    ahead->pause_ns = -1;
    if (!ahead_change(ahead, AHEAD_ASKED, AHEAD_WORKING))
        return 0;
    r = ahead_look(ahead);
    if (r == 0)
        ahead_copy(ahead);
    else
        again = r == -ETIMEDOUT && ++ahead->looks < AHEAD_LOOKS;
    if (again)
        ahead->pause_ns = NS_PER_MS << (ahead->looks - 1);
    __atomic_store_n(&ahead->state, again ? AHEAD_ASKED : AHEAD_IDLE, __ATOMIC_RELEASE);
    bell_ring(&ahead->done, 1);
    return 0;
}

static void ahead_sleep(void *argument) {
    Ahead *ahead = argument;

    bell_wait(&ahead->asked, ahead->seen, ahead->pause_ns);
}

static void ahead_wake(void *argument) {
    bell_ring(&((Ahead *)argument)->asked, 1);
}

/* ---- the trainer ---- */

Ahead *ahead_new(Attachment *attachment) {
    Ahead *ahead = calloc(1, sizeof *ahead);

    if (!ahead)
        return NULL;
    ahead->attachment = attachment_ref(attachment);
    ahead->worker = (Worker){.name = "seqfeed-copy",
                             .step = ahead_step,
                             .sleep = ahead_sleep,
                             .wake = ahead_wake,
                             .argument = ahead,
                             .yields = true};
    return ahead;
}

void ahead_free(Ahead *ahead) {
    if (!ahead)
        return;
    if (seqfeed_private_is_forked(ahead->attachment->feed)) {
        ahead->worker.started = false; /* the thread is the parent's, and so is what it was doing */
        if (ahead->state == AHEAD_WORKING)
            ahead->blank = ahead->lease = NULL;
        if (ahead->state == AHEAD_ABANDONED)
            ahead->chunk = NULL; /* maybe given back already */
    }
    worker_stop(&ahead->worker);
    lease_unref(ahead->blank);
    lease_unref(ahead->lease);
    pool_chunk_unref(ahead->chunk);
    attachment_unref(ahead->attachment);
    free(ahead);
}

void ahead_ask(Ahead *ahead, PoolChunk *chunk) {
    if (__atomic_load_n(&ahead->state, __ATOMIC_ACQUIRE) != AHEAD_IDLE || ahead->lease)
        return; /* still at what was abandoned, or with what was made before */
    if (!ahead->blank)
        ahead->blank = lease_new(ahead->attachment, &(SeqfeedBatch){0});
    if (!ahead->blank || (!ahead->worker.started && worker_start(&ahead->worker) < 0))
        return;
    ahead->blank->released = true; /* nothing to give back yet */
    if (ahead->chunk != chunk) {
        pool_chunk_unref(ahead->chunk);
        ahead->chunk = pool_chunk_ref(chunk);
    }
    ahead->looks = 0;
    __atomic_store_n(&ahead->state, AHEAD_ASKED, __ATOMIC_RELEASE);
    worker_wake(&ahead->worker);
}

/* The state is looked at and changed in one: what was seen a moment ago may be otherwise now. */
bool ahead_settle(Ahead *ahead) {
    uint32_t state = __atomic_load_n(&ahead->state, __ATOMIC_ACQUIRE);

    while (state == AHEAD_ASKED || state == AHEAD_COPYING)
        if (__atomic_compare_exchange_n(&ahead->state, &state,
                                        state == AHEAD_ASKED ? AHEAD_IDLE : AHEAD_ABANDONED, 0,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return true;
    return state != AHEAD_WORKING;
}

void ahead_wait(Ahead *ahead) {
    for (;;) {
        uint32_t seen = bell_read(&ahead->done);

        if (ahead_settle(ahead))
            return;
        bell_wait(&ahead->done, seen, -1);
    }
}

bool ahead_is_ready(const Ahead *ahead) {
    return __atomic_load_n(&ahead->state, __ATOMIC_ACQUIRE) == AHEAD_IDLE && ahead->lease;
}

Lease *ahead_take(Ahead *ahead) {
    Lease *lease = ahead->lease;

    ahead->lease = NULL;
    if (__atomic_load_n(&ahead->state, __ATOMIC_ACQUIRE) == AHEAD_IDLE) {
        pool_chunk_unref(ahead->chunk); /* else it would look as if somebody used it */
        ahead->chunk = NULL;
    }
    return lease;
}
