/* SPDX-License-Identifier: MIT */
#include "server/timer_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void timer_queue_deinit(TimerQueue *queue) {
    free(queue->heap);
    *queue = (TimerQueue){0};
}

static void put(TimerQueue *queue, uint32_t index, Timer *timer) {
    queue->heap[index] = timer;
    timer->place = index + 1;
}

static void sift_up(TimerQueue *queue, uint32_t index, Timer *timer) {
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (queue->heap[parent]->at_ns <= timer->at_ns)
            break;
        put(queue, index, queue->heap[parent]);
        index = parent;
    }
    put(queue, index, timer);
}

static void sift_down(TimerQueue *queue, uint32_t index, Timer *timer) {
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= queue->count)
            break;
        if (child + 1 < queue->count && queue->heap[child + 1]->at_ns < queue->heap[child]->at_ns)
            child++;
        if (queue->heap[child]->at_ns >= timer->at_ns)
            break;
        put(queue, index, queue->heap[child]);
        index = child;
    }
    put(queue, index, timer);
}

/* Give `timer` the place `index`, whatever was there before, and restore the order around it. */
static void settle(TimerQueue *queue, uint32_t index, Timer *timer) {
    if (index > 0 && queue->heap[(index - 1) / 2]->at_ns > timer->at_ns)
        sift_up(queue, index, timer);
    else
        sift_down(queue, index, timer);
}

int timer_set(TimerQueue *queue, Timer *timer, int64_t at_ns) {
    assert(timer->fire);
    if (!timer->place && queue->count == queue->capacity) {
        uint32_t capacity = queue->capacity ? 2 * queue->capacity : 64;
        Timer **heap = realloc(queue->heap, capacity * sizeof(Timer *));
        if (!heap)
            return -ENOMEM;
        queue->heap = heap;
        queue->capacity = capacity;
    }
    timer->at_ns = at_ns;
    if (timer->place)
        settle(queue, timer->place - 1, timer);
    else
        sift_up(queue, queue->count++, timer);
    return 0;
}

void timer_clear(TimerQueue *queue, Timer *timer) {
    uint32_t index = timer->place - 1;
    Timer *last;

    if (!timer->place)
        return;
    timer->place = 0;
    last = queue->heap[--queue->count];
    if (last != timer)
        settle(queue, index, last);
}

int64_t timer_queue_next(const TimerQueue *queue) {
    return queue->count ? queue->heap[0]->at_ns : INT64_MAX;
}

uint32_t timer_queue_run(TimerQueue *queue, int64_t now_ns) {
    uint32_t fired = 0, most = queue->count;

    while (fired < most && queue->count && queue->heap[0]->at_ns <= now_ns) {
        Timer *timer = queue->heap[0];
        timer_clear(queue, timer);
        timer->fire(timer, now_ns);
        fired++;
    }
    return fired;
}
