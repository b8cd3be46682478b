/* SPDX-License-Identifier: MIT */
/* A stream and those who attend it: made late or never, joined, left, slow, damaged. */
#include "server/audience.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/scripted_server.h"
#include "support/check_main.h"

START_TEST(who_dies_while_the_stream_is_made_leaves_when_it_is_ready)
{
    int one, two;

    scripted_start();
    fake.hold = true;
    one = client_attach_rank(0, 2);
    two = client_attach_rank(1, 2);
    client_leave(two);
    ck_assert_uint_eq(fake.streams[0].left[1], 0);
    ck_assert(!fake.streams[0].cancelled);
    fake_ready(&fake.streams[0]);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].left[0], 0);
    ck_assert_uint_eq(fake.streams[0].left[1], 1);
    client_expect_welcome(one);
    close(one);
    scripted_stop();
}
END_TEST

START_TEST(a_stream_that_takes_too_long_to_make_times_out)
{
    int fd;

    scripted_start();
    fake.hold = true;
    fd = client_attach_rank(0, 1);
    scripted_wait(6);
    client_expect(fd, SEQFEED_MESSAGE_WAITING, "waiting for the stream to be made");
    scripted_wait(60);
    client_expect(fd, SEQFEED_MESSAGE_ERROR, "timed out while the stream was being made");
    client_expect_end(fd);
    ck_assert(fake.streams[0].cancelled); /* too late */
    fake_ready(&fake.streams[0]);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    fake_closed(&fake.streams[0]);
    scripted_settle();
    ck_assert(fake.streams[0].freed);
    scripted_stop();
}
END_TEST

START_TEST(a_stream_is_not_made_for_nobody)
{
    SeqfeedAttach joins = attach_message(0, 2, 1);
    int one, two, three;

    scripted_start();
    fake.hold = true;
    one = client_attach_rank(0, 2);
    two = client_attach_rank(1, 2);
    client_leave(one);
    ck_assert(!fake.streams[0].cancelled);
    client_leave(two);
    ck_assert(fake.streams[0].cancelled);

    /* Who comes now waits for a stream that will be there. */
    joins.flags |= SEQFEED_ATTACH_JOIN_NEXT;
    strcpy(joins.group, "sweep");
    three = client_attach(&joins);
    fake_failed(&fake.streams[0], -ECANCELED, "nobody waits for the stream any more");
    scripted_settle();
    ck_assert(fake.streams[0].freed);
    client_expect_nothing(three);
    close(three);
    scripted_stop();
}
END_TEST

START_TEST(a_stream_that_cannot_be_made_says_why_to_all)
{
    int fds[2];

    scripted_start();
    fake.hold = true;
    fds[0] = client_attach_rank(0, 2);
    fds[1] = client_attach_rank(1, 2);
    fake_failed(&fake.streams[0], -ERANGE, "3 batches, 4 ranks");
    scripted_settle();
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            client_expect(fds[i], SEQFEED_MESSAGE_ERROR, "3 batches, 4 ranks").notice.code,
            -ERANGE);
        client_expect_end(fds[i]);
    }
    ck_assert(fake.streams[0].freed);
    fake.new_code = -ENOMEM;
    fds[0] = client_attach_rank(0, 1);
    client_expect(fds[0], SEQFEED_MESSAGE_ERROR, "no stream today");
    client_expect_end(fds[0]);
    ck_assert_uint_eq(fake.reserved, 0);
    scripted_stop();
}
END_TEST

START_TEST(damage_in_a_running_stream_closes_its_members_only)
{
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 1);
    two = client_attach_rank(0, 1);
    client_expect_welcome(one);
    client_expect_welcome(two);
    fake_failed(&fake.streams[0], -EBADMSG, "shard-00000.zst: block 3 is damaged");
    scripted_settle();
    client_expect(one, SEQFEED_MESSAGE_CLOSING, "block 3 is damaged");
    client_expect_end(one);
    client_expect_nothing(two);
    close(two);
    scripted_stop();
}
END_TEST

/* Memory of a stream that has failed is soon another one's; what is told late must not find that.
 */
