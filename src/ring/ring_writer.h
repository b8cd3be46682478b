/* SPDX-License-Identifier: MIT */
/* ring_writer.h: the daemon's side of one ring: its memory, its members, and the order of claim,
 * fill and publish. Who holds the stream's baton is the only caller of everything here but
 * ring_writer_create() and ring_writer_destroy(); nothing locks.
 *
 *   tail <= head <= claimed <= tail + slot_count
 *   [tail, head) published and leased to members; [head, claimed) being filled; the rest free */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/heartbeat.h"
#include "format/ring_format.h"

enum { RING_MEMBERS_MAX = 256 };

typedef struct RingMember {
    bool used;
    bool expelled; /* no member any more, but its number is not given out until ring_writer_leave()
                    */
    int ack_fd;    /* closed by the writer when the member leaves */
    SeqfeedAck *ack;   /* mapped */
    uint64_t released; /* last accepted value */
} RingMember;

typedef struct RingWriter {
    int data_fd; /* stays open, for members that join later */
    uint8_t *memory;
    uint64_t memory_bytes;
    SeqfeedRingHeader *header; /* a mirror for trainers: never read back */
    uint64_t descriptors_offset, slots_offset, slot_bytes;
    uint32_t slot_count;
    uint64_t head, claimed, tail;
    uint32_t bell; /* what the header's bell shows */
    RingMember members[RING_MEMBERS_MAX];
    uint32_t member_count;
} RingWriter;

typedef struct RingOptions {
    uint32_t slot_count; /* 1..SEQFEED_SLOTS_MAX */
    uint64_t slot_bytes;
    uint32_t rank, world;
    uint32_t workers; /* how many threads fill batches, as trainers are told */
    uint8_t instance[16];
    uint64_t whole_length; /* batches of the first epoch for this rank, from its own start */
    const char *plan;      /* feed_plan_text() */
    const char *start_cursor;
    const Heartbeat *heartbeat; /* of making it; may be NULL */
} RingOptions;

/* Bytes of the whole data memfd; UINT64_MAX when that many cannot be. Slots are rounded up to
 * whole pages. */
uint64_t ring_bytes(uint32_t slot_count, uint64_t slot_bytes);

/* Make, allocate, map and seal the memory (SHRINK | GROW | FUTURE_WRITE | SEAL). Blocks for the
 * time of allocating pages: for set-up threads. 0 or negative errno with a sentence. */
MUST_CHECK int ring_writer_create(const RingOptions *options, RingWriter **ret_writer,
                                  Error *error);
void ring_writer_destroy(RingWriter *writer); /* accepts NULL; closes and unmaps all */
/* The same, but the data stays mapped, for who may still write to it: returns where it lies, to be
 * unmapped by the caller. */
void *ring_writer_abandon(RingWriter *writer, uint64_t *ret_bytes);

/* A new member that sees every batch from `head` on. Its ack memfd is the caller's to send; it
 * stays the writer's to close. Returns the member's number or -ENOSPC, -ENOMEM, -EMFILE… */
int ring_writer_join(RingWriter *writer, uint64_t *ret_first);
void ring_writer_leave(RingWriter *writer, uint32_t member);
/* The same for a member that broke the rules, while who seated it does not know yet: a new member
 * must not get its number, or the leave that is still to come would throw that one out. */
void ring_writer_expel(RingWriter *writer, uint32_t member);

/* Load every member's `released` once and move the tail. Returns -1, or the number of a member
 * whose value was out of range (it is the caller's to disconnect; its value was not used). Without
 * members the tail stays where it is. */
int ring_writer_accept(RingWriter *writer);

/* Start filling the next slot; NULL when all are claimed or leased. The sequence number is the old
 * value of `claimed`. Slots are published in the order of claims. */
void *ring_writer_claim(RingWriter *writer, uint64_t *ret_sequence);

/* Where a slot's bytes lie, claimed or not. */
void *ring_writer_slot(const RingWriter *writer, uint32_t slot);

/* Give back the newest claim, which was not filled (used when a stream ends). */
void ring_writer_unclaim(RingWriter *writer);

/* Publish batch `head`: all of its slot has been written. `descriptor->sequence` is set here. Who
 * looks finds it; who sleeps has to be woken, now or a little later. */
void ring_writer_publish(RingWriter *writer, const SeqfeedDescriptor *descriptor);
/* Wake the members that sleep, for all that has been published. */
void ring_writer_wake(RingWriter *writer);

/* The member whose release the tail waits for, by what was last accepted: of several the one that
 * `preferred` names, else the first. RING_MEMBERS_MAX without members. */
uint32_t ring_writer_slowest(const RingWriter *writer, uint32_t preferred);

/* Nothing to do until a member releases: ask member `waker` (RING_MEMBERS_MAX: each) for a byte on
 * its socket when its `released` reaches `wake_at` (0: never). The caller looks once more after
 * this with ring_writer_accept(); the two order themselves (no fence is needed between them). */
void ring_writer_set_wake(RingWriter *writer, uint64_t wake_at, uint32_t waker);

/* Change the state and wake everybody. `text` may be NULL. */
void ring_writer_set_state(RingWriter *writer, uint32_t state, int error_code, const char *text);
