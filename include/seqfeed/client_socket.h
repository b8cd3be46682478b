/* SPDX-License-Identifier: MIT */
/* client_socket.h: inside of seqfeed.h, not for users: the attachment's state, the system calls
 * that ISO mode hides, and the conversation with the daemon. */
#ifndef SEQFEED_CLIENT_SOCKET_H
#define SEQFEED_CLIENT_SOCKET_H

#include <asm/socket.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "seqfeed/client_api.h"

SEQFEED_STATIC_ASSERT(sizeof(void *) == 8, "rings are mapped whole: seqfeed needs 64 bits");

/* With -std=c11 the system headers hide these, with -D_GNU_SOURCE they declare them in their
 * own way; under names of our own all are right, whatever was included before. */
extern long seqfeed_private_syscall(long number, ...) __asm__("syscall");
extern int seqfeed_private_clock(int clock, struct timespec *ret_now) __asm__("clock_gettime");
extern int seqfeed_private_madvise(void *memory, size_t bytes, int advice) __asm__("madvise");

/* Constants of the kernel's interface that ISO mode hides as well. */
enum {
    SEQFEED_PRIVATE_CLOCK_MONOTONIC = 1,
    SEQFEED_PRIVATE_FUTEX_WAIT = 0, /* shared between processes */
    SEQFEED_PRIVATE_GET_SEALS = 1034,
    SEQFEED_PRIVATE_SEAL_SHRINK = 0x02,
    SEQFEED_PRIVATE_SEAL_FUTURE_WRITE = 0x10,
    SEQFEED_PRIVATE_MAP_ANONYMOUS = 0x20, /* where it is another number, mapping fails */
    SEQFEED_PRIVATE_WIPE_ON_FORK = 18,
    SEQFEED_PRIVATE_DESCRIPTORS_MAX = 8
};

#define SEQFEED_PRIVATE_MS INT64_C(1000000)
#define SEQFEED_PRIVATE_SECOND INT64_C(1000000000)

struct Seqfeed {
    int64_t pid;         /* of the process that attached */
    uint32_t *fork_page; /* holds 1, and 0 in a forked child; NULL: compare `pid` */
    int socket;
    /* The ring. Sizes and offsets are private copies, checked once. */
    const uint8_t *memory;
    uint64_t memory_bytes;
    const SeqfeedRingHeader *header;
    SeqfeedAck *ack;
    uint64_t descriptors_offset, slots_offset, slot_bytes;
    uint32_t descriptor_bytes, slot_count;
    uint32_t rank, world;
    uint32_t member;                   /* of those that share the ring */
    uint64_t start_epoch, start_index; /* of the stream */
    /* Shared by the thread of next and those that release; all accesses are atomic. */
    uint64_t next;   /* sequence number of the next batch to hand out. writer: next */
    uint64_t held;   /* bit s: slot s is held */
    uint64_t nudged; /* `released` when the daemon was last sent a byte */
    /* The thread of next only. */
    int skipping; /* the stream began before our own cursor: */
    uint64_t own_epoch, own_index;
    int epoch_end_due; /* END_OF_EPOCH is the next answer */
    int length_known;
    uint64_t length, whole_length, length_epoch;
    int closing_code; /* from CLOSING; 0: none came */
    int hung_up;
    int64_t wait_started_ns, wait_looked_ns, wait_said_ns;
    int64_t wait_told_ns; /* when `waiting_text` came */
    int shared;           /* other members read the same ring */
    int crowded;          /* there are too few CPUs to spin while waiting */
    int64_t wait_mean_ns; /* how long next() has waited lately when it had to */
    char feed_name[SEQFEED_FEED_NAME];
    char plan[SEQFEED_PLAN_BYTES];
    char start_cursor[SEQFEED_CURSOR_BYTES];
    char message[SEQFEED_TEXT_BYTES];
    char closing_text[SEQFEED_TEXT_BYTES];
    char waiting_text[SEQFEED_TEXT_BYTES]; /* what the daemon said last of what it waits for */
};