START_TEST(what_is_told_late_of_a_stream_does_not_end_the_next_one)
{
    enum { STREAMS = 32 }; /* malloc keeps the first few of a size aside */
    int fds[STREAMS];

    scripted_start();
    for (uint32_t i = 0; i < STREAMS; i++) {
        fds[i] = client_attach_rank(0, 1);
        client_expect_welcome(fds[i]);
        for (uint32_t earlier = 0; earlier < i; earlier++)
            fake_closed_late(&fake.streams[earlier], &fake.streams[i]);
        scripted_settle();
        client_expect_nothing(fds[i]);
        ck_assert(!fake.streams[i].freed);
        fake_failed(&fake.streams[i], -EBADMSG, "shard-00000.zst: block 3 is damaged");
        scripted_settle();
        client_expect(fds[i], SEQFEED_MESSAGE_CLOSING, "block 3 is damaged");
        client_expect_end(fds[i]);
    }
    scripted_stop();
}
END_TEST

START_TEST(a_violation_disconnects_that_member)
{
    SeqfeedAttach attach = attach_message(0, 1, 2);
    int fds[2];

    scripted_start();
    for (int i = 0; i < 2; i++)
        fds[i] = client_attach(&attach);
    for (int i = 0; i < 2; i++)
        client_expect_welcome(fds[i]);
    fake_violation(&fake.streams[0], 0, 1);
    fake_violation(&fake.streams[0], 0, 1); /* the same one again: gone already */
    scripted_settle();
    client_expect(fds[1], SEQFEED_MESSAGE_CLOSING, "out of range");
    client_expect_end(fds[1]);
    client_expect_nothing(fds[0]);
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    close(fds[0]);
    scripted_stop();
}
END_TEST

START_TEST(join_next_takes_a_place_in_a_running_stream)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    Answer answer;
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 1);
    client_expect_welcome(one);
    attach.flags = SEQFEED_ATTACH_JOIN_NEXT;
    two = client_attach(&attach);
    client_expect_nothing(two);
    ck_assert_uint_eq(fake.streams[0].joins, 1);
    fake_joined(&fake.streams[0], fake.streams[0].join_token, 0, 0);
    scripted_settle();
    answer = client_expect(two, SEQFEED_MESSAGE_WELCOME, NULL);
    ck_assert_uint_eq(answer.welcome.member, 1);
    ck_assert_uint_eq(answer.welcome.first, 7);
    ck_assert_uint_eq(fake.stream_count, 1);
    client_leave(one);
    client_leave(two);
    ck_assert_uint_eq(fake.streams[0].left[0], 2);
    /* Its ring is closed now: whoever joins forms a stream of its own. */
    two = client_attach(&attach);
    client_expect_welcome(two);
    ck_assert_uint_eq(fake.stream_count, 2);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(who_joins_another_rank_or_world_or_seed_forms_its_own)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int fds[4];

    scripted_start();
    fds[0] = client_attach_rank(0, 1);
    attach.flags = SEQFEED_ATTACH_JOIN_NEXT;
    attach.world = 2;
    fds[1] = client_attach(&attach);
    attach.world = 1;
    strcpy(attach.group, "other");
    fds[2] = client_attach(&attach);
    strcpy(attach.group, "sweep");
    attach.flags |= SEQFEED_ATTACH_HAS_SEED;
    attach.seed = 77;
    fds[3] = client_attach(&attach);
    ck_assert_uint_eq(fake.stream_count, 4);
    ck_assert_uint_eq(fake.streams[3].seed, 77);
    for (int i = 0; i < 4; i++) {
        client_expect_welcome(fds[i]);
        close(fds[i]);
    }
    scripted_stop();
}
END_TEST

START_TEST(a_join_that_is_full_is_tried_again_and_one_that_fails_is_said)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 1);
    attach.flags = SEQFEED_ATTACH_JOIN_NEXT;
    fake.queue_full = true;
    two = client_attach(&attach);
    ck_assert_uint_eq(fake.streams[0].joins, 0);
    fake.queue_full = false;
    scripted_wait(1);
    ck_assert_uint_eq(fake.streams[0].joins, 1);
    fake_joined(&fake.streams[0], fake.streams[0].join_token, 0, -ENOSPC);
    scripted_settle();
    ck_assert_int_eq(client_expect(two, SEQFEED_MESSAGE_ERROR, "takes no more members").notice.code,
                     -ENOSPC);
    client_expect_end(two);
    close(one);
    scripted_stop();
}
END_TEST

