/* SPDX-License-Identifier: MIT */
#include "feed/spread.h"

#include "base/random.h"
#include "support/check_main.h"

enum { COUNT = 200 };

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void fill(Spread *spread, uint64_t *numbers, uint64_t max, uint32_t seed) {
    spread_init(spread, max);
    for (uint32_t i = 0; i < COUNT; i++) {
        RandomBlock word = random_philox(seed, i, 0, 0, 0);

        numbers[i] = word.word[1] % 3 == 0 ? word.word[0] % 5 % (max + 1)
                                           : (uint64_t)word.word[0] << 8 | word.word[2] % 256;
        numbers[i] %= max + 1;
        spread_add(spread, numbers[i], 1);
    }
    qsort(numbers, COUNT, sizeof *numbers, compare);
}

/* Against sorting: never less than the truth, and the truth itself where a class has one value. */
START_TEST(bounds_are_true)
{
    const uint64_t maxima[] = {0, 1, 3, 4095, 4096, 100000, UINT64_C(1) << 33};
    static Spread spread;
    uint64_t numbers[COUNT];

    for (size_t m = 0; m < sizeof maxima / sizeof *maxima; m++) {
        uint64_t sum = 0;

        fill(&spread, numbers, maxima[m], (uint32_t)m);
        for (uint32_t count = 1; count <= COUNT; count++) {
            sum += numbers[COUNT - count];
            ck_assert_uint_ge(spread_sum_max(&spread, count), sum);
            if (maxima[m] < SPREAD_CLASSES)
                ck_assert_uint_eq(spread_sum_max(&spread, count), sum);
            else
                ck_assert_uint_le(spread_sum_max(&spread, count), sum + count * spread.step);
        }
        ck_assert_uint_eq(spread_sum_max(&spread, COUNT + 5), sum);
    }
}
END_TEST

START_TEST(counts_are_true)
{
    const uint64_t maxima[] = {3, 4095, 100000, UINT64_C(1) << 33};
    static Spread spread;
    uint64_t numbers[COUNT];

    for (size_t m = 0; m < sizeof maxima / sizeof *maxima; m++) {
        fill(&spread, numbers, maxima[m], (uint32_t)m);
        for (uint64_t limit = 1; limit < COUNT * maxima[m]; limit += limit / 2 + 1) {
            uint64_t sum = 0, count = 0;

            while (count < COUNT && sum + numbers[count] < limit)
                sum += numbers[count++];
            ck_assert_uint_ge(spread_count_max(&spread, limit), count);
            if (maxima[m] < SPREAD_CLASSES && count < COUNT && numbers[count] > 0)
                ck_assert_uint_eq(spread_count_max(&spread, limit), count);
        }
    }
}
END_TEST

START_TEST(a_share_of_the_numbers_keeps_to_the_bound)
{
    static Spread spread;
    uint64_t numbers[COUNT];

    fill(&spread, numbers, 100000, 9);
    for (uint32_t share = 1; share <= 64; share++) {
        uint64_t bound = spread_bound(&spread, share), within = 0;

        for (uint32_t i = 0; i < COUNT; i++)
            within += numbers[i] <= bound;
        ck_assert_uint_ge(within * 64, COUNT * share);
    }
}
END_TEST

CHECK_MAIN("spread", bounds_are_true, counts_are_true, a_share_of_the_numbers_keeps_to_the_bound)
