/* SPDX-License-Identifier: MIT */
#include "server/event_loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

int event_loop_init(EventLoop *loop, int64_t (*clock)(void)) {
    *loop = (EventLoop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .clock = clock};
    if (loop->epoll_fd < 0)
        return -errno;
    loop->now_ns = clock();
    return 0;
}

void event_loop_deinit(EventLoop *loop) {
    file_close(&loop->epoll_fd);
    timer_queue_deinit(&loop->timers);
}

int event_loop_add(EventLoop *loop, EventSource *source, int fd, uint32_t events,
                   void (*ready)(EventSource *source, uint32_t events)) {
    struct epoll_event event = {.events = events, .data.ptr = source};

    assert(ready && fd >= 0);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    source->fd = fd;
    source->ready = ready;
    return 0;
}

void event_loop_change(EventLoop *loop, EventSource *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};

    assert(source->fd >= 0);
    /* Modifying what is registered takes no memory, so it cannot fail. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

void event_loop_remove(EventLoop *loop, EventSource *source) {
    if (source->fd < 0)
        return;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->fd = -1;
    /* A callback of this turn may remove any source, and its owner may be freed after that. */
    for (int i = loop->batch_at; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == source)
            loop->batch[i].data.ptr = NULL;
}

/* Milliseconds for epoll_wait(), rounded up so that a timer is due when it returns. */
static int wait_ms(const EventLoop *loop, int64_t timeout_ns) {
    int64_t next = timer_queue_next(&loop->timers), ms;

    if (next != INT64_MAX) {
        int64_t left = MAX(next - loop->clock(), 0);
        timeout_ns = timeout_ns < 0 ? left : MIN(timeout_ns, left);
    }
    if (timeout_ns < 0)
        return -1;
    ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);
    return (int)MIN(ms, INT_MAX);
}

int event_loop_turn(EventLoop *loop, int64_t timeout_ns) {
    int count, called = 0;

    count = epoll_wait(loop->epoll_fd, loop->batch, EVENT_LOOP_BATCH, wait_ms(loop, timeout_ns));
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    loop->now_ns = loop->clock();
    loop->batch_count = count;
    for (loop->batch_at = 0; loop->batch_at < loop->batch_count; loop->batch_at++) {
        EventSource *source = loop->batch[loop->batch_at].data.ptr;
        if (!source)
            continue;
        source->ready(source, loop->batch[loop->batch_at].events);
        called++;
    }
    loop->batch_count = 0;
    return called + (int)timer_queue_run(&loop->timers, loop->now_ns);
}
