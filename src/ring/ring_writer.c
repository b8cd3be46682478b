/* SPDX-License-Identifier: MIT */
/* How a batch crosses from the daemon to its trainers without a lock.
 *
 * Four words are shared. The daemon writes `head` and `bell` (and `wake_at`) in the sealed data
 * memfd; each member writes `released` and `want_wake` in its own ack page. Every word has one
 * writer, except want_wake, which the daemon sets back to 0.
 *
 * 1. Handing over bytes. The slot and its descriptor are written with ordinary stores by whoever
 *    assembled the batch; the stores reach the publisher through the pipeline's own
 *    synchronisation. Then come `sequence` and `head`, release and seq_cst. A trainer that
 *    load-acquires a head above n therefore sees all of batch n. The other way round, a trainer
 *    reads the slot first and then store-releases `released`; the writer load-acquires it before
 *    the slot is claimed again, so the next tenant's stores cannot overtake the old tenant's loads.
 *    Publishing is the lease, and there is no lease word that a dead trainer could leave behind.
 *
 * 2. Nobody sleeps through a publish. Both sides store one word and then load the other's:
 *
 *        daemon                              trainer
 *        head = n + 1         (seq_cst)      seen = bell        (seq_cst)
 *        …                                   want_wake = 1      (seq_cst)
 *        want_wake?           (seq_cst)      head?              (seq_cst)
 *        if so: 0, bell + 1, FUTEX_WAKE      nothing: FUTEX_WAIT(bell, seen)
 *
 *    All accesses stand in the one total order of seq_cst operations. If the trainer's store of
 *    want_wake follows the daemon's load, it follows the store of `head` too, and the trainer finds
 *    the batch. If it precedes the load, some look of the daemon's takes the wish back; `bell` is
 *    raised after that, and `seen` was loaded before the wish was made, so FUTEX_WAIT, which
 *    compares the two under the kernel's lock, either sleeps before that wake or returns at once.
 *
 *    That `seen` comes first is what lets the daemon look at any later time (the dots): the wake
 *    for one batch may take back the wish for the next one, which has seen an older bell then. A
 *    publish that nobody waits for costs one locked store and a load per member; no system call.
 *
 * 3. Nobody sleeps through a release. The same figure turned round: the writer stores `waker` and
 *    `wake_at` (seq_cst) and then loads every `released` (seq_cst); the trainer stores `released`
 *    (seq_cst) and then loads `wake_at` and `waker` (seq_cst). One of them sees the other.
 *
 *    Of several members only the slowest is asked: the tail is its `released`, so what others
 * release cannot make room before. When its byte comes and another has fallen behind it, that one
 * is asked in its place. A trainer that loads one word of an old question and one of a new one
 * answers wrongly at most an old one: its `released` came before both loads, so the writer, which
 * stored the new question and then loaded, has seen it. If the one who was asked leaves, its
 * leaving is a step, and that asks anew.
 *
 * 4. Torn slots show. Claiming a slot first sets its descriptor's `sequence` to ~0, and a fence
 *    keeps the new tenant's bytes behind that store. Who reads without a lease (a member that was
 *    disconnected and has not noticed) finds the number changed afterwards.
 *
 * What a trainer can write is loaded once, checked against [last accepted, head], and used for the
 * tail and nothing else: no index, size or pointer ever comes from outside. Everything that the
 * writer itself needs is in private memory; the header page is a mirror that is never read back.
 *
 * Pages: fallocate has allocated them (a full /dev/shm or cgroup is an error here, not a SIGBUS
 * later), and a slot is mapped when it is first written. */
#include "ring/ring_writer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "base/file.h"
#include "base/memory.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static const uint64_t SEQUENCE_NONE = UINT64_MAX;

typedef struct RingShape {
    uint64_t descriptors_offset, slots_offset, slot_bytes, bytes;
} RingShape;

