/* SPDX-License-Identifier: MIT */
/* rate_limit.h: a token bucket, for messages and for log lines that a client can cause. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct RateLimit {
    int64_t interval_ns; /* one token comes back in this time */
    uint32_t burst;      /* tokens at most */
    uint32_t spent;
    int64_t since_ns; /* when the oldest spent token began to come back */
    uint32_t refused; /* since the last one that passed */
} RateLimit;

static inline bool rate_limit_pass(RateLimit *limit, int64_t now_ns) {
    int64_t back = (now_ns - limit->since_ns) / limit->interval_ns;

    if (limit->spent == 0 || back >= limit->spent) {
        limit->spent = 0;
        limit->since_ns = now_ns;
    } else if (back > 0) {
        limit->spent -= (uint32_t)back;
        limit->since_ns += back * limit->interval_ns;
    }
    if (limit->spent >= limit->burst) {
        limit->refused++;
        return false;
    }
    limit->spent++;
    return true;
}
