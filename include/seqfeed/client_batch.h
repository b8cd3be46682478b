/* SPDX-License-Identifier: MIT */
/* client_batch.h: inside of seqfeed.h, not for users: taking batches and giving slots back.
 *
 * The thread of next() owns `next`; releasing threads own nothing and agree through two words:
 *   held      one bit a slot, set by next() before `next` moves past the batch, cleared by
 * release() released  in the ack page; the lowest batch that may still be held A releaser clears
 * its bit, then loads `next`, `released` and `held` in this order, and raises `released` (never
 * lowers it) to the first held batch in [released, next), or to next. Whoever clears last sees all
 * bits that others cleared before it, so nothing is left behind; a bit that already belongs to the
 * slot's next tenant can only make the answer too low, and then the releaser that moved `released`
 * past it has stored the better one. */
#ifndef SEQFEED_CLIENT_BATCH_H
#define SEQFEED_CLIENT_BATCH_H

#include "seqfeed/client_socket.h"

enum {
    SEQFEED_PRIVATE_SPIN_US = 40,      /* about what waking an idle core costs; … */
    SEQFEED_PRIVATE_SPIN_MAX_US = 200, /* … when waits are short, twice as long as they are */
    SEQFEED_PRIVATE_SLEEP_MS = 250,    /* then look whether the daemon still lives */
    SEQFEED_PRIVATE_HEARD_MAX = 16,    /* messages read at a time */
    SEQFEED_PRIVATE_SKIPPED = 3        /* take: the batch lies before our cursor */
};

static inline void seqfeed_private_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- release ---- */

/* One byte to the daemon, which has gone to rest until somebody releases. A full socket means that
 * it has bytes to wake up to. */
