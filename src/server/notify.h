/* SPDX-License-Identifier: MIT */
/* notify.h: the conversation with systemd, when there is one. notify.c is built with libsystemd,
 * notify_absent.c without. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* The word for --version: "systemd", or "" when this part is not built in. */
const char *notify_part(void);

/* -ENOTSUP where systemd has started this process and wants what is not built in: it would pass a
 * socket that nobody listens on, or wait for ever for word that the daemon is ready. */
int notify_check(Error *error);

/* The one listening socket that systemd has handed over, -1 when there is none, -E2BIG for more.
 * The environment forgets it. */
int notify_listen_fd(void);

/* How often the watchdog wants to hear from us, nanoseconds; 0: not at all. */
int64_t notify_watchdog_ns(void);

void notify_ready(const char *status);
void notify_stopping(void);
void notify_alive(void);
