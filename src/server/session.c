/* SPDX-License-Identifier: MIT */
/* A client may do anything with its end of the socket, so three rules hold here. It never gets us
 * to wait: every call is non-blocking, and who does not read what was sent is dropped at a
 * deadline. It never gets us to work more than others: so many messages a turn, so many a second,
 * and wake-ups, which are cheap to send, are read only now and then from one who sends too many. It
 * never gives us anything: there is no room for control data in recvmsg(), so descriptors that it
 * pushes are closed by the kernel and show as a cut message, which ends the connection. */
#include "server/session.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "server/message.h"

enum {
    SESSION_PACKETS_A_TURN = 32,
    SESSION_MESSAGES_BURST = 64,
    SESSION_HANDSHAKE_S = 10, /* from one step of the conversation to the next */
    SESSION_MUTE_MS = 10
};

static void set_timer(Session *session, int64_t after_ns) {
    if (timer_set(&session->loop->timers, &session->timer, session->loop->now_ns + after_ns) < 0)
        session_close(session);
}

static void enter(Session *session, SessionState state) {
    session->state = state;
    if (state == SESSION_WAITING)
        timer_clear(&session->loop->timers, &session->timer); /* the handler's deadline counts */
    else
        set_timer(session, SESSION_HANDSHAKE_S * NS_PER_SECOND);
}

/* What is still unread would turn our last words into a connection reset for the client. */
static void discard_unread(Session *session) {
    uint8_t byte;

    (void)shutdown(session->fd, SHUT_RD);
    for (int i = 0; i < 4 * SESSION_PACKETS_A_TURN; i++)
        if (recv(session->fd, &byte, sizeof byte, MSG_DONTWAIT) <= 0)
            return;
}

void session_close(Session *session) {
    if (session->state == SESSION_CLOSED)
        return;
    session->state = SESSION_CLOSED;
    timer_clear(&session->loop->timers, &session->timer);
    event_loop_remove(session->loop, &session->socket);
    event_loop_remove(session->loop, &session->process);
    discard_unread(session);
    file_close(&session->fd);
    file_close(&session->pidfd);
    session->handler->closed(session);
}

static bool send_message(Session *session, const void *bytes, size_t size) {
    return send(session->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

void session_refuse(Session *session, int code, const char *text) {
    SeqfeedNotice notice;

    if (session->state == SESSION_CLOSED)
        return;
    message_make_notice(session->state == SESSION_ATTACHED ? SEQFEED_MESSAGE_CLOSING
                                                           : SEQFEED_MESSAGE_ERROR,
                        code, text, &notice);
    (void)send_message(session, &notice, sizeof notice);
    session_close(session);
}

/* The client broke the rules: say so here too, within limits. */
static void complain(Session *session, const char *text) {
    if (rate_limit_pass(session->complaints, session->loop->now_ns))
        log_warning("user %u, pid %d: %s: disconnected", session->peer.uid, session->peer.pid,
                    text);
    session_refuse(session, -EPROTO, text);
}

/* Bytes that we sent and the client has not read. */
static int count_unread(const Session *session) {
    int unread = 0;

    return ioctl(session->fd, SIOCOUTQ, &unread) == 0 ? unread : 0;
}

void session_tell(Session *session, const char *text) {
    SeqfeedNotice notice;

    if (session->state != SESSION_WAITING && session->state != SESSION_ATTACHED)
        return;
    /* A trainer reads its socket only while it waits for a batch. What it has not read yet is
     * enough; and a notice of ours must not pass for an unread WELCOME. */
    if (session->state == SESSION_ATTACHED) {
        if (count_unread(session) > 0)
            return;
        session->read_by_ns = 0;
    }
    message_make_notice(SEQFEED_MESSAGE_WAITING, 0, text, &notice);
    (void)send_message(session, &notice, sizeof notice);
}

void session_welcome(Session *session, const SeqfeedWelcome *welcome, int data_fd, int ack_fd) {
    const int fds[2] = {data_fd, ack_fd};
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof fds)];
    } control = {0};
    struct iovec vector = {.iov_base = (void *)welcome, .iov_len = sizeof *welcome};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    assert(session->state == SESSION_WAITING);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(head), fds, sizeof fds);
    if (sendmsg(session->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        session_refuse(session, -errno, "the descriptors of the ring could not be passed");
        return;
    }
    session->read_by_ns = session->loop->now_ns + SESSION_HANDSHAKE_S * NS_PER_SECOND;
    enter(session, SESSION_ATTACHED);
}

