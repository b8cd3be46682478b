/* SPDX-License-Identifier: MIT */
#include "server/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

static int read_groups(int socket_fd, gid_t **ret_groups, uint32_t *ret_count) {
    gid_t *groups = NULL;
    socklen_t size = 0;

    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) < 0 && errno != ERANGE)
        return errno == ENODATA ? 0 : -errno;
    if (size > 0) {
        groups = malloc(size);
        if (!groups)
            return -ENOMEM;
        if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0) {
            int r = -errno;
            free(groups);
            return r;
        }
    }
    *ret_groups = groups;
    *ret_count = (uint32_t)(size / sizeof(gid_t));
    return 0;
}

/* Before Linux 6.5: by number. The number may have gone to another process between connect and
 * here, so what it names now must at least be the same user's. */
static int open_process(const Credentials *credentials, int *ret_pidfd) {
    CLEANUP(file_close) int fd = FILE_NONE;
    struct stat status;
    char path[32];

    if (credentials->pid <= 0) {
        *ret_pidfd = FILE_NONE;
        return 0;
    }
    fd = (int)syscall(SYS_pidfd_open, credentials->pid, 0);
    if (fd < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/%d", credentials->pid);
    if (stat(path, &status) == 0 && status.st_uid != credentials->uid && status.st_uid != 0)
        return -ESRCH;
    *ret_pidfd = fd;
    fd = FILE_NONE;
    return 0;
}

int credentials_read(int socket_fd, Credentials *ret_credentials, int *ret_pidfd) {
    CLEANUP(credentials_deinit) Credentials credentials = {0};
    struct ucred peer;
    socklen_t size = sizeof peer;
    int pidfd = FILE_NONE, r;

    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    credentials.uid = peer.uid;
    credentials.gid = peer.gid;
    credentials.pid = peer.pid;
    r = read_groups(socket_fd, &credentials.groups, &credentials.group_count);
    if (r < 0)
        return r;
    size = sizeof pidfd;
    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0) {
        r = errno == ENOPROTOOPT ? open_process(&credentials, &pidfd) : -errno;
        if (r < 0)
            return r;
    }
    *ret_pidfd = pidfd;
    *ret_credentials = credentials;
    credentials = (Credentials){0};
    return 0;
}

void credentials_deinit(Credentials *credentials) {
    free(credentials->groups);
    *credentials = (Credentials){0};
}

static bool has_group(const Credentials *credentials, uint32_t group) {
    if (credentials->gid == group)
        return true;
    for (uint32_t i = 0; i < credentials->group_count; i++)
        if (credentials->groups[i] == group)
            return true;
    return false;
}

bool credentials_match(const Credentials *credentials, const uint32_t *users, uint32_t user_count,
                       const uint32_t *groups, uint32_t group_count) {
    for (uint32_t i = 0; i < user_count; i++)
        if (users[i] == credentials->uid)
            return true;
    for (uint32_t i = 0; i < group_count; i++)
        if (has_group(credentials, groups[i]))
            return true;
    return false;
}
