/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/random.h"
#include "plan/plan_support.h"
#include "support/check_main.h"

static const PlanSpec ordinary = {.shuffle = true,
                                  .seed = 3,
                                  .window = 4,
                                  .strands = 1,
                                  .size = 8,
                                  .last = PLAN_LAST_KEEP,
                                  .tail = PLAN_TAIL_REPEAT,
                                  .length_max = 20,
                                  .overflow = PLAN_OVERFLOW_TRUNCATE_RIGHT,
                                  .empty = PLAN_EMPTY_KEEP};

/* `blocks` blocks of up to `sequences` sequences of up to `longest` tokens; some have none. */
static void make_data(PlanData *data, uint32_t blocks, uint32_t sequences, uint32_t longest) {
    plan_data_init(data, blocks, (uint64_t)blocks * sequences);
    for (uint32_t b = 0; b < blocks; b++) {
        RandomBlock word = random_philox(77, b, 0, 0, 0);
        uint32_t count = random_below(word.word[0], sequences + 1);

        plan_data_add_block(data);
        for (uint32_t i = 0; i < count; i++)
            plan_data_add(data, random_below(random_philox(77, b, 1, i, 0).word[0], longest + 1));
    }
}

static PlanEpoch *make_epoch(const PlanSpec *spec, const PlanData *data, uint64_t number) {
    PlanEpoch *epoch = NULL;
    uint32_t strand;

    ck_assert_int_eq(plan_data_epoch(spec, data, number, true, &epoch, &strand), 0);
    return epoch;
}

/* How often each token of the dataset stands in batches that are not repetitions. */
static uint8_t *count_tokens(const PlanSpec *spec, const PlanData *data, const PlanEpoch *epoch,
                             uint64_t *ret_rows) {
    uint64_t *block_start = plan_data_memory(data->blocks, sizeof *block_start), all = 0;
    uint8_t *seen;

    for (uint32_t b = 0; b < data->blocks; b++) {
        block_start[b] = all;
        all += data->tokens[b];
    }
    seen = plan_data_memory(all, 1);
    *ret_rows = 0;
    for (uint64_t index = 0; index < epoch->batch_count; index++) {
        PlanBatch batch = plan_epoch_batch(spec, epoch, index);
        PlanUnit units[64];

        ck_assert_uint_le(batch.unit_count, spec->size);
        ck_assert_int_eq(plan_data_units(spec, data, epoch, batch.strand, batch.unit_first,
                                         batch.unit_count, units),
                         0);
        for (uint32_t i = 0; i < batch.unit_count && !batch.repeated; i++) {
            ++*ret_rows;
            for (uint32_t t = 0; t < units[i].length; t++)
                seen[block_start[units[i].block] + units[i].start + t]++;
        }
    }
    free(block_start);
    return seen;
}

/* With split and keep nothing is lost: every token and every empty sequence exactly once. */
static void check_nothing_lost(PlanSpec spec, const PlanData *data, uint64_t number) {
    PlanEpoch *epoch = make_epoch(&spec, data, number);
    uint64_t rows;
    uint8_t *seen = count_tokens(&spec, data, epoch, &rows);

    for (uint64_t t = 0; t < epoch->tally.tokens_in; t++)
        ck_assert_uint_eq(seen[t], 1);
    ck_assert_uint_eq(rows, epoch->tally.units);
    free(seen);
    plan_epoch_free(epoch);
}

START_TEST(every_token_appears_once_an_epoch)
{
    PlanData data;

    make_data(&data, 60, 30, 50);
    for (uint32_t strands = 1; strands <= 5; strands++) {
        for (uint64_t number = 0; number < 3; number++) {
            PlanSpec spec = ordinary;

            spec.strands = strands;
            spec.overflow = PLAN_OVERFLOW_SPLIT;
            check_nothing_lost(spec, &data, number);
            spec.last = PLAN_LAST_PAD;
            spec.shuffle = false;
            check_nothing_lost(spec, &data, number);
        }
    }
    plan_data_deinit(&data);
}
END_TEST