static void send_reply(Session *session) {
    SeqfeedText message = {.head = {.type = SEQFEED_MESSAGE_TEXT, .size = sizeof message}};

    do {
        size_t left = session->reply.size - session->reply_sent;
        message.bytes = (uint32_t)MIN(left, (size_t)SEQFEED_TEXT_CHUNK);
        message.flags = left > SEQFEED_TEXT_CHUNK ? SEQFEED_TEXT_MORE : 0;
        memset(message.text, 0, sizeof message.text);
        if (message.bytes > 0)
            memcpy(message.text, session->reply.bytes + session->reply_sent, message.bytes);
        if (!send_message(session, &message, sizeof message)) {
            if (errno == EAGAIN)
                event_loop_change(session->loop, &session->socket, EPOLLOUT);
            else
                session_close(session);
            return;
        }
        session->reply_sent += message.bytes;
    } while (message.flags & SEQFEED_TEXT_MORE);
    text_deinit(&session->reply);
    event_loop_change(session->loop, &session->socket, EPOLLIN);
    enter(session, SESSION_READY);
}

void session_reply(Session *session, Text *text) {
    assert(session->state == SESSION_READY);
    session->reply = *text;
    session->reply_sent = 0;
    *text = (Text){0};
    enter(session, SESSION_REPLYING);
    if (session->state == SESSION_REPLYING)
        send_reply(session);
}

static void take_hello(Session *session, const uint8_t *bytes, size_t size) {
    SeqfeedHelloReply reply = {.head = {.type = SEQFEED_MESSAGE_HELLO_REPLY, .size = sizeof reply},
                               .version = SEQFEED_PROTOCOL_VERSION};
    SeqfeedHello hello;
    Error error = {0};
    int r;

    r = message_read_hello(bytes, size, &hello, &error);
    if (r == -EPROTO)
        complain(session, error.text);
    else if (r < 0)
        session_refuse(session, r, error.text);
    else if (!send_message(session, &reply, sizeof reply))
        session_close(session);
    else
        enter(session, SESSION_READY);
}

static void take_attach(Session *session, const uint8_t *bytes, size_t size) {
    SeqfeedAttach attach;
    Error error = {0};
    int r;

    r = message_read_attach(bytes, size, &attach, &error);
    if (r == -EPROTO) {
        complain(session, error.text);
    } else if (r < 0) {
        session_refuse(session, r, error.text);
    } else {
        enter(session, SESSION_WAITING);
        session->handler->attach(session, &attach);
    }
}

static void take_request(Session *session, const uint8_t *bytes, size_t size) {
    SeqfeedRequest request;
    Error error = {0};

    if (message_read_request(bytes, size, &request, &error) < 0)
        complain(session, error.text);
    else
        session->handler->request(session, request.what);
}

static void take_message(Session *session, const uint8_t *bytes, size_t size) {
    uint32_t type = message_type(bytes, size);

    if (!rate_limit_pass(&session->messages, session->loop->now_ns))
        complain(session, "more than 100 messages a second");
    else if (session->state == SESSION_HELLO)
        take_hello(session, bytes, size);
    else if (session->state == SESSION_READY && type == SEQFEED_MESSAGE_ATTACH)
        take_attach(session, bytes, size);
    else if (session->state == SESSION_READY && type == SEQFEED_MESSAGE_REQUEST)
        take_request(session, bytes, size);
    else
        complain(session, "a message at the wrong time");
}

