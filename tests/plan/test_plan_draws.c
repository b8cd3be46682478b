/* SPDX-License-Identifier: MIT */
#include "plan/plan_draws.h"

#include "base/random.h"
#include "plan/plan_support.h"
#include "support/check_main.h"

static const PlanDraws some = {.seed = UINT64_C(0x0123456789abcdef),
                               .epoch = UINT64_C(0x700000003),
                               .purpose = PLAN_PURPOSE_SEQUENCES,
                               .strand = 5,
                               .window = 9};

/* Word d % 4 of the Philox block d / 4, as docs/formats/plan.md has it. */
static uint32_t draw(const PlanDraws *draws, uint32_t number, uint32_t bound) {
    RandomBlock block = random_philox(draws->seed, number / 4,
                                      (uint32_t)draws->purpose << 24 | draws->strand,
                                      (uint32_t)draws->epoch, draws->window);

    return random_below(block.word[number % 4], bound);
}

START_TEST(draws_in_groups_equal_draws_one_by_one)
{
    const uint32_t counts[] = {2, 3, 5, 63, 64, 65, 66, 129, 1000};

    for (size_t c = 0; c < ARRAY_COUNT(counts); c++) {
        uint32_t number = 0, steps, targets[PLAN_DRAWS_GROUP];

        for (uint32_t last = counts[c] - 1; last > 0; last -= steps) {
            steps = plan_draws_targets(&some, counts[c], last, targets);
            ck_assert_uint_gt(steps, 0);
            for (uint32_t i = 0; i < steps; i++, number++)
                ck_assert_uint_eq(targets[i], draw(&some, number, last - i + 1));
        }
        ck_assert_uint_eq(number, counts[c] - 1);
    }
}
END_TEST

START_TEST(draws_of_a_very_long_list_count_on)
{
    uint32_t targets[PLAN_DRAWS_GROUP];
    const uint32_t count = UINT32_MAX, last = count - 1 - PLAN_DRAWS_GROUP * 1000;

    ck_assert_uint_eq(plan_draws_targets(&some, count, last, targets), PLAN_DRAWS_GROUP);
    ck_assert_uint_eq(targets[7], draw(&some, PLAN_DRAWS_GROUP * 1000 + 7, last - 7 + 1));
}
END_TEST

START_TEST(a_shuffle_is_a_permutation)
{
    uint32_t numbers[300];
    bool seen[300] = {false};

    for (uint32_t count = 0; count <= ARRAY_COUNT(numbers); count++) {
        for (uint32_t i = 0; i < count; i++)
            numbers[i] = i;
        plan_shuffle_numbers(&some, numbers, count);
        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_uint_lt(numbers[i], count);
            ck_assert(!seen[numbers[i]]);
            seen[numbers[i]] = true;
        }
    }
}
END_TEST

START_TEST(units_are_permuted_like_numbers)
{
    uint32_t numbers[200];
    PlanUnit units[200] = {0};

    for (uint32_t i = 0; i < ARRAY_COUNT(numbers); i++)
        numbers[i] = units[i].sequence = i;
    plan_shuffle_numbers(&some, numbers, ARRAY_COUNT(numbers));
    plan_shuffle_units(&some, units, ARRAY_COUNT(units));
    for (uint32_t i = 0; i < ARRAY_COUNT(numbers); i++)
        ck_assert_uint_eq(units[i].sequence, numbers[i]);
}
END_TEST

/* Seed, epoch, purpose, strand and window each give another order. */
START_TEST(every_part_of_the_counter_matters)
{
    PlanDraws others[6];
    uint32_t first[6];

    for (size_t i = 0; i < ARRAY_COUNT(others); i++)
        others[i] = some;
    others[1].seed++;
    others[2].epoch++;
    others[3].purpose = PLAN_PURPOSE_BLOCKS;
    others[4].strand++;
    others[5].window++;
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        uint32_t targets[PLAN_DRAWS_GROUP];

        plan_draws_targets(&others[i], UINT32_MAX, UINT32_MAX - 1, targets);
        first[i] = targets[0];
        for (size_t k = 0; k < i; k++)
            ck_assert_uint_ne(first[i], first[k]);
    }
}
END_TEST

CHECK_MAIN("plan_draws", draws_in_groups_equal_draws_one_by_one, draws_of_a_very_long_list_count_on,
           a_shuffle_is_a_permutation, units_are_permuted_like_numbers,
           every_part_of_the_counter_matters)
