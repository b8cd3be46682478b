/* SPDX-License-Identifier: MIT */
/* status_report.h: what the server knows, as one JSON object for `seqfeed status`. */
#pragma once

#include "base/text.h"
#include "server/server_state.h"

/* Who writes the feeds' batches as the daemon starts, "cuda" or "cpu"; why is appended to
 * `reason`. */
const char *status_masks(const Server *server, Text *reason);

/* Append it to `text`. `peer` sees everything when it is the daemon's user or root, else only what
 * is its own. */
void status_report(const Server *server, const Credentials *peer, Text *text);
