/* SPDX-License-Identifier: MIT */
/* client_attach.h: inside of seqfeed.h, not for users: taking a seat and mapping the ring.
 *
 * Whatever the daemon sends is checked as if it were hostile, because it may be of another version:
 * the memory must be sealed so that it cannot shrink under us (a read would be a SIGBUS) or be
 * written by another trainer, and every offset and size must lie inside it. What was checked is
 * copied first and used from the copy. */
#ifndef SEQFEED_CLIENT_ATTACH_H
#define SEQFEED_CLIENT_ATTACH_H

#include "seqfeed/client_socket.h"

/* How long a daemon that should answer at once may take. */
#define SEQFEED_PRIVATE_GRACE_NS (2 * SEQFEED_PRIVATE_SECOND)

typedef struct SeqfeedPrivateAttach {
    const SeqfeedOptions *options;
    SeqfeedAttach request;
    int64_t deadline_ns; /* of the attach */
    int64_t patience_ns; /* with the answer that is awaited. From HELLO_REPLY on a little more than
                            the deadline: a daemon that lives knows best who is missing */
    SeqfeedError *error;
} SeqfeedPrivateAttach;

static inline int seqfeed_private_copy_name(char *to, size_t size, const char *from,
                                            const char *what, SeqfeedError *error) {
    if (!from)
        return 0;
    if (strlen(from) >= size)
        return seqfeed_private_fail(error, -EINVAL, "%s is longer than %lu bytes", what,
                                    (unsigned long)(size - 1));
    memcpy(to, from, strlen(from) + 1);
    return 0;
}

/* The request, as far as it can be checked without a daemon. */
static inline int seqfeed_private_request(SeqfeedPrivateAttach *attach) {
    const SeqfeedOptions *options = attach->options;
    SeqfeedAttach *request = &attach->request;
    SeqfeedError *error = attach->error;
    int r;

    memset(request, 0, sizeof *request);
    request->head.type = SEQFEED_MESSAGE_ATTACH;
    request->head.size = (uint32_t)sizeof *request;
    request->rank = options->rank;
    request->world = options->world ? options->world : 1;
    request->local_ranks = options->local_ranks ? options->local_ranks : 1;
    request->members = options->members ? options->members : 1;
    request->seed = options->flags & SEQFEED_HAS_SEED ? options->seed : 0;
    request->flags = options->flags & (SEQFEED_HAS_SEED | SEQFEED_JOIN_NEXT);
    if (!options->feed || options->feed[0] == '\0')
        return seqfeed_private_fail(error, -EINVAL, "no feed named");
    if (options->flags & ~(uint32_t)(SEQFEED_HAS_SEED | SEQFEED_JOIN_NEXT))
        return seqfeed_private_fail(error, -EINVAL, "unknown flags in the options");
    if (request->rank >= request->world)
        return seqfeed_private_fail(error, -EINVAL, "rank %u is not below world %u", request->rank,
                                    request->world);
    if (options->cursor && options->cursor[0] == '\0')
        return seqfeed_private_fail(error, -EINVAL,
                                    "the cursor is empty: leave it out to begin at epoch 0");
    r = seqfeed_private_copy_name(request->feed, sizeof request->feed, options->feed,
                                  "the feed's name", error);
    if (r == 0)
        r = seqfeed_private_copy_name(request->group, sizeof request->group, options->group,
                                      "the group's name", error);
    if (r == 0 && options->cursor)
        r = seqfeed_private_copy_name(request->cursor, sizeof request->cursor, options->cursor,
                                      "the cursor", error);
    if (r == 0 && options->cursor)
        request->flags |= SEQFEED_ATTACH_HAS_CURSOR;
    if (r == 0 && options->cursor && options->flags & SEQFEED_JOIN_NEXT)
        return seqfeed_private_fail(error, -EINVAL, "a cursor and joining exclude each other");
    return r;
}

/* The number after `key` in a cursor; 0 when it is not there. Only to compare positions: the daemon
 * has checked the cursor. */
