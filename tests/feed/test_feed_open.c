/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "feed/feed_support.h"
#include "support/check_main.h"

static const TensorSpec *tensor(const Feed *feed, const char *name) {
    for (uint32_t t = 0; t < feed->tensors.count; t++)
        if (strcmp(feed->tensors.tensors[t].name, name) == 0)
            return &feed->tensors.tensors[t];
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

START_TEST(the_defaults_are_those_of_the_dataset)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 1000, NULL, 50);
    feed = fixture_feed(&fixture, "");
    ck_assert_str_eq(feed->name, "train");
    ck_assert_uint_eq(feed->plan.window, feed->catalog->block_count);
    ck_assert_uint_gt(feed->plan.window, 10);
    ck_assert_uint_eq(feed->plan.length_max, 50);
    ck_assert_uint_eq(feed->plan.size, 64);
    ck_assert_uint_eq(feed->tensors.rows_max, 64);
    ck_assert_uint_eq(feed->tensors.length_max, 50);
    ck_assert_int_eq(feed->pad_value, 300);
    ck_assert_uint_eq(feed->slots, 8);
    /* tokens and mask [64, 50], labels and lengths [64], 256 bytes aligned, whole pages */
    ck_assert_uint_eq(feed->slot_bytes % SEQFEED_PAGE, 0);
    ck_assert_uint_ge(feed->slot_bytes, 64 * 50 * 9 + 2 * 64 * 8);
    ck_assert_uint_le(feed->slot_bytes, 64 * 50 * 9 + 2 * 64 * 8 + 1024 + SEQFEED_PAGE);
    feed_unref(feed_ref(feed));
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(the_seed_preset_has_tokens_mask_labels_lengths)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 100, NULL, 20);
    feed = fixture_feed(&fixture, "");
    ck_assert_uint_eq(feed->tensors.count, 4);
    ck_assert_str_eq(feed->tensors.tensors[0].name, "tokens");
    ck_assert_str_eq(feed->tensors.tensors[1].name, "mask");
    ck_assert_str_eq(feed->tensors.tensors[2].name, "labels");
    ck_assert_str_eq(feed->tensors.tensors[3].name, "lengths");
    ck_assert_uint_eq(tensor(feed, "tokens")->dtype, SEQFEED_INT64);
    ck_assert_int_eq(tensor(feed, "tokens")->pad, 300);
    ck_assert_uint_eq(tensor(feed, "mask")->dtype, SEQFEED_BOOL);
    ck_assert_uint_eq(tensor(feed, "mask")->polarity, SEQFEED_POLARITY_KEEP);
    ck_assert_uint_eq(tensor(feed, "labels")->source, TENSOR_SEQUENCE_COLUMN);
    ck_assert_uint_eq(tensor(feed, "labels")->dtype, SEQFEED_INT64);
    ck_assert_int_eq(tensor(feed, "labels")->pad, -100);
    ck_assert_uint_eq(tensor(feed, "lengths")->dtype, SEQFEED_INT64);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(a_mapping_chooses_columns_types_and_padding)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 100, NULL, 20);
    feed = fixture_feed(&fixture, "pad: {value: 7, side: left}\n"
                                  "tensors:\n"
                                  "  w: {from: weight, pad: 0.5}\n"
                                  "  ids: {from: tokens, dtype: int32}\n"
                                  "  f: {from: tokens, dtype: float32}\n"
                                  "  t: {from: tag, pad: -1}\n"
                                  "  m: {mask: lengths, dtype: float32}\n"
                                  "  n: {from: lengths, dtype: int32}\n");
    ck_assert_uint_eq(feed->tensors.count, 6);
    ck_assert_uint_eq(feed->tensors.side, SEQFEED_SIDE_LEFT);
    ck_assert_uint_eq(tensor(feed, "w")->dtype, SEQFEED_FLOAT32);
    ck_assert_uint_eq(tensor(feed, "w")->width, 2);
    ck_assert_int_eq(tensor(feed, "w")->pad, 0x3f000000);
    ck_assert_int_eq(tensor(feed, "ids")->pad, 7);
    ck_assert_int_eq(tensor(feed, "f")->pad, 0x40e00000);
    ck_assert_uint_eq(tensor(feed, "t")->source, TENSOR_TOKEN_COLUMN);
    ck_assert_uint_eq(tensor(feed, "t")->dtype, SEQFEED_INT64);
    ck_assert_int_eq(tensor(feed, "t")->pad, -1);
    ck_assert_uint_eq(tensor(feed, "m")->dtype, SEQFEED_FLOAT32);
    ck_assert_uint_eq(tensor(feed, "n")->dtype, SEQFEED_INT32);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* 0 is a class and a token: where a loss would take it for one, padding is what it leaves out. */
