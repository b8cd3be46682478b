/* SPDX-License-Identifier: MIT */
/* The server with a scripted pipeline: forming, waiting, joining, deaths, draining. */
#include "server/server.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/scripted_server.h"
#include "support/check_main.h"

static void expect_welcome(int fd) {
    Answer answer = client_expect(fd, SEQFEED_MESSAGE_WELCOME, NULL);

    ck_assert_uint_eq(answer.descriptors, 2);
}

static void expect_nothing(int fd) {
    client_expect(fd, ANSWER_NONE, NULL);
}

static void expect_end(int fd) {
    client_expect(fd, ANSWER_END, NULL);
    close(fd);
}

static void set_cursor(SeqfeedAttach *attach, const char *cursor) {
    memset(attach->cursor, 0, sizeof attach->cursor);
    strcpy(attach->cursor, cursor);
    attach->flags |= SEQFEED_ATTACH_HAS_CURSOR;
}

static void leave(int fd) {
    close(fd);
    scripted_settle();
}

START_TEST(one_seat_is_welcomed_at_once_with_two_descriptors)
{
    int fd;

    scripted_start();
    fd = client_attach_rank(0, 1);
    expect_welcome(fd);
    ck_assert_uint_eq(fake.stream_count, 1);
    ck_assert_uint_eq(fake.reserved, 100);
    leave(fd);
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    fake_closed(&fake.streams[0]);
    scripted_settle();
    ck_assert(fake.streams[0].freed);
    ck_assert_uint_eq(fake.reserved, 0);
    scripted_stop();
}
END_TEST

START_TEST(one_seat_never_meets_another_with_the_same_key)
{
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 1);
    two = client_attach_rank(0, 1);
    expect_welcome(one);
    expect_welcome(two);
    ck_assert_uint_eq(fake.stream_count, 2);
    close(one);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(ranks_form_one_stream_and_nobody_is_welcomed_before_the_last)
{
    int fds[3];

    scripted_start();
    fds[2] = client_attach_rank(2, 3);
    fds[0] = client_attach_rank(0, 3);
    ck_assert_uint_eq(fake.reserved, 300); /* by the first for all */
    expect_nothing(fds[2]);
    fds[1] = client_attach_rank(1, 3);
    for (int i = 0; i < 3; i++) {
        expect_welcome(fds[i]);
        ck_assert_uint_eq(fake.streams[0].ranks[i], i);
    }
    ck_assert_uint_eq(fake.stream_count, 1);
    ck_assert_uint_eq(fake.reserved, 300);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    scripted_stop();
}
END_TEST

START_TEST(members_share_the_ring_of_their_rank)
{
    SeqfeedAttach attach = attach_message(0, 1, 3);
    int fds[3];

    scripted_start();
    for (uint32_t i = 0; i < 3; i++)
        fds[i] = client_attach(&attach);
    for (uint32_t i = 0; i < 3; i++) {
        Answer answer = client_expect(fds[i], SEQFEED_MESSAGE_WELCOME, NULL);
        ck_assert_uint_eq(answer.welcome.member, i);
        close(fds[i]);
    }
    ck_assert_uint_eq(fake.streams[0].members, 3);
    ck_assert_uint_eq(fake.streams[0].ring_count, 1);
    scripted_stop();
}
END_TEST

START_TEST(at_the_deadline_all_are_refused_and_the_missing_named)
{
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 3);
    scripted_wait(2);
    two = client_attach_rank(2, 3);
    scripted_wait(4);
    client_expect(one, SEQFEED_MESSAGE_WAITING, "waiting for rank 1 (never attached)");
    client_expect(two, SEQFEED_MESSAGE_WAITING, "waiting for rank 1 (never attached)");
    scripted_wait(30);
    expect_nothing(one);
    scripted_wait(30);
    ck_assert_int_eq(
        client_expect(one, SEQFEED_MESSAGE_ERROR, "timed out waiting for rank 1").notice.code,
        -ETIMEDOUT);
    client_expect(two, SEQFEED_MESSAGE_ERROR, "timed out waiting for rank 1 (never attached)");
    expect_end(one);
    expect_end(two);
    ck_assert_uint_eq(fake.reserved, 0);
    scripted_stop();
}
END_TEST

START_TEST(who_waits_is_told_after_5_seconds_and_then_each_minute)
{
    SeqfeedAttach attach = attach_message(0, 2, 1);
    int fd;

    scripted_start();
    attach.deadline_ns = INT64_MAX;
    fd = client_attach(&attach);
    scripted_wait(4);
    expect_nothing(fd);
    scripted_wait(1);
    client_expect(fd, SEQFEED_MESSAGE_WAITING, "waiting for rank 1 (never attached)");
    scripted_wait(59);
    expect_nothing(fd);
    scripted_wait(1);
    client_expect(fd, SEQFEED_MESSAGE_WAITING, "rank 1");
    scripted_wait(60);
    client_expect(fd, SEQFEED_MESSAGE_WAITING, "rank 1");
    close(fd);
    scripted_stop();
}
END_TEST

