/* SPDX-License-Identifier: MIT */
/* Two daemons must never share a path, and a daemon that was killed must not block the next one.
 * The lock is an flock on PATH.lock: the kernel drops it with the process, however that ended. The
 * lock file is removed by whoever holds it, so a starter that waited at open() may hold the lock of
 * a file that has no name any more; comparing the two inodes after locking finds that. Whoever
 * holds the lock still knocks at the path, for a socket that systemd or a stranger listens on. */
#include "server/listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

enum { LISTENER_BACKLOG = 512, LISTENER_LOCK_TRIES = 16 };

/* Room for PATH and the longest ending that is added to it. */
typedef struct BesidePath {
    char text[SOCKET_PATH_BYTES + 8];
} BesidePath;

static BesidePath beside(const char *path, const char *ending) {
    BesidePath beside;

    snprintf(beside.text, sizeof beside.text, "%s%s", path, ending);
    return beside;
}

/* 0 with the lock held, LISTENER_E_BUSY, or negative errno. */
static int take_lock(const char *path, int *ret_fd, Error *error) {
    for (int i = 0; i < LISTENER_LOCK_TRIES; i++) {
        CLEANUP(file_close) int fd = FILE_NONE;
        struct stat held, named;

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return error_set(error, -errno, "cannot make %s: %s", path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK
                       ? LISTENER_E_BUSY
                       : error_set(error, -errno, "cannot lock %s: %s", path, strerror(errno));
        if (fstat(fd, &held) < 0)
            return -errno;
        if (stat(path, &named) < 0 || held.st_ino != named.st_ino || held.st_dev != named.st_dev)
            continue;
        *ret_fd = fd;
        fd = FILE_NONE;
        return 0;
    }
    return LISTENER_E_BUSY; /* others come and go faster than we can look */
}

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    assert(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    return address;
}

/* Does anybody answer at `path`? 0: no, and a socket may be put there. */
static int knock(const char *path, Error *error) {
    struct sockaddr_un address = address_of(path);
    CLEANUP(file_close) int fd = FILE_NONE;
    struct stat status;

    if (lstat(path, &status) < 0)
        return errno == ENOENT
                   ? 0
                   : error_set(error, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISSOCK(status.st_mode))
        return error_set(error, -EEXIST, "%s is there and is no socket: remove it or name another",
                         path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(error, -errno, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN ||
        errno == EPROTOTYPE)
        return LISTENER_E_BUSY;
    return 0;
}

int listener_claim(Listener *listener, const char *path, Error *error) {
    BesidePath lock = beside(path, ".lock");
    int r;

    *listener = LISTENER_NONE;
    if (strlen(path) + strlen(".new") >= SOCKET_PATH_BYTES)
        return error_set(error, -ENAMETOOLONG, "the socket's path is too long: %s", path);
    r = take_lock(lock.text, &listener->lock_fd, error);
    if (r != 0)
        return r;
    strcpy(listener->path, path);
    r = knock(path, error);
    if (r != 0)
        listener_close(listener);
    return r;
}

int listener_open(Listener *listener, mode_t mode, Error *error) {
    BesidePath fresh = beside(listener->path, ".new");
    struct sockaddr_un address = address_of(fresh.text);
    CLEANUP(file_close) int fd = FILE_NONE;
    struct stat status;
    int no = 0;

    assert(listener->lock_fd >= 0);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(error, -errno, "cannot make a socket: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no); /* accepted ones inherit it */
    (void)unlink(fresh.text);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set(error, -errno, "cannot make the socket %s: %s", fresh.text,
                         strerror(errno));
    if (chmod(fresh.text, mode) < 0 || listen(fd, LISTENER_BACKLOG) < 0 ||
        lstat(fresh.text, &status) < 0 || rename(fresh.text, listener->path) < 0) {
        int r = error_set(error, -errno, "cannot open the socket %s: %s", listener->path,
                          strerror(errno));
        (void)unlink(fresh.text);
        return r;
    }
    listener->bound = true;
    listener->device = status.st_dev;
    listener->inode = status.st_ino;
    listener->fd = fd;
    fd = FILE_NONE;
    return 0;
}

int listener_adopt(Listener *listener, int fd, Error *error) {
    int type = 0, listening = 0, no = 0, flags;
    struct sockaddr_un address = {0};
    socklen_t size = sizeof type;

    *listener = LISTENER_NONE;
    listener->fd = fd;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening)
        return error_set(error, -EINVAL,
                         "the socket that was handed over is no listening SOCK_SEQPACKET one: say "
                         "ListenSequentialPacket= in its unit");
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_set(error, -errno, "cannot use the socket that was handed over: %s",
                         strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no);
    size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
        size > offsetof(struct sockaddr_un, sun_path))
        snprintf(listener->path, sizeof listener->path, "%.*s",
                 (int)(size - offsetof(struct sockaddr_un, sun_path)), address.sun_path);
    return 0;
}

void listener_close(Listener *listener) {
    struct stat status;

    if (listener->bound && lstat(listener->path, &status) == 0 &&
        status.st_ino == listener->inode && status.st_dev == listener->device)
        (void)unlink(listener->path);
    if (listener->lock_fd >= 0) {
        BesidePath lock = beside(listener->path, ".lock");
        (void)unlink(lock.text); /* while it is held: see above */
    }
    file_close(&listener->fd);
    file_close(&listener->lock_fd);
    *listener = LISTENER_NONE;
}

int listener_accept(Listener *listener) {
    int no = 0, fd;

    fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no);
    return fd;
}