static inline void seqfeed_private_nudge(Seqfeed *feed, uint64_t released) {
    static const char byte = 0;

    __atomic_store_n(&feed->nudged, released, __ATOMIC_RELAXED);
    (void)send(feed->socket, &byte, sizeof byte, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Is the daemon's question meant for this member? Where several share a ring, the slowest is asked.
 */
static inline int seqfeed_private_is_asked(const Seqfeed *feed) {
    uint32_t waker = __atomic_load_n(&feed->header->waker, __ATOMIC_SEQ_CST);

    return waker == 0 || waker == feed->member + 1;
}

/* The lowest batch that may still be held. `released` was loaded after `next`, so there are at most
 * slot_count batches between them. */
static inline uint64_t seqfeed_private_lowest(const Seqfeed *feed, uint64_t released, uint64_t next,
                                              uint64_t held) {
    while (released < next && !(held >> released % feed->slot_count & 1))
        released++;
    return released;
}

static inline void seqfeed_private_advance(Seqfeed *feed) {
    uint64_t next = __atomic_load_n(&feed->next, __ATOMIC_ACQUIRE);
    uint64_t released = __atomic_load_n(&feed->ack->released, __ATOMIC_ACQUIRE), old = released;
    uint64_t held = __atomic_load_n(&feed->held, __ATOMIC_ACQUIRE), wake_at;

    if (released > next || next - released > feed->slot_count)
        return; /* somebody else has said more */
    next = seqfeed_private_lowest(feed, released, next, held);
    do {
        if (old >= next)
            return;
    } while (!__atomic_compare_exchange_n(&feed->ack->released, &old, next, 0, __ATOMIC_SEQ_CST,
                                          __ATOMIC_ACQUIRE));
    wake_at = __atomic_load_n(&feed->header->wake_at, __ATOMIC_SEQ_CST);
    if (old < wake_at && wake_at <= next && seqfeed_private_is_asked(feed))
        seqfeed_private_nudge(feed, next);
}

SEQFEED_API int seqfeed_release(Seqfeed *feed, SeqfeedBatch *batch) {
    uint64_t sequence = batch->private_sequence, bit;

    if (seqfeed_private_is_forked(feed))
        return -ECHILD;
    if (!batch->private_slot ||
        sequence < __atomic_load_n(&feed->ack->released, __ATOMIC_ACQUIRE) ||
        sequence >= __atomic_load_n(&feed->next, __ATOMIC_ACQUIRE))
        return -EINVAL;
    bit = UINT64_C(1) << sequence % feed->slot_count;
    batch->private_slot = NULL;
    if (!(__atomic_fetch_and(&feed->held, ~bit, __ATOMIC_SEQ_CST) & bit))
        return -EINVAL;
    seqfeed_private_advance(feed);
    return 0;
}

/* ---- next ---- */

/* Does every element lie inside the tensor, and the tensor inside the slot? */
static inline int seqfeed_private_record_is_sane(const SeqfeedTensorRecord *record,
                                                 uint64_t slot_bytes) {
    uint64_t elements = 1, last = 0, step;
    int empty = 0;

    if (record->name[0] == '\0' || !memchr(record->name, '\0', sizeof record->name) ||
        seqfeed_dtype_bytes(record->dtype) == 0 || record->ndim > 4 ||
        record->polarity > SEQFEED_POLARITY_ADDITIVE || record->side > SEQFEED_SIDE_LEFT ||
        record->offset % SEQFEED_TENSOR_ALIGN != 0 || record->offset > slot_bytes ||
        record->size_bytes > slot_bytes - record->offset)
        return 0;
    for (uint32_t i = 0; i < record->ndim; i++) {
        if (record->shape[i] < 0 || record->stride[i] < 0)
            return 0;
        if (record->shape[i] == 0)
            empty = 1;
        else if (__builtin_mul_overflow((uint64_t)record->shape[i] - 1, (uint64_t)record->stride[i],
                                        &step) ||
                 __builtin_add_overflow(last, step, &last))
            return 0;
    }
    if (empty)
        return 1;
    return !__builtin_add_overflow(last, UINT64_C(1), &elements) &&
           elements <= record->size_bytes / seqfeed_dtype_bytes(record->dtype);
}

static inline int seqfeed_private_note(Seqfeed *feed, int code, const char *text) {
    snprintf(feed->message, sizeof feed->message, "%s", text);
    return code;
}

static inline const SeqfeedDescriptor *seqfeed_private_descriptor(const Seqfeed *feed) {
    return (const SeqfeedDescriptor *)(const void *)(feed->memory + feed->descriptors_offset +
                                                     feed->next % feed->slot_count *
                                                         feed->descriptor_bytes);
}

/* Batches of the epoch that this attachment sees, told by the first of them. */
static inline void seqfeed_private_learn_length(Seqfeed *feed, const SeqfeedDescriptor *batch) {
    uint64_t start = batch->epoch == feed->start_epoch ? feed->start_index : 0;
    uint64_t missed = batch->index > start ? (batch->index - start) / feed->world : 0;

    if (feed->length_known && feed->length_epoch == batch->epoch)
        return;
    feed->length = batch->epoch_length > missed ? batch->epoch_length - missed : 0;
    feed->whole_length = batch->whole_length;
    feed->length_epoch = batch->epoch;
    feed->length_known = 1;
}

/* Check and describe the batch at `next`, which is published. */
static inline int seqfeed_private_look(Seqfeed *feed, SeqfeedBatch *ret_batch) {
    const SeqfeedDescriptor *shared = seqfeed_private_descriptor(feed);
    SeqfeedDescriptor copy;

    if (__atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE) != feed->next)
        return seqfeed_private_note(feed, -ECONNABORTED,
                                    "this member has been disconnected and its slots reused");
    memcpy(&copy, shared, offsetof(SeqfeedDescriptor, tensors));
    if (copy.tensor_count > SEQFEED_TENSORS_MAX || !memchr(copy.cursor, '\0', sizeof copy.cursor))
        return seqfeed_private_note(feed, -EPROTO, "the daemon's batch contradicts itself");
    for (uint32_t i = 0; i < copy.tensor_count; i++) {
        memcpy(&copy.tensors[i], &shared->tensors[i], sizeof copy.tensors[i]);
        if (!seqfeed_private_record_is_sane(&copy.tensors[i], feed->slot_bytes))
            return seqfeed_private_note(feed, -EPROTO, "a tensor of the batch lies outside of it");
    }
    if (feed->skipping &&
        (copy.next_epoch < feed->own_epoch ||
         (copy.next_epoch == feed->own_epoch && copy.next_index <= feed->own_index)))
        return SEQFEED_PRIVATE_SKIPPED;
    feed->skipping = 0;
    seqfeed_private_learn_length(feed, &copy);
    ret_batch->epoch = copy.epoch;
    ret_batch->index = copy.index;
    ret_batch->rows = copy.rows;
    ret_batch->flags = copy.flags;
    ret_batch->tokens = copy.tokens;
    ret_batch->slots = copy.slots;
    ret_batch->private_sequence = feed->next;
    ret_batch->private_slot_bytes = feed->slot_bytes;
    ret_batch->private_slot = feed->memory + feed->slots_offset +
                              feed->next % feed->slot_count * feed->slot_bytes;
    ret_batch->private_descriptor = shared;
    ret_batch->private_tensor_count = copy.tensor_count;
    ret_batch->private_reserved = 0;
    memcpy(ret_batch->private_cursor, copy.cursor, sizeof copy.cursor);
    return 0;
}

/* Read what the daemon has to say, without waiting; who never ends is heard on the next time. */
static inline void seqfeed_private_listen(Seqfeed *feed) {
    SeqfeedPrivateMessage message;
    int r = 0;

    for (int heard = 0; heard < SEQFEED_PRIVATE_HEARD_MAX; heard++) {
        r = seqfeed_private_receive(feed->socket, &message);
        if (r < 0)
            break;
        if (seqfeed_private_is_notice(&message, SEQFEED_MESSAGE_WAITING)) {
            seqfeed_private_say(message.body.notice.text);
            feed->wait_said_ns = feed->wait_told_ns = seqfeed_private_now();
            memcpy(feed->waiting_text, message.body.notice.text, sizeof feed->waiting_text);
        } else if (seqfeed_private_is_notice(&message, SEQFEED_MESSAGE_CLOSING) ||
                   seqfeed_private_is_notice(&message, SEQFEED_MESSAGE_ERROR)) {
            feed->closing_code = seqfeed_private_outside_code(message.body.notice.code);
            memcpy(feed->closing_text, message.body.notice.text, sizeof feed->closing_text);
        }
        seqfeed_private_message_close(&message);
    }
    if (r < 0 && r != -EAGAIN)
        feed->hung_up = 1;
}

/* After 5 s of waiting and then each minute, unless the daemon has spoken itself. */
static inline void seqfeed_private_say_waiting(Seqfeed *feed, int64_t now_ns) {
    int64_t waited_ns = now_ns - feed->wait_started_ns;
    char text[160];

    if (waited_ns < 5 * SEQFEED_PRIVATE_SECOND ||
        (feed->wait_said_ns != 0 && now_ns - feed->wait_said_ns < 60 * SEQFEED_PRIVATE_SECOND))
        return;
    feed->wait_said_ns = now_ns;
    snprintf(text, sizeof text, "waiting for the daemon: no batch of feed %s for %lld s",
             feed->feed_name, (long long)(waited_ns / SEQFEED_PRIVATE_SECOND));
    seqfeed_private_say(text);
}

/* Spin until then: true when something has been published meanwhile. */
static inline int seqfeed_private_spin(const Seqfeed *feed, int64_t until_ns) {
    do {
        for (int i = 0; i < 16; i++) {
            if (__atomic_load_n(&feed->header->head, __ATOMIC_ACQUIRE) != feed->next)
                return 1;
            seqfeed_private_pause();
        }
    } while (seqfeed_private_now() < until_ns);
    return 0;
}

/* Waits of the same length follow each other when the trainer is faster than the daemon: sleeping a
 * little too early then costs the daemon a wake for every batch. */
static inline void seqfeed_private_learn_wait(Seqfeed *feed, int64_t waited_ns) {
    int64_t most_ns = 4 * SEQFEED_PRIVATE_SPIN_MAX_US * INT64_C(1000);

    feed->wait_mean_ns += ((waited_ns < most_ns ? waited_ns : most_ns) - feed->wait_mean_ns) / 8;
}

/* How long it is worth spinning on, after the first spin. Several who wait for one batch take the
 * CPUs from each other and from the daemon, and one bell wakes them all. */
static inline int64_t seqfeed_private_spin_more(const Seqfeed *feed) {
    int64_t most_ns = SEQFEED_PRIVATE_SPIN_MAX_US * INT64_C(1000);

    if (feed->shared || feed->crowded || feed->wait_mean_ns >= most_ns)
        return 0;
    return 2 * feed->wait_mean_ns < most_ns ? 2 * feed->wait_mean_ns : most_ns;
}

/* Sleep on the bell for at most `left_ns`. ring_writer.c in the daemon's sources says why no
 * publish is slept through. */
static inline void seqfeed_private_sleep(Seqfeed *feed, int64_t left_ns) {
    int64_t most_ns = SEQFEED_PRIVATE_SLEEP_MS * SEQFEED_PRIVATE_MS;
    struct timespec limit;
    uint32_t seen;

    if (left_ns > most_ns)
        left_ns = most_ns;
    memset(&limit, 0, sizeof limit);
    limit.tv_nsec = (long)left_ns;
    seen = __atomic_load_n(&feed->header->bell, __ATOMIC_SEQ_CST); /* before the wish is told */
    __atomic_store_n(&feed->ack->want_wake, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&feed->header->head, __ATOMIC_SEQ_CST) == feed->next &&
        __atomic_load_n(&feed->header->state, __ATOMIC_SEQ_CST) == SEQFEED_RING_RUN)
        (void)seqfeed_private_syscall(SYS_futex, &feed->header->bell,
                                      (long)SEQFEED_PRIVATE_FUTEX_WAIT, (unsigned long)seen, &limit,
                                      NULL, 0L);
    __atomic_store_n(&feed->ack->want_wake, 0, __ATOMIC_RELAXED);
}