/* One packet. Returns what recvmsg() does, or 0 when the connection is over. */
static ssize_t receive(Session *session, uint8_t *bytes, size_t capacity) {
    struct iovec vector = {.iov_base = bytes, .iov_len = capacity};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    ssize_t size = recvmsg(session->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (size < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    if (size > 0 && (message.msg_flags & MSG_CTRUNC)) {
        complain(session, "descriptors are not taken");
        return 0;
    }
    if (size > 0 && (message.msg_flags & MSG_TRUNC)) {
        complain(session, "a packet longer than any message");
        return 0;
    }
    return size;
}

static void read_packets(Session *session) {
    uint8_t bytes[SEQFEED_MESSAGE_MAX];
    uint32_t wakes = 0;
    int packets = 0;

    for (; packets < SESSION_PACKETS_A_TURN; packets++) {
        ssize_t size = receive(session, bytes, sizeof bytes);
        if (size < 0)
            break;
        if (size == 0) {
            session_close(session);
            return;
        }
        if (size == 1 && session->state == SESSION_ATTACHED)
            wakes++;
        else
            take_message(session, bytes, (size_t)size);
        if (session->state == SESSION_CLOSED || session->state == SESSION_REPLYING)
            return;
    }
    if (wakes == SESSION_PACKETS_A_TURN) {
        session->muted = true;
        event_loop_change(session->loop, &session->socket, 0);
        set_timer(session, SESSION_MUTE_MS * NS_PER_MS);
    }
    if (wakes > 0 && session->state == SESSION_ATTACHED)
        session->handler->wake(session);
}

static void socket_ready(EventSource *source, uint32_t events) {
    Session *session = CONTAINER_OF(source, Session, socket);

    if (session->state == SESSION_REPLYING && (events & EPOLLOUT))
        send_reply(session);
    else if (events & EPOLLIN)
        read_packets(session);
    else if (events & (EPOLLHUP | EPOLLERR))
        session_close(session);
}

/* The process that connected has ended. A child may still hold the socket; it is not the one who
 * was let in. */
static void process_ready(EventSource *source, uint32_t events) {
    (void)events;
    session_close(CONTAINER_OF(source, Session, process));
}

/* The descriptors in WELCOME count against us until they are read, so they must be. */
static void check_welcome_read(Session *session, int64_t now_ns) {
    if (session->read_by_ns == 0)
        return;
    if (now_ns < session->read_by_ns) {
        set_timer(session, session->read_by_ns - now_ns);
        return;
    }
    session->read_by_ns = 0;
    if (count_unread(session) > 0)
        complain(session, "WELCOME was not read in 10 s");
}

static void timer_fired(Timer *timer, int64_t now_ns) {
    Session *session = CONTAINER_OF(timer, Session, timer);

    if (session->state == SESSION_ATTACHED) {
        if (session->muted)
            event_loop_change(session->loop, &session->socket, EPOLLIN);
        session->muted = false;
        check_welcome_read(session, now_ns);
    } else if (session->state == SESSION_READY) {
        session_refuse(session, -ETIMEDOUT, "nothing was asked in 10 s");
    } else {
        session_refuse(session, -ETIMEDOUT, "too slow: a step of the conversation took over 10 s");
    }
}

static int open_session(Session *session) {
    int r;

    r = credentials_read(session->fd, &session->peer, &session->pidfd);
    if (r < 0)
        return r;
    r = event_loop_add(session->loop, &session->socket, session->fd, EPOLLIN, socket_ready);
    if (r < 0)
        return r;
    if (session->pidfd >= 0) {
        r = event_loop_add(session->loop, &session->process, session->pidfd, EPOLLIN,
                           process_ready);
        if (r < 0)
            return r;
    }
    return timer_set(&session->loop->timers, &session->timer,
                     session->loop->now_ns + SESSION_HANDSHAKE_S * NS_PER_SECOND);
}

int session_new(EventLoop *loop, int fd, const SessionHandler *handler, void *context,
                RateLimit *complaints, Session **ret_session) {
    Session *session = calloc(1, sizeof *session);
    int r;

    if (!session) {
        file_close(&fd);
        return -ENOMEM;
    }
    *session = (Session){.state = SESSION_HELLO,
                         .handler = handler,
                         .context = context,
                         .loop = loop,
                         .complaints = complaints,
                         .socket = EVENT_SOURCE_NONE,
                         .process = EVENT_SOURCE_NONE,
                         .fd = fd,
                         .pidfd = FILE_NONE,
                         .timer = {.fire = timer_fired},
                         .messages = {.interval_ns = 10 * NS_PER_MS,
                                      .burst = SESSION_MESSAGES_BURST,
                                      .since_ns = loop->now_ns}};
    list_init(&session->link);
    r = open_session(session);
    if (r < 0) {
        session_free(session);
        return r;
    }
    *ret_session = session;
    return 0;
}

void session_free(Session *session) {
    if (!session)
        return;
    timer_clear(&session->loop->timers, &session->timer);
    event_loop_remove(session->loop, &session->socket);
    event_loop_remove(session->loop, &session->process);
    file_close(&session->fd);
    file_close(&session->pidfd);
    credentials_deinit(&session->peer);
    text_deinit(&session->reply);
    free(session);
}