static inline int64_t seqfeed_private_now(void) {
    struct timespec now;

    seqfeed_private_clock(SEQFEED_PRIVATE_CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SEQFEED_PRIVATE_SECOND + (int64_t)now.tv_nsec;
}

/* Asked for every batch, so not with a system call: the kernel empties one page at fork. */
static inline void seqfeed_private_mark_process(Seqfeed *feed) {
    size_t bytes = SEQFEED_PAGE;
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | SEQFEED_PRIVATE_MAP_ANONYMOUS, -1, 0);

    feed->pid = (int64_t)getpid();
    if (page == MAP_FAILED)
        return;
    if (seqfeed_private_madvise(page, bytes, SEQFEED_PRIVATE_WIPE_ON_FORK) != 0) {
        (void)munmap(page, bytes);
        return;
    }
    feed->fork_page = (uint32_t *)page;
    *feed->fork_page = 1;
}

static inline int seqfeed_private_is_forked(const Seqfeed *feed) {
    return feed->fork_page ? __atomic_load_n(feed->fork_page, __ATOMIC_RELAXED) == 0
                           : feed->pid != (int64_t)getpid();
}

/* Stores the sentence. */
__attribute__((format(printf, 3, 4))) static inline void
seqfeed_private_tell(SeqfeedError *error, int code, const char *format, ...) {
    va_list arguments;

    if (!error)
        return;
    error->code = code;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
}

/* The same, and its value is `code` (a variable or a constant): compilers see through a macro that
 * whoever fails returns no 0, which they cannot see through a function like printf. */
#define seqfeed_private_fail(error, code, ...) \
    (seqfeed_private_tell((error), (code), __VA_ARGS__), (code))

/* A sentence of the daemon, or about it, for the person at the terminal. Bytes that could drive the
 * terminal are replaced. */
static inline void seqfeed_private_say(const char *text) {
    char line[SEQFEED_TEXT_BYTES];
    unsigned char before = 0;
    size_t size = 0;

    for (; text[size] != '\0' && size + 1 < sizeof line; size++) {
        unsigned char byte = (unsigned char)text[size];
        int of_two = before == 0xc2 && byte >= 0x80 && byte < 0xa0; /* a control of two bytes */
        if (of_two)
            line[size - 1] = '?';
        line[size] = of_two || byte < 0x20 || byte == 0x7f ? '?' : text[size];
        before = byte;
    }
    line[size] = '\0';
    fprintf(stderr, "seqfeed: %s\n", line);
}

/* An errno from outside is a small negative number or becomes -EPROTO. */
static inline int seqfeed_private_outside_code(int32_t code) {
    return code < 0 && code >= -4095 ? (int)code : -EPROTO;
}

/* ---- finding the daemon ---- */

typedef struct SeqfeedPrivatePath {
    char text[sizeof(((struct sockaddr_un *)0)->sun_path)];
} SeqfeedPrivatePath;

/* /tmp is everybody's: the folder there must be a folder, ours, and closed to others. */
static inline int seqfeed_private_is_private_folder(const char *path) {
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == getuid() &&
           (status.st_mode & 077) == 0;
}

/* The time-out of sending is also that of waiting in a full backlog. */
static inline int seqfeed_private_limit_sending(int fd, int64_t deadline_ns) {
    int64_t left_us = (deadline_ns - seqfeed_private_now()) / 1000;
    struct timeval limit;

    if (left_us < 1)
        left_us = 1; /* none would be for ever */
    memset(&limit, 0, sizeof limit);
    limit.tv_sec = (time_t)(left_us / 1000000);
    limit.tv_usec = (suseconds_t)(left_us % 1000000);
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 ? 0 : -errno;
}

/* Returns a connected socket or a negative errno. */
static inline int seqfeed_private_connect_to(const char *path, int64_t deadline_ns) {
    struct sockaddr_un address;
    int fd, r;

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    do { /* each signal begins the wait anew, with what is left of it */
        r = seqfeed_private_limit_sending(fd, deadline_ns);
        if (r == 0 &&
            connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) < 0)
            r = -errno;
    } while (r == -EINTR);
    if (r < 0) {
        close(fd);
        return r == -EAGAIN ? -ETIMEDOUT : r;
    }
    return fd;
}

