/* SPDX-License-Identifier: MIT */
#include "base/queue.h"

#include <pthread.h>

#include "base/worker.h"
#include "support/check_main.h"

START_TEST(items_come_out_in_order_and_the_bound_holds)
{
    Queue queue;
    int item;

    ck_assert_int_eq(queue_init(&queue, sizeof item, 3), 0);
    for (int round = 0; round < 5; round++) {
        for (item = 0; item < 3; item++)
            ck_assert(queue_push(&queue, &item));
        ck_assert(!queue_push(&queue, &item));
        for (int i = 0; i < 3; i++) {
            ck_assert(queue_pop(&queue, &item));
            ck_assert_int_eq(item, i);
        }
        ck_assert(!queue_pop(&queue, &item));
    }
    queue_deinit(&queue);
}
END_TEST

typedef struct Sum {
    Queue queue;
    Bell bell;
    _Atomic uint64_t sum, count;
} Sum;

static int sum_step(void *argument) {
    Sum *sum = argument;
    uint64_t item;

    if (!queue_pop(&sum->queue, &item))
        return 0;
    atomic_fetch_add(&sum->sum, item);
    atomic_fetch_add(&sum->count, 1);
    return 1;
}

/* Nothing is lost between the last look and the sleep, however the threads meet. */
START_TEST(workers_take_every_item_once)
{
    enum { ITEMS = 20000 };
    Sum sum = {0};
    Worker workers[3];

    ck_assert_int_eq(queue_init(&sum.queue, sizeof(uint64_t), 16), 0);
    for (int i = 0; i < 3; i++) {
        workers[i] = (Worker){
            .name = "test", .bell = &sum.bell, .step = sum_step, .argument = &sum};
        ck_assert_int_eq(worker_start(&workers[i]), 0);
    }
    for (uint64_t item = 1; item <= ITEMS;)
        if (queue_push(&sum.queue, &item)) {
            bell_ring(&sum.bell, 1);
            item++;
        }
    while (atomic_load(&sum.count) < ITEMS)
        ;
    for (int i = 0; i < 3; i++)
        worker_stop(&workers[i]);
    ck_assert_uint_eq(atomic_load(&sum.sum), (uint64_t)ITEMS * (ITEMS + 1) / 2);
    queue_deinit(&sum.queue);
}
END_TEST

CHECK_MAIN("queue", items_come_out_in_order_and_the_bound_holds, workers_take_every_item_once)
