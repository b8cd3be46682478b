/* SPDX-License-Identifier: MIT */
/* What a client may do with its end of the socket, and what it may not. */
#include "server/session.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/scripted_server.h"
#include "support/check_main.h"

static uint32_t open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    uint32_t count = 0;

    ck_assert_ptr_nonnull(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void expect_refused(int fd, const char *words) {
    client_expect(fd, SEQFEED_MESSAGE_ERROR, words);
    client_expect(fd, ANSWER_END, NULL);
    close(fd);
}

START_TEST(a_message_at_the_wrong_time_ends_the_connection)
{
    SeqfeedAttach attach = attach_message(0, 1, 1);
    SeqfeedHello hello = {.head = {.type = SEQFEED_MESSAGE_HELLO, .size = sizeof hello},
                          .magic = SEQFEED_PROTOCOL_MAGIC,
                          .version_min = 1,
                          .version_max = 1};
    int fd;

    scripted_start();
    fd = client_connect(); /* ATTACH before HELLO */
    client_send(fd, &attach, sizeof attach);
    scripted_settle();
    expect_refused(fd, "where HELLO was expected");

    fd = client_connect(); /* HELLO twice */
    client_hello(fd);
    client_send(fd, &hello, sizeof hello);
    scripted_settle();
    expect_refused(fd, "wrong time");

    attach = attach_message(0, 2, 1); /* ATTACH twice, while the first waits */
    fd = client_attach(&attach);
    client_send(fd, &attach, sizeof attach);
    scripted_settle();
    expect_refused(fd, "wrong time");
    ck_assert_uint_eq(fake.reserved, 0);

    attach = attach_message(0, 1, 1); /* and when it is attached */
    fd = client_attach(&attach);
    client_expect(fd, SEQFEED_MESSAGE_WELCOME, NULL);
    client_send(fd, &attach, sizeof attach);
    scripted_settle();
    client_expect(fd, SEQFEED_MESSAGE_CLOSING, "wrong time");
    client_expect(fd, ANSWER_END, NULL);
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    close(fd);
    scripted_stop();
}
END_TEST

START_TEST(packets_of_any_wrong_size_end_the_connection)
{
    uint8_t bytes[SEQFEED_MESSAGE_MAX + 1] = {SEQFEED_MESSAGE_HELLO};
    static const size_t sizes[] = {1, 7, 8, 23, 25, 4096, 4097};

    scripted_start();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int fd = client_connect();
        client_send(fd, bytes, sizes[i]);
        scripted_settle();
        expect_refused(fd, NULL);
    }
    ck_assert_uint_eq(fake.stream_count, 0);
    scripted_stop();
}
END_TEST

START_TEST(an_empty_packet_ends_the_connection)
{
    int fd;

    scripted_start();
    fd = client_connect();
    ck_assert_int_eq(send(fd, "", 0, MSG_NOSIGNAL), 0);
    scripted_settle();
    client_expect(fd, ANSWER_END, NULL);
    close(fd);
    scripted_stop();
}
END_TEST

START_TEST(every_step_of_the_handshake_has_10_seconds)
{
    int silent, slow;

    scripted_start();
    silent = client_connect();
    slow = client_connect();
    scripted_settle();
    scripted_wait(9);
    client_hello(slow);
    scripted_wait(1);
    expect_refused(silent, "too slow");
    client_expect(slow, ANSWER_NONE, NULL);
    scripted_wait(9);
    expect_refused(slow, "nothing was asked");
    scripted_stop();
}
END_TEST

START_TEST(who_does_not_read_welcome_is_dropped_and_who_reads_it_stays)
{
    int one, two;

    scripted_start();
    one = client_attach_rank(0, 1);
    two = client_attach_rank(0, 1);
    client_expect(two, SEQFEED_MESSAGE_WELCOME, NULL);
    scripted_wait(11);
    ck_assert_uint_eq(fake.streams[0].left[0], 1);
    ck_assert_uint_eq(fake.streams[1].left[0], 0);
    close(one);
    close(two);
    scripted_stop();
}
END_TEST