/* Nothing is there. Returns 0 when it is worth looking again, or -ETIMEDOUT. */
static inline int seqfeed_private_wait(Seqfeed *feed, int64_t deadline_ns) {
    int64_t started_ns = seqfeed_private_now(), now_ns;
    int64_t spin_us = feed->crowded ? 0 : SEQFEED_PRIVATE_SPIN_US; /* at least it looks again */
    int64_t until_ns = started_ns + spin_us * INT64_C(1000);
    uint64_t released;

    if (seqfeed_private_spin(feed, until_ns < deadline_ns ? until_ns : deadline_ns)) {
        seqfeed_private_learn_wait(feed, seqfeed_private_now() - started_ns);
        return 0;
    }
    /* `wake_at` may be further away than what this process can release before it gets more. */
    released = __atomic_load_n(&feed->ack->released, __ATOMIC_SEQ_CST);
    if (released < __atomic_load_n(&feed->header->wake_at, __ATOMIC_SEQ_CST) &&
        released > __atomic_load_n(&feed->nudged, __ATOMIC_RELAXED) &&
        seqfeed_private_is_asked(feed))
        seqfeed_private_nudge(feed, released);
    until_ns = started_ns + seqfeed_private_spin_more(feed);
    if (until_ns < deadline_ns && seqfeed_private_spin(feed, until_ns)) {
        seqfeed_private_learn_wait(feed, seqfeed_private_now() - started_ns);
        return 0;
    }
    now_ns = seqfeed_private_now();
    /* A time-out of the caller's own between two calls is not our waiting. */
    if (feed->wait_started_ns == 0 || now_ns - feed->wait_looked_ns > SEQFEED_PRIVATE_SECOND) {
        feed->wait_started_ns = now_ns;
        feed->wait_said_ns = 0;
    }
    if (now_ns < deadline_ns)
        seqfeed_private_sleep(feed, deadline_ns - now_ns);
    feed->wait_looked_ns = seqfeed_private_now();
    seqfeed_private_learn_wait(feed, feed->wait_looked_ns - started_ns);
    if (__atomic_load_n(&feed->header->head, __ATOMIC_ACQUIRE) != feed->next)
        return 0;
    seqfeed_private_listen(feed);
    seqfeed_private_say_waiting(feed, feed->wait_looked_ns);
    return feed->wait_looked_ns < deadline_ns || feed->closing_code != 0 || feed->hung_up
               ? 0
               : -ETIMEDOUT;
}