START_TEST(who_leaves_while_joining_leaves_the_ring_too)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 1);
    attach.flags = SEQFEED_ATTACH_JOIN_NEXT;
    two = client_attach(&attach);
    client_leave(two);
    ck_assert_uint_eq(fake.streams[0].left[0], 0);
    fake_joined(&fake.streams[0], fake.streams[0].join_token, 0, 0);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    close(one);
    scripted_stop();
}
END_TEST

START_TEST(cursors_of_two_epochs_are_refused_when_counting_shows_them_apart)
{
    SeqfeedAttach attach = attach_message(0, 2, 1);
    int one, two;

    scripted_start();
    attach_set_cursor(&attach, "0:1000");
    one = client_attach(&attach);
    attach.rank = 1;
    attach_set_cursor(&attach, "1:2");
    fake.epoch_length = 8; /* and one more round: 9 > 8 slots */
    two = client_attach(&attach);
    client_expect(one, SEQFEED_MESSAGE_ERROR, "rank 0 asks for epoch 0 index 1000");
    client_expect(two, SEQFEED_MESSAGE_ERROR, "rank 1 for epoch 1 index 2");
    client_expect_end(one);
    client_expect_end(two);
    ck_assert_uint_eq(fake.streams[0].left[0] + fake.streams[0].left[1], 2);
    scripted_stop();
}
END_TEST

START_TEST(the_slow_member_is_named_to_those_who_wait)
{
    SeqfeedAttach attach = attach_message(0, 1, 2);
    Stream *stream = &fake.streams[0];
    int fds[2];
    char *status;

    scripted_start();
    for (int i = 0; i < 2; i++)
        fds[i] = client_attach(&attach);
    for (int i = 0; i < 2; i++)
        client_expect_welcome(fds[i]);
    stream->rings[0].head = 8;
    stream->rings[0].slowest_member = 1;
    stream->behind[0][1] = 8;
    stream->behind[0][0] = 3; /* has something to do itself: nobody waits */
    for (int i = 0; i < 7; i++)
        scripted_wait(1);
    client_expect_nothing(fds[0]);
    stream->behind[0][0] = 0;
    scripted_wait(1);
    client_expect(fds[0], SEQFEED_MESSAGE_WAITING, "group sweep: pid ");
    client_expect_nothing(fds[1]);
    status = client_request(SEQFEED_REQUEST_STATUS);
    ck_assert_ptr_nonnull(strstr(status, "is 8 batches behind"));
    free(status);
    scripted_wait(1);
    client_expect_nothing(fds[0]); /* once a minute */
    stream->rings[0].head = 16;
    stream->rings[0].tail = 8;
    scripted_wait(1);
    status = client_request(SEQFEED_REQUEST_STATUS);
    ck_assert_ptr_null(strstr(status, "batches behind"));
    free(status);
    close(fds[0]);
    close(fds[1]);
    scripted_stop();
}
END_TEST

CHECK_MAIN("audience", who_dies_while_the_stream_is_made_leaves_when_it_is_ready,
           a_stream_that_takes_too_long_to_make_times_out, a_stream_is_not_made_for_nobody,
           a_stream_that_cannot_be_made_says_why_to_all,
           damage_in_a_running_stream_closes_its_members_only,
           what_is_told_late_of_a_stream_does_not_end_the_next_one,
           a_violation_disconnects_that_member, join_next_takes_a_place_in_a_running_stream,
           who_joins_another_rank_or_world_or_seed_forms_its_own,
           a_join_that_is_full_is_tried_again_and_one_that_fails_is_said,
           who_leaves_while_joining_leaves_the_ring_too,
           cursors_of_two_epochs_are_refused_when_counting_shows_them_apart,
           the_slow_member_is_named_to_those_who_wait)
