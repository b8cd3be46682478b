/* SPDX-License-Identifier: MIT */
#include "plan/plan_draws.h"

#include <assert.h>

#include "base/random.h"

enum { LANES = PLAN_DRAWS_GROUP / 4 };

typedef struct Lanes {
    uint32_t word[4][LANES];
} Lanes;

/* LANES blocks of random_philox() with consecutive first counters, laid out so that the compiler
 * can use vectors; a test compares the two. */
static void philox_lanes(const PlanDraws *draws, uint32_t index, Lanes *lanes) {
    uint32_t k0 = (uint32_t)draws->seed, k1 = (uint32_t)(draws->seed >> 32);

    for (uint32_t lane = 0; lane < LANES; lane++) {
        lanes->word[0][lane] = index + lane;
        lanes->word[1][lane] = (uint32_t)draws->purpose << 24 | draws->strand;
        lanes->word[2][lane] = (uint32_t)draws->epoch;
        lanes->word[3][lane] = draws->window;
    }
    for (int round = 0; round < 10; round++) {
        for (uint32_t lane = 0; lane < LANES; lane++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * lanes->word[0][lane];
            uint64_t p1 = (uint64_t)0xCD9E8D57u * lanes->word[2][lane];

            lanes->word[0][lane] = (uint32_t)(p1 >> 32) ^ lanes->word[1][lane] ^ k0;
            lanes->word[2][lane] = (uint32_t)(p0 >> 32) ^ lanes->word[3][lane] ^ k1;
            lanes->word[1][lane] = (uint32_t)p1;
            lanes->word[3][lane] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

uint32_t plan_draws_targets(const PlanDraws *draws, uint32_t count, uint32_t last,
                            uint32_t ret_targets[PLAN_DRAWS_GROUP]) {
    uint32_t steps = MIN(last, (uint32_t)PLAN_DRAWS_GROUP);
    uint32_t number = count - 1 - last; /* of the first draw */
    Lanes lanes;

    assert(last < count);
    assert(number % PLAN_DRAWS_GROUP == 0);

    philox_lanes(draws, number / 4, &lanes);
    for (uint32_t step = 0; step < steps; step++)
        ret_targets[step] = random_below(lanes.word[step % 4][step / 4], last - step + 1);
    return steps;
}

void plan_shuffle_numbers(const PlanDraws *draws, uint32_t *numbers, uint32_t count) {
    uint32_t targets[PLAN_DRAWS_GROUP], steps;

    for (uint32_t last = count ? count - 1 : 0; last > 0; last -= steps) {
        steps = plan_draws_targets(draws, count, last, targets);
        for (uint32_t step = 0; step < steps; step++) {
            uint32_t moved = numbers[last - step];

            numbers[last - step] = numbers[targets[step]];
            numbers[targets[step]] = moved;
        }
    }
}

void plan_shuffle_units(const PlanDraws *draws, PlanUnit *units, uint32_t count) {
    uint32_t targets[PLAN_DRAWS_GROUP], steps;

    for (uint32_t last = count ? count - 1 : 0; last > 0; last -= steps) {
        steps = plan_draws_targets(draws, count, last, targets);
        for (uint32_t step = 0; step < steps; step++)
            __builtin_prefetch(&units[targets[step]], 1);
        for (uint32_t step = 0; step < steps; step++) {
            PlanUnit moved = units[last - step];

            units[last - step] = units[targets[step]];
            units[targets[step]] = moved;
        }
    }
}