/* No batch is there: is there a reason not to wait? 0, an outcome, or a negative errno. `state` was
 * loaded before `head` was compared. */
static inline int seqfeed_private_obstacle(Seqfeed *feed, uint32_t state) {
    uint64_t oldest = __atomic_load_n(&feed->ack->released, __ATOMIC_ACQUIRE);
    char text[SEQFEED_TEXT_BYTES];

    if (state == SEQFEED_RING_DRAIN)
        return SEQFEED_DRAINED;
    if (state == SEQFEED_RING_FAILED) {
        memcpy(text, feed->header->error_text, sizeof text);
        text[sizeof text - 1] = '\0';
        return seqfeed_private_note(feed, seqfeed_private_outside_code(feed->header->error_code),
                                    text);
    }
    if (feed->closing_code != 0)
        return seqfeed_private_note(feed, feed->closing_code, feed->closing_text);
    if (feed->hung_up)
        return seqfeed_private_note(feed, -ECONNRESET,
                                    "the daemon is gone: attach again at the last cursor");
    if (state != SEQFEED_RING_RUN)
        return seqfeed_private_note(feed, -ECONNRESET, "the daemon has closed this stream");
    if (feed->next - oldest < feed->slot_count)
        return 0;
    if ((unsigned)__builtin_popcountll(__atomic_load_n(&feed->held, __ATOMIC_ACQUIRE)) ==
        feed->slot_count)
        snprintf(text, sizeof text,
                 "this process holds all %u batches: give one back first, or raise ring.slots",
                 feed->slot_count);
    else
        snprintf(text, sizeof text,
                 "this process holds the oldest of %u batches, and slots return in order",
                 feed->slot_count);
    return seqfeed_private_note(feed, -ENOBUFS, text);
}