/* Is who listens there ourselves or root? Asked where the path alone proves nothing. */
static inline int seqfeed_private_peer_is_ours(int fd) {
    uint32_t peer[3] = {0, 0, 0}; /* struct ucred: pid, uid, gid */
    socklen_t size = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0 && size == sizeof peer &&
           (peer[1] == 0 || peer[1] == (uint32_t)getuid());
}

/* The places to look at when nobody named one; returns how many. */
static inline int seqfeed_private_usual_paths(SeqfeedPrivatePath paths[3], int *ret_in_tmp) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    size_t room = sizeof paths[0].text;
    int count = 0;

    if (runtime && runtime[0] != '\0' && strlen(runtime) + sizeof "/seqfeed.sock" <= room) {
        snprintf(paths[count].text, room, "%.94s/seqfeed.sock", runtime);
        count++;
    }
    *ret_in_tmp = count;
    snprintf(paths[count++].text, room, "/tmp/seqfeed-%lu/seqfeed.sock", (unsigned long)getuid());
    snprintf(paths[count++].text, room, "/run/seqfeed/seqfeed.sock");
    return count;
}

static inline int seqfeed_private_no_daemon(const char *places, SeqfeedError *error) {
    return seqfeed_private_fail(error, -ECONNREFUSED,
                                "no daemon at %s: start one with 'seqfeed run CONFIG -- COMMAND'",
                                places);
}

static inline int seqfeed_private_is_absent(int code) {
    return code == -ENOENT || code == -ECONNREFUSED || code == -ENOTDIR;
}

static inline int seqfeed_private_connect_usual(int64_t deadline_ns, SeqfeedError *error) {
    SeqfeedPrivatePath paths[3];
    int in_tmp, count = seqfeed_private_usual_paths(paths, &in_tmp), refused = -1, r = 0;
    char places[400] = "";

    for (int i = 0; i < count; i++) {
        char folder[sizeof paths[0].text];
        size_t said = strlen(places);
        int fd;

        snprintf(places + said, sizeof places - said, "%s%s", i > 0 ? ", " : "", paths[i].text);
        if (i == in_tmp) {
            snprintf(folder, sizeof folder, "/tmp/seqfeed-%lu", (unsigned long)getuid());
            if (!seqfeed_private_is_private_folder(folder))
                continue;
        }
        fd = seqfeed_private_connect_to(paths[i].text, deadline_ns);
        if (fd >= 0 && (i != in_tmp || seqfeed_private_peer_is_ours(fd)))
            return fd;
        if (fd >= 0)
            close(fd);
        else if (refused < 0 && !seqfeed_private_is_absent(fd)) {
            refused = i;
            r = fd;
        }
    }
    if (refused >= 0)
        return seqfeed_private_fail(error, r, "cannot connect to %s: %s", paths[refused].text,
                                    strerror(-r));
    return seqfeed_private_no_daemon(places, error);
}

/* Connect to `path`, or to where daemons usually are, until `deadline_ns`. Returns a socket that
 * the caller owns, or a negative errno with a sentence. */
static inline int seqfeed_private_connect(const char *path, int64_t deadline_ns,
                                          SeqfeedError *error) {
    int fd;

    if (!path || path[0] == '\0')
        path = getenv("SEQFEED_SOCKET");
    if (!path || path[0] == '\0')
        return seqfeed_private_connect_usual(deadline_ns, error);
    fd = seqfeed_private_connect_to(path, deadline_ns);
    if (fd >= 0)
        return fd;
    if (seqfeed_private_is_absent(fd))
        return seqfeed_private_no_daemon(path, error);
    return seqfeed_private_fail(error, fd, "cannot connect to %s: %s", path, strerror(-fd));
}

/* ---- messages ---- */

