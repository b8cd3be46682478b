/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "feed/feed_support.h"
#include "support/check_main.h"

static FeedEpoch *get(Feed *feed, uint64_t seed, uint64_t number) {
    FeedEpoch *epoch = NULL;
    Error error = {0};

    ck_assert_msg(feed_epoch_get(feed, seed, number, NULL, &epoch, &error) == 0, "%s", error.text);
    ck_assert_uint_eq(epoch->plan->epoch, number);
    ck_assert_uint_eq(epoch->seed, seed);
    ck_assert(epoch->plan->counted);
    return epoch;
}

START_TEST(the_last_four_epochs_are_kept)
{
    Fixture fixture;
    FeedEpoch *epochs[6];
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 1000, NULL, 30);
    feed = fixture_feed(&fixture, "");
    for (uint64_t e = 0; e < 6; e++)
        epochs[e] = get(feed, 1, e);
    for (uint64_t e = 2; e < 6; e++) {
        FeedEpoch *again = get(feed, 1, e);

        ck_assert_ptr_eq(again, epochs[e]);
        feed_epoch_unref(feed, again);
    }
    for (uint64_t e = 0; e < 6; e++) {
        ck_assert_uint_eq(epochs[e]->plan->batch_count, 16); /* still ours, kept or not */
        feed_epoch_unref(feed, epochs[e]);
    }
    ck_assert_ptr_nonnull(feed->epochs[FEED_EPOCHS_KEPT - 1]);
    feed_epoch_unref(feed, NULL);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* A count that reads lengths beats for each block, in all its threads, and ends when it is told to.
 */
START_TEST(a_count_beats_and_can_be_given_up)
{
    _Atomic uint64_t beats = 0;
    _Atomic bool stop = false;
    const Heartbeat heartbeat = {.beats = &beats, .stop = &stop};
    Fixture fixture;
    FeedEpoch *epoch;
    Error error = {0};
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 1000, NULL, 30);
    feed = fixture_feed(&fixture, "batch: {policy: tokens, tokens: 512}\norder: {window: 2}\n");
    ck_assert_uint_gt(feed->blocks.count, 2);
    ck_assert_int_eq(feed_epoch_get(feed, 100, 0, &heartbeat, &epoch, &error), 0);
    feed_epoch_unref(feed, epoch);
    ck_assert_uint_eq(beats, feed->blocks.count);
    ck_assert_int_eq(feed_epoch_get(feed, 100, 0, &heartbeat, &epoch, &error), 0);
    ck_assert_uint_eq(beats, feed->blocks.count); /* it is kept */
    feed_epoch_unref(feed, epoch);
    stop = true;
    ck_assert_int_eq(feed_epoch_get(feed, 101, 0, &heartbeat, &epoch, &error), -ECANCELED);
    ck_assert_uint_le(beats, feed->blocks.count + feed_count_threads(feed));
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(seeds_have_epochs_of_their_own)
{
    Fixture fixture;
    FeedEpoch *one, *two;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 1000, NULL, 30);
    feed = fixture_feed(&fixture, "order: {window: 2}\n");
    one = get(feed, 1, 0);
    two = get(feed, 2, 0);
    ck_assert_ptr_ne(one, two);
    ck_assert_mem_ne(one->plan->strands[0].blocks, two->plan->strands[0].blocks,
                     feed->blocks.count * sizeof(uint32_t));
    feed_epoch_unref(feed, one);
    feed_epoch_unref(feed, two);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* The counts that a plan has equal those of its windows, planned from the lengths on disk. */
static void check_windows(Feed *feed, uint64_t number) {
    const PlanSpec spec = feed_plan_spec(feed, 77);
    FeedEpoch *epoch = get(feed, 77, number);
    uint64_t units_all = 0;

    for (uint32_t s = 0; s < epoch->plan->strand_count; s++) {
        const PlanStrand *strand = &epoch->plan->strands[s];

        for (uint32_t w = 0; w < strand->window_count; w++) {
            const PlanWindow *window = &strand->windows[w];
            uint32_t *lengths = malloc((window->sequences + 1) * sizeof *lengths);
            uint32_t *counts = malloc((window->block_count + 1) * sizeof *counts);
            PlanUnit *units = malloc((feed->window_pieces_max + 1) * sizeof *units);
            uint32_t *firsts = malloc((feed->window_pieces_max + 2) * sizeof *firsts);
            PlanScratch scratch = {0};
            PlanTally pieces;
            uint64_t at = 0;

            for (uint32_t b = 0; b < window->block_count; b++) {
                uint32_t block = strand->blocks[window->block_first + b];
                counts[b] = feed->catalog->block_sequences[block];
                ck_assert_int_eq(catalog_read_lengths(feed->catalog, block, lengths + at, NULL), 0);
                at += counts[b];
            }
            ck_assert_uint_eq(at, window->sequences);
            plan_count_pieces(&spec, lengths, at, &pieces);
            ck_assert_uint_le(pieces.pieces, feed->window_pieces_max);
            ck_assert_int_eq(plan_window_units_make(&spec, epoch->plan, s, w, lengths, counts,
                                                    pieces.pieces, &scratch, units, firsts),
                             0);
            plan_scratch_free(&scratch);
            units_all += plan_window_units(strand, w);
            ck_assert_uint_le(plan_window_units(strand, w), feed->window_pieces_max);
            free(lengths);
            free(counts);
            free(units);
            free(firsts);
        }
    }
    ck_assert_uint_eq(units_all, epoch->plan->tally.units);
    ck_assert_uint_eq(epoch->plan->tally.sequences_in, feed->catalog->sequences);
    ck_assert_uint_eq(epoch->plan->tally.tokens_in, feed->catalog->tokens);
    feed_epoch_unref(feed, epoch);
}

START_TEST(counting_agrees_with_planning)
{
    static const char *const rules[] = {
        "length: {max: 9, overflow: truncate_left}\n",
        "length: {max: 9, overflow: split}\n",
        "length: {max: 9, overflow: drop}\n",
        "length: {empty: drop}\n",
        "length: {max: 3, overflow: split, empty: drop}\n",
        "batch: {policy: bucket, size: 4, last: drop}\n",
        "batch: {policy: bucket, size: 4, boundaries: {quantiles: 3}}\n",
        "batch: {policy: pack, size: 2, length: 40, pool: 7, group: 5}\n",
        "batch: {policy: tokens, tokens: 100, last: drop}\n",
        "batch: {policy: tokens, tokens: 90}\nlength: {max: 9, overflow: split}\n"};
    Fixture fixture;

    fixture_init(&fixture);
    fixture_pack(&fixture, 3000, NULL, 30);
    for (size_t i = 0; i < ARRAY_COUNT(rules); i++) {
        char keys[200];
        Feed *feed;

        snprintf(keys, sizeof keys, "order: {window: 3, strands: 2}\n%s%s",
                 strstr(rules[i], "batch:") ? "" : "batch: {size: 8}\n", rules[i]);
        feed = fixture_feed(&fixture, keys);
        ck_assert((feed->block_pieces != NULL) ==
                  (strstr(rules[i], "split") || strstr(rules[i], "overflow: drop") ||
                   strstr(rules[i], "empty: drop")));
        check_windows(feed, 0);
        check_windows(feed, 1);
        feed_unref(feed);
    }
    fixture_deinit(&fixture);
}
END_TEST

CHECK_MAIN("feed_epoch", the_last_four_epochs_are_kept, a_count_beats_and_can_be_given_up,
           seeds_have_epochs_of_their_own, counting_agrees_with_planning)
