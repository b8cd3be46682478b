/* SPDX-License-Identifier: MIT */
#include "base/task.h"

#include <assert.h>
#include <stddef.h>

void task_queue_init(TaskQueue *queue) {
    pthread_mutex_init(&queue->lock, NULL);
    queue->first = queue->last = NULL;
    atomic_init(&queue->count, 0);
}

void task_queue_deinit(TaskQueue *queue) {
    assert(!queue->first);
    pthread_mutex_destroy(&queue->lock);
}

void task_queue_push(TaskQueue *queue, Task *task) {
    pthread_mutex_lock(&queue->lock);
    task->next = NULL;
    if (queue->last)
        queue->last->next = task;
    else
        queue->first = task;
    queue->last = task;
    atomic_fetch_add_explicit(&queue->count, 1, memory_order_release);
    pthread_mutex_unlock(&queue->lock);
}

Task *task_queue_pop(TaskQueue *queue) {
    Task *task;

    if (atomic_load_explicit(&queue->count, memory_order_acquire) == 0)
        return NULL;
    pthread_mutex_lock(&queue->lock);
    task = queue->first;
    if (task) {
        queue->first = task->next;
        if (!queue->first)
            queue->last = NULL;
        atomic_fetch_sub_explicit(&queue->count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&queue->lock);
    return task;
}