/* False when the ring would not fit into 2^62 bytes. */
static bool ring_shape(uint32_t slot_count, uint64_t slot_bytes, RingShape *ret_shape) {
    RingShape shape = {.descriptors_offset = sizeof(SeqfeedRingHeader)};
    uint64_t all_slots;

    if (slot_bytes > UINT64_C(1) << 61)
        return false;
    shape.slot_bytes = align_up(slot_bytes, SEQFEED_PAGE);
    shape.slots_offset = align_up(
        shape.descriptors_offset + (uint64_t)slot_count * sizeof(SeqfeedDescriptor), SEQFEED_PAGE);
    if (!multiply_checked(shape.slot_bytes, (uint64_t)slot_count, &all_slots) ||
        !add_checked(shape.slots_offset, all_slots, &shape.bytes) ||
        shape.bytes > UINT64_C(1) << 62)
        return false;
    *ret_shape = shape;
    return true;
}

uint64_t ring_bytes(uint32_t slot_count, uint64_t slot_bytes) {
    RingShape shape;

    return ring_shape(slot_count, slot_bytes, &shape) ? shape.bytes : UINT64_MAX;
}

static SeqfeedDescriptor *ring_descriptor(RingWriter *writer, uint64_t sequence) {
    uint8_t *first = writer->memory + writer->descriptors_offset;

    return (SeqfeedDescriptor *)(void *)(first +
                                         sequence % writer->slot_count * sizeof(SeqfeedDescriptor));
}

