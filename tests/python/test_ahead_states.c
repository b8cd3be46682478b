/* SPDX-License-Identifier: MIT */
/* The word by which a trainer and the thread that copies ahead agree: each batch once, in order,
 * and never two in the client at a time, wherever either of them is interrupted. ahead.c is
 * compiled in here, over a stream of numbers, so that each of its looks at the word can be followed
 * by a pause. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "seqfeed/seqfeed.h"

#include "support/check_main.h"

enum { NUMBERS = 20000, CHUNK = 64 };

static _Thread_local uint32_t random_state;
static atomic_int inside; /* who is in the client */
static uint64_t number_next;
static uint32_t *interrupted; /* the word that interrupt_to is stored to, once, after a failure */
static uint32_t interrupt_to;

static uint32_t draw(void) {
    random_state = random_state * 1103515245 + 12345;
    return random_state >> 16;
}

/* Here the other one may come in between. */
static void gap(void) {
    uint32_t pause = draw() % 16;

    if (pause == 0)
        (void)usleep(draw() % 64);
    else if (pause < 4)
        (void)sched_yield();
}

static bool exchange(uint32_t *word, uint32_t *from, uint32_t to) {
    bool done = __atomic_compare_exchange_n(word, from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);

    if (!done && interrupted == word) {
        interrupted = NULL;
        __atomic_store_n(word, interrupt_to, __ATOMIC_RELEASE);
    }
    gap();
    return done;
}

static int numbers_next(Seqfeed *feed, SeqfeedBatch *ret_batch, int64_t timeout_ns) {
    int others = atomic_fetch_add(&inside, 1), r = 0;

    ck_assert_int_eq(others, 0);
    ck_assert_int_eq(timeout_ns, 0);
    ck_assert_ptr_nonnull(feed);
    gap();
    if (draw() % 4 == 0)
        r = -ETIMEDOUT;
    else
        *ret_batch = (SeqfeedBatch){.index = number_next++};
    atomic_fetch_sub(&inside, 1);
    return r;
}

#define __atomic_compare_exchange_n(word, from, to, weak, success, failure) exchange(word, from, to)
#define seqfeed_next numbers_next
#define seqfeed_private_is_forked(feed) false
#include "../../bindings/python/ahead.c"
#undef __atomic_compare_exchange_n

/* ---- what ahead.c calls ---- */

Attachment *attachment_ref(Attachment *attachment) {
    __atomic_add_fetch(&attachment->references, 1, __ATOMIC_RELAXED);
    return attachment;
}

void attachment_unref(Attachment *attachment) {
    __atomic_sub_fetch(&attachment->references, 1, __ATOMIC_RELAXED);
}

PoolChunk *pool_chunk_ref(PoolChunk *chunk) {
    __atomic_add_fetch(&chunk->references, 1, __ATOMIC_RELAXED);
    return chunk;
}

void pool_chunk_unref(PoolChunk *chunk) {
    if (chunk)
        __atomic_sub_fetch(&chunk->references, 1, __ATOMIC_ACQ_REL);
}

Lease *lease_new(Attachment *attachment, const SeqfeedBatch *batch) {
    Lease *lease = calloc(1, sizeof *lease);

    lease->attachment = attachment;
    lease->batch = *batch;
    return lease;
}

void lease_unref(Lease *lease) {
    if (lease && lease->chunk)
        pool_chunk_unref(lease->chunk);
    free(lease);
}

int lease_measure(const Lease *lease, size_t *ret_size) {
    *ret_size = lease->batch.index % 8 == 7 ? CHUNK + 1 : CHUNK; /* some do not fit */
    return 0;
}

int lease_copy(const Lease *lease, PoolChunk *chunk, Lease **ret_copy) {
    for (size_t i = 0; i < CHUNK / sizeof(uint64_t); i++)
        ((uint64_t *)chunk->bytes)[i] = lease->batch.index;
    gap();
    *ret_copy = lease_new(NULL, &lease->batch);
    (*ret_copy)->chunk = pool_chunk_ref(chunk);
    return 0;
}

/* ---- the tests ---- */

static uint64_t chunk_bytes[4][CHUNK / sizeof(uint64_t)];
static PoolChunk chunks[4];

static PoolChunk *chunk_unused(void) {
    for (int i = 0; i < 4; i++) {
        if (__atomic_load_n(&chunks[i].references, __ATOMIC_ACQUIRE) != 1)
            continue;
        chunks[i].bytes = chunk_bytes[i];
        chunks[i].size = CHUNK;
        return pool_chunk_ref(&chunks[i]);
    }
    ck_abort_msg("a chunk was not given back");
}

static void chunks_begin(void) {
    for (int i = 0; i < 4; i++)
        chunks[i].references = 1;
}

/* The number of the next batch, as feed_object.c takes it. */
static uint64_t take(Ahead *ahead, Attachment *attachment, uint64_t *copies) {
    SeqfeedBatch batch = {0};
    Lease *lease;
    uint64_t number;

    if (!ahead_settle(ahead))
        ahead_wait(ahead);
    lease = ahead_take(ahead);
    if (!lease) {
        while (numbers_next(attachment->feed, &batch, 0) < 0)
            ;
        return batch.index;
    }
    number = lease->batch.index;
    if (lease->chunk) {
        ck_assert_uint_eq(*(uint64_t *)lease->chunk->bytes, number);
        ++*copies;
    }
    lease_unref(lease);
    return number;
}

START_TEST(each_batch_once_and_in_order)
{
    Attachment attachment = {.feed = (Seqfeed *)(uintptr_t)chunks, .references = 1};
    Ahead *ahead = ahead_new(&attachment);
    uint64_t copies = 0;

    chunks_begin();
    for (uint64_t wanted = 0; wanted < NUMBERS; wanted++) {
        PoolChunk *chunk;

        ck_assert_uint_eq(take(ahead, &attachment, &copies), wanted);
        chunk = chunk_unused();
        ahead_ask(ahead, chunk);
        pool_chunk_unref(chunk);
        gap();
    }
    ahead_free(ahead);
    ck_assert_uint_gt(copies, NUMBERS / 100);
    ck_assert_uint_eq(attachment.references, 1);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(chunks[i].references, 1);
}
END_TEST

/* The thread goes on between two looks of the trainer's: who believes to have it settled has it. */
START_TEST(what_changes_between_two_looks)
{
    static const uint32_t states[] = {AHEAD_IDLE, AHEAD_ASKED, AHEAD_WORKING, AHEAD_COPYING};
    Attachment attachment = {.feed = (Seqfeed *)(uintptr_t)chunks, .references = 1};

    for (size_t from = 0; from < 4; from++)
        for (size_t to = 0; to < 4; to++) {
            Ahead *ahead = ahead_new(&attachment);
            bool settled;

            ahead->state = states[from];
            interrupted = &ahead->state;
            interrupt_to = states[to];
            settled = ahead_settle(ahead);
            ck_assert_int_eq(settled,
                             ahead->state == AHEAD_IDLE || ahead->state == AHEAD_ABANDONED);
            ahead_free(ahead);
        }
}
END_TEST

CHECK_MAIN("ahead_states", what_changes_between_two_looks, each_batch_once_and_in_order)