START_TEST(without_shuffle_one_strand_is_the_input)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;
    uint64_t at = 0;

    spec.shuffle = false;
    make_data(&data, 20, 30, 20);
    epoch = make_epoch(&spec, &data, 9);
    for (uint64_t index = 0; index < epoch->batch_count; index++) {
        PlanBatch batch = plan_epoch_batch(&spec, epoch, index);
        PlanUnit units[8];

        ck_assert_int_eq(plan_data_units(&spec, &data, epoch, batch.strand, batch.unit_first,
                                         batch.unit_count, units),
                         0);
        for (uint32_t i = 0; i < batch.unit_count; i++)
            ck_assert_uint_eq(data.first[units[i].block] + units[i].sequence, at++);
    }
    ck_assert_uint_eq(at, data.all);
    plan_epoch_free(epoch);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(epochs_and_seeds_have_their_own_order)
{
    PlanSpec other = ordinary;
    PlanData data;
    PlanUnit units[3][64];

    other.seed++;
    make_data(&data, 20, 30, 20);
    for (int i = 0; i < 3; i++) {
        const PlanSpec *spec = i == 2 ? &other : &ordinary;
        PlanEpoch *epoch = make_epoch(spec, &data, i == 1);

        ck_assert_int_eq(plan_data_units(spec, &data, epoch, 0, 0, 64, units[i]), 0);
        plan_epoch_free(epoch);
    }
    ck_assert_mem_ne(units[0], units[1], sizeof units[0]);
    ck_assert_mem_ne(units[0], units[2], sizeof units[0]);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(windows_hold_four_batches_but_the_last)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;

    spec.size = 30;
    spec.window = 3;
    spec.strands = 2;
    make_data(&data, 80, 30, 20);
    epoch = make_epoch(&spec, &data, 0);
    for (uint32_t s = 0; s < epoch->strand_count; s++) {
        const PlanStrand *strand = &epoch->strands[s];
        uint32_t next = 0;

        for (uint32_t w = 0; w < strand->window_count; w++) {
            const PlanWindow *window = &strand->windows[w];

            ck_assert_uint_eq(window->block_first, next);
            next += window->block_count;
            if (w + 1 < strand->window_count) {
                ck_assert_uint_ge(window->sequences, 4 * 30);
                ck_assert_uint_ge(window->block_count, 3);
            }
        }
        ck_assert_uint_eq(next, strand->block_count);
    }
    plan_epoch_free(epoch);
    plan_data_deinit(&data);
}
END_TEST

/* The next block goes to the emptiest strand, so no two differ by more than one block. */
START_TEST(strands_stay_level)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;
    uint64_t fewest = UINT64_MAX, most = 0;

    spec.strands = 7;
    make_data(&data, 200, 40, 5);
    epoch = make_epoch(&spec, &data, 1);
    for (uint32_t s = 0; s < 7; s++) {
        uint64_t units = epoch->strands[s].unit_sums[epoch->strands[s].window_count];

        fewest = MIN(fewest, units);
        most = MAX(most, units);
    }
    ck_assert_uint_le(most - fewest, 40);
    plan_epoch_free(epoch);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(overflow_and_empty_rules_are_counted)
{
    const uint32_t lengths[] = {0, 5, 20, 21, 45, 0, 60};
    PlanSpec spec = ordinary;
    PlanTally tally;

    plan_count_pieces(&spec, lengths, ARRAY_COUNT(lengths), &tally);
    ck_assert_uint_eq(tally.units, 7);
    ck_assert_uint_eq(tally.sequences_truncated, 3);
    ck_assert_uint_eq(tally.tokens_truncated, 1 + 25 + 40);
    spec.empty = PLAN_EMPTY_DROP;
    spec.overflow = PLAN_OVERFLOW_SPLIT;
    plan_count_pieces(&spec, lengths, ARRAY_COUNT(lengths), &tally);
    ck_assert_uint_eq(tally.units, 1 + 1 + 2 + 3 + 3);
    ck_assert_uint_eq(tally.sequences_split, 3);
    ck_assert_uint_eq(tally.sequences_dropped, 2);
    ck_assert_uint_eq(tally.tokens_dropped, 0);
    spec.overflow = PLAN_OVERFLOW_DROP;
    plan_count_pieces(&spec, lengths, ARRAY_COUNT(lengths), &tally);
    ck_assert_uint_eq(tally.units, 2);
    ck_assert_uint_eq(tally.sequences_dropped, 5);
    ck_assert_uint_eq(tally.tokens_dropped, 21 + 45 + 60);
    ck_assert_uint_eq(tally.tokens_in, 151);
}
END_TEST

