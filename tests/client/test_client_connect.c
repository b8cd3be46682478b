/* SPDX-License-Identifier: MIT */
/* Waiting for a daemon that has no time ends when it is said to. */
#include <seqfeed/seqfeed.h>

#include <signal.h>
#include <sys/time.h>

#include "support/check_main.h"

/* Somebody listens, takes nobody, and has no room for more. */
static void listen_full(char *path, size_t size, int ret_fds[2]) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(path, size, "/tmp/seqfeed-full-%d", (int)getpid());
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    ret_fds[0] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    ret_fds[1] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    ck_assert_int_eq(bind(ret_fds[0], (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(ret_fds[0], 0), 0);
    ck_assert_int_eq(connect(ret_fds[1], (struct sockaddr *)&address, sizeof address), 0);
}

static void ignore_signal(int number) {
    (void)number;
}

/* A second less a moment was no time-out at all to the kernel, and each signal began it anew. */
START_TEST(a_full_backlog_is_a_time_out)
{
    static const int64_t timeouts_ns[] = {1, 999999500};
    const struct itimerval often = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    const struct sigaction action = {.sa_handler = ignore_signal};
    char path[64];
    int fds[2];

    listen_full(path, sizeof path, fds);
    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    for (size_t i = 0; i < 2 * sizeof timeouts_ns / sizeof timeouts_ns[0]; i++) {
        SeqfeedOptions options = {
            .feed = "train", .socket = path, .timeout_ns = timeouts_ns[i / 2]};
        int64_t begin_ns = seqfeed_private_now();
        SeqfeedError error;
        Seqfeed *feed;

        setitimer(ITIMER_REAL, i % 2 ? &often : &never, NULL);
        ck_assert_int_eq(seqfeed_attach(&feed, &options, &error), -ETIMEDOUT);
        setitimer(ITIMER_REAL, &never, NULL);
        ck_assert_int_ge(seqfeed_private_now() - begin_ns, options.timeout_ns - 1000);
        ck_assert_int_lt(seqfeed_private_now() - begin_ns, INT64_C(10000000000));
        ck_assert_ptr_nonnull(strstr(error.text, path));
    }
    close(fds[0]);
    close(fds[1]);
    unlink(path);
}
END_TEST

static void send_waiting(int fd, int count) {
    const SeqfeedNotice notice = {.head = {SEQFEED_MESSAGE_WAITING, sizeof notice}, .text = "wait"};

    for (int i = 0; i < count; i++)
        ck_assert_int_eq(send(fd, &notice, sizeof notice, MSG_DONTWAIT), sizeof notice);
}

static int count_unread(int fd) {
    uint8_t byte;
    int count = 0;

    while (recv(fd, &byte, sizeof byte, MSG_DONTWAIT) > 0)
        count++;
    return count;
}

/* Messages that come as fast as they are read kept a client from its deadline. */
START_TEST(a_daemon_that_talks_without_end_is_a_time_out)
{
    SeqfeedPrivateAttach attach = {.patience_ns = seqfeed_private_now() - 1};
    int64_t speak_ns = attach.patience_ns;
    SeqfeedPrivateMessage message;
    Seqfeed feed = {0};
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    feed.socket = fds[0];
    send_waiting(fds[1], 3);
    ck_assert_int_eq(seqfeed_private_answer(&feed, &attach, &speak_ns, &message), -ETIMEDOUT);
    ck_assert_int_eq(count_unread(fds[0]), 2);

    send_waiting(fds[1], SEQFEED_PRIVATE_HEARD_MAX + 2);
    seqfeed_private_listen(&feed);
    ck_assert_int_eq(feed.hung_up, 0);
    ck_assert_int_eq(count_unread(fds[0]), 2);
    close(fds[1]);
    seqfeed_private_listen(&feed);
    ck_assert_int_eq(feed.hung_up, 1);
    close(fds[0]);
}
END_TEST

CHECK_MAIN("client_connect", a_full_backlog_is_a_time_out,
           a_daemon_that_talks_without_end_is_a_time_out)
