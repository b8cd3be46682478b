/* SPDX-License-Identifier: MIT */
/* queue.h: a bounded first-in first-out queue of fixed-size items between threads. Any number of
 * producers and consumers. Never blocks: who wants to wait sleeps on a Bell (worker.h). The lock is
 * held for one copy of an item. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Queue {
    pthread_mutex_t lock;
    uint8_t *items;
    size_t item_bytes;
    uint32_t capacity;
    uint32_t head;          /* next to take */
    _Atomic uint32_t count; /* changed under the lock; read without it as a hint */
} Queue;

/* `capacity` items of `item_bytes` each. Returns 0 or -ENOMEM. */
MUST_CHECK int queue_init(Queue *queue, size_t item_bytes, uint32_t capacity);
void queue_deinit(Queue *queue);

/* Copy an item in or out; false when full or empty. */
MUST_CHECK bool queue_push(Queue *queue, const void *item);
MUST_CHECK bool queue_pop(Queue *queue, void *ret_item);

/* How many items are there, at some moment near now. */
uint32_t queue_count(const Queue *queue);