START_TEST(truncation_keeps_the_chosen_end)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;
    PlanUnit unit;

    spec.shuffle = false;
    plan_data_init(&data, 1, 2);
    plan_data_add_block(&data);
    plan_data_add(&data, 7);
    plan_data_add(&data, 33);
    for (int left = 0; left < 2; left++) {
        spec.overflow = left ? PLAN_OVERFLOW_TRUNCATE_LEFT : PLAN_OVERFLOW_TRUNCATE_RIGHT;
        epoch = make_epoch(&spec, &data, 0);
        ck_assert_int_eq(plan_data_units(&spec, &data, epoch, 0, 1, 1, &unit), 0);
        ck_assert_uint_eq(unit.sequence, 1);
        ck_assert_uint_eq(unit.start, left ? 7 + 13 : 7);
        ck_assert_uint_eq(unit.length, 20);
        plan_epoch_free(epoch);
    }
    plan_data_deinit(&data);
}
END_TEST

START_TEST(block_counts_suffice_when_nothing_is_dropped_or_split)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *by_lengths, *by_counts = NULL;
    uint32_t strand;

    spec.strands = 3;
    make_data(&data, 50, 30, 50);
    by_lengths = make_epoch(&spec, &data, 2);
    ck_assert_int_eq(plan_data_epoch(&spec, &data, 2, false, &by_counts, &strand), 0);
    ck_assert_uint_eq(by_lengths->batch_count, by_counts->batch_count);
    ck_assert_uint_eq(by_lengths->tally.units, by_counts->tally.units);
    ck_assert_uint_eq(by_lengths->tally.tokens_in, by_counts->tally.tokens_in);
    plan_epoch_free(by_lengths);
    plan_epoch_free(by_counts);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(lengths_are_needed_only_where_they_change_the_number)
{
    PlanSpec spec = ordinary;

    ck_assert(!plan_needs_lengths(&spec, 0, 100));
    spec.overflow = PLAN_OVERFLOW_SPLIT;
    ck_assert(plan_needs_lengths(&spec, 0, 21));
    ck_assert(!plan_needs_lengths(&spec, 0, 20));
    spec.overflow = PLAN_OVERFLOW_DROP;
    ck_assert(plan_needs_lengths(&spec, 1, 21));
    spec.overflow = PLAN_OVERFLOW_ERROR;
    spec.empty = PLAN_EMPTY_DROP;
    ck_assert(plan_needs_lengths(&spec, 0, 20));
    ck_assert(!plan_needs_lengths(&spec, 1, 20));
}
END_TEST

START_TEST(windows_may_be_left_without_a_unit)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;
    PlanUnit units[4];

    spec.shuffle = false;
    spec.empty = PLAN_EMPTY_DROP;
    spec.size = 1;
    spec.window = 1;
    plan_data_init(&data, 5, 100);
    for (uint32_t b = 0; b < 5; b++) {
        plan_data_add_block(&data);
        for (uint32_t i = 0; i < 4; i++)
            plan_data_add(&data, b % 2 && i == 0 ? b : 0);
    }
    epoch = make_epoch(&spec, &data, 0);
    ck_assert_uint_eq(epoch->strands[0].window_count, 5);
    ck_assert_uint_eq(epoch->batch_count, 2);
    ck_assert_uint_eq(plan_window_of_unit(&epoch->strands[0], 0), 1);
    ck_assert_uint_eq(plan_window_of_unit(&epoch->strands[0], 1), 3);
    ck_assert_int_eq(plan_data_units(&spec, &data, epoch, 0, 0, 2, units), 0);
    ck_assert_uint_eq(units[1].block, 3);
    ck_assert_uint_eq(units[1].length, 3);
    plan_epoch_free(epoch);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(a_strand_without_a_batch_is_named)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;
    uint32_t strand = 99;

    spec.strands = 3;
    plan_data_init(&data, 2, 100);
    for (uint32_t b = 0; b < 2; b++) {
        plan_data_add_block(&data);
        for (uint32_t i = 0; i < 10; i++)
            plan_data_add(&data, 4);
    }
    ck_assert_int_eq(plan_data_epoch(&spec, &data, 0, true, &epoch, &strand), -ENODATA);
    ck_assert_uint_eq(strand, 2);
    spec.strands = 2;
    spec.size = 11;
    spec.last = PLAN_LAST_DROP;
    ck_assert_int_eq(plan_data_epoch(&spec, &data, 0, true, &epoch, &strand), -ENODATA);
    ck_assert_uint_eq(strand, 0);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(an_empty_dataset_has_no_batch)
{
    PlanData data;
    PlanEpoch *epoch;
    uint32_t strand = 99;

    plan_data_init(&data, 0, 0);
    ck_assert_int_eq(plan_data_epoch(&ordinary, &data, 0, true, &epoch, &strand), -ENODATA);
    ck_assert_uint_eq(strand, 0);
    plan_data_deinit(&data);
}
END_TEST

