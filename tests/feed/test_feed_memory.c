/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <malloc.h>

#include "base/arithmetic.h"
#include "feed/feed_support.h"
#include "mask/fill.h"
#include "mask/slate.h"
#include "ring/ring_writer.h"
#include "support/check_main.h"
#include "support/own_memory.h"

/* No window of any epoch is larger than the worst case says. */
static void check_bounds(Feed *feed, uint32_t epochs) {
    for (uint32_t number = 0; number < epochs; number++) {
        FeedEpoch *epoch;

        ck_assert_int_eq(feed_epoch_get(feed, number, number, NULL, &epoch, NULL), 0);
        for (uint32_t s = 0; s < epoch->plan->strand_count; s++) {
            const PlanStrand *strand = &epoch->plan->strands[s];

            for (uint32_t w = 0; w < strand->window_count; w++) {
                const PlanWindow *window = &strand->windows[w];
                uint64_t bytes = 0;

                for (uint32_t b = 0; b < window->block_count; b++) {
                    uint32_t block = strand->blocks[window->block_first + b];
                    uint64_t own = align_up(feed->catalog->blocks[block].raw_bytes, SEQFEED_PAGE);

                    bytes += feed->block_buffer_bytes;
                    bytes += own > feed->block_buffer_bytes ? own : 0;
                }
                ck_assert_uint_le(window->block_count, feed->window_blocks_max);
                ck_assert_uint_le(window->sequences, feed->window_sequences_max);
                ck_assert_uint_le(plan_window_units(strand, w), feed->window_pieces_max);
                ck_assert_uint_le(bytes, feed->window_bytes_max);
            }
        }
        feed_epoch_unref(feed, epoch);
    }
}

START_TEST(worst_cases_hold_in_every_epoch)
{
    static const char *const keys[] = {"", "order: {window: 1}\nbatch: {size: 1}\n",
                                       "order: {window: 3, strands: 2}\nbatch: {size: 16}\n",
                                       "order: {window: 2}\nbatch: {size: 200}\n",
                                       ("order: {window: 2}\nbatch: {size: 7}\n"
                                        "length: {max: 10, overflow: split}\n")};
    uint32_t *lengths = malloc(5000 * sizeof *lengths);
    Fixture fixture;

    fixture_init(&fixture);
    /* Short ones, then long ones, then some that fill a block alone. */
    for (uint32_t i = 0; i < 5000; i++)
        lengths[i] = fixture_length(i, i < 3000 ? 4 : i % 500 == 0 ? 3000 : 100);
    fixture_pack(&fixture, 5000, lengths, 3000);
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        Feed *feed = fixture_feed(&fixture, keys[i]);

        check_bounds(feed, 12);
        feed_unref(feed);
    }
    free(lengths);
    fixture_deinit(&fixture);
}
END_TEST

/* Of several datasets blocks come again, also within a window; strands, policies, tiny sources. */
START_TEST(worst_cases_hold_for_mixes)
{
    static const char mixed[] = "datasets: {a: {path: a}, b: {path: b, weight: 3}, "
                                "c: {path: c, weight: 0.2}}\n";
    static const char *const keys[] = {
        "",
        "order: {window: 1}\nbatch: {size: 1}\n",
        "order: {window: 1, shuffle: false}\nbatch: {size: 2}\nmix: {until: all}\n",
        "order: {window: 3, strands: 3}\nbatch: {size: 16}\nmix: {until: all, unit: tokens}\n",
        "order: {window: 2}\nbatch: {size: 200}\nmix: {until: 9000}\n",
        ("order: {window: 2, strands: 2}\nbatch: {policy: tokens, tokens: 4000}\n"
         "mix: {until: all}\n"),
        "order: {window: 5}\nbatch: {policy: pack, size: 2, length: 3000}\nmix: {until: all}\n",
        "order: {window: 2}\nbatch: {size: 7}\nlength: {max: 10, overflow: split}\n"};
    uint32_t *lengths = malloc(3000 * sizeof *lengths);
    Fixture fixture;

    fixture_init(&fixture);
    for (uint32_t i = 0; i < 3000; i++)
        lengths[i] = fixture_length(i, i < 1500 ? 4 : i % 500 == 0 ? 3000 : 100);
    fixture_name(&fixture, "a");
    fixture_pack(&fixture, 3000, lengths, 3000);
    fixture_name(&fixture, "b");
    fixture_pack(&fixture, 400, lengths + 1500, 3000);
    fixture_name(&fixture, "c");
    fixture_pack(&fixture, 3, NULL, 30);
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        CLEANUP(text_deinit) Text text = {0};
        Feed *feed;

        text_add(&text, "%s%s", mixed, keys[i]);
        feed = fixture_feed(&fixture, text.bytes);
        check_bounds(feed, 12);
        feed_unref(feed);
    }
    free(lengths);
    fixture_deinit(&fixture);
}
END_TEST

