/* SPDX-License-Identifier: MIT */
#include "base/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

int queue_init(Queue *queue, size_t item_bytes, uint32_t capacity) {
    uint8_t *items = calloc(capacity, item_bytes);

    if (!items)
        return -ENOMEM;
    pthread_mutex_init(&queue->lock, NULL);
    queue->items = items;
    queue->item_bytes = item_bytes;
    queue->capacity = capacity;
    queue->head = 0;
    atomic_init(&queue->count, 0);
    return 0;
}

void queue_deinit(Queue *queue) {
    if (!queue->items)
        return;
    pthread_mutex_destroy(&queue->lock);
    free(queue->items);
    queue->items = NULL;
}

bool queue_push(Queue *queue, const void *item) {
    uint32_t count;

    pthread_mutex_lock(&queue->lock);
    count = atomic_load_explicit(&queue->count, memory_order_relaxed);
    if (count < queue->capacity) {
        uint32_t at = (queue->head + count) % queue->capacity;
        memcpy(queue->items + at * queue->item_bytes, item, queue->item_bytes);
        atomic_store_explicit(&queue->count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&queue->lock);
    return count < queue->capacity;
}

bool queue_pop(Queue *queue, void *ret_item) {
    uint32_t count;

    if (queue_count(queue) == 0)
        return false;
    pthread_mutex_lock(&queue->lock);
    count = atomic_load_explicit(&queue->count, memory_order_relaxed);
    if (count > 0) {
        memcpy(ret_item, queue->items + queue->head * queue->item_bytes, queue->item_bytes);
        queue->head = (queue->head + 1) % queue->capacity;
        atomic_store_explicit(&queue->count, count - 1, memory_order_release);
    }
    pthread_mutex_unlock(&queue->lock);
    return count > 0;
}

uint32_t queue_count(const Queue *queue) {
    return atomic_load_explicit(&((Queue *)queue)->count, memory_order_acquire);
}