/* Lengths that changed since counting are refused before anything is written out of bounds. */
START_TEST(lengths_that_disagree_with_the_count_are_refused)
{
    PlanSpec spec = ordinary;
    PlanData data;
    PlanEpoch *epoch;
    PlanUnit units[3];
    const uint32_t counts[] = {3}, more[] = {1, 1, 100}, fewer[] = {1, 0, 1};
    const uint32_t huge[] = {1, UINT32_MAX, UINT32_MAX};

    spec.overflow = PLAN_OVERFLOW_SPLIT;
    spec.empty = PLAN_EMPTY_DROP;
    plan_data_init(&data, 1, 3);
    plan_data_add_block(&data);
    for (uint32_t i = 0; i < 3; i++)
        plan_data_add(&data, 1);
    epoch = make_epoch(&spec, &data, 0);
    ck_assert_int_eq(plan_window_units_make(&spec, epoch, 0, 0, more, counts, 3, NULL, units, NULL),
                     -EBADMSG);
    ck_assert_int_eq(
        plan_window_units_make(&spec, epoch, 0, 0, fewer, counts, 3, NULL, units, NULL), -EBADMSG);
    ck_assert_int_eq(plan_window_units_make(&spec, epoch, 0, 0, huge, counts, 3, NULL, units, NULL),
                     -EBADMSG);
    spec.overflow = PLAN_OVERFLOW_ERROR;
    ck_assert_int_eq(plan_window_units_make(&spec, epoch, 0, 0, more, counts, 3, NULL, units, NULL),
                     -EBADMSG);
    plan_epoch_free(epoch);
    plan_data_deinit(&data);
}
END_TEST

START_TEST(a_window_of_four_billion_sequences_is_refused)
{
    const uint32_t counts[] = {UINT32_MAX, UINT32_MAX, 7};
    const PlanBlocks blocks = {counts, counts, 3};
    PlanSpec spec = ordinary;
    PlanEpoch *epoch;

    spec.shuffle = false;
    ck_assert_int_eq(plan_epoch_new(&spec, &blocks, 0, &epoch), -EOVERFLOW);
    spec.window = 1;
    ck_assert_int_eq(plan_epoch_new(&spec, &blocks, 0, &epoch), 0);
    ck_assert_uint_eq(epoch->tally.sequences_in, 2 * (uint64_t)UINT32_MAX + 7);
    plan_epoch_free(epoch);
    spec.size = UINT32_MAX;
    ck_assert_int_eq(plan_epoch_new(&spec, &blocks, 0, &epoch), -EOVERFLOW);
}
END_TEST

CHECK_MAIN("plan_epoch", every_token_appears_once_an_epoch, without_shuffle_one_strand_is_the_input,
           epochs_and_seeds_have_their_own_order, windows_hold_four_batches_but_the_last,
           strands_stay_level, overflow_and_empty_rules_are_counted,
           truncation_keeps_the_chosen_end, block_counts_suffice_when_nothing_is_dropped_or_split,
           lengths_are_needed_only_where_they_change_the_number, windows_may_be_left_without_a_unit,
           a_strand_without_a_batch_is_named, an_empty_dataset_has_no_batch,
           lengths_that_disagree_with_the_count_are_refused,
           a_window_of_four_billion_sequences_is_refused)