START_TEST(a_death_while_it_forms_frees_the_seat)
{
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 2);
    leave(one);
    ck_assert_uint_eq(fake.reserved, 0); /* nobody is left */
    one = client_attach_rank(0, 2);
    two = client_attach_rank(0, 2);
    client_expect(two, SEQFEED_MESSAGE_ERROR, "rank 0 of group sweep is taken by pid");
    close(two);
    leave(one);
    one = client_attach_rank(0, 2);
    two = client_attach_rank(1, 2);
    expect_welcome(one);
    expect_welcome(two);
    close(one);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(who_dies_while_the_stream_is_made_leaves_when_it_is_ready)
{
    int one, two;

    scripted_start();
    fake.hold = true;
    one = client_attach_rank(0, 2);
    two = client_attach_rank(1, 2);
    leave(two);
    ck_assert_uint_eq(fake.streams[0].left[1], 0);
    fake_ready(&fake.streams[0]);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].left[0], 0);
    ck_assert_uint_eq(fake.streams[0].left[1], 1);
    expect_welcome(one);
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
    expect_end(fd);
    fake_ready(&fake.streams[0]);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    fake_closed(&fake.streams[0]);
    scripted_settle();
    ck_assert(fake.streams[0].freed);
    scripted_stop();
}
END_TEST

START_TEST(who_must_wait_for_memory_is_told_and_starts_when_it_is_free)
{
    int one, two;

    scripted_start();
    fake.memory = 150;
    one = client_attach_rank(0, 1);
    expect_welcome(one);
    two = client_attach_rank(0, 1);
    expect_nothing(two);
    scripted_wait(6);
    client_expect(two, SEQFEED_MESSAGE_WAITING, "of memory: 100 B of 150 B are reserved");
    leave(one);
    fake_closed(&fake.streams[0]);
    scripted_settle();
    expect_welcome(two);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(what_can_never_fit_is_refused_with_the_arithmetic)
{
    int fd;

    scripted_start();
    fake.memory = 150;
    fd = client_attach_rank(0, 2);
    ck_assert_int_eq(
        client_expect(fd, SEQFEED_MESSAGE_ERROR, "200 bytes are more than 150").notice.code,
        -ENOMEM);
    expect_end(fd);
    scripted_stop();
}
END_TEST

START_TEST(a_refused_forming_lets_those_who_wait_for_its_memory_go_on)
{
    int one, two;

    scripted_start();
    fake.memory = 200;
    one = client_attach_rank(0, 2);
    two = client_attach_rank(0, 1);
    expect_nothing(two);
    leave(one);
    expect_welcome(two);
    close(two);
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
        expect_end(fds[i]);
    }
    ck_assert(fake.streams[0].freed);
    fake.new_code = -ENOMEM;
    fds[0] = client_attach_rank(0, 1);
    client_expect(fds[0], SEQFEED_MESSAGE_ERROR, "no stream today");
    expect_end(fds[0]);
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
    expect_welcome(one);
    expect_welcome(two);
    fake_failed(&fake.streams[0], -EBADMSG, "shard-00000.zst: block 3 is damaged");
    scripted_settle();
    client_expect(one, SEQFEED_MESSAGE_CLOSING, "block 3 is damaged");
    expect_end(one);
    expect_nothing(two);
    close(two);
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
        expect_welcome(fds[i]);
    fake_violation(&fake.streams[0], 0, 1);
    fake_violation(&fake.streams[0], 0, 1); /* the same one again: gone already */
    scripted_settle();
    client_expect(fds[1], SEQFEED_MESSAGE_CLOSING, "out of range");
    expect_end(fds[1]);
    expect_nothing(fds[0]);
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
    expect_welcome(one);
    attach.flags = SEQFEED_ATTACH_JOIN_NEXT;
    two = client_attach(&attach);
    expect_nothing(two);
    ck_assert_uint_eq(fake.streams[0].joins, 1);
    fake_joined(&fake.streams[0], fake.streams[0].join_token, 0, 0);
    scripted_settle();
    answer = client_expect(two, SEQFEED_MESSAGE_WELCOME, NULL);
    ck_assert_uint_eq(answer.welcome.member, 1);
    ck_assert_uint_eq(answer.welcome.first, 7);
    ck_assert_uint_eq(fake.stream_count, 1);
    leave(one);
    leave(two);
    ck_assert_uint_eq(fake.streams[0].left[0], 2);
    /* Its ring is closed now: whoever joins forms a stream of its own. */
    two = client_attach(&attach);
    expect_welcome(two);
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
        expect_welcome(fds[i]);
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
    expect_end(two);
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
    leave(two);
    ck_assert_uint_eq(fake.streams[0].left[0], 0);
    fake_joined(&fake.streams[0], fake.streams[0].join_token, 0, 0);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    close(one);
    scripted_stop();
}
END_TEST