/* No batch came in time: whose fault is it? The daemon says so after 5 s; until then the ring knows
 * whom the daemon has asked to release. */
static inline int seqfeed_private_note_time_out(Seqfeed *feed) {
    uint64_t wake_at = __atomic_load_n(&feed->header->wake_at, __ATOMIC_SEQ_CST);
    uint32_t waker = __atomic_load_n(&feed->header->waker, __ATOMIC_SEQ_CST);
    char text[sizeof feed->message];

    /* What came at once was said while this process did not wait, and may be over. */
    if (feed->wait_told_ns - feed->wait_started_ns > SEQFEED_PRIVATE_SECOND)
        snprintf(text, sizeof text, "no batch came in time: %.480s", feed->waiting_text);
    else if (wake_at != 0 && waker != 0 && waker != feed->member + 1)
        snprintf(text, sizeof text,
                 "no batch came in time: this process is member %u of its ring, and member %u has "
                 "yet to release; seqfeed status names the processes",
                 feed->member, waker - 1);
    else
        return seqfeed_private_note(feed, -ETIMEDOUT, "no batch came in time");
    return seqfeed_private_note(feed, -ETIMEDOUT, text);
}

/* Until the batch at `next` can be taken; it is described in *ret_batch but not taken. */
static inline int seqfeed_private_await(Seqfeed *feed, SeqfeedBatch *ret_batch,
                                        int64_t timeout_ns) {
    int64_t deadline_ns = INT64_MAX;
    int r;

    if (timeout_ns >= 0 && __builtin_add_overflow(seqfeed_private_now(), timeout_ns, &deadline_ns))
        deadline_ns = INT64_MAX;
    for (;;) {
        uint32_t state = __atomic_load_n(&feed->header->state, __ATOMIC_ACQUIRE);
        int gone = feed->hung_up || feed->closing_code != 0;
        uint64_t ready = __atomic_load_n(&feed->header->head, __ATOMIC_ACQUIRE) - feed->next;

        if (ready > feed->slot_count)
            return seqfeed_private_note(feed, -EPROTO, "the daemon's ring contradicts itself");
        if (ready > 0) {
            r = seqfeed_private_look(feed, ret_batch);
            if (r != SEQFEED_PRIVATE_SKIPPED)
                return r;
            __atomic_store_n(&feed->next, feed->next + 1, __ATOMIC_RELEASE);
            seqfeed_private_advance(feed);
            continue;
        }
        r = seqfeed_private_obstacle(feed, state);
        if (r != 0)
            return r;
        r = gone ? 0 : seqfeed_private_wait(feed, deadline_ns);
        if (r < 0)
            return seqfeed_private_note_time_out(feed);
    }
}

