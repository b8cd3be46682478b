/* SPDX-License-Identifier: MIT */
/* progress.h: how far a long job is, on standard error: a bar on a terminal, plain lines elsewhere,
 * nothing for jobs that end within a second. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Progress {
    const char *label; /* "packing"; not copied */
    const char *unit;  /* "bytes" is shown as sizes, else as counts of this word */
    uint64_t total;    /* 0: unknown */
    int64_t started_ns;
    int64_t shown_ns;
    bool terminal;
    bool drawn;
} Progress;

void progress_start(Progress *progress, const char *label, const char *unit, uint64_t total);
/* Cheap when nothing is due to be drawn. */
void progress_update(Progress *progress, uint64_t done);
/* Remove the bar, or print the last plain line. */
void progress_end(Progress *progress, uint64_t done);