static inline uint64_t seqfeed_private_cursor_number(const char *cursor, const char *key) {
    const char *at = strstr(cursor, key);

    return at ? (uint64_t)strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Wait for the answer to what was sent. A daemon that keeps silent is mentioned; its own sentences
 * are passed on. An ERROR becomes ours. On 0 the caller closes the message. */
static inline int seqfeed_private_answer(Seqfeed *feed, const SeqfeedPrivateAttach *attach,
                                         int64_t *speak_ns, SeqfeedPrivateMessage *ret_message) {
    for (;;) {
        int64_t until = *speak_ns < attach->patience_ns ? *speak_ns : attach->patience_ns;
        int r = seqfeed_private_receive_until(feed->socket, until, ret_message);

        if (r == -ETIMEDOUT && until < attach->patience_ns) {
            seqfeed_private_say("waiting for the daemon to answer");
            *speak_ns += 60 * SEQFEED_PRIVATE_SECOND;
            continue;
        }
        if (r == -ETIMEDOUT)
            return seqfeed_private_fail(attach->error, r,
                                        "the daemon did not answer in time: it hangs, is stopped, "
                                        "or has not started yet");
        if (r == -ECONNRESET)
            return seqfeed_private_fail(attach->error, r, "the daemon closed the connection");
        if (r < 0)
            return seqfeed_private_fail(attach->error, r,
                                        "the daemon's answer is not a message of this protocol");
        if (seqfeed_private_is_notice(ret_message, SEQFEED_MESSAGE_WAITING)) {
            seqfeed_private_say(ret_message->body.notice.text);
            seqfeed_private_message_close(ret_message);
            *speak_ns = attach->patience_ns; /* it speaks for itself */
            if (seqfeed_private_now() < attach->patience_ns)
                continue;
            return seqfeed_private_fail(attach->error, -ETIMEDOUT,
                                        "the daemon did nothing but ask for patience");
        }
        if (!seqfeed_private_is_notice(ret_message, SEQFEED_MESSAGE_ERROR) &&
            !seqfeed_private_is_notice(ret_message, SEQFEED_MESSAGE_CLOSING))
            return 0;
        r = seqfeed_private_outside_code(ret_message->body.notice.code);
        seqfeed_private_tell(attach->error, r, "%s", ret_message->body.notice.text);
        seqfeed_private_message_close(ret_message);
        return r;
    }
}

static inline int seqfeed_private_hello(Seqfeed *feed, const SeqfeedPrivateAttach *attach,
                                        int64_t *speak_ns) {
    SeqfeedPrivateMessage answer;
    SeqfeedHello hello;
    int r;

    memset(&hello, 0, sizeof hello);
    hello.head.type = SEQFEED_MESSAGE_HELLO;
    hello.head.size = (uint32_t)sizeof hello;
    hello.magic = SEQFEED_PROTOCOL_MAGIC;
    hello.version_min = hello.version_max = SEQFEED_PROTOCOL_VERSION;
    r = seqfeed_private_send(feed->socket, &hello, sizeof hello);
    /* A refusal may be waiting to be read although the daemon has hung up. */
    if (r < 0 && r != -ECONNRESET)
        return seqfeed_private_fail(attach->error, r, "cannot talk to the daemon: %s",
                                    strerror(-r));
    r = seqfeed_private_answer(feed, attach, speak_ns, &answer);
    if (r < 0)
        return r;
    seqfeed_private_message_close(&answer);
    if (answer.body.head.type != SEQFEED_MESSAGE_HELLO_REPLY ||
        answer.size != sizeof(SeqfeedHelloReply) || answer.body.hello.reserved != 0)
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "what listens there does not answer as a daemon");
    if (answer.body.hello.version != SEQFEED_PROTOCOL_VERSION)
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "the daemon speaks protocol %u, this client %d",
                                    answer.body.hello.version, (int)SEQFEED_PROTOCOL_VERSION);
    return 0;
}

