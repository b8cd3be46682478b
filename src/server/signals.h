/* SPDX-License-Identifier: MIT */
/* signals.h: the signals that the server takes, as a descriptor that its event loop reads; and a
 * thread that reads it while there is no loop yet. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/attributes.h"
#include "server/listener.h"

/* Block SIGTERM, SIGINT and SIGHUP, so that they wait for whoever reads the descriptor. */
void signals_block(void);

/* The descriptor, or negative errno. */
MUST_CHECK int signals_open(void);

/* Take signals until one asks for the end: true. False when there are no more. Each is logged. */
MUST_CHECK bool signals_ask_for_end(int fd);

/* Opening the feeds is one long step, minutes where their files come slowly, and a read may hang
 * for ever. Who asks for the end meanwhile gets it at once: nobody has been let in yet. */
typedef struct EarlyEnd {
    pthread_t thread;
    bool started;
    int signal_fd, stop_fd;
    Listener *listener; /* closed before the process ends */
} EarlyEnd;

/* Until early_end_stop() a signal ends the process, with exit code 0. Without another thread or
 * descriptor it waits for the loop, as if this had not been called. */
void early_end_start(EarlyEnd *early, int signal_fd, Listener *listener);
void early_end_stop(EarlyEnd *early);
