/* SPDX-License-Identifier: MIT */
#include "server/quota.h"

#include "base/clock.h"
#include "base/random.h"
#include "server/rate_limit.h"
#include "support/check_main.h"

enum { LIMIT = 1000 };

/* Take all that this user gets. */
static uint32_t take_all(Quota *quota, uid_t uid) {
    uint32_t taken = 0;

    while (quota_take(quota, uid))
        taken++;
    return taken;
}

/* The n-th greedy user gets one part in n (n + 1) of the pool: between 1/n and 1/n². */
START_TEST(greedy_users_one_after_another_get_less_but_always_something)
{
    Quota quota;

    quota_init(&quota, LIMIT);
    for (uint32_t n = 1; n <= 20; n++) {
        uint32_t taken = take_all(&quota, n), fair = LIMIT / (n * (n + 1));
        ck_assert_uint_ge(taken, fair);
        ck_assert_uint_le(taken, fair + 2);
    }
    ck_assert_uint_lt(quota.used, LIMIT);
    quota_deinit(&quota);
}
END_TEST

/* Whatever users do in whatever order, a newcomer finds room, nobody holds more than a half, and
 * all comes back. */
START_TEST(no_history_shuts_a_newcomer_out)
{
    enum { USERS = 12, STEPS = 20000 };
    uint32_t held[USERS] = {0};
    Quota quota;

    quota_init(&quota, LIMIT);
    for (uint32_t i = 0; i < STEPS; i++) {
        RandomBlock draw = random_philox(7, i, 0, 0, 0);
        uint32_t user = random_below(draw.word[0], USERS);
        if (draw.word[1] % 8 < 6) {
            held[user] += quota_take(&quota, user);
        } else if (held[user] > 0) {
            quota_give_back(&quota, user);
            held[user]--;
        }
        ck_assert_uint_le(held[user], LIMIT / 2);
        ck_assert_uint_ge(quota_share(&quota, USERS + 1), 1);
    }
    for (uint32_t user = 0; user < USERS; user++)
        for (; held[user] > 0; held[user]--)
            quota_give_back(&quota, user);
    ck_assert_uint_eq(quota.used, 0);
    ck_assert_uint_eq(quota.user_count, 0);
    quota_deinit(&quota);
}
END_TEST

START_TEST(a_rate_limit_lets_a_burst_pass_and_then_a_steady_rate)
{
    RateLimit limit = {.interval_ns = NS_PER_SECOND, .burst = 5};
    int64_t now = 100 * NS_PER_SECOND;

    for (int i = 0; i < 5; i++)
        ck_assert(rate_limit_pass(&limit, now));
    ck_assert(!rate_limit_pass(&limit, now));
    ck_assert(!rate_limit_pass(&limit, now + NS_PER_SECOND - 1));
    ck_assert_uint_eq(limit.refused, 2);
    ck_assert(rate_limit_pass(&limit, now + NS_PER_SECOND));
    ck_assert(!rate_limit_pass(&limit, now + NS_PER_SECOND));
    for (int i = 0; i < 5; i++)
        ck_assert(rate_limit_pass(&limit, now + 100 * NS_PER_SECOND));
    ck_assert(!rate_limit_pass(&limit, now + 100 * NS_PER_SECOND));
}
END_TEST

CHECK_MAIN("quota", greedy_users_one_after_another_get_less_but_always_something,
           no_history_shuts_a_newcomer_out, a_rate_limit_lets_a_burst_pass_and_then_a_steady_rate)
