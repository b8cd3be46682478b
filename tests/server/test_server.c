/* SPDX-License-Identifier: MIT */
/* The server with a scripted pipeline: forming, waiting, requests, draining. */
#include "server/server.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/notify.h"
#include "server/scripted_server.h"
#include "support/check_main.h"

START_TEST(one_seat_is_welcomed_at_once_with_two_descriptors)
{
    int fd;

    scripted_start();
    fd = client_attach_rank(0, 1);
    client_expect_welcome(fd);
    ck_assert_uint_eq(fake.stream_count, 1);
    ck_assert_uint_eq(fake.reserved, 100);
    client_leave(fd);
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
    client_expect_welcome(one);
    client_expect_welcome(two);
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
    client_expect_nothing(fds[2]);
    fds[1] = client_attach_rank(1, 3);
    for (int i = 0; i < 3; i++) {
        client_expect_welcome(fds[i]);
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
    client_expect_nothing(one);
    scripted_wait(30);
    ck_assert_int_eq(
        client_expect(one, SEQFEED_MESSAGE_ERROR, "timed out waiting for rank 1").notice.code,
        -ETIMEDOUT);
    client_expect(two, SEQFEED_MESSAGE_ERROR, "timed out waiting for rank 1 (never attached)");
    client_expect_end(one);
    client_expect_end(two);
    ck_assert_uint_eq(fake.reserved, 0);
    scripted_stop();
}
END_TEST

/* Who says something else of the group waits apart, and who comes too late finds it full. */
START_TEST(those_of_the_same_group_who_do_not_meet_are_named)
{
    SeqfeedAttach three = attach_message(0, 1, 3), two = attach_message(0, 1, 2);
    SeqfeedAttach world = attach_message(0, 1, 2);
    int fds[5];

    scripted_start();
    world.world = 4;
    fds[0] = client_attach(&three);
    fds[1] = client_attach(&two);
    scripted_wait(5);
    client_expect(fds[0], SEQFEED_MESSAGE_WAITING, " waits in group sweep with members 2, not 3");
    client_expect(fds[1], SEQFEED_MESSAGE_WAITING, " waits in group sweep with members 3, not 2");
    client_leave(fds[0]);
    fds[2] = client_attach(&two);
    client_expect_welcome(fds[1]);
    client_expect_welcome(fds[2]);
    fds[3] = client_attach(&two);
    fds[4] = client_attach(&world);
    scripted_wait(5);
    client_expect(fds[3], SEQFEED_MESSAGE_WAITING, "; group sweep is full and runs: pid ");
    client_expect(fds[4], SEQFEED_MESSAGE_WAITING, "; group sweep with world 1, not 4 runs: pid ");
    client_leave(fds[1]);
    scripted_wait(60);
    client_expect(fds[3], SEQFEED_MESSAGE_ERROR, "; group sweep runs with 1 of 2: pid ");
    for (int i = 2; i < 5; i++)
        close(fds[i]);
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
    client_expect_nothing(fd);
    scripted_wait(1);
    client_expect(fd, SEQFEED_MESSAGE_WAITING, "waiting for rank 1 (never attached)");
    scripted_wait(59);
    client_expect_nothing(fd);
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
    client_leave(one);
    ck_assert_uint_eq(fake.reserved, 0); /* nobody is left */
    one = client_attach_rank(0, 2);
    two = client_attach_rank(0, 2);
    client_expect(two, SEQFEED_MESSAGE_ERROR, "rank 0 of group sweep is taken by pid");
    close(two);
    client_leave(one);
    one = client_attach_rank(0, 2);
    two = client_attach_rank(1, 2);
    client_expect_welcome(one);
    client_expect_welcome(two);
    close(one);
    close(two);
    scripted_stop();
}
END_TEST

/* One has a stream, and the other waits for the memory of his. */
static void one_waits_for_memory(int *ret_one, int *ret_two) {
    scripted_start();
    fake.memory = 150;
    *ret_one = client_attach_rank(0, 1);
    client_expect_welcome(*ret_one);
    *ret_two = client_attach_rank(0, 1);
    client_expect_nothing(*ret_two);
}

START_TEST(who_must_wait_for_memory_is_told_and_starts_when_it_is_free)
{
    int one, two;

    one_waits_for_memory(&one, &two);
    scripted_wait(6);
    client_expect(two, SEQFEED_MESSAGE_WAITING,
                  "waiting for 100 B of memory: 100 B of 150 B are reserved");
    client_leave(one);
    fake_closed(&fake.streams[0]);
    scripted_settle();
    client_expect_welcome(two);
    close(two);
    scripted_stop();
}
END_TEST

/* However many wait, and whenever each of them came: each tries once a second. */
START_TEST(who_waits_for_memory_does_not_make_the_others_try)
{
    enum { WAITING = 16 };
    int fds[1 + WAITING];
    uint32_t before;

    scripted_start();
    fake.memory = 150;
    for (int i = 0; i <= WAITING; i++) {
        fds[i] = client_attach_rank(0, 1);
        scripted_now += NS_PER_SECOND / 32;
    }
    client_expect_welcome(fds[0]);
    before = fake.reserves;
    for (int i = 0; i < 2 * 32; i++) {
        scripted_now += NS_PER_SECOND / 32;
        scripted_settle();
    }
    ck_assert_uint_le(fake.reserves - before, 3 * WAITING);
    ck_assert_uint_ge(fake.reserves - before, WAITING);
    for (int i = 0; i <= WAITING; i++)
        close(fds[i]);
    scripted_stop();
}
END_TEST

START_TEST(who_waits_for_memory_tries_at_once_when_some_returns)
{
    int one, two;

    one_waits_for_memory(&one, &two);
    fake.memory = 200; /* as if another's had been released */
    fake_memory_returned();
    scripted_settle();
    client_expect_welcome(two);
    close(one);
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
    client_expect_end(fd);
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
    client_expect_nothing(two);
    client_leave(one);
    client_expect_welcome(two);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(cursors_apart_refuse_all_and_close_ones_start_at_the_oldest)
{
    SeqfeedAttach attach = attach_message(0, 2, 1);
    int one, two;

    scripted_start();
    attach_set_cursor(&attach, "0:1000");
    one = client_attach(&attach);
    attach.rank = 1;
    attach_set_cursor(&attach, "0:200");
    two = client_attach(&attach);
    client_expect(one, SEQFEED_MESSAGE_ERROR, "rank 1 asks for index 200, rank 0 for 1000");
    client_expect(two, SEQFEED_MESSAGE_ERROR, "rank 1 asks for index 200, rank 0 for 1000");
    client_expect_end(one);
    client_expect_end(two);
    ck_assert_uint_eq(fake.reserved, 0);

    two = client_attach(&attach);
    attach.rank = 0;
    attach_set_cursor(&attach, "0:204");
    one = client_attach(&attach);
    ck_assert_uint_eq(client_expect(one, SEQFEED_MESSAGE_WELCOME, NULL).welcome.start_index, 200);
    client_expect_welcome(two);
    close(one);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(what_is_no_cursor_is_refused)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    int fd;

    scripted_start();
    attach_set_cursor(&attach, "yesterday");
    fd = client_attach(&attach);
    client_expect(fd, SEQFEED_MESSAGE_ERROR, "not a cursor: yesterday");
    client_expect_end(fd);
    ck_assert_uint_eq(fake.stream_count, 0);
    ck_assert_uint_eq(fake.reserved, 0);
    scripted_stop();
}
END_TEST

START_TEST(draining_refuses_the_waiting_and_ends_with_the_last_stream)
{
    int one, two, late;
    char *said;

    scripted_start();
    one = client_attach_rank(0, 1);
    client_expect_welcome(one);
    two = client_attach_rank(0, 2);
    said = client_request(SEQFEED_REQUEST_DRAIN);
    ck_assert_ptr_nonnull(strstr(said, "no more trainers"));
    free(said);
    ck_assert_int_eq(client_expect(two, SEQFEED_MESSAGE_ERROR, "ending").notice.code, -ESHUTDOWN);
    client_expect_end(two);
    ck_assert(fake.streams[0].drained);
    late = client_attach_rank(0, 1);
    client_expect(late, SEQFEED_MESSAGE_ERROR, "ending");
    client_expect_end(late);
    ck_assert(!scripted_settle());
    client_leave(one);
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

/* What systemd has been told since the last time, one after another. */
static const char *told(int manager) {
    static char all[256];
    char said[128];
    ssize_t size;

    all[0] = '\0';
    while ((size = recv(manager, said, sizeof said - 1, MSG_DONTWAIT)) > 0) {
        said[size] = '\0';
        strcat(strcat(all, said), ";");
    }
    return all;
}

/* A thread may be silent for three of the four looks before the service is ended. */
START_TEST(the_watchdog_hears_of_us_while_all_threads_get_on)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/seqfeed-notify-XXXXXX";
    int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (!*notify_part())
        return;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/n", folder);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "8000000", 1);

    scripted_start();
    ck_assert_str_eq(told(manager), "READY=1\nSTATUS=serving;WATCHDOG=1;");
    scripted_wait(2);
    ck_assert_str_eq(told(manager), "WATCHDOG=1;");
    fake.silent = "the fetch thread";
    for (int look = 0; look < 3; look++) {
        scripted_wait(2);
        ck_assert_str_eq(told(manager), "");
    }
    fake.silent = NULL;
    scripted_wait(2);
    ck_assert_str_eq(told(manager), "WATCHDOG=1;");
    scripted_stop();
    close(manager);
    unlink(address.sun_path);
    rmdir(folder);
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

/* A feed that a device serves, and what the pipeline says of devices, which is about no stream. */
START_TEST(status_tells_who_writes_the_batches)
{
    json_t *status, *masks;
    char *text;

    scripted_start();
    scripted_feed->wants_device = scripted_feed->on_device = true;
    strcpy(scripted_feed->backend_reason, "Test GPU, device 0");
    fake_device_gone("Test GPU is lost");
    text = client_request(SEQFEED_REQUEST_STATUS);
    status = json_loads(text, 0, NULL);
    ck_assert_msg(status != NULL, "%s", text);
    masks = json_object_get(status, "masks");
    ck_assert_str_eq(json_string_value(json_object_get(masks, "backend")), "cuda");
    ck_assert_str_eq(json_string_value(json_object_get(masks, "reason")), "Test GPU, device 0");
    json_decref(status);
    free(text);
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
    client_expect_end(fd);
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
    client_expect_end(fd);
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
    client_expect_end(fd);
    scripted_stop();
}
END_TEST

CHECK_MAIN("server", one_seat_is_welcomed_at_once_with_two_descriptors,
           one_seat_never_meets_another_with_the_same_key,
           ranks_form_one_stream_and_nobody_is_welcomed_before_the_last,
           members_share_the_ring_of_their_rank,
           at_the_deadline_all_are_refused_and_the_missing_named,
           those_of_the_same_group_who_do_not_meet_are_named,
           who_waits_is_told_after_5_seconds_and_then_each_minute,
           a_death_while_it_forms_frees_the_seat,
           who_must_wait_for_memory_is_told_and_starts_when_it_is_free,
           who_waits_for_memory_does_not_make_the_others_try,
           who_waits_for_memory_tries_at_once_when_some_returns,
           what_can_never_fit_is_refused_with_the_arithmetic,
           a_refused_forming_lets_those_who_wait_for_its_memory_go_on,
           cursors_apart_refuse_all_and_close_ones_start_at_the_oldest,
           what_is_no_cursor_is_refused, draining_refuses_the_waiting_and_ends_with_the_last_stream,
           a_drain_without_streams_is_the_end, the_watchdog_hears_of_us_while_all_threads_get_on,
           status_is_json_and_warns_of_ranks_that_decode_everything_each,
           status_tells_who_writes_the_batches, a_request_that_is_not_known_is_refused,
           seats_that_a_user_can_never_have_are_refused_at_once,
           a_feed_that_is_not_there_is_named_with_those_that_are)
