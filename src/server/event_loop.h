/* SPDX-License-Identifier: MIT */
/* event_loop.h: the control thread's only place to wait: descriptors (level-triggered epoll) and
 * timers. Callbacks must not block. Sources and timers live in their owners, which must remove them
 * before they go. One thread. */
#pragma once

#include <stdint.h>
#include <sys/epoll.h>

#include "base/attributes.h"
#include "server/timer_queue.h"

typedef struct EventSource EventSource;
struct EventSource {
    int fd; /* the owner's; -1: not added */
    void (*ready)(EventSource *source, uint32_t events);
};
#define EVENT_SOURCE_NONE ((EventSource){.fd = -1})

enum { EVENT_LOOP_BATCH = 64 };

typedef struct EventLoop {
    int epoll_fd;
    int64_t (*clock)(void);
    int64_t now_ns; /* of this turn */
    TimerQueue timers;
    struct epoll_event batch[EVENT_LOOP_BATCH]; /* events of this turn, handled one by one */
    int batch_count, batch_at;
} EventLoop;

/* `clock` gives monotonic nanoseconds. 0 or negative errno. */
MUST_CHECK int event_loop_init(EventLoop *loop, int64_t (*clock)(void));
void event_loop_deinit(EventLoop *loop);

MUST_CHECK int event_loop_add(EventLoop *loop, EventSource *source, int fd, uint32_t events,
                              void (*ready)(EventSource *source, uint32_t events));
/* Listen to other events; 0 leaves hang-ups and errors. */
void event_loop_change(EventLoop *loop, EventSource *source, uint32_t events);
/* Before its descriptor is closed. Its events of this turn are forgotten. Nothing if not added. */
void event_loop_remove(EventLoop *loop, EventSource *source);

/* Wait until a descriptor is ready, a timer is due or `timeout_ns` have passed (negative: for
 * ever), then call back. Returns the number of callbacks, or a negative errno. */
MUST_CHECK int event_loop_turn(EventLoop *loop, int64_t timeout_ns);
