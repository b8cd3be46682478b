/* SPDX-License-Identifier: MIT */
/* The order of claim, publish and release, and what a hostile ack page can do: nothing. */
#include "ring/ring_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/check_main.h"

static RingWriter *new_ring(uint32_t slots) {
    RingOptions options = {.slot_count = slots,
                           .slot_bytes = 5000,
                           .rank = 2,
                           .world = 4,
                           .workers = 5,
                           .instance = {1, 2, 3},
                           .plan = "a plan",
                           .start_cursor = "sf1;epoch=0"};
    RingWriter *writer;
    Error error;

    ck_assert_int_eq(ring_writer_create(&options, &writer, &error), 0);
    return writer;
}

static uint32_t join(RingWriter *writer, uint64_t expected_first) {
    uint64_t first;
    int member = ring_writer_join(writer, &first);

    ck_assert_int_ge(member, 0);
    ck_assert_uint_eq(first, expected_first);
    return (uint32_t)member;
}

static void publish(RingWriter *writer, uint64_t expected_sequence) {
    SeqfeedDescriptor descriptor = {.sequence = 99, .rows = 3, .tensor_count = 1};
    uint64_t sequence;

    ck_assert_ptr_nonnull(ring_writer_claim(writer, &sequence));
    ck_assert_uint_eq(sequence, expected_sequence);
    ring_writer_publish(writer, &descriptor);
    ring_writer_wake(writer);
}

static const SeqfeedDescriptor *descriptor_of(const RingWriter *writer, uint64_t sequence) {
    return (const SeqfeedDescriptor *)(const void *)(writer->memory + writer->descriptors_offset) +
           sequence % writer->slot_count;
}

