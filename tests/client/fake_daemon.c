/* SPDX-License-Identifier: MIT */
#include "client/fake_daemon.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/attributes.h"

static void send_all(int fd, const void *bytes, size_t size) {
    (void)!send(fd, bytes, size, MSG_NOSIGNAL);
}

static void send_notice(int fd, uint32_t type, int code, const char *text) {
    SeqfeedNotice notice = {.head = {type, sizeof notice}, .code = code};

    snprintf(notice.text, sizeof notice.text, "%s", text);
    send_all(fd, &notice, sizeof notice);
}

static void send_welcome(int fd, const FakeWelcome *welcome) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FAKE_DESCRIPTORS_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)&welcome->message, welcome->size};
    size_t bytes = (size_t)welcome->descriptor_count * sizeof(int);
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (bytes > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(bytes);
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(&control.align), welcome->descriptors, bytes);
    }
    (void)!sendmsg(fd, &header, MSG_NOSIGNAL);
}

static void answer_attach(FakeDaemon *daemon, FakeConnection *connection) {
    FakeWelcome welcome = {.message = {.head = {SEQFEED_MESSAGE_WELCOME, sizeof welcome.message}},
                           .size = sizeof welcome.message,
                           .descriptor_count = 2};
    uint64_t first;

    if (daemon->attach_answer) {
        send_all(connection->fd, daemon->attach_answer, sizeof *daemon->attach_answer);
        if (daemon->attach_answer->head.type == SEQFEED_MESSAGE_ERROR)
            return;
    }
    connection->member = ring_writer_join(daemon->writer, &first);
    assert(connection->member >= 0);
    welcome.message.ring_bytes = daemon->writer->memory_bytes;
    welcome.message.first = first;
    welcome.message.epoch_length = daemon->rounds_per_epoch;
    welcome.message.member = (uint32_t)connection->member;
    welcome.descriptors[0] = daemon->writer->data_fd;
    welcome.descriptors[1] = daemon->writer->members[connection->member].ack_fd;
    if (daemon->tamper)
        daemon->tamper(daemon, &welcome);
    send_welcome(connection->fd, &welcome);
}

static void answer_hello(FakeDaemon *daemon, FakeConnection *connection) {
    SeqfeedHelloReply reply = {.head = {SEQFEED_MESSAGE_HELLO_REPLY, sizeof reply},
                               .version = SEQFEED_PROTOCOL_VERSION};

    if (daemon->hello_answer)
        send_all(connection->fd, daemon->hello_answer, daemon->hello_answer_bytes);
    else
        send_all(connection->fd, &reply, sizeof reply);
}

static void connection_close(FakeDaemon *daemon, FakeConnection *connection) {
    if (connection->fd < 0)
        return;
    if (connection->member >= 0)
        ring_writer_leave(daemon->writer, (uint32_t)connection->member);
    /* The other thread may be in poll() with this descriptor, which keeps the socket open. */
    (void)shutdown(connection->fd, SHUT_RDWR);
    close(connection->fd);
    *connection = (FakeConnection){-1, -1};
    pthread_cond_broadcast(&daemon->nudged);
}

static void connection_read(FakeDaemon *daemon, FakeConnection *connection) {
    union {
        SeqfeedMessageHead head;
        SeqfeedAttach attach;
        char bytes[SEQFEED_MESSAGE_MAX];
    } message;
    ssize_t size = recv(connection->fd, &message, sizeof message, MSG_DONTWAIT);

    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        connection_close(daemon, connection);
    } else if (size == 1) {
        daemon->nudges++;
        pthread_cond_broadcast(&daemon->nudged);
    } else if (daemon->mute) {
        return;
    } else if (message.head.type == SEQFEED_MESSAGE_HELLO) {
        answer_hello(daemon, connection);
    } else if (message.head.type == SEQFEED_MESSAGE_ATTACH) {
        daemon->last_attach = message.attach;
        answer_attach(daemon, connection);
    }
}

