/* SPDX-License-Identifier: MIT */
/* listener.h: the socket that clients connect to. Made by us it is claimed first (a lock beside it
 * keeps a second daemon away), appears by rename when all is ready, and goes with us; handed over
 * by systemd it is used as it is. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "base/error.h"
#include "server/socket_path.h"

enum { LISTENER_E_BUSY = 1 };

typedef struct Listener {
    int fd;      /* listening; -1 before listener_open() */
    int lock_fd; /* -1: handed over */
    char path[SOCKET_PATH_BYTES];
    bool bound; /* by us: `device` and `inode` say which file is ours */
    dev_t device;
    ino_t inode;
} Listener;
#define LISTENER_NONE ((Listener){.fd = -1, .lock_fd = -1})

/* Take the right to `path`. LISTENER_E_BUSY: another daemon has it. A file there that is no socket
 * is an error, never overwritten. */
MUST_CHECK int listener_claim(Listener *listener, const char *path, Error *error);
/* After listener_claim(): listen, and let the path appear with `mode`. */
MUST_CHECK int listener_open(Listener *listener, mode_t mode, Error *error);
/* Use a listening socket of systemd's; the descriptor passes to the listener. */
MUST_CHECK int listener_adopt(Listener *listener, int fd, Error *error);
/* Remove what is ours and close. Accepts LISTENER_NONE. */
void listener_close(Listener *listener);

/* A new connection, non-blocking, that takes no descriptors from its peer; or a negative errno. */
MUST_CHECK int listener_accept(Listener *listener);