START_TEST(cursors_apart_refuse_all_and_close_ones_start_at_the_oldest)
{
    SeqfeedAttach attach = attach_message(0, 2, 1);
    int one, two;

    scripted_start();
    set_cursor(&attach, "0:1000");
    one = client_attach(&attach);
    attach.rank = 1;
    set_cursor(&attach, "0:200");
    two = client_attach(&attach);
    client_expect(one, SEQFEED_MESSAGE_ERROR, "rank 1 asks for index 200, rank 0 for 1000");
    client_expect(two, SEQFEED_MESSAGE_ERROR, "rank 1 asks for index 200, rank 0 for 1000");
    expect_end(one);
    expect_end(two);
    ck_assert_uint_eq(fake.reserved, 0);

    two = client_attach(&attach);
    attach.rank = 0;
    set_cursor(&attach, "0:204");
    one = client_attach(&attach);
    ck_assert_uint_eq(client_expect(one, SEQFEED_MESSAGE_WELCOME, NULL).welcome.start_index, 200);
    expect_welcome(two);
    close(one);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(cursors_of_two_epochs_are_refused_when_counting_shows_them_apart)
{
    SeqfeedAttach attach = attach_message(0, 2, 1);
    int one, two;

    scripted_start();
    set_cursor(&attach, "0:1000");
    one = client_attach(&attach);
    attach.rank = 1;
    set_cursor(&attach, "1:2");
    fake.epoch_length = 8; /* and one more round: 9 > 8 slots */
    two = client_attach(&attach);
    client_expect(one, SEQFEED_MESSAGE_ERROR, "rank 0 asks for epoch 0 index 1000");
    client_expect(two, SEQFEED_MESSAGE_ERROR, "rank 1 for epoch 1 index 2");
    expect_end(one);
    expect_end(two);
    ck_assert_uint_eq(fake.streams[0].left[0] + fake.streams[0].left[1], 2);
    scripted_stop();
}
END_TEST

START_TEST(what_is_no_cursor_is_refused)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int fd;

    scripted_start();
    set_cursor(&attach, "yesterday");
    fd = client_attach(&attach);
    client_expect(fd, SEQFEED_MESSAGE_ERROR, "not a cursor: yesterday");
    expect_end(fd);
    ck_assert_uint_eq(fake.stream_count, 0);
    ck_assert_uint_eq(fake.reserved, 0);
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
        expect_welcome(fds[i]);
    stream->rings[0].head = 8;
    stream->rings[0].slowest_member = 1;
    stream->behind[0][1] = 8;
    stream->behind[0][0] = 3; /* has something to do itself: nobody waits */
    for (int i = 0; i < 7; i++)
        scripted_wait(1);
    expect_nothing(fds[0]);
    stream->behind[0][0] = 0;
    scripted_wait(1);
    client_expect(fds[0], SEQFEED_MESSAGE_WAITING, "group sweep: pid ");
    expect_nothing(fds[1]);
    status = client_request(SEQFEED_REQUEST_STATUS);
    ck_assert_ptr_nonnull(strstr(status, "is 8 batches behind"));
    free(status);
    scripted_wait(1);
    expect_nothing(fds[0]); /* once a minute */
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

START_TEST(draining_refuses_the_waiting_and_ends_with_the_last_stream)
{
    int one, two, late;
    char *said;

    scripted_start();
    one = client_attach_rank(0, 1);
    expect_welcome(one);
    two = client_attach_rank(0, 2);
    said = client_request(SEQFEED_REQUEST_DRAIN);
    ck_assert_ptr_nonnull(strstr(said, "no more trainers"));
    free(said);
    ck_assert_int_eq(client_expect(two, SEQFEED_MESSAGE_ERROR, "ending").notice.code, -ESHUTDOWN);
    expect_end(two);
    ck_assert(fake.streams[0].drained);
    late = client_attach_rank(0, 1);
    client_expect(late, SEQFEED_MESSAGE_ERROR, "ending");
    expect_end(late);
    ck_assert(!scripted_settle());
    leave(one);
    ck_assert(!scripted_settle());
    fake_closed(&fake.streams[0]);
    ck_assert(scripted_settle());
    scripted_stop();
}
END_TEST

START_TEST(a_drain_without_streams_is_the_end)
{
    scripted_start();
    free(client_request(SEQFEED_REQUEST_DRAIN));
    ck_assert(scripted_settle());
    scripted_stop();
}
END_TEST

START_TEST(status_is_json_and_warns_of_ranks_that_decode_everything_each)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    json_t *status, *streams;
    char *text;
    int fds[4];

    scripted_start();
    attach.world = 8;
    strcpy(attach.group, "quoted \"name\" \xff");
    for (uint32_t rank = 0; rank < 3; rank++) {
        attach.rank = rank;
        fds[rank] = client_attach(&attach);
    }
    fds[3] = client_attach_rank(1, 2);
    text = client_request(SEQFEED_REQUEST_STATUS);
    status = json_loads(text, 0, NULL);
    ck_assert_msg(status != NULL, "%s", text);
    streams = json_object_get(status, "streams");
    ck_assert_uint_eq(json_array_size(streams), 3);
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(status, "warnings"), 0)),
                     "3 streams of feed train for world 8: set local_world_size to decode once");
    ck_assert_uint_eq(json_array_size(json_object_get(status, "warnings")), 1);
    ck_assert_str_eq(json_string_value(json_object_get(
                         json_array_get(json_object_get(status, "forming"), 0), "waiting_for")),
                     "rank 0 (never attached)");
    json_decref(status);
    free(text);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    scripted_stop();
}
END_TEST

