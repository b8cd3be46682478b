/* SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include "support/check_main.h"

enum { EPOCHS = 3, LONG = 200 };

/* A stream's batches in the order of rounds and ranks, as numbers epoch * 1000 + batch. */
typedef struct Walk {
    PlanTail tail;
    uint64_t batch_count;
    uint32_t world;
    uint64_t epoch, start; /* of the stream within the present epoch */
    uint64_t round;
} Walk;

/* The next round; ret_batches[rank]. Repeated ones have 500 added. */
static void walk_next(Walk *walk, uint64_t *ret_batches, uint64_t *ret_epoch, uint64_t *ret_index) {
    if (plan_round_count(walk->tail, walk->batch_count, walk->start, walk->world) == 0) {
        walk->epoch++;
        walk->start = 0;
    }
    for (uint32_t rank = 0; rank < walk->world; rank++) {
        bool repeated;
        uint64_t batch = plan_round_batch(
            walk->batch_count, walk->start + walk->round * walk->world + rank, &repeated);

        ck_assert_uint_lt(batch, walk->batch_count);
        ret_batches[rank] = walk->epoch * 1000 + batch + (repeated ? 500 : 0);
    }
    plan_round_cursor(walk->tail, walk->epoch, walk->batch_count, walk->start, walk->world,
                      walk->round, ret_epoch, ret_index);
    walk->round++;
    if (*ret_epoch != walk->epoch) {
        walk->epoch = *ret_epoch;
        walk->start = 0;
        walk->round = 0;
    }
}

START_TEST(any_world_gives_the_same_batches)
{
    for (uint64_t count = 1; count <= 12; count++) {
        for (uint32_t world = 1; world <= 9; world++) {
            Walk walk = {PLAN_TAIL_REPEAT, count, world, 0, 0, 0};
            uint64_t batches[9], epoch = 0, index, seen = 0, repeated = 0;

            while (epoch == 0) {
                walk_next(&walk, batches, &epoch, &index);
                for (uint32_t rank = 0; rank < world; rank++) {
                    if (batches[rank] >= 500)
                        repeated++;
                    else
                        ck_assert_uint_eq(batches[rank], seen++);
                }
            }
            ck_assert_uint_eq(seen, count);
            ck_assert_uint_eq((seen + repeated) % world, 0);
            ck_assert_uint_lt(repeated, world);
        }
    }
}
END_TEST

START_TEST(dropping_cuts_to_whole_rounds)
{
    for (uint64_t count = 1; count <= 12; count++) {
        for (uint32_t world = 1; world <= count; world++) {
            Walk walk = {PLAN_TAIL_DROP, count, world, 0, 0, 0};
            uint64_t batches[12], epoch = 0, index, seen = 0;

            while (epoch == 0) {
                walk_next(&walk, batches, &epoch, &index);
                for (uint32_t rank = 0; rank < world; rank++)
                    ck_assert_uint_eq(batches[rank], seen++);
            }
            ck_assert_uint_eq(seen, count / world * world);
        }
    }
}
END_TEST

/* Whatever round it stopped after, a stream that begins at the cursor gives the rest. */
START_TEST(resuming_gives_the_tail)
{
    for (int tail = 0; tail < 2; tail++) {
        for (uint64_t count = 4; count <= 11; count++) {
            for (uint32_t world = 1; world <= 4; world++) {
                Walk walk = {tail ? PLAN_TAIL_DROP : PLAN_TAIL_REPEAT, count, world, 0, 0, 0};
                uint64_t batches[4], again[4], epoch = 0, index = 0, e, i;

                while (epoch < EPOCHS) {
                    Walk rest, resumed = walk;

                    walk_next(&walk, batches, &epoch, &index);
                    rest = walk;
                    resumed.epoch = epoch;
                    resumed.start = index;
                    resumed.round = 0;
                    for (int n = 0; n < LONG / 10; n++) {
                        walk_next(&rest, batches, &e, &i);
                        walk_next(&resumed, again, &epoch, &index);
                        ck_assert_mem_eq(batches, again, world * sizeof *batches);
                        ck_assert_uint_eq(e, epoch);
                        ck_assert_uint_eq(i, index);
                    }
                    epoch = walk.epoch;
                }
            }
        }
    }
}
END_TEST

