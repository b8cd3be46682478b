/* SPDX-License-Identifier: MIT */
#include "server/scripted_server.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

Server *scripted;
Feed *scripted_feed;
int64_t scripted_now;
static char folder[64], path[80];

/* Also for programs that are no Check tests, so without its macros. */
PRINTF_FORMAT(1, 2) static void fail(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static int64_t now(void) {
    return scripted_now;
}

static int load_feeds(void *argument, Feed ***ret_feeds, uint32_t *ret_count, Error *error) {
    Feed **feeds = calloc(1, sizeof(Feed *));

    (void)argument;
    (void)error;
    assert(feeds);
    scripted_feed = feeds[0] = fake_feed("train", 8);
    *ret_feeds = feeds;
    *ret_count = 1;
    return 0;
}

void scripted_start(void) {
    ServerOptions options = {.workers = 1, .load_feeds = load_feeds, .clock = now};
    Error error = {0};

    fake_reset();
    log_open("test", LOG_LEVEL_ERROR);
    scripted_now = 1000 * NS_PER_SECOND;
    snprintf(folder, sizeof folder, "/tmp/seqfeed-test-XXXXXX");
    assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    options.socket_option = path;
    if (server_new(&options, &scripted, &error) != 0)
        fail("no server: %s", error.text);
}

void scripted_stop(void) {
    server_free(scripted);
    scripted = NULL;
    if (rmdir(folder) < 0)
        fail("%s: %s", folder, strerror(errno));
}

bool scripted_settle(void) {
    bool done = false;

    for (int i = 0; i < 8; i++) {
        int r = server_turn(scripted, 0);
        assert(r >= 0);
        done = done || r == SERVER_E_DONE;
    }
    return done;
}

bool scripted_wait(int64_t seconds) {
    scripted_now += seconds * NS_PER_SECOND;
    return scripted_settle();
}

int client_connect(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert(fd >= 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

void client_send(int fd, const void *message, size_t size) {
    assert(send(fd, message, size, MSG_NOSIGNAL) == (ssize_t)size);
}

static uint32_t close_descriptors(struct msghdr *message) {
    uint32_t count = 0;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        count = (uint32_t)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (uint32_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            close(fd);
        }
    }
    return count;
}

Answer client_receive(int fd) {
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    Answer answer = {0};
    struct iovec vector = {.iov_base = answer.bytes, .iov_len = sizeof answer.bytes};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);

    if (size < 0 && errno == EAGAIN)
        return answer;
    if (size <= 0) {
        answer.type = ANSWER_END;
        return answer;
    }
    assert(answer.head.size == (size_t)size);
    answer.type = answer.head.type;
    answer.descriptors = close_descriptors(&message);
    return answer;
}

Answer client_expect(int fd, uint32_t type, const char *words) {
    Answer answer = client_receive(fd);
    bool notice = answer.type == SEQFEED_MESSAGE_ERROR || answer.type == SEQFEED_MESSAGE_WAITING ||
                  answer.type == SEQFEED_MESSAGE_CLOSING;

    if (answer.type != type)
        fail("message %u instead of %u: %s", answer.type, type, notice ? answer.notice.text : "");
    if (words && (!notice || !strstr(answer.notice.text, words)))
        fail("\"%s\" without \"%s\"", notice ? answer.notice.text : "", words);
    return answer;
}

void client_hello(int fd) {
    const SeqfeedHello hello = {.head = {.type = SEQFEED_MESSAGE_HELLO, .size = sizeof hello},
                                .magic = SEQFEED_PROTOCOL_MAGIC,
                                .version_min = SEQFEED_PROTOCOL_VERSION,
                                .version_max = SEQFEED_PROTOCOL_VERSION};

    client_send(fd, &hello, sizeof hello);
    scripted_settle();
    client_expect(fd, SEQFEED_MESSAGE_HELLO_REPLY, NULL);
}

SeqfeedAttach attach_message(uint32_t rank, uint32_t local_ranks, uint32_t members) {
    return (SeqfeedAttach){.head = {.type = SEQFEED_MESSAGE_ATTACH, .size = sizeof(SeqfeedAttach)},
                           .feed = "train",
                           .group = "sweep",
                           .rank = rank,
                           .world = local_ranks,
                           .local_ranks = local_ranks,
                           .members = members,
                           .deadline_ns = 60 * NS_PER_SECOND};
}

int client_attach(const SeqfeedAttach *attach) {
    int fd = client_connect();

    client_hello(fd);
    client_send(fd, attach, sizeof *attach);
    scripted_settle();
    return fd;
}

int client_attach_rank(uint32_t rank, uint32_t seats) {
    SeqfeedAttach attach = attach_message(rank, seats, 1);

    return client_attach(&attach);
}

char *client_request(uint32_t what) {
    const SeqfeedRequest request = {
        .head = {.type = SEQFEED_MESSAGE_REQUEST, .size = sizeof request}, .what = what};
    size_t size = 0;
    char *text = NULL;
    int fd = client_connect();
    Answer answer;

    client_hello(fd);
    client_send(fd, &request, sizeof request);
    do {
        scripted_settle();
        answer = client_expect(fd, SEQFEED_MESSAGE_TEXT, NULL);
        text = realloc(text, size + answer.text.bytes + 1);
        assert(text);
        memcpy(text + size, answer.text.text, answer.text.bytes);
        size += answer.text.bytes;
        text[size] = '\0';
    } while (answer.text.flags & SEQFEED_TEXT_MORE);
    close(fd);
    scripted_settle();
    return text;
}

void client_expect_welcome(int fd) {
    Answer answer = client_expect(fd, SEQFEED_MESSAGE_WELCOME, NULL);

    if (answer.descriptors != 2)
        fail("%u descriptors", answer.descriptors);
}

void client_expect_nothing(int fd) {
    client_expect(fd, ANSWER_NONE, NULL);
}

void client_expect_end(int fd) {
    client_expect(fd, ANSWER_END, NULL);
    close(fd);
}

void attach_set_cursor(SeqfeedAttach *attach, const char *cursor) {
    memset(attach->cursor, 0, sizeof attach->cursor);
    strcpy(attach->cursor, cursor);
    attach->flags |= SEQFEED_ATTACH_HAS_CURSOR;
}

void client_leave(int fd) {
    close(fd);
    scripted_settle();
}