START_TEST(a_request_that_is_not_known_is_refused)
{
    const SeqfeedRequest request = {
        .head = {.type = SEQFEED_MESSAGE_REQUEST, .size = sizeof request}, .what = 99};
    int fd;

    scripted_start();
    fd = client_connect();
    client_hello(fd);
    client_send(fd, &request, sizeof request);
    scripted_settle();
    client_expect(fd, SEQFEED_MESSAGE_ERROR, "does not know this request");
    expect_end(fd);
    scripted_stop();
}
END_TEST

START_TEST(seats_that_a_user_can_never_have_are_refused_at_once)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int fd;

    scripted_start();
    attach.world = attach.local_ranks = 65536;
    attach.members = 256;
    fd = client_attach(&attach);
    client_expect(fd, SEQFEED_MESSAGE_ERROR, "16777216 seats are more than user");
    expect_end(fd);
    scripted_stop();
}
END_TEST

START_TEST(a_feed_that_is_not_there_is_named_with_those_that_are)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int fd;

    scripted_start();
    strcpy(attach.feed, "valid");
    fd = client_attach(&attach);
    client_expect(fd, SEQFEED_MESSAGE_ERROR, "this daemon has: train");
    expect_end(fd);
    scripted_stop();
}
END_TEST

CHECK_MAIN(
    "server", one_seat_is_welcomed_at_once_with_two_descriptors,
    one_seat_never_meets_another_with_the_same_key,
    ranks_form_one_stream_and_nobody_is_welcomed_before_the_last,
    members_share_the_ring_of_their_rank, at_the_deadline_all_are_refused_and_the_missing_named,
    who_waits_is_told_after_5_seconds_and_then_each_minute, a_death_while_it_forms_frees_the_seat,
    who_dies_while_the_stream_is_made_leaves_when_it_is_ready,
    a_stream_that_takes_too_long_to_make_times_out,
    who_must_wait_for_memory_is_told_and_starts_when_it_is_free,
    what_can_never_fit_is_refused_with_the_arithmetic,
    a_refused_forming_lets_those_who_wait_for_its_memory_go_on,
    a_stream_that_cannot_be_made_says_why_to_all,
    damage_in_a_running_stream_closes_its_members_only, a_violation_disconnects_that_member,
    join_next_takes_a_place_in_a_running_stream,
    who_joins_another_rank_or_world_or_seed_forms_its_own,
    a_join_that_is_full_is_tried_again_and_one_that_fails_is_said,
    who_leaves_while_joining_leaves_the_ring_too,
    cursors_apart_refuse_all_and_close_ones_start_at_the_oldest,
    cursors_of_two_epochs_are_refused_when_counting_shows_them_apart, what_is_no_cursor_is_refused,
    the_slow_member_is_named_to_those_who_wait,
    draining_refuses_the_waiting_and_ends_with_the_last_stream, a_drain_without_streams_is_the_end,
    status_is_json_and_warns_of_ranks_that_decode_everything_each,
    a_request_that_is_not_known_is_refused, seats_that_a_user_can_never_have_are_refused_at_once,
    a_feed_that_is_not_there_is_named_with_those_that_are)