/* Changing the world at a cursor neither skips nor repeats an index. */
START_TEST(another_world_goes_on_at_the_cursor)
{
    Walk walk = {PLAN_TAIL_REPEAT, 11, 3, 0, 0, 0};
    uint64_t batches[4], epoch, index;

    walk_next(&walk, batches, &epoch, &index);
    ck_assert_uint_eq(epoch, 0);
    ck_assert_uint_eq(index, 3);
    walk = (Walk){PLAN_TAIL_REPEAT, 11, 4, epoch, index, 0};
    walk_next(&walk, batches, &epoch, &index);
    for (uint64_t rank = 0; rank < 4; rank++)
        ck_assert_uint_eq(batches[rank], 3 + rank);
    walk_next(&walk, batches, &epoch, &index);
    ck_assert_uint_eq(batches[3], 10);
    ck_assert_uint_eq(epoch, 1);
    ck_assert_uint_eq(index, 0);
}
END_TEST

START_TEST(rounds_repeat_from_the_first_batch_as_often_as_needed)
{
    Walk walk = {PLAN_TAIL_REPEAT, 2, 7, 0, 0, 0};
    const uint64_t expected[] = {0, 1, 500, 501, 500, 501, 500};
    uint64_t batches[7], epoch, index;

    walk_next(&walk, batches, &epoch, &index);
    ck_assert_mem_eq(batches, expected, sizeof expected);
    ck_assert_uint_eq(epoch, 1);
}
END_TEST

START_TEST(a_start_without_a_whole_round_has_none)
{
    ck_assert_uint_eq(plan_round_count(PLAN_TAIL_DROP, 10, 8, 3), 0);
    ck_assert_uint_eq(plan_round_count(PLAN_TAIL_REPEAT, 10, 8, 3), 1);
    ck_assert_uint_eq(plan_round_count(PLAN_TAIL_DROP, 10, 7, 3), 1);
}
END_TEST

static uint64_t sums_short[] = {0, 9}, sums_long[] = {0, 25};

/* Two strands of 3 and 7 batches: the shorter begins again, flagged, or both are cut. */
START_TEST(a_short_strand_repeats_or_cuts)
{
    PlanStrand strands[] = {{.window_count = 1, .unit_sums = sums_short},
                            {.window_count = 1, .unit_sums = sums_long}};
    uint32_t units_short[] = {9}, units_long[] = {25}, strand;
    uint32_t *const units[] = {units_short, units_long};
    PlanEpoch epoch = {.strands = strands, .strand_count = 2};
    PlanSpec spec = {.size = 4, .strands = 2, .tail = PLAN_TAIL_REPEAT};
    PlanBatch batch;

    ck_assert_int_eq(plan_epoch_finish(&spec, &epoch, units, NULL, &strand), 0);
    ck_assert_uint_eq(epoch.batch_count, 14);
    ck_assert_uint_eq(epoch.batches_cut, 0);
    batch = plan_epoch_batch(&spec, &epoch, 4);
    ck_assert_uint_eq(batch.unit_first, 8);
    ck_assert_uint_eq(batch.unit_count, 1);
    ck_assert_uint_eq(plan_batch_rows(&spec, batch.unit_count), 1);
    ck_assert(!batch.repeated);
    batch = plan_epoch_batch(&spec, &epoch, 12); /* local 6 of 3 */
    ck_assert_uint_eq(batch.strand, 0);
    ck_assert_uint_eq(batch.unit_first, 0);
    ck_assert_uint_eq(batch.unit_count, 4);
    ck_assert(batch.repeated);

    spec.last = PLAN_LAST_PAD;
    ck_assert_uint_eq(plan_epoch_batch(&spec, &epoch, 13).unit_count, 1);
    ck_assert_uint_eq(plan_batch_rows(&spec, 1), 4);

    spec.tail = PLAN_TAIL_DROP;
    ck_assert_int_eq(plan_epoch_finish(&spec, &epoch, units, NULL, &strand), 0);
    ck_assert_uint_eq(epoch.batch_count, 6);
    ck_assert_uint_eq(epoch.batches_cut, 4);
}
END_TEST

CHECK_MAIN("plan_round", any_world_gives_the_same_batches, dropping_cuts_to_whole_rounds,
           resuming_gives_the_tail, another_world_goes_on_at_the_cursor,
           rounds_repeat_from_the_first_batch_as_often_as_needed,
           a_start_without_a_whole_round_has_none, a_short_strand_repeats_or_cuts)