SEQFEED_API int seqfeed_next(Seqfeed *feed, SeqfeedBatch *ret_batch, int64_t timeout_ns) {
    uint64_t bit;
    int r;

    if (seqfeed_private_is_forked(feed))
        return -ECHILD;
    feed->message[0] = '\0';
    if (feed->epoch_end_due) {
        feed->epoch_end_due = 0;
        feed->length_known = 0;
        return SEQFEED_END_OF_EPOCH;
    }
    r = seqfeed_private_await(feed, ret_batch, timeout_ns);
    if (r != 0)
        return r;
    bit = UINT64_C(1) << feed->next % feed->slot_count;
    (void)__atomic_fetch_or(&feed->held, bit, __ATOMIC_ACQ_REL);
    __atomic_store_n(&feed->next, feed->next + 1, __ATOMIC_RELEASE);
    feed->epoch_end_due = (ret_batch->flags & SEQFEED_BATCH_EPOCH_END) != 0;
    feed->wait_started_ns = 0;
    return 0;
}

/* The lengths, once they are known: 0, SEQFEED_DRAINED, or a negative errno. */
static inline int seqfeed_private_await_lengths(Seqfeed *feed) {
    SeqfeedBatch first;

    if (feed->length_known)
        return 0;
    if (seqfeed_private_is_forked(feed))
        return -ECHILD;
    feed->message[0] = '\0';
    return seqfeed_private_await(feed, &first, 60 * SEQFEED_PRIVATE_SECOND);
}

SEQFEED_API int64_t seqfeed_length(const Seqfeed *feed) {
    int r = seqfeed_private_await_lengths((Seqfeed *)feed);

    return r < 0 ? (int64_t)r : r == 0 ? (int64_t)feed->length : 0;
}

SEQFEED_API int64_t seqfeed_epoch_length(const Seqfeed *feed) {
    int r = seqfeed_private_await_lengths((Seqfeed *)feed);

    return r < 0 ? (int64_t)r : r == 0 ? (int64_t)feed->whole_length : 0;
}

/* ---- what a batch and an attachment say about themselves ---- */