/* Who was expelled may still be said to have left; a newcomer must not be meant by that. */
START_TEST(the_number_of_an_expelled_member_is_kept_until_it_is_said_to_have_left)
{
    RingWriter *writer = new_ring(4);
    uint32_t liar = join(writer, 0);
    uint64_t first;

    ring_writer_expel(writer, liar);
    ck_assert_uint_eq(writer->member_count, 0);
    ck_assert_int_ne(ring_writer_join(writer, &first), (int)liar);
    ring_writer_leave(writer, liar);
    ck_assert_uint_eq(writer->member_count, 1);
    ck_assert_int_eq(ring_writer_join(writer, &first), (int)liar);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(the_header_describes_the_memory)
{
    RingWriter *writer = new_ring(3);
    const SeqfeedRingHeader *header = writer->header;

    ck_assert_uint_eq(header->magic, SEQFEED_RING_MAGIC);
    ck_assert_uint_eq(header->version, SEQFEED_RING_VERSION);
    ck_assert_uint_eq(header->header_bytes, sizeof *header);
    ck_assert_uint_eq(header->ring_bytes, ring_bytes(3, 5000));
    ck_assert_uint_eq(header->slot_bytes, 8192);
    ck_assert_uint_eq(header->slots_offset % SEQFEED_PAGE, 0);
    ck_assert_uint_ge(header->slots_offset,
                      header->descriptors_offset + 3 * sizeof(SeqfeedDescriptor));
    ck_assert_uint_eq(header->slots_offset + 3 * header->slot_bytes, header->ring_bytes);
    ck_assert_uint_eq(header->rank, 2);
    ck_assert_uint_eq(header->world, 4);
    ck_assert_uint_eq(header->workers, 5);
    ck_assert_str_eq(header->plan, "a plan");
    ck_assert_str_eq(header->start_cursor, "sf1;epoch=0");
    ck_assert_uint_eq(header->instance[2], 3);
    ck_assert_uint_eq(descriptor_of(writer, 0)->sequence, UINT64_MAX);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(sizes_that_cannot_be_are_refused)
{
    RingOptions options = {.slot_count = 64, .slot_bytes = UINT64_C(1) << 60, .world = 1};
    RingWriter *writer;
    Error error;

    ck_assert_int_eq(ring_writer_create(&options, &writer, &error), -EOVERFLOW);
    ck_assert_uint_eq(ring_bytes(64, UINT64_C(1) << 60), UINT64_MAX);
    ck_assert_uint_eq(ring_bytes(1, UINT64_MAX), UINT64_MAX);
}
END_TEST

START_TEST(slots_are_published_in_the_order_of_claims)
{
    RingWriter *writer = new_ring(4);
    SeqfeedDescriptor descriptor = {.tensor_count = 0};
    uint8_t *slots[4];
    uint64_t sequence;

    for (uint64_t i = 0; i < 4; i++) {
        slots[i] = ring_writer_claim(writer, &sequence);
        ck_assert_uint_eq(sequence, i);
        ck_assert_uint_eq((uint64_t)(slots[i] - slots[0]), i * writer->slot_bytes);
    }
    ck_assert_ptr_null(ring_writer_claim(writer, &sequence));
    ring_writer_unclaim(writer);
    ring_writer_publish(writer, &descriptor);
    ring_writer_wake(writer);
    ck_assert_uint_eq(writer->header->head, 1);
    ck_assert_uint_eq(writer->header->bell, 0); /* nobody sleeps */
    ck_assert_uint_eq(descriptor_of(writer, 0)->sequence, 0);
    ck_assert_uint_eq(descriptor_of(writer, 1)->sequence, UINT64_MAX);
    ck_assert_ptr_eq(ring_writer_claim(writer, &sequence), slots[3]);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(a_slot_is_free_when_all_members_have_released_it)
{
    RingWriter *writer = new_ring(2);
    uint32_t one = join(writer, 0), two = join(writer, 0);
    uint64_t sequence;

    publish(writer, 0);
    publish(writer, 1);
    ck_assert_ptr_null(ring_writer_claim(writer, &sequence));
    writer->members[one].ack->released = 2;
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ck_assert_ptr_null(ring_writer_claim(writer, &sequence));
    writer->members[two].ack->released = 1;
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ck_assert_uint_eq(writer->tail, 1);
    publish(writer, 2);
    ck_assert_ptr_null(ring_writer_claim(writer, &sequence));
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(claiming_marks_the_old_batch_as_gone)
{
    RingWriter *writer = new_ring(1);
    uint32_t member = join(writer, 0);
    uint64_t sequence;

    publish(writer, 0);
    ck_assert_uint_eq(descriptor_of(writer, 0)->sequence, 0);
    writer->members[member].ack->released = 1;
    (void)ring_writer_accept(writer);
    ck_assert_ptr_nonnull(ring_writer_claim(writer, &sequence));
    ck_assert_uint_eq(descriptor_of(writer, 0)->sequence, UINT64_MAX);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(who_joins_sees_every_batch_from_head_on)
{
    RingWriter *writer = new_ring(4);
    uint32_t early = join(writer, 0), late;

    publish(writer, 0);
    publish(writer, 1);
    late = join(writer, 2);
    ck_assert_uint_eq(writer->members[late].ack->released, 2);
    (void)ring_writer_accept(writer);
    ck_assert_uint_eq(writer->tail, 0);
    writer->members[early].ack->released = 2;
    publish(writer, 2);
    (void)ring_writer_accept(writer);
    ck_assert_uint_eq(writer->tail, 2);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(the_slots_of_a_member_that_left_are_free_in_the_next_step)
{
    RingWriter *writer = new_ring(2);
    uint32_t dead = join(writer, 0), living = join(writer, 0);

    publish(writer, 0);
    publish(writer, 1);
    writer->members[living].ack->released = 2;
    ring_writer_leave(writer, dead);
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ck_assert_uint_eq(writer->tail, 2);
    ck_assert_uint_eq(join(writer, 2), dead);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(without_members_the_tail_stays)
{
    RingWriter *writer = new_ring(2);
    uint32_t member = join(writer, 0);

    publish(writer, 0);
    ring_writer_leave(writer, member);
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ck_assert_uint_eq(writer->tail, 0);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(a_ring_has_room_for_as_many_members_as_it_says)
{
    RingWriter *writer = new_ring(1);
    uint64_t first;

    for (uint32_t i = 0; i < RING_MEMBERS_MAX; i++)
        ck_assert_uint_eq(join(writer, 0), i);
    ck_assert_int_eq(ring_writer_join(writer, &first), -ENOSPC);
    ring_writer_leave(writer, 7);
    ck_assert_uint_eq(join(writer, 0), 7);
    ring_writer_destroy(writer);
}
END_TEST

/* What a member writes is either believed or names the member; the tail never follows a lie. */
START_TEST(released_values_out_of_range_name_the_member)
{
    const uint64_t lies[] = {0, 1, 4, 1000, UINT64_MAX, UINT64_C(1) << 63};
    RingWriter *writer = new_ring(4);
    uint32_t honest = join(writer, 0), liar = join(writer, 0);

    publish(writer, 0);
    publish(writer, 1);
    publish(writer, 2);
    writer->members[honest].ack->released = 3;
    writer->members[liar].ack->released = 2;
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        writer->members[liar].ack->released = lies[i];
        ck_assert_int_eq(ring_writer_accept(writer), (int)liar);
        ck_assert_uint_eq(writer->tail, 2);
    }
    writer->members[honest].ack->released = 0;
    ck_assert_int_eq(ring_writer_accept(writer), (int)honest);
    ring_writer_leave(writer, honest);
    ck_assert_int_eq(ring_writer_accept(writer), (int)liar);
    ring_writer_leave(writer, liar);
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ring_writer_destroy(writer);
}
END_TEST

/* A hole in the ack page reads as 0: backwards, so the member has to go; no SIGBUS. */
START_TEST(a_hole_punched_into_the_ack_page_is_a_violation)
{
    RingWriter *writer = new_ring(4);
    uint32_t member = join(writer, 0);
    int fd = writer->members[member].ack_fd;

    publish(writer, 0);
    writer->members[member].ack->released = 1;
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    ck_assert_int_eq(ring_writer_accept(writer), (int)member);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(a_state_comes_with_its_reason)
{
    RingWriter *writer = new_ring(1);
    char long_text[2000];

    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    ring_writer_set_state(writer, SEQFEED_RING_FAILED, -EIO, "shard-00003.zst: damaged");
    ck_assert_uint_eq(writer->header->state, SEQFEED_RING_FAILED);
    ck_assert_int_eq(writer->header->error_code, -EIO);
    ck_assert_str_eq(writer->header->error_text, "shard-00003.zst: damaged");
    ck_assert_uint_eq(writer->header->bell, 1);
    ring_writer_set_state(writer, SEQFEED_RING_FAILED, -EIO, long_text);
    ck_assert_uint_eq(strlen(writer->header->error_text), sizeof writer->header->error_text - 1);
    ring_writer_set_state(writer, SEQFEED_RING_DRAIN, 0, NULL);
    ck_assert_str_eq(writer->header->error_text, "");
    ring_writer_destroy(writer);
}
END_TEST

typedef struct Sleeper {
    RingWriter *writer;
    uint32_t member;
} Sleeper;

static void *sleep_on_bell(void *argument) {
    const Sleeper *sleeper = argument;
    SeqfeedRingHeader *header = sleeper->writer->header;

    uint32_t seen = __atomic_load_n(&header->bell, __ATOMIC_SEQ_CST);
    __atomic_store_n(&sleeper->writer->members[sleeper->member].ack->want_wake, 1,
                     __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&header->head, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_futex, &header->bell, FUTEX_WAIT, seen, NULL, NULL, 0);
    return NULL;
}

/* The tail waits for the slowest, so that one is asked; of several slow ones the one named. */
START_TEST(the_slowest_member_is_the_one_to_ask)
{
    RingWriter *writer = new_ring(4);
    uint32_t members[3];

    ck_assert_uint_eq(ring_writer_slowest(writer, 0), RING_MEMBERS_MAX);
    for (int i = 0; i < 3; i++)
        members[i] = join(writer, 0);
    for (uint64_t i = 0; i < 4; i++)
        publish(writer, i);
    ck_assert_uint_eq(ring_writer_slowest(writer, RING_MEMBERS_MAX), members[0]);
    ck_assert_uint_eq(ring_writer_slowest(writer, members[2]), members[2]);
    writer->members[members[0]].ack->released = 3;
    writer->members[members[2]].ack->released = 2;
    ck_assert_uint_eq(ring_writer_slowest(writer, members[2]), members[2]); /* not accepted yet */
    ck_assert_int_eq(ring_writer_accept(writer), -1);
    ck_assert_uint_eq(ring_writer_slowest(writer, members[2]), members[1]);
    ring_writer_set_wake(writer, 2, members[1]);
    ck_assert_uint_eq(writer->header->wake_at, 2);
    ck_assert_uint_eq(writer->header->waker, members[1] + 1);
    ring_writer_leave(writer, members[1]);
    ck_assert_uint_eq(ring_writer_slowest(writer, members[1]), members[2]);
    ring_writer_set_wake(writer, 2, RING_MEMBERS_MAX);
    ck_assert_uint_eq(writer->header->waker, 0);
    ring_writer_destroy(writer);
}
END_TEST

START_TEST(a_publish_wakes_who_wants_it_and_takes_the_wish_back)
{
    RingWriter *writer = new_ring(1);
    Sleeper sleeper = {writer, join(writer, 0)};
    uint32_t idle = join(writer, 0);
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, sleep_on_bell, &sleeper), 0);
    while (!__atomic_load_n(&writer->members[sleeper.member].ack->want_wake, __ATOMIC_SEQ_CST))
        continue;
    publish(writer, 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(writer->members[sleeper.member].ack->want_wake, 0);
    ck_assert_uint_eq(writer->members[idle].ack->want_wake, 0);
    ring_writer_destroy(writer);
}
END_TEST

CHECK_MAIN("ring_writer", the_header_describes_the_memory, sizes_that_cannot_be_are_refused,
           slots_are_published_in_the_order_of_claims,
           a_slot_is_free_when_all_members_have_released_it, claiming_marks_the_old_batch_as_gone,
           who_joins_sees_every_batch_from_head_on,
           the_slots_of_a_member_that_left_are_free_in_the_next_step,
           without_members_the_tail_stays, a_ring_has_room_for_as_many_members_as_it_says,
           released_values_out_of_range_name_the_member,
           the_number_of_an_expelled_member_is_kept_until_it_is_said_to_have_left,
           a_hole_punched_into_the_ack_page_is_a_violation, a_state_comes_with_its_reason,
           the_slowest_member_is_the_one_to_ask,
           a_publish_wakes_who_wants_it_and_takes_the_wish_back)
