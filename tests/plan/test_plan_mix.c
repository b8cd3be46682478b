/* SPDX-License-Identifier: MIT */
/* What the reference cannot show: the bounds on which memory is reserved, and extreme weights. */
#include <errno.h>

#include "base/random.h"
#include "plan/plan_support.h"
#include "support/check_main.h"

enum { SOURCES = 3 };

typedef struct Mixture {
    PlanMix mix;
    PlanSource sources[SOURCES];
    uint32_t *counts; /* sequences of each block; tokens alike */
    PlanBlocks blocks;
} Mixture;

static uint32_t draw(uint32_t dice, uint32_t number, uint32_t bound) {
    return random_below(random_philox(31, dice, number, 0, 0).word[0], bound);
}

static void make_mixture(Mixture *mixture, uint32_t dice) {
    uint32_t all = 0;

    memset(mixture, 0, sizeof *mixture);
    mixture->mix = (PlanMix){
        .sources = mixture->sources, .source_count = SOURCES, .until = (PlanUntil)draw(dice, 0, 3)};
    for (uint32_t i = 0; i < SOURCES; i++) {
        mixture->sources[i] = (PlanSource){.first_block = all,
                                           .block_count = 1 + draw(dice, 10 + i, 300),
                                           .weight = 100000 + draw(dice, 20 + i, 1000000)};
        all += mixture->sources[i].block_count;
    }
    mixture->counts = plan_data_memory(all, sizeof *mixture->counts);
    mixture->blocks = (PlanBlocks){mixture->counts, mixture->counts, all};
    for (uint32_t i = 0; i < SOURCES; i++)
        for (uint32_t b = 0; b < mixture->sources[i].block_count; b++) {
            uint32_t *count = &mixture->counts[mixture->sources[i].first_block + b];

            *count = 1 + draw(dice, 100 + b, 50);
            mixture->sources[i].total += *count;
        }
    mixture->mix.count = 1 + draw(dice, 1, 20000);
    plan_mix_settle(&mixture->mix);
}

static void check_epoch(const Mixture *mixture, const PlanSpec *spec, uint64_t number) {
    uint32_t *times = plan_data_memory(mixture->blocks.count, sizeof *times);
    uint64_t taken[SOURCES] = {0}, all = 0, sum = 0;
    PlanEpoch *epoch;

    ck_assert_int_eq(plan_epoch_new(spec, &mixture->blocks, number, &epoch), 0);
    for (uint32_t s = 0; s < epoch->strand_count; s++)
        for (uint32_t b = 0; b < epoch->strands[s].block_count; b++)
            times[epoch->strands[s].blocks[b]]++;
    for (uint32_t i = 0; i < SOURCES; i++) {
        const PlanSource *source = &mixture->sources[i];
        uint64_t most = plan_mix_times_max(&mixture->mix, i);

        for (uint32_t b = 0; b < source->block_count; b++) {
            ck_assert_uint_le(times[source->first_block + b], most);
            taken[i] += times[source->first_block + b];
        }
        ck_assert_uint_eq(taken[i], epoch->sources[i].blocks);
        sum += epoch->sources[i].sequences;
        all += taken[i];
    }
    ck_assert_uint_le(all, mixture->mix.blocks_max);
    ck_assert_uint_eq(sum, epoch->tally.sequences_in);
    plan_epoch_free(epoch);
    free(times);
}

START_TEST(no_epoch_exceeds_what_is_reserved_for)
{
    for (uint32_t dice = 0; dice < 40; dice++) {
        PlanSpec spec = {
            .shuffle = dice % 4 != 0, .window = 4, .strands = 2, .size = 8, .length_max = 100};
        Mixture mixture;

        make_mixture(&mixture, dice);
        spec.mix = &mixture.mix;
        for (uint64_t number = 0; number < 6; number++) {
            spec.seed = number;
            check_epoch(&mixture, &spec, number == 5 ? UINT64_MAX : number);
        }
        free(mixture.counts);
    }
}
END_TEST

START_TEST(every_source_has_a_share)
{
    PlanSource sources[PLAN_SOURCES_MAX];
    PlanMix mix = {.sources = sources, .source_count = PLAN_SOURCES_MAX};
    uint64_t sum = 0;

    for (uint32_t i = 0; i < PLAN_SOURCES_MAX; i++)
        sources[i] = (PlanSource){
            .first_block = i, .block_count = 1, .total = UINT64_MAX, .weight = 1};
    sources[9].weight = PLAN_WEIGHT_MAX;
    sources[9].total = 1;
    sources[9].block_count = UINT32_MAX;
    plan_mix_settle(&mix);
    for (uint32_t i = 0; i < PLAN_SOURCES_MAX; i++) {
        ck_assert_uint_eq(sources[i].share, i == 9 ? PLAN_MIX_PERIOD - PLAN_SOURCES_MAX + 1 : 1);
        sum += sources[i].share;
    }
    ck_assert_uint_eq(sum, PLAN_MIX_PERIOD);
}
END_TEST

/* Figures by section 11 of docs/formats/plan.md, with exact arithmetic. */
START_TEST(shares_and_lengths_are_those_of_the_document)
{
    PlanSource thirds[] = {{0, 5, 7, 1000000, 0}, {5, 5, 7, 1000000, 0}, {10, 5, 7, 1000000, 0}};
    PlanSource halves[] = {{0, 3, 1, 1000000, 0}, {3, 3, 1, 1000000, 0}};
    PlanMix three = {.sources = thirds, .source_count = 3, .until = PLAN_UNTIL_FIRST};
    PlanMix two = {
        .sources = halves, .source_count = 2, .until = PLAN_UNTIL_COUNT, .count = 1000000000};

    plan_mix_settle(&three);
    ck_assert_uint_eq(thirds[0].share, 1366); /* the one that is left goes to the first */
    ck_assert_uint_eq(thirds[1].share, 1365);
    ck_assert_uint_eq(thirds[2].share, 1365);
    plan_mix_settle(&two);
    ck_assert_uint_eq(two.blocks_max,
                      UINT64_C(3000000003)); /* not 3000000000: a sum is rounded down */
}
END_TEST

START_TEST(an_epoch_of_four_billion_blocks_is_refused)
{
    const uint32_t counts[] = {1, 1};
    const PlanBlocks blocks = {counts, counts, 2};
    PlanSource sources[] = {{0, 1, 1, 1, 0}, {1, 1, 1, 1, 0}};
    PlanMix mix = {.sources = sources,
                   .source_count = 2,
                   .until = PLAN_UNTIL_COUNT,
                   .count = UINT64_C(1) << 33};
    const PlanSpec spec = {.mix = &mix, .window = 1, .strands = 1, .size = 1, .length_max = 9};
    PlanEpoch *epoch;

    plan_mix_settle(&mix);
    ck_assert_uint_eq(mix.blocks_max, UINT64_C(1) << 33);
    ck_assert_int_eq(plan_epoch_new(&spec, &blocks, 0, &epoch), -EOVERFLOW);
}
END_TEST

CHECK_MAIN("plan_mix", no_epoch_exceeds_what_is_reserved_for, every_source_has_a_share,
           shares_and_lengths_are_those_of_the_document, an_epoch_of_four_billion_blocks_is_refused)