SEQFEED_API int seqfeed_tensor_at(const SeqfeedBatch *batch, uint32_t index,
                                  SeqfeedTensor *ret_tensor) {
    SeqfeedTensorRecord copy;

    if (!batch->private_slot)
        return -EINVAL;
    if (index >= batch->private_tensor_count)
        return -ENOENT;
    memcpy(&copy, &batch->private_descriptor->tensors[index], sizeof copy);
    if (!seqfeed_private_record_is_sane(&copy, batch->private_slot_bytes))
        return -EPROTO;
    ret_tensor->data = batch->private_slot + copy.offset;
    ret_tensor->name = batch->private_descriptor->tensors[index].name;
    ret_tensor->dtype = copy.dtype;
    ret_tensor->ndim = copy.ndim;
    ret_tensor->polarity = copy.polarity;
    ret_tensor->side = copy.side;
    memcpy(ret_tensor->shape, copy.shape, sizeof copy.shape);
    memcpy(ret_tensor->stride, copy.stride, sizeof copy.stride);
    ret_tensor->fill = copy.fill;
    ret_tensor->ignore = copy.ignore;
    ret_tensor->size_bytes = copy.size_bytes;
    return 0;
}

SEQFEED_API int seqfeed_tensor(const SeqfeedBatch *batch, const char *name,
                               SeqfeedTensor *ret_tensor) {
    if (!batch->private_slot)
        return -EINVAL;
    for (uint32_t i = 0; i < batch->private_tensor_count; i++)
        if (strncmp(batch->private_descriptor->tensors[i].name, name, SEQFEED_TENSOR_NAME) == 0)
            return seqfeed_tensor_at(batch, i, ret_tensor);
    return -ENOENT;
}

SEQFEED_API int seqfeed_ledger(const SeqfeedBatch *batch, SeqfeedLedger *ret_ledger) {
    const SeqfeedDescriptor *from = batch->private_descriptor;
    SeqfeedLedger ledger;

    if (!batch->private_slot)
        return -EINVAL;
    memset(&ledger, 0, sizeof ledger);
    ledger.ignored = from->ignored;
    ledger.trained = batch->tokens - ledger.ignored;
    ledger.truncated = from->truncated;
    ledger.dropped = from->dropped;
    ledger.tokens_in = batch->tokens + ledger.truncated + ledger.dropped;
    ledger.padded = batch->slots - batch->tokens;
    if (batch->flags & SEQFEED_BATCH_REPEATED)
        ledger.repeated = batch->tokens + ledger.truncated;
    ledger.slots = batch->slots;
    ledger.items = from->items;
    ledger.items_shifted = ledger.items - from->items_first;
    ledger.squares = from->squares;
    ledger.rows = batch->rows;
    ledger.sequences = from->sequences;
    *ret_ledger = ledger;
    return 0;
}

SEQFEED_API const char *seqfeed_cursor(const SeqfeedBatch *batch) {
    return batch->private_cursor;
}

SEQFEED_API const char *seqfeed_start_cursor(const Seqfeed *feed) {
    return feed->start_cursor;
}

SEQFEED_API const char *seqfeed_plan(const Seqfeed *feed) {
    return feed->plan;
}

SEQFEED_API uint32_t seqfeed_slots(const Seqfeed *feed) {
    return feed->slot_count;
}

SEQFEED_API const char *seqfeed_message(const Seqfeed *feed) {
    return feed->message;
}

SEQFEED_API uint32_t seqfeed_dtype_bytes(uint32_t dtype) {
    static const uint8_t bytes[SEQFEED_DTYPE_COUNT] = {0, 1, 1, 4, 8, 2, 2, 4};

    return dtype < SEQFEED_DTYPE_COUNT ? bytes[dtype] : 0;
}

SEQFEED_API const char *seqfeed_dtype_name(uint32_t dtype) {
    static const char *const names[SEQFEED_DTYPE_COUNT] = {
        "none", "bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32"};

    return dtype < SEQFEED_DTYPE_COUNT ? names[dtype] : "none";
}

#endif