/* A short last block does not make windows of a mix larger than windows of one dataset by much. */
START_TEST(worst_cases_of_mixes_are_not_wasteful)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_name(&fixture, "a");
    fixture_pack(&fixture, 5000, NULL, 30);
    fixture_name(&fixture, "b");
    fixture_pack(&fixture, 4001, NULL, 30);
    feed = fixture_feed(&fixture, "datasets: {a: {path: a}, b: {path: b}}\n"
                                  "order: {window: 4}\nbatch: {size: 32}\n");
    ck_assert_uint_le(feed->window_blocks_max, 8);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* When blocks are alike the bound is close: no more than a buffer a block. */
START_TEST(worst_cases_are_not_wasteful)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 5000, NULL, 30);
    feed = fixture_feed(&fixture, "order: {window: 4}\nbatch: {size: 2}\n");
    ck_assert_uint_eq(feed->window_blocks_max, 4);
    ck_assert_uint_eq(feed->block_buffer_bytes,
                      align_up(feed->catalog->block_raw_max, SEQFEED_PAGE));
    ck_assert_uint_eq(feed->window_bytes_max, 4 * feed->block_buffer_bytes);
    ck_assert_uint_le(feed->window_sequences_max, 4 * feed->catalog->block_sequences_max);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(outliers_do_not_make_all_buffers_large)
{
    uint32_t *lengths = malloc(5000 * sizeof *lengths);
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    for (uint32_t i = 0; i < 5000; i++)
        lengths[i] = i == 2500 ? 50000 : 30;
    fixture_pack(&fixture, 5000, lengths, 50000);
    feed = fixture_feed(&fixture, "order: {window: 4}\nbatch: {size: 2}\n");
    ck_assert_uint_lt(feed->block_buffer_bytes, 3 * SHARD_BLOCK_TARGET_MIN);
    ck_assert_uint_eq(feed->window_bytes_max,
                      4 * feed->block_buffer_bytes +
                          align_up(feed->catalog->block_raw_max, SEQFEED_PAGE));
    feed_unref(feed);
    free(lengths);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(streams_pay_for_rings_windows_and_buffers)
{
    FeedMemory one, two, strands;
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 3000, NULL, 30);
    feed = fixture_feed(&fixture, "order: {window: 4, strands: 3}\nring: {slots: 5}\n");
    one = feed_memory(feed, 1, 1);
    two = feed_memory(feed, 2, 1);
    strands = feed_memory(feed, 1, 3);
    ck_assert_uint_eq(one.rings, ring_bytes(5, feed->slot_bytes) + 5 * slate_bytes(&feed->tensors) +
                                     5 * feed->tensors.rows_max * sizeof(uint32_t));
    ck_assert_uint_eq(two.rings, 2 * one.rings);
    ck_assert_uint_eq(two.windows, one.windows);
    ck_assert_uint_eq(strands.windows, 3 * one.windows);
    ck_assert_uint_ge(strands.buffers, one.buffers); /* more windows may be planned at a time */
    ck_assert_uint_eq(feed_planners(feed, 1), MIN(feed->threads, 3u));
    ck_assert_uint_eq(feed_planners(feed, 3), MIN(feed->threads, (uint32_t)FEED_PLANNERS));
    ck_assert_uint_eq(one.total, one.rings + one.windows + one.buffers);
    ck_assert_uint_ge(one.windows, 2 * (feed->window_bytes_max + 24 * feed->window_sequences_max));
    ck_assert_uint_ge(one.buffers,
                      FEED_READS_IN_FLIGHT * (feed->catalog->block_compressed_max + 8192ull));
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* The control thread asks for everybody who waits, again and again. */
START_TEST(what_a_stream_pays_is_known_without_a_look_at_blocks)
{
    Fixture fixture;
    Feed *feed;
    CatalogBlock *blocks;
    uint32_t *sequences, *tokens;
    FeedMemory before, after;

    fixture_init(&fixture);
    fixture_pack(&fixture, 3000, NULL, 300);
    feed = fixture_feed(&fixture, "batch: {policy: pack, size: 2, length: 300}\n");
    before = feed_memory(feed, 2, 1);
    blocks = feed->catalog->blocks;
    sequences = feed->catalog->block_sequences;
    tokens = feed->catalog->block_tokens;
    feed->catalog->blocks = NULL; /* a look would be the end */
    feed->catalog->block_sequences = feed->catalog->block_tokens = NULL;
    feed->blocks.sequences = feed->blocks.tokens = NULL;
    after = feed_memory(feed, 2, 1);
    feed->catalog->blocks = blocks;
    feed->catalog->block_sequences = sequences;
    feed->catalog->block_tokens = tokens;
    ck_assert_uint_eq(after.total, before.total);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* Each worker notes where the sequences of a batch lie. */
START_TEST(large_batches_cost_their_workers_memory_too)
{
    FeedMemory small, large;
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 3000, NULL, 30);
    feed = fixture_feed(&fixture, "batch: {size: 1}\n");
    small = feed_memory(feed, 1, 1);
    feed_unref(feed);
    feed = fixture_feed(&fixture, "batch: {size: 1000}\n");
    large = feed_memory(feed, 1, 1);
    ck_assert_uint_ge(large.buffers, small.buffers + feed->threads * 999 * sizeof(FillRow));
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

static uint64_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* A block for each sequence, and as many epochs as are kept. */
START_TEST(what_a_feed_takes_itself_is_known)
{
    enum { BLOCKS = 4000 };
    const uint64_t rest = sizeof(Feed) + (48 << 10); /* settings, tensors */
    uint32_t *lengths = malloc(BLOCKS * sizeof *lengths);
    uint64_t before, own;
    Fixture fixture;
    FeedEpoch *epoch;
    Feed *feed;

    for (uint32_t i = 0; i < BLOCKS; i++)
        lengths[i] = SHARD_BLOCK_TARGET_MIN / 2;
    fixture_init(&fixture);
    fixture_pack(&fixture, BLOCKS, lengths, SHARD_BLOCK_TARGET_MIN / 2);
    free(lengths);
    before = heap_bytes();
    feed = fixture_feed(&fixture, "order: {window: 4}\nbatch: {size: 8}\n");
    for (uint32_t number = 0; number < FEED_EPOCHS_KEPT; number++) {
        ck_assert_int_eq(feed_epoch_get(feed, 0, number, NULL, &epoch, NULL), 0);
        feed_epoch_unref(feed, epoch);
    }
    own = heap_bytes() - before;
    ck_assert_uint_ge(feed->catalog->block_count, BLOCKS / 2);
    ck_assert_uint_ge(feed->index_bytes, feed->catalog->block_count * 72ull);
    if (!OWN_MEMORY_HAS_SHADOW) {
        ck_assert_uint_le(own, feed->index_bytes + rest);
        ck_assert_uint_le(feed->index_bytes, own + own / 8);
    }
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(feeds_must_fit_beside_what_all_of_them_take)
{
    char path[] = "c.yaml";
    Settings settings = {.path = path, .memory_place = {.line = 3, .column = 9}};
    Feed *feeds[2];
    Fixture fixture;
    Error error;

    fixture_init(&fixture);
    fixture_pack(&fixture, 3000, NULL, 30);
    feeds[0] = feeds[1] = fixture_feed(&fixture, "order: {window: 4}\n");
    settings.memory = feed_memory(feeds[0], 1, 1).total + feeds[0]->index_bytes;
    ck_assert_int_eq(feed_check_together(feeds, 1, &settings, &error), 0);
    ck_assert_int_eq(feed_check_together(feeds, 2, &settings, &error), -EINVAL);
    ck_assert_msg(strstr(error.text, "c.yaml:3:9: memory: the indexes of all 2 feeds take ") ==
                      error.text,
                  "%s", error.text);
    settings.memory += feeds[1]->index_bytes;
    ck_assert_int_eq(feed_check_together(feeds, 2, &settings, &error), 0);
    feed_unref(feeds[0]);
    fixture_deinit(&fixture);
}
END_TEST

CHECK_MAIN("feed_memory", worst_cases_hold_in_every_epoch, worst_cases_hold_for_mixes,
           worst_cases_of_mixes_are_not_wasteful, worst_cases_are_not_wasteful,
           outliers_do_not_make_all_buffers_large, streams_pay_for_rings_windows_and_buffers,
           what_a_stream_pays_is_known_without_a_look_at_blocks,
           large_batches_cost_their_workers_memory_too, what_a_feed_takes_itself_is_known,
           feeds_must_fit_beside_what_all_of_them_take)