static void daemon_accept(FakeDaemon *daemon) {
    int fd = accept(daemon->listener, NULL, NULL);

    for (uint32_t i = 0; fd >= 0 && i < FAKE_CONNECTIONS_MAX; i++)
        if (daemon->connections[i].fd < 0) {
            daemon->connections[i] = (FakeConnection){fd, -1};
            return;
        }
    assert(fd < 0 && "more connections than a test needs");
}

static void *daemon_loop(void *argument) {
    FakeDaemon *daemon = argument;
    struct pollfd wait[2 + FAKE_CONNECTIONS_MAX];

    for (;;) {
        wait[0] = (struct pollfd){.fd = daemon->stop_fd, .events = POLLIN};
        wait[1] = (struct pollfd){.fd = daemon->listener, .events = POLLIN};
        pthread_mutex_lock(&daemon->lock);
        for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++)
            wait[2 + i] = (struct pollfd){.fd = daemon->connections[i].fd, .events = POLLIN};
        pthread_mutex_unlock(&daemon->lock);
        if (poll(wait, ARRAY_COUNT(wait), -1) < 0)
            continue;
        if (wait[0].revents)
            return NULL;
        pthread_mutex_lock(&daemon->lock);
        for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++)
            if (wait[2 + i].revents && wait[2 + i].fd == daemon->connections[i].fd)
                connection_read(daemon, &daemon->connections[i]);
        if (wait[1].revents)
            daemon_accept(daemon);
        pthread_mutex_unlock(&daemon->lock);
    }
}

void fake_daemon_start(FakeDaemon *daemon, uint32_t slots, uint64_t slot_bytes) {
    RingOptions options = {.slot_count = slots,
                           .slot_bytes = slot_bytes,
                           .world = 1,
                           .workers = 2,
                           .plan = "sf1;plan",
                           .start_cursor = "sf1;epoch=0;index=0"};
    int r;

    *daemon = (FakeDaemon){.rounds_per_epoch = UINT32_MAX, .address.sun_family = AF_UNIX};
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        daemon->connections[i] = (FakeConnection){-1, -1};
    snprintf(daemon->folder, sizeof daemon->folder, "/tmp/seqfeed-test-XXXXXX");
    if (!mkdtemp(daemon->folder))
        abort();
    snprintf(daemon->address.sun_path, sizeof daemon->address.sun_path, "%s/socket",
             daemon->folder);
    pthread_mutex_init(&daemon->lock, NULL);
    pthread_cond_init(&daemon->nudged, NULL);
    r = ring_writer_create(&options, &daemon->writer, NULL);
    assert(r == 0);
    daemon->stop_fd = eventfd(0, EFD_CLOEXEC);
    daemon->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    r = bind(daemon->listener, (struct sockaddr *)&daemon->address, sizeof daemon->address);
    assert(r == 0);
    r = listen(daemon->listener, 16);
    assert(r == 0);
    r = pthread_create(&daemon->thread, NULL, daemon_loop, daemon);
    assert(r == 0);
}

void fake_daemon_stop(FakeDaemon *daemon) {
    uint64_t one = 1;

    (void)!write(daemon->stop_fd, &one, sizeof one);
    pthread_join(daemon->thread, NULL);
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        connection_close(daemon, &daemon->connections[i]);
    close(daemon->listener);
    close(daemon->stop_fd);
    ring_writer_destroy(daemon->writer);
    unlink(daemon->address.sun_path);
    rmdir(daemon->folder);
    pthread_mutex_destroy(&daemon->lock);
    pthread_cond_destroy(&daemon->nudged);
}