/* A memfd of exactly this size that cannot shrink and has these seals besides. */
static inline int seqfeed_private_is_sealed(int fd, uint64_t bytes, int seals) {
    struct stat status;
    int have;

    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size < 0 ||
        (uint64_t)status.st_size != bytes)
        return 0;
    have = fcntl(fd, SEQFEED_PRIVATE_GET_SEALS);
    seals |= SEQFEED_PRIVATE_SEAL_SHRINK;
    return have >= 0 && (have & seals) == seals;
}

/* Do header, descriptors and slots lie inside the memory? Everything is in `header`, a copy. */
static inline int seqfeed_private_shape_is_sane(const SeqfeedRingHeader *header, uint64_t bytes) {
    uint64_t descriptors, slots, end;

    if (header->slot_count < 1 || header->slot_count > SEQFEED_SLOTS_MAX ||
        header->descriptor_bytes < sizeof(SeqfeedDescriptor) || header->descriptor_bytes % 8 != 0 ||
        header->descriptors_offset % 8 != 0 || header->slots_offset % SEQFEED_TENSOR_ALIGN != 0 ||
        header->slot_bytes % SEQFEED_TENSOR_ALIGN != 0 ||
        header->descriptors_offset < sizeof(SeqfeedRingHeader))
        return 0;
    descriptors = (uint64_t)header->slot_count * header->descriptor_bytes;
    if (__builtin_add_overflow(header->descriptors_offset, descriptors, &end) ||
        end > header->slots_offset ||
        __builtin_mul_overflow((uint64_t)header->slot_count, header->slot_bytes, &slots) ||
        __builtin_add_overflow(header->slots_offset, slots, &end))
        return 0;
    return end <= bytes;
}

static inline int seqfeed_private_check_header(Seqfeed *feed, const SeqfeedPrivateAttach *attach) {
    SeqfeedRingHeader copy;

    memcpy(&copy, feed->memory, sizeof copy);
    if (copy.magic != SEQFEED_RING_MAGIC)
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "the daemon's memory is not a ring of seqfeed");
    if (copy.version != SEQFEED_RING_VERSION || copy.header_bytes != sizeof copy)
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "the daemon's ring has version %u, this client reads %d",
                                    copy.version, (int)SEQFEED_RING_VERSION);
    if (copy.ring_bytes != feed->memory_bytes ||
        !seqfeed_private_shape_is_sane(&copy, feed->memory_bytes) ||
        !memchr(copy.plan, '\0', sizeof copy.plan) ||
        !memchr(copy.start_cursor, '\0', sizeof copy.start_cursor))
        return seqfeed_private_fail(attach->error, -EPROTO, "the daemon's ring contradicts itself");
    if (copy.rank != attach->request.rank || copy.world != attach->request.world)
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "the daemon's ring is for rank %u of %u", copy.rank,
                                    copy.world);
    feed->descriptors_offset = copy.descriptors_offset;
    feed->descriptor_bytes = copy.descriptor_bytes;
    feed->slots_offset = copy.slots_offset;
    feed->slot_bytes = copy.slot_bytes;
    feed->slot_count = copy.slot_count;
    feed->rank = copy.rank;
    feed->world = copy.world;
    memcpy(feed->plan, copy.plan, sizeof feed->plan);
    memcpy(feed->start_cursor, copy.start_cursor, sizeof feed->start_cursor);
    return 0;
}

/* Map what came with WELCOME. The mappings stay when the descriptors are closed. */
static inline int seqfeed_private_map(Seqfeed *feed, const SeqfeedPrivateAttach *attach,
                                      const SeqfeedPrivateMessage *message) {
    uint64_t bytes = message->body.welcome.ring_bytes;
    void *memory;

    if (message->descriptor_count != 2 || bytes < sizeof(SeqfeedRingHeader) ||
        bytes > SIZE_MAX / 2 ||
        !seqfeed_private_is_sealed(message->descriptors[0], bytes,
                                   SEQFEED_PRIVATE_SEAL_FUTURE_WRITE) ||
        !seqfeed_private_is_sealed(message->descriptors[1], sizeof(SeqfeedAck), 0))
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "the daemon's memory is not sealed as it must be");
    memory = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, message->descriptors[0], 0);
    if (memory == MAP_FAILED)
        return seqfeed_private_fail(attach->error, -ENOMEM, "cannot map the ring: %s",
                                    strerror(errno));
    feed->memory = (const uint8_t *)memory;
    feed->memory_bytes = bytes;
    feed->header = (const SeqfeedRingHeader *)memory;
    memory = mmap(NULL, sizeof(SeqfeedAck), PROT_READ | PROT_WRITE, MAP_SHARED,
                  message->descriptors[1], 0);
    if (memory == MAP_FAILED)
        return seqfeed_private_fail(attach->error, -ENOMEM, "cannot map the acknowledge page: %s",
                                    strerror(errno));
    feed->ack = (SeqfeedAck *)memory;
    return 0;
}