START_TEST(wake_ups_are_passed_on_and_too_many_are_read_slowly)
{
    int fd;

    scripted_start();
    fd = client_attach_rank(0, 1);
    client_expect(fd, SEQFEED_MESSAGE_WELCOME, NULL);
    client_send(fd, "x", 1);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].pokes, 1);
    for (int i = 0; i < 200; i++)
        client_send(fd, "x", 1);
    scripted_settle();
    ck_assert_uint_eq(fake.streams[0].pokes, 2); /* then it was not read for a moment */
    for (int i = 0; i < 20; i++) {
        scripted_now += 10 * NS_PER_MS;
        scripted_settle();
    }
    ck_assert_uint_le(fake.streams[0].pokes, 10);
    client_send(fd, "x", 1);
    scripted_settle();
    ck_assert_uint_le(fake.streams[0].pokes, 11);
    scripted_wait(20);
    client_expect(fd, ANSWER_NONE, NULL); /* and never a reason to disconnect */
    close(fd);
    scripted_stop();
}
END_TEST

START_TEST(more_messages_than_anyone_needs_end_the_connection)
{
    const SeqfeedRequest request = {
        .head = {.type = SEQFEED_MESSAGE_REQUEST, .size = sizeof request},
        .what = SEQFEED_REQUEST_STATUS};
    Answer answer = {0};
    int fd, answers = 0;

    scripted_start();
    fd = client_connect();
    client_hello(fd);
    for (int i = 0; i < 200 && answer.type != ANSWER_END; i++) {
        (void)!send(fd, &request, sizeof request, MSG_NOSIGNAL);
        scripted_settle();
        answer = client_receive(fd);
        answers += answer.type == SEQFEED_MESSAGE_TEXT;
    }
    ck_assert_uint_eq(answer.type, ANSWER_END);
    ck_assert_int_ge(answers, 50);
    ck_assert_int_le(answers, 70);
    close(fd);
    scripted_stop();
}
END_TEST

static ssize_t push_descriptors(int fd, int count) {
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(200 * sizeof(int))];
    } control = {0};
    SeqfeedHello hello = {.head = {.type = SEQFEED_MESSAGE_HELLO, .size = sizeof hello},
                          .magic = SEQFEED_PROTOCOL_MAGIC,
                          .version_min = 1,
                          .version_max = 1};
    struct iovec vector = {.iov_base = &hello, .iov_len = sizeof hello};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(head) + (size_t)i * sizeof fd, &fd, sizeof fd);
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* Where the kernel lets us refuse them the sender gets EPERM, else they are closed on arrival and
 * the sender is disconnected. Kept they are never. */
START_TEST(descriptors_that_a_client_pushes_are_never_kept)
{
    uint32_t before;
    int fd;

    scripted_start();
    fd = client_connect();
    scripted_settle();
    before = open_descriptors();
    if (push_descriptors(fd, 200) < 0) {
        ck_assert_int_eq(errno, EPERM);
    } else {
        scripted_settle();
        client_expect(fd, SEQFEED_MESSAGE_ERROR, "descriptors are not taken");
    }
    ck_assert_uint_le(open_descriptors(), before);
    close(fd);
    scripted_stop();
}
END_TEST

START_TEST(a_storm_of_connections_leaves_nothing_behind)
{
    uint32_t before;

    scripted_start();
    close(client_connect());
    scripted_settle();
    before = open_descriptors();
    for (int i = 0; i < 2000; i++) {
        int fd = client_connect();
        if (i % 3 == 0)
            client_send(fd, "xx", 2);
        close(fd);
        if (i % 100 == 99)
            for (int turn = 0; turn < 4; turn++)
                scripted_settle();
    }
    scripted_settle();
    ck_assert_uint_eq(open_descriptors(), before);
    scripted_stop();
}
END_TEST

CHECK_MAIN("session", a_message_at_the_wrong_time_ends_the_connection,
           packets_of_any_wrong_size_end_the_connection, an_empty_packet_ends_the_connection,
           every_step_of_the_handshake_has_10_seconds,
           who_does_not_read_welcome_is_dropped_and_who_reads_it_stays,
           wake_ups_are_passed_on_and_too_many_are_read_slowly,
           more_messages_than_anyone_needs_end_the_connection,
           descriptors_that_a_client_pushes_are_never_kept,
           a_storm_of_connections_leaves_nothing_behind)