START_TEST(labels_are_padded_with_what_losses_ignore)
{
    static const struct {
        const char *keys;
        int64_t pad;
    } cases[] = {
        {"tensors:\n  labels: {from: tag}\n", -100},
        {"tensors:\n  labels: {from: label}\n", -100},
        {"tensors:\n  labels: {from: label, dtype: int32}\n", -100},
        {"tensors:\n  labels: {from: tag, pad: 0}\n", 0},
        {"tensors:\n  labels: {from: label, dtype: uint8}\n", 0},
        {"tensors:\n  labels: {from: label, dtype: float32}\n", 0},
        {"tensors:\n  labels: {from: weight}\n", 0},
        {"tensors:\n  labels: {from: tokens}\n", 300},
        {"tensors:\n  tags: {from: tag}\n", 0},
    };
    Fixture fixture;

    fixture_init(&fixture);
    fixture_pack(&fixture, 100, NULL, 20);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++) {
        Feed *feed = fixture_feed(&fixture, cases[c].keys);

        ck_assert_msg(feed->tensors.tensors[0].pad == cases[c].pad, "%s", cases[c].keys);
        feed_unref(feed);
    }
    fixture_deinit(&fixture);
}
END_TEST

/* What only the dataset can show is said with file, line, column and key. */
START_TEST(wrong_tensors_are_refused_with_their_place)
{
    Fixture fixture;

    fixture_init(&fixture);
    fixture_pack(&fixture, 100, NULL, 20);
    fixture_refused(&fixture, "", "tensors:\n  x: {from: nope}\n",
                    "c.yaml:5:17: feeds.train.tensors.x.from: ");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: nope}\n",
                    "has no column 'nope', did you mean notes, it has: tokens, label, weight, tag, "
                    "notes, lengths");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: score}\n",
                    "has no column 'score', it has: tokens, label, weight, tag, notes, lengths");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: notes}\n",
                    "tensors.x.from: column 'notes' is ragged");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: tokens, dtype: uint8}\n",
                    "tensors.x.dtype: column 'tokens' holds u16, which uint8 does not hold without "
                    "loss; allowed: int32 int64 float32");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: label, dtype: uint8, pad: 256}\n",
                    "tensors.x.pad: padding value 256 does not fit uint8");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: tag, dtype: int32, pad: 0.5}\n",
                    "tensors.x.pad: padding value 0.5 does not fit int32");
    fixture_refused(&fixture, "", "tensors:\n  x: {from: weight, pad: 1e39}\n",
                    "tensors.x.pad: padding value 1e+39 does not fit float32");
    fixture_refused(&fixture, "",
                    "pad: {value: 5000000000}\ntensors:\n  x: {from: tokens, dtype: int32}\n",
                    "c.yaml:4:18: feeds.train.pad.value: tensor x: padding value 5000000000 does "
                    "not fit int32");
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(sequences_too_long_are_counted)
{
    const uint32_t lengths[] = {1, 30, 10, 31, 99, 5};
    const char sentence[] = "3 of 6 sequences are longer than 29 (longest 99): set length.overflow "
                            "to truncate_right, truncate_left, split or drop, or raise ";
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, ARRAY_COUNT(lengths), lengths, 100);
    fixture_refused(&fixture, "", "length: {max: 29}\n", sentence);
    fixture_refused(&fixture, "", "length: {max: 29}\n", "c.yaml:4:19: feeds.train.length.max: ");
    fixture_refused(&fixture, "", "pad: {to: 29}\n", sentence);
    fixture_refused(&fixture, "", "pad: {to: 29}\n", "feeds.train.pad.to: ");
    feed = fixture_feed(&fixture, "length: {max: 29, overflow: split}\n");
    ck_assert_uint_eq(feed->tally.pieces, 1 + 2 + 1 + 2 + 4 + 1);
    ck_assert_uint_eq(feed->tally.sequences_split, 3);
    ck_assert_uint_eq(feed->tensors.length_max, 29);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(lengths_are_padded_as_configured)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 100, NULL, 20);
    feed = fixture_feed(&fixture, "pad: {multiple_of: 8}\n");
    ck_assert_uint_eq(feed_padded_length(feed, 0), 0);
    ck_assert_uint_eq(feed_padded_length(feed, 8), 8);
    ck_assert_uint_eq(feed_padded_length(feed, 9), 16);
    ck_assert_uint_eq(feed->tensors.length_max, 24);
    feed_unref(feed);
    feed = fixture_feed(&fixture, "pad: {to: 100}\n");
    ck_assert_uint_eq(feed_padded_length(feed, 3), 100);
    ck_assert_uint_eq(feed->tensors.length_max, 100);
    ck_assert_uint_eq(feed->plan.length_max, 100);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(a_missing_dataset_is_refused)
{
    Fixture fixture;

    fixture_init(&fixture);
    fixture_refused(&fixture, "", "", "c.yaml:3:14: feeds.train.dataset: ");
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(truncation_makes_more_rows_fit_into_a_budget_of_tokens)
{
    const uint32_t lengths[] = {20, 20, 20, 20};
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, ARRAY_COUNT(lengths), lengths, 20);
    feed = fixture_feed(&fixture, "batch: {policy: tokens, tokens: 40}\n"
                                  "length: {max: 2, overflow: truncate_right}\n");
    ck_assert_uint_eq(feed->tensors.rows_max, 20);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(a_feed_that_drops_all_is_refused)
{
    const uint32_t lengths[] = {20, 20, 20, 20};
    Fixture fixture;

    fixture_init(&fixture);
    fixture_pack(&fixture, ARRAY_COUNT(lengths), lengths, 20);
    fixture_refused(
        &fixture, "", "length: {max: 2, overflow: drop}\n",
        "c.yaml:4:32: feeds.train.length.overflow: epoch 0 has no batch: "
        "its 1 block holds nothing that a batch could be made of; see what length.empty "
        "and length.overflow drop");
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(a_strand_without_a_batch_is_refused)
{
    Fixture fixture;

    fixture_init(&fixture);
    fixture_pack(&fixture, 40, NULL, 20);
    fixture_refused(&fixture, "", "order: {strands: 9}\n", "feeds.train.order.strands: strand ");
    fixture_refused(
        &fixture, "", "batch: {size: 64, last: drop}\n",
        "c.yaml:4:19: feeds.train.batch.size: epoch 0 has no batch: its 1 block gives 40 "
        "rows, a batch has 64; lower batch.size, or set batch.last to keep");
    fixture_refused(&fixture, "", "batch: {size: 64, last: drop}\norder: {strands: 2}\n",
                    "feeds.train.batch.size: strand 0 of 2 has no batch in epoch 0: its ");
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(a_feed_that_does_not_fit_is_refused_with_the_arithmetic)
{
    Fixture fixture;

    fixture_init(&fixture);
    fixture_pack(&fixture, 4000, NULL, 60);
    fixture_refused(&fixture, "memory: 1MiB\n", "", "c.yaml:1:9: memory: feed train needs ");
    fixture_refused(&fixture, "memory: 1MiB\n", "", " with one ring (rings ");
    fixture_refused(&fixture, "memory: 1MiB\n", "", "memory is 1.0 MiB: raise memory to at least ");
    fixture_refused(&fixture, "memory: 1MiB\n", "batch: {size: 1000}\npad: {to: 1000000}\n",
                    "GiB, or lower threads, ");
    fixture_refused(&fixture, "", "batch: {size: 1048576}\npad: {to: 1000000}\n",
                    "feeds.train.batch.size: a batch is too large");
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(allow_lists_are_copied)
{
    Fixture fixture;
    Feed *feed;

    fixture_init(&fixture);
    fixture_pack(&fixture, 10, NULL, 5);
    feed = fixture_feed(&fixture, "allow: {users: [0, 12345], groups: [7]}\n");
    ck_assert_uint_eq(feed->allow_user_count, 2);
    ck_assert_uint_eq(feed->allow_users[1], 12345);
    ck_assert_uint_eq(feed->allow_group_count, 1);
    ck_assert_uint_eq(feed->allow_groups[0], 7);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

CHECK_MAIN("feed_open", the_defaults_are_those_of_the_dataset,
           the_seed_preset_has_tokens_mask_labels_lengths,
           a_mapping_chooses_columns_types_and_padding, labels_are_padded_with_what_losses_ignore,
           wrong_tensors_are_refused_with_their_place, sequences_too_long_are_counted,
           lengths_are_padded_as_configured, a_missing_dataset_is_refused,
           truncation_makes_more_rows_fit_into_a_budget_of_tokens,
           a_strand_without_a_batch_is_refused, a_feed_that_drops_all_is_refused,
           a_feed_that_does_not_fit_is_refused_with_the_arithmetic, allow_lists_are_copied)