/* WELCOME: where this attachment begins. */
static inline int seqfeed_private_begin(Seqfeed *feed, const SeqfeedPrivateAttach *attach,
                                        const SeqfeedWelcome *welcome) {
    const char *cursor = attach->options->cursor;

    /* The page starts at `first`: anything else is not the page that was meant for us. */
    if (__atomic_load_n(&feed->ack->released, __ATOMIC_ACQUIRE) != welcome->first)
        return seqfeed_private_fail(attach->error, -EPROTO,
                                    "the daemon's ring contradicts its welcome");
    feed->member = welcome->member;
    feed->next = welcome->first;
    feed->nudged = welcome->first;
    feed->start_epoch = welcome->start_epoch;
    feed->start_index = welcome->start_index;
    if (cursor) {
        feed->own_epoch = seqfeed_private_cursor_number(cursor, ";epoch=");
        feed->own_index = seqfeed_private_cursor_number(cursor, ";index=");
        feed->skipping = feed->own_epoch > feed->start_epoch ||
                         (feed->own_epoch == feed->start_epoch &&
                          feed->own_index > feed->start_index);
        if (feed->skipping)
            memcpy(feed->start_cursor, cursor, strlen(cursor) + 1);
    }
    if (welcome->first == 0 && !feed->skipping) {
        feed->length = welcome->epoch_length;
        feed->whole_length = feed->header->whole_length;
        feed->length_epoch = welcome->start_epoch;
        feed->length_known = 1;
    }
    return 0;
}

/* CPUs that this process may use; those of the machine where it is bound to one, for then the
 * others have theirs. */
static inline uint64_t seqfeed_private_cpus(void) {
    unsigned char mask[1024];
    long bytes = seqfeed_private_syscall(SYS_sched_getaffinity, 0L, sizeof mask, mask), online;
    uint64_t cpus = 0;

    for (long i = 0; i < bytes; i++)
        cpus += (unsigned)__builtin_popcount(mask[i]);
    if (cpus > 1)
        return cpus;
    online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 1 ? (uint64_t)online : 1;
}

/* Do those who may wait, with two of the daemon's workers or its only one, outnumber the CPUs? Then
 * who spins while it waits takes the CPU from who is waited for. */
static inline int seqfeed_private_is_crowded(const SeqfeedAttach *request, uint32_t workers) {
    uint64_t seats = (uint64_t)request->members * request->local_ranks;

    return seats + (workers > 1 ? 2 : 1) > seqfeed_private_cpus();
}

