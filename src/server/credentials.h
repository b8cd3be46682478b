/* SPDX-License-Identifier: MIT */
/* credentials.h: who is at the other end of a socket, as the kernel noted it at connect. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"

typedef struct Credentials {
    uid_t uid;
    gid_t gid;
    pid_t pid;     /* as this process sees it; 0: in a PID namespace that is not ours */
    gid_t *groups; /* supplementary ones */
    uint32_t group_count;
} Credentials;

/* Read them, and open a descriptor of the process itself in *ret_pidfd, or -1 where neither the
 * kernel gives one nor the pid is known. 0, -ESRCH when the process is gone, or another errno. The
 * caller frees with credentials_deinit() and closes the descriptor. */
MUST_CHECK int credentials_read(int socket_fd, Credentials *ret_credentials, int *ret_pidfd);
void credentials_deinit(Credentials *credentials);

/* Is this one of these users, or in one of these groups? */
bool credentials_match(const Credentials *credentials, const uint32_t *users, uint32_t user_count,
                       const uint32_t *groups, uint32_t group_count);
