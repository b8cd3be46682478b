/* SPDX-License-Identifier: MIT */
#include "base/random.h"

#include "support/check_main.h"

/* Known answers of Random123's own test vectors (philox4x32, 10 rounds). */
START_TEST(philox_gives_the_published_vectors)
{
    RandomBlock zero = random_philox(0, 0, 0, 0, 0);
    RandomBlock ones = random_philox(UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX);
    RandomBlock pi = random_philox(UINT64_C(0x299f31d0a4093822), 0x243f6a88, 0x85a308d3, 0x13198a2e,
                                   0x03707344);

    ck_assert_uint_eq(zero.word[0], 0x6627e8d5);
    ck_assert_uint_eq(zero.word[3], 0x9b00dbd8);
    ck_assert_uint_eq(ones.word[0], 0x408f276d);
    ck_assert_uint_eq(ones.word[3], 0x6d5451fd);
    ck_assert_uint_eq(pi.word[0], 0xd16cfe09);
    ck_assert_uint_eq(pi.word[1], 0x94fdcceb);
    ck_assert_uint_eq(pi.word[2], 0x5001e420);
    ck_assert_uint_eq(pi.word[3], 0x24126ea1);
}
END_TEST

START_TEST(bounded_draws_stay_below_the_bound)
{
    for (uint32_t bound = 1; bound; bound = bound << 1 | 1) {
        ck_assert_uint_lt(random_below(UINT32_MAX, bound), bound);
        ck_assert_uint_eq(random_below(0, bound), 0);
        if (bound == UINT32_MAX)
            break;
    }
}
END_TEST

CHECK_MAIN("random", philox_gives_the_published_vectors, bounded_draws_stay_below_the_bound)
