/* SPDX-License-Identifier: MIT */
#include "feed/spread.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"

void spread_init(Spread *spread, uint64_t max) {
    memset(spread, 0, sizeof *spread);
    spread->step = max / SPREAD_CLASSES + 1;
}

void spread_add(Spread *spread, uint64_t number, uint64_t times) {
    assert(number / spread->step < SPREAD_CLASSES);
    spread->count[number / spread->step] += times;
    spread->sum[number / spread->step] += number * times;
}

uint64_t spread_sum_max(const Spread *spread, uint64_t count) {
    uint64_t sum = 0;

    for (uint32_t c = SPREAD_CLASSES; c-- > 0 && count > 0;) {
        uint64_t largest = c * spread->step + spread->step - 1, part = MIN(count, spread->count[c]);

        /* A class taken in part: neither more than its sum nor more than its largest allows. */
        sum += MIN(spread->sum[c], part * largest);
        count -= part;
    }
    return sum;
}

uint64_t spread_count_max(const Spread *spread, uint64_t limit) {
    uint64_t count = 0, sum = 0;

    assert(limit > 0);
    for (uint32_t c = 0; c < SPREAD_CLASSES; c++) {
        uint64_t smallest = c * spread->step;

        if (spread->count[c] == 0)
            continue;
        if (spread->sum[c] < limit - sum) {
            sum += spread->sum[c];
            count += spread->count[c];
            continue;
        }
        /* Part of this class may still fit: n numbers of it have a sum of at least n * smallest. */
        if (smallest == 0)
            return count + spread->count[c];
        return count + MIN(spread->count[c], (limit - sum - 1) / smallest);
    }
    return count;
}

uint64_t spread_bound(const Spread *spread, uint32_t share) {
    uint64_t all = 0, below = 0;

    for (uint32_t c = 0; c < SPREAD_CLASSES; c++)
        all += spread->count[c];
    for (uint32_t c = 0; c < SPREAD_CLASSES; c++) {
        below += spread->count[c];
        if (below * 64 >= all * share)
            return c * spread->step + spread->step - 1;
    }
    return SPREAD_CLASSES * spread->step;
}
