/* SPDX-License-Identifier: MIT */
/* spread.h: how a great many numbers are spread between 0 and their maximum, in a fixed number of
 * classes, so that bounds on sums of some of them cost one pass and no sorting. Every bound is
 * true; it is exact when the numbers of a class are equal. */
#pragma once

#include <stdint.h>

enum { SPREAD_CLASSES = 4096 };

typedef struct Spread {
    uint64_t step; /* class c holds the numbers of c * step .. c * step + step - 1 */
    uint64_t count[SPREAD_CLASSES], sum[SPREAD_CLASSES];
} Spread;

/* For numbers of 0 .. max. */
void spread_init(Spread *spread, uint64_t max);
void spread_add(Spread *spread, uint64_t number, uint64_t times);

/* No `count` of the numbers have a larger sum than this. */
uint64_t spread_sum_max(const Spread *spread, uint64_t count);

/* No more than this many of the numbers have a sum below `limit`. */
uint64_t spread_count_max(const Spread *spread, uint64_t limit);

/* A bound that at least `share` of 64 parts of the numbers keep to. */
uint64_t spread_bound(const Spread *spread, uint32_t share);
