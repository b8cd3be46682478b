/* SPDX-License-Identifier: MIT */
#include "server/timer_queue.h"

#include "base/random.h"
#include "support/check_main.h"

enum { TIMERS = 200 };

static int64_t fired_at[TIMERS + 1];
static int fired;
static TimerQueue queue;

static void note(Timer *timer, int64_t now_ns) {
    (void)now_ns;
    fired_at[fired++] = timer->at_ns;
}

static void set_again(Timer *timer, int64_t now_ns) {
    fired++;
    ck_assert_int_eq(timer_set(&queue, timer, now_ns), 0);
}

START_TEST(timers_fire_in_order_whatever_was_moved_and_cleared)
{
    static Timer timers[TIMERS];

    fired = 0;
    for (int i = 0; i < TIMERS; i++) {
        timers[i] = (Timer){.fire = note};
        ck_assert_int_eq(timer_set(&queue, &timers[i], random_philox(1, i, 0, 0, 0).word[0]), 0);
    }
    for (int i = 0; i < TIMERS; i += 3)
        ck_assert_int_eq(timer_set(&queue, &timers[i], random_philox(2, i, 0, 0, 0).word[0]), 0);
    for (int i = 0; i < TIMERS; i += 5)
        timer_clear(&queue, &timers[i]);
    for (int i = 0; i < TIMERS; i++)
        ck_assert_int_eq(timer_is_set(&timers[i]), i % 5 != 0);
    ck_assert_uint_eq(timer_queue_run(&queue, INT64_MAX), TIMERS - TIMERS / 5);
    for (int i = 1; i < fired; i++)
        ck_assert_int_le(fired_at[i - 1], fired_at[i]);
    ck_assert_int_eq(timer_queue_next(&queue), INT64_MAX);
    timer_queue_deinit(&queue);
}
END_TEST

START_TEST(only_what_is_due_fires)
{
    Timer early = {.fire = note}, late = {.fire = note};

    fired = 0;
    ck_assert_int_eq(timer_set(&queue, &late, 20), 0);
    ck_assert_int_eq(timer_set(&queue, &early, 10), 0);
    ck_assert_int_eq(timer_queue_next(&queue), 10);
    ck_assert_uint_eq(timer_queue_run(&queue, 19), 1);
    ck_assert_int_eq(fired_at[0], 10);
    ck_assert(timer_is_set(&late) && !timer_is_set(&early));
    timer_queue_deinit(&queue);
}
END_TEST

START_TEST(a_timer_that_is_set_again_for_now_does_not_hold_up_the_loop)
{
    Timer timer = {.fire = set_again};

    fired = 0;
    ck_assert_int_eq(timer_set(&queue, &timer, 0), 0);
    ck_assert_uint_eq(timer_queue_run(&queue, 5), 1);
    ck_assert_uint_eq(timer_queue_run(&queue, 5), 1);
    ck_assert_int_eq(fired, 2);
    timer_queue_deinit(&queue);
}
END_TEST

CHECK_MAIN("timer_queue", timers_fire_in_order_whatever_was_moved_and_cleared,
           only_what_is_due_fires, a_timer_that_is_set_again_for_now_does_not_hold_up_the_loop)
