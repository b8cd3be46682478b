/* SPDX-License-Identifier: MIT */
/* timer_queue.h: what shall happen when, as a binary heap of timers that live in their owners.
 * Knows no clock: the caller says what time it is, so that tests have their own. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Timer Timer;
struct Timer {
    int64_t at_ns;
    void (*fire)(Timer *timer, int64_t now_ns); /* no longer set when this is called */
    uint32_t place;                             /* 1 + index in the heap; 0: not set */
};

typedef struct TimerQueue {
    Timer **heap;
    uint32_t count, capacity;
} TimerQueue;

void timer_queue_deinit(TimerQueue *queue);

/* Set, or move, a timer. `timer->fire` stands. 0 or -ENOMEM (then it is not set). */
MUST_CHECK int timer_set(TimerQueue *queue, Timer *timer, int64_t at_ns);
void timer_clear(TimerQueue *queue, Timer *timer); /* nothing if it is not set */
static inline bool timer_is_set(const Timer *timer) {
    return timer->place != 0;
}

/* When the first timer is due; INT64_MAX when there is none. */
int64_t timer_queue_next(const TimerQueue *queue);

/* Fire what was due at `now_ns`, earliest first; a timer that is set again for now waits for the
 * next call. Returns how many fired. */
uint32_t timer_queue_run(TimerQueue *queue, int64_t now_ns);