/* A received message with the descriptors that came along; whoever takes a descriptor sets its
 * place to -1. */
typedef struct SeqfeedPrivateMessage {
    union {
        SeqfeedMessageHead head;
        SeqfeedHelloReply hello;
        SeqfeedWelcome welcome;
        SeqfeedNotice notice;
        uint8_t bytes[SEQFEED_MESSAGE_MAX];
    } body;
    size_t size;
    int descriptors[SEQFEED_PRIVATE_DESCRIPTORS_MAX];
    int descriptor_count;
} SeqfeedPrivateMessage;

static inline void seqfeed_private_message_close(SeqfeedPrivateMessage *message) {
    for (int i = 0; i < message->descriptor_count; i++)
        if (message->descriptors[i] >= 0)
            close(message->descriptors[i]);
    message->descriptor_count = 0;
}

static inline int seqfeed_private_send(int fd, const void *bytes, size_t size) {
    ssize_t sent;

    do
        sent = send(fd, bytes, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? -ETIMEDOUT : errno == EPIPE ? -ECONNRESET : -errno;
    return (size_t)sent == size ? 0 : -EPROTO;
}

/* Is it a notice of this type, whole, and its sentence terminated? */
static inline int seqfeed_private_is_notice(const SeqfeedPrivateMessage *message, uint32_t type) {
    const SeqfeedNotice *notice = &message->body.notice;

    return message->body.head.type == type && message->size == sizeof *notice &&
           notice->reserved == 0 && memchr(notice->text, '\0', sizeof notice->text) != NULL;
}

static inline void seqfeed_private_take_descriptors(SeqfeedPrivateMessage *message,
                                                    struct msghdr *header) {
    struct cmsghdr *part;

    for (part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        size_t bytes = part->cmsg_len - CMSG_LEN(0), at;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (at = 0; at + sizeof(int) <= bytes &&
                     message->descriptor_count < SEQFEED_PRIVATE_DESCRIPTORS_MAX;
             at += sizeof(int))
            memcpy(&message->descriptors[message->descriptor_count++], CMSG_DATA(part) + at,
                   sizeof(int));
    }
}

/* Receive one message without waiting. -EAGAIN: none; -ECONNRESET: the other side is gone; -EPROTO:
 * not a message. On 0 the caller closes it. */
static inline int seqfeed_private_receive(int fd, SeqfeedPrivateMessage *ret_message) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(SEQFEED_PRIVATE_DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct msghdr header;
    struct iovec part;
    ssize_t size;

    memset(&header, 0, sizeof header);
    part.iov_base = ret_message->body.bytes;
    part.iov_len = sizeof ret_message->body.bytes;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    do
        size = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        return size == 0 ? -ECONNRESET : errno == EWOULDBLOCK ? -EAGAIN : -errno;
    ret_message->size = (size_t)size;
    ret_message->descriptor_count = 0;
    seqfeed_private_take_descriptors(ret_message, &header);
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
        (size_t)size >= sizeof ret_message->body.head &&
        ret_message->body.head.size == (uint32_t)size)
        return 0;
    seqfeed_private_message_close(ret_message);
    return -EPROTO;
}

/* Wait for the next message until `deadline_ns`. */
static inline int seqfeed_private_receive_until(int fd, int64_t deadline_ns,
                                                SeqfeedPrivateMessage *ret_message) {
    for (;;) {
        int64_t left_ns;
        struct pollfd wait;
        int r = seqfeed_private_receive(fd, ret_message);

        if (r != -EAGAIN)
            return r;
        left_ns = deadline_ns - seqfeed_private_now();
        if (left_ns <= 0)
            return -ETIMEDOUT;
        wait.fd = fd;
        wait.events = POLLIN;
        wait.revents = 0;
        (void)poll(&wait, 1,
                   left_ns > 60 * SEQFEED_PRIVATE_SECOND ? 60000
                                                         : (int)(left_ns / SEQFEED_PRIVATE_MS + 1));
    }
}

#endif
