/* SPDX-License-Identifier: MIT */
/* server.h: the control plane: who may attach, who waits for whom, what is told. One thread, the
 * caller's; it never blocks and never touches a batch. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/error.h"
#include "feed/feed.h"

typedef struct Server Server;

typedef struct ServerOptions {
    const char *socket_option;   /* --socket, or NULL */
    const char *socket_settings; /* the configuration's, or NULL */
    uint32_t workers;            /* these five as in PipelineOptions */
    uint64_t memory, cache;
    bool fewer_workers, force_pread;
    /* Open the feeds: an array in malloc'ed memory that passes to the server, with one reference
     * each. May block. 0 or negative errno with a sentence. */
    int (*load_feeds)(void *argument, Feed ***ret_feeds, uint32_t *ret_count, Error *error);
    void *argument;
    int64_t (*clock)(void); /* NULL: monotonic time. Tests have one of their own */
} ServerOptions;

/* Signals that the server wants to read are blocked from here on, and SIGPIPE is ignored. Before
 * any thread is started. */
void server_take_signals(void);

/* Claim the socket, open the feeds, start the pipeline, then let the socket appear. 0;
 * SERVER_E_BUSY when another daemon has the socket; negative errno with a sentence. */
enum { SERVER_E_BUSY = 1 };
MUST_CHECK int server_new(const ServerOptions *options, Server **ret_server, Error *error);

/* Serve until a signal or a drained last stream ends it. 0 or negative errno with a sentence. */
MUST_CHECK int server_run(Server *server, Error *error);

/* One turn: wait at most `timeout_ns` (negative: for ever), then handle what has happened. 0,
 * SERVER_E_DONE when it is time to go, or negative errno. */
enum { SERVER_E_DONE = 2 };
MUST_CHECK int server_turn(Server *server, int64_t timeout_ns);

/* Take the socket away, end every connection, stop the pipeline. Accepts NULL. */
void server_free(Server *server);

/* Optional parts that are built in, as words: "io_uring cuda systemd". */
const char *server_parts(void);
