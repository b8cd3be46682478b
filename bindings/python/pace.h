/* SPDX-License-Identifier: MIT */
/* pace.h: how long a trainer stays away between batches, and whether it is worth while to copy the
 * next one meanwhile. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Pace {
    /* In nanoseconds: when the trainer left; how long it is away, and how long a copy takes, on
     * average. */
    int64_t left_ns, away_ns, copy_ns;
    uint32_t misses; /* copies asked for since one was ready in time */
    uint32_t passed; /* batches since these are many */
    unsigned long long hits;
} Pace;

/* The trainer asks for a batch, and leaves with it or without. */
void pace_come(Pace *pace, int64_t now_ns);
void pace_leave(Pace *pace, int64_t now_ns);

void pace_note_copy(Pace *pace, int64_t took_ns);

/* Shall the next batch be copied while the trainer is away? Counts as a miss until pace_hit() says
 * that the copy was ready when it came. */
bool pace_asks_ahead(Pace *pace);
void pace_hit(Pace *pace);