static inline int seqfeed_private_take_seat(Seqfeed *feed, SeqfeedPrivateAttach *attach) {
    SeqfeedPrivateMessage answer;
    /* A daemon that lives says after 5 s what it waits for; this is for one that does not. */
    int64_t speak_ns = seqfeed_private_now() + 5500 * SEQFEED_PRIVATE_MS, left_ns;
    int r;

    memcpy(feed->feed_name, attach->request.feed, sizeof feed->feed_name);
    feed->shared = attach->request.members > 1;
    r = seqfeed_private_hello(feed, attach, &speak_ns);
    if (r < 0)
        return r;
    left_ns = attach->deadline_ns - seqfeed_private_now();
    if (left_ns < SEQFEED_PRIVATE_MS)
        left_ns = SEQFEED_PRIVATE_MS;
    attach->request.deadline_ns = left_ns;
    attach->patience_ns = seqfeed_private_now() + left_ns + SEQFEED_PRIVATE_GRACE_NS;
    r = seqfeed_private_send(feed->socket, &attach->request, sizeof attach->request);
    if (r < 0 && r != -ECONNRESET)
        return seqfeed_private_fail(attach->error, r, "cannot talk to the daemon: %s",
                                    strerror(-r));
    r = seqfeed_private_answer(feed, attach, &speak_ns, &answer);
    if (r < 0)
        return r;
    if (answer.body.head.type != SEQFEED_MESSAGE_WELCOME || answer.size != sizeof(SeqfeedWelcome) ||
        answer.body.welcome.reserved != 0)
        r = seqfeed_private_fail(attach->error, -EPROTO,
                                 "the daemon answered the attach with a message of type %u",
                                 answer.body.head.type);
    if (r == 0)
        r = seqfeed_private_map(feed, attach, &answer);
    if (r == 0)
        r = seqfeed_private_check_header(feed, attach);
    if (r == 0)
        feed->crowded = seqfeed_private_is_crowded(&attach->request, feed->header->workers);
    if (r == 0)
        r = seqfeed_private_begin(feed, attach, &answer.body.welcome);
    seqfeed_private_message_close(&answer);
    return r;
}

/* The first half of an attach: connected, and all else is asked for with
 * seqfeed_private_take_seat(). Whoever gives up in between shuts the socket down. */
static inline int seqfeed_private_open(Seqfeed **ret_feed, SeqfeedPrivateAttach *attach,
                                       const SeqfeedOptions *options, SeqfeedError *error) {
    int64_t timeout_ns = options->timeout_ns > 0 ? options->timeout_ns
                                                 : 60 * SEQFEED_PRIVATE_SECOND;
    int64_t limit_ns = INT64_C(1000000) * SEQFEED_PRIVATE_SECOND;
    Seqfeed *feed;
    int r;

    if (timeout_ns > limit_ns)
        timeout_ns = limit_ns;
    attach->options = options;
    attach->deadline_ns = seqfeed_private_now() + timeout_ns;
    /* A daemon that does not even greet will not say more later. A short time-out is for the others
     * who have to come, not for a greeting on a busy machine. */
    attach->patience_ns = attach->deadline_ns;
    if (timeout_ns < SEQFEED_PRIVATE_GRACE_NS)
        attach->patience_ns += SEQFEED_PRIVATE_GRACE_NS - timeout_ns;
    attach->error = error;
    r = seqfeed_private_request(attach);
    if (r < 0)
        return r;
    feed = (Seqfeed *)calloc(1, sizeof *feed);
    if (!feed)
        return seqfeed_private_fail(error, -ENOMEM, "not enough memory");
    seqfeed_private_mark_process(feed);
    feed->socket = seqfeed_private_connect(options->socket, attach->deadline_ns, error);
    if (feed->socket < 0) {
        r = feed->socket;
        seqfeed_detach(feed);
        return r;
    }
    *ret_feed = feed;
    return 0;
}

SEQFEED_API int seqfeed_attach(Seqfeed **ret_feed, const SeqfeedOptions *options,
                               SeqfeedError *error) {
    SeqfeedPrivateAttach attach;
    Seqfeed *feed = NULL;
    int r = seqfeed_private_open(&feed, &attach, options, error);

    if (r < 0)
        return r;
    r = seqfeed_private_take_seat(feed, &attach);
    if (r < 0) {
        seqfeed_detach(feed);
        return r;
    }
    *ret_feed = feed;
    return 0;
}

SEQFEED_API void seqfeed_detach(Seqfeed *feed) {
    if (!feed)
        return;
    if (feed->ack)
        (void)munmap(feed->ack, sizeof *feed->ack);
    if (feed->memory)
        (void)munmap((void *)feed->memory, (size_t)feed->memory_bytes);
    if (feed->fork_page)
        (void)munmap(feed->fork_page, SEQFEED_PAGE);
    /* In a forked child this closes a copy: the parent's connection stays. */
    if (feed->socket >= 0)
        close(feed->socket);
    free(feed);
}

#endif
