/* SPDX-License-Identifier: MIT */
#include "pace.h"

enum {
    PACE_AHEAD_US = 150,   /* who is away for less, and for two copies, copies faster itself */
    PACE_MISSES = 4,       /* in a row: the thread comes too late, or the daemon does; then */
    PACE_TRY_AGAIN = 16,   /* it is asked for one batch of so many */
    PACE_AWAY_MOST_MS = 10 /* what a longer absence counts as */
};

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)

void pace_come(Pace *pace, int64_t now_ns) {
    int64_t away_ns = now_ns - pace->left_ns;

    if (pace->left_ns == 0)
        return;
    if (away_ns > PACE_AWAY_MOST_MS * NS_PER_MS)
        away_ns = PACE_AWAY_MOST_MS * NS_PER_MS;
    pace->away_ns += pace->away_ns == 0 ? away_ns : (away_ns - pace->away_ns) / 4;
}

void pace_leave(Pace *pace, int64_t now_ns) {
    pace->left_ns = now_ns;
}

void pace_note_copy(Pace *pace, int64_t took_ns) {
    pace->copy_ns += (took_ns - pace->copy_ns) / 4;
}

bool pace_asks_ahead(Pace *pace) {
    if (pace->away_ns < PACE_AHEAD_US * NS_PER_US + 2 * pace->copy_ns ||
        (pace->misses >= PACE_MISSES && ++pace->passed % PACE_TRY_AGAIN != 0))
        return false;
    pace->misses++;
    return true;
}

void pace_hit(Pace *pace) {
    pace->hits++;
    pace->misses = 0;
}
