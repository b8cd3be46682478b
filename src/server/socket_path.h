/* SPDX-License-Identifier: MIT */
/* socket_path.h: where the daemon's socket stands when it makes one itself. */
#pragma once

#include "base/attributes.h"
#include "base/error.h"

enum { SOCKET_PATH_BYTES = 108 }; /* what sockaddr_un holds, with the NUL */

/* The first that is given of `option`, SEQFEED_SOCKET and `configured`; else the first that applies
 * of $XDG_RUNTIME_DIR/seqfeed.sock, /tmp/seqfeed-UID/seqfeed.sock (the folder is made, 0700, and
 * must be ours) and /run/seqfeed/seqfeed.sock. 0 or negative errno with a sentence. */
MUST_CHECK int socket_path_choose(const char *option, const char *configured,
                                  char ret_path[SOCKET_PATH_BYTES], Error *error);