/* GCC's thread sanitizer does not model fences and says so; the fence stays where it is. */
static void fence_release(void) {
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    __atomic_thread_fence(__ATOMIC_RELEASE);
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

static void copy_text(char *to, size_t size, const char *from) {
    size_t length = from ? strnlen(from, size - 1) : 0;

    if (length > 0)
        memcpy(to, from, length);
    to[length] = '\0';
}

static void ring_writer_write_header(RingWriter *writer, const RingOptions *options) {
    SeqfeedRingHeader *header = writer->header;

    header->magic = SEQFEED_RING_MAGIC;
    header->version = SEQFEED_RING_VERSION;
    header->header_bytes = sizeof *header;
    header->ring_bytes = writer->memory_bytes;
    header->descriptors_offset = writer->descriptors_offset;
    header->slots_offset = writer->slots_offset;
    header->slot_bytes = writer->slot_bytes;
    header->descriptor_bytes = sizeof(SeqfeedDescriptor);
    header->slot_count = writer->slot_count;
    header->rank = options->rank;
    header->world = options->world;
    header->daemon_pid = (uint32_t)getpid();
    header->workers = options->workers;
    memcpy(header->instance, options->instance, sizeof header->instance);
    header->whole_length = options->whole_length;
    copy_text(header->plan, sizeof header->plan, options->plan);
    copy_text(header->start_cursor, sizeof header->start_cursor, options->start_cursor);
    for (uint64_t i = 0; i < writer->slot_count; i++)
        __atomic_store_n(&ring_descriptor(writer, i)->sequence, SEQUENCE_NONE, __ATOMIC_RELEASE);
}

/* Allocate, map, seal: in this order, because FUTURE_WRITE forbids every writable mapping after
 * ours. */
static int ring_writer_map(RingWriter *writer, const Heartbeat *heartbeat, Error *error) {
    void *memory;
    int r;

    r = file_memory_new("seqfeed-ring", writer->memory_bytes, heartbeat, &writer->data_fd);
    if (r < 0)
        return error_set(error, r, "cannot allocate %llu bytes of shared memory for a ring: %s",
                         (unsigned long long)writer->memory_bytes, strerror(-r));
    memory = mmap(NULL, writer->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, writer->data_fd,
                  0);
    if (memory == MAP_FAILED)
        return error_set(error, -errno, "cannot map %llu bytes of shared memory: %s",
                         (unsigned long long)writer->memory_bytes, strerror(errno));
    writer->memory = memory;
    writer->header = memory;
    /* Training data has no place in a core file. */
    (void)madvise(memory, writer->memory_bytes, MADV_DONTDUMP);
    if (fcntl(writer->data_fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
        return error_set(error, -errno, "cannot seal shared memory (Linux 5.1 or later): %s",
                         strerror(errno));
    return 0;
}

static void ring_writer_cleanup(RingWriter **writer) {
    ring_writer_destroy(*writer);
}

int ring_writer_create(const RingOptions *options, RingWriter **ret_writer, Error *error) {
    CLEANUP(ring_writer_cleanup) RingWriter *writer = NULL;
    RingShape shape;
    int r;

    assert(options->slot_count >= 1 && options->slot_count <= SEQFEED_SLOTS_MAX);
    assert(options->rank < options->world);

    if (!ring_shape(options->slot_count, options->slot_bytes, &shape))
        return error_set(error, -EOVERFLOW, "%u slots of %llu bytes are too large for a ring",
                         options->slot_count, (unsigned long long)options->slot_bytes);
    writer = calloc(1, sizeof *writer);
    if (!writer)
        return error_set(error, -ENOMEM, "not enough memory for a ring");
    writer->data_fd = FILE_NONE;
    writer->memory_bytes = shape.bytes;
    writer->descriptors_offset = shape.descriptors_offset;
    writer->slots_offset = shape.slots_offset;
    writer->slot_bytes = shape.slot_bytes;
    writer->slot_count = options->slot_count;
    r = ring_writer_map(writer, options->heartbeat, error);
    if (r < 0)
        return r;
    ring_writer_write_header(writer, options);
    *ret_writer = writer;
    writer = NULL;
    return 0;
}

void ring_writer_destroy(RingWriter *writer) {
    if (!writer)
        return;
    for (uint32_t i = 0; i < RING_MEMBERS_MAX; i++)
        if (writer->members[i].used)
            ring_writer_leave(writer, i);
    memory_unmap(writer->memory, writer->memory_bytes);
    file_close(&writer->data_fd);
    free(writer);
}

void *ring_writer_abandon(RingWriter *writer, uint64_t *ret_bytes) {
    void *memory = writer->memory;

    *ret_bytes = writer->memory_bytes;
    writer->memory = NULL;
    ring_writer_destroy(writer);
    return memory;
}

/* One page that the member may write but neither shrink nor grow. */
static int ack_page_new(int *ret_fd, SeqfeedAck **ret_ack) {
    CLEANUP(file_close) int fd = FILE_NONE;
    void *memory;
    int r;

    r = file_memory_new("seqfeed-ack", sizeof(SeqfeedAck), NULL, &fd);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    memory = mmap(NULL, sizeof(SeqfeedAck), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *ret_ack = memory;
    *ret_fd = fd;
    fd = FILE_NONE;
    return 0;
}

int ring_writer_join(RingWriter *writer, uint64_t *ret_first) {
    RingMember *member;
    uint32_t number = 0;
    int r;

    while (number < RING_MEMBERS_MAX &&
           (writer->members[number].used || writer->members[number].expelled))
        number++;
    if (number == RING_MEMBERS_MAX)
        return -ENOSPC;
    member = &writer->members[number];
    r = ack_page_new(&member->ack_fd, &member->ack);
    if (r < 0)
        return r;
    member->released = writer->head;
    __atomic_store_n(&member->ack->released, writer->head, __ATOMIC_SEQ_CST);
    member->used = true;
    writer->member_count++;
    *ret_first = writer->head;
    return (int)number;
}

void ring_writer_leave(RingWriter *writer, uint32_t member) {
    RingMember *left = &writer->members[member];

    assert(member < RING_MEMBERS_MAX && (left->used || left->expelled));

    if (left->expelled) {
        left->expelled = false;
        return;
    }
    (void)munmap(left->ack, sizeof *left->ack);
    file_close(&left->ack_fd);
    *left = (RingMember){.ack_fd = FILE_NONE};
    writer->member_count--;
}

void ring_writer_expel(RingWriter *writer, uint32_t member) {
    ring_writer_leave(writer, member);
    writer->members[member].expelled = true;
}

int ring_writer_accept(RingWriter *writer) {
    uint64_t lowest = writer->head;
    uint32_t left = writer->member_count;
    int violator = -1;

    if (left == 0)
        return -1;
    for (uint32_t i = 0; left > 0; i++) {
        RingMember *member = &writer->members[i];
        if (!member->used)
            continue;
        left--;
        uint64_t value = __atomic_load_n(&member->ack->released, __ATOMIC_SEQ_CST);
        if (value >= member->released && value <= writer->head)
            member->released = value;
        else if (violator < 0)
            violator = (int)i;
        lowest = MIN(lowest, member->released);
    }
    assert(lowest >= writer->tail);
    writer->tail = lowest;
    return violator;
}

void *ring_writer_claim(RingWriter *writer, uint64_t *ret_sequence) {
    uint64_t sequence = writer->claimed;

    if (sequence - writer->tail >= writer->slot_count)
        return NULL;
    __atomic_store_n(&ring_descriptor(writer, sequence)->sequence, SEQUENCE_NONE, __ATOMIC_RELAXED);
    fence_release();
    writer->claimed = sequence + 1;
    *ret_sequence = sequence;
    return ring_writer_slot(writer, (uint32_t)(sequence % writer->slot_count));
}

void *ring_writer_slot(const RingWriter *writer, uint32_t slot) {
    return writer->memory + writer->slots_offset + slot * writer->slot_bytes;
}

void ring_writer_unclaim(RingWriter *writer) {
    assert(writer->claimed > writer->head);

    writer->claimed--;
}

static void bell_wake(RingWriter *writer) {
    __atomic_store_n(&writer->header->bell, ++writer->bell, __ATOMIC_SEQ_CST);
    (void)syscall(SYS_futex, &writer->header->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Did some member say that it is about to sleep? Takes the words back. */
static bool members_want_wake(RingWriter *writer) {
    uint32_t left = writer->member_count;
    bool wanted = false;

    for (uint32_t i = 0; left > 0; i++) {
        RingMember *member = &writer->members[i];
        if (!member->used)
            continue;
        left--;
        if (__atomic_load_n(&member->ack->want_wake, __ATOMIC_SEQ_CST) != 0) {
            __atomic_exchange_n(&member->ack->want_wake, 0, __ATOMIC_SEQ_CST);
            wanted = true;
        }
    }
    return wanted;
}

void ring_writer_publish(RingWriter *writer, const SeqfeedDescriptor *descriptor) {
    SeqfeedDescriptor *to = ring_descriptor(writer, writer->head);
    size_t size = offsetof(SeqfeedDescriptor, tensors) +
                  descriptor->tensor_count * sizeof(SeqfeedTensorRecord);

    assert(writer->head < writer->claimed);
    assert(descriptor->tensor_count <= SEQFEED_TENSORS_MAX);

    memcpy((uint8_t *)to + sizeof to->sequence,
           (const uint8_t *)descriptor + sizeof descriptor->sequence, size - sizeof to->sequence);
    __atomic_store_n(&to->sequence, writer->head, __ATOMIC_RELEASE);
    writer->head++;
    __atomic_store_n(&writer->header->head, writer->head, __ATOMIC_SEQ_CST);
}

void ring_writer_wake(RingWriter *writer) {
    if (members_want_wake(writer))
        bell_wake(writer);
}

uint32_t ring_writer_slowest(const RingWriter *writer, uint32_t preferred) {
    uint32_t left = writer->member_count, slowest = RING_MEMBERS_MAX;
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; left > 0; i++) {
        const RingMember *member = &writer->members[i];
        if (!member->used)
            continue;
        left--;
        if (member->released < least || (member->released == least && i == preferred)) {
            least = member->released;
            slowest = i;
        }
    }
    return slowest;
}

void ring_writer_set_wake(RingWriter *writer, uint64_t wake_at, uint32_t waker) {
    uint32_t number = waker < RING_MEMBERS_MAX ? waker + 1 : 0;

    __atomic_store_n(&writer->header->waker, number, __ATOMIC_SEQ_CST);
    __atomic_store_n(&writer->header->wake_at, wake_at, __ATOMIC_SEQ_CST);
}

void ring_writer_set_state(RingWriter *writer, uint32_t state, int error_code, const char *text) {
    SeqfeedRingHeader *header = writer->header;

    header->error_code = error_code;
    copy_text(header->error_text, sizeof header->error_text, text);
    __atomic_store_n(&header->state, state, __ATOMIC_SEQ_CST);
    (void)members_want_wake(writer);
    bell_wake(writer);
}
