/* SPDX-License-Identifier: MIT */
/* server_state.h: what the files of this folder share of one Server. */
#pragma once

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/pipeline.h"
#include "server/event_loop.h"
#include "server/list.h"
#include "server/listener.h"
#include "server/quota.h"
#include "server/rate_limit.h"
#include "server/server.h"
#include "server/session.h"

struct Server {
    EventLoop loop;
    Listener listener;
    EventSource accept, signals, events;
    int signal_fd;
    Timer accept_pause, stop, watchdog, devices;
    Timer memory;        /* set while somebody waits for memory */
    int64_t watchdog_ns; /* between two looks; 0: nobody wants them */
    bool silent;         /* at the last look a thread was */
    Pipeline *pipeline;
    Feed **feeds;
    uint32_t feed_count;
    Quota connections, seats;
    List sessions; /* open ones */
    List closed;   /* freed at the end of the turn */
    List waits;    /* AdmissionWait */
    List audiences;
    uint64_t audiences_made; /* gives each its number */
    RateLimit complaints;    /* log lines that clients can cause */
    uint8_t instance[16];
    bool draining;     /* nothing new is taken; the end comes with the last stream */
    bool done;         /* now */
    bool memory_freed; /* in this turn: those who wait for memory may try again */
    int64_t started_ns;
};

/* Whoever waits says so after 5 s and then each minute. */
#define SERVER_TELL_FIRST_NS (5 * NS_PER_SECOND)
#define SERVER_TELL_AGAIN_NS (60 * NS_PER_SECOND)

/* Take nothing new; publish what is complete; the server ends with its last stream. */
void server_drain(Server *server);

/* A line that a client has caused: logged, or counted when there are too many. */
void server_log_client(Server *server, LogLevel level, const char *format, ...) PRINTF_FORMAT(3, 4);