static void describe(const FakeDaemon *daemon, uint64_t sequence, SeqfeedDescriptor *to) {
    uint64_t epoch = sequence / daemon->rounds_per_epoch;
    uint64_t index = sequence % daemon->rounds_per_epoch, words = daemon->writer->slot_bytes / 8;
    bool last = index + 1 == daemon->rounds_per_epoch;

    *to = (SeqfeedDescriptor){.epoch = epoch,
                              .index = index,
                              .tokens = words,
                              .slots = words,
                              .rows = 8,
                              .flags = (last ? SEQFEED_BATCH_EPOCH_END : 0) |
                                       (index == 0 ? SEQFEED_BATCH_FIRST : 0),
                              .epoch_length = daemon->rounds_per_epoch,
                              .whole_length = daemon->rounds_per_epoch + 3,
                              .next_epoch = last ? epoch + 1 : epoch,
                              .next_index = last ? 0 : index + 1,
                              .tensor_count = 1};
    snprintf(to->cursor, sizeof to->cursor, "sf1;epoch=%llu;index=%llu",
             (unsigned long long)to->next_epoch, (unsigned long long)to->next_index);
    to->tensors[0] = (SeqfeedTensorRecord){.name = "tokens",
                                           .dtype = SEQFEED_INT64,
                                           .ndim = 2,
                                           .shape = {8, (int64_t)words / 8},
                                           .stride = {(int64_t)words / 8, 1},
                                           .size_bytes = words * 8};
}

static void wake_members(FakeDaemon *daemon) {
    daemon->unheard = 0;
    ring_writer_wake(daemon->writer);
}

/* With the lock. */
static bool publish_if_free(FakeDaemon *daemon) {
    SeqfeedDescriptor descriptor;
    uint64_t sequence, *slot;

    if (daemon->writer->member_count > 0 && ring_writer_accept(daemon->writer) >= 0)
        abort();
    slot = ring_writer_claim(daemon->writer, &sequence);
    if (!slot)
        return false;
    for (uint64_t i = 0; i < daemon->writer->slot_bytes / 8; i++)
        slot[i] = fake_pattern(sequence, i);
    describe(daemon, sequence, &descriptor);
    ring_writer_publish(daemon->writer, &descriptor);
    if (++daemon->unheard >= daemon->wake_every)
        wake_members(daemon);
    return true;
}

bool fake_daemon_publish(FakeDaemon *daemon) {
    bool published;

    pthread_mutex_lock(&daemon->lock);
    published = publish_if_free(daemon);
    pthread_mutex_unlock(&daemon->lock);
    return published;
}

bool fake_daemon_publish_wait(FakeDaemon *daemon) {
    struct timespec limit;
    bool published;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    pthread_mutex_lock(&daemon->lock);
    published = publish_if_free(daemon);
    while (!published) {
        wake_members(daemon);
        ring_writer_set_wake(daemon->writer,
                             daemon->writer->tail + (daemon->writer->slot_count + 1) / 2,
                             RING_MEMBERS_MAX);
        published = publish_if_free(daemon);
        if (!published && pthread_cond_timedwait(&daemon->nudged, &daemon->lock, &limit) != 0)
            break;
        ring_writer_set_wake(daemon->writer, 0, RING_MEMBERS_MAX);
    }
    pthread_mutex_unlock(&daemon->lock);
    return published;
}

void fake_daemon_set_state(FakeDaemon *daemon, uint32_t state, int code, const char *text) {
    pthread_mutex_lock(&daemon->lock);
    ring_writer_set_state(daemon->writer, state, code, text);
    pthread_mutex_unlock(&daemon->lock);
}

void fake_daemon_notify(FakeDaemon *daemon, uint32_t type, int code, const char *text) {
    pthread_mutex_lock(&daemon->lock);
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        if (daemon->connections[i].fd >= 0)
            send_notice(daemon->connections[i].fd, type, code, text);
    pthread_mutex_unlock(&daemon->lock);
}

void fake_daemon_hang_up(FakeDaemon *daemon) {
    pthread_mutex_lock(&daemon->lock);
    for (uint32_t i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        connection_close(daemon, &daemon->connections[i]);
    pthread_mutex_unlock(&daemon->lock);
}
