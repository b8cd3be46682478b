/* SPDX-License-Identifier: MIT */
/* task.h: work that any worker may do, as nodes that live inside the objects they work on. A queue
 * of such nodes needs no memory of its own and is bounded by construction: a node stands in at most
 * one queue, at most once. The lock is held for a few pointer moves. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Task Task;
struct Task {
    Task *next;
    /* `worker` is the context of the thread that runs it. */
    void (*run)(Task *task, void *worker);
};

typedef struct TaskQueue {
    pthread_mutex_t lock;
    Task *first, *last;
    _Atomic uint32_t count; /* read without the lock as a hint */
} TaskQueue;

void task_queue_init(TaskQueue *queue);
void task_queue_deinit(TaskQueue *queue); /* must be empty */
void task_queue_push(TaskQueue *queue, Task *task);
/* The oldest task, or NULL. */
MUST_CHECK Task *task_queue_pop(TaskQueue *queue);
