/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/bytes.h"
#include "feed/feed_support.h"
#include "support/check_main.h"

static Fixture fixture;

static void setup_corpus(void) {
    fixture_init(&fixture);
    fixture_pack(&fixture, 300, NULL, 20);
}

static void expect(const Feed *feed, uint64_t seed, const char *text, uint64_t epoch,
                   uint64_t index) {
    uint64_t got_epoch, got_index;
    Error error = {0};

    ck_assert_msg(feed_cursor_parse(feed, seed, text, &got_epoch, &got_index, &error) == 0,
                  "%s: %s", text, error.text);
    ck_assert_uint_eq(got_epoch, epoch);
    ck_assert_uint_eq(got_index, index);
}

static void expect_refusal(const Feed *feed, uint64_t seed, const char *text, int code,
                           const char *part) {
    uint64_t epoch, index;
    Error error = {0};

    ck_assert_int_eq(feed_cursor_parse(feed, seed, text, &epoch, &index, &error), code);
    ck_assert_int_eq(error.code, code);
    ck_assert_msg(strstr(error.text, part) != NULL, "'%s' does not say '%s'", error.text, part);
}

/* Recompute the check sum of a text that was changed. */
static void sign(char text[SEQFEED_CURSOR_BYTES]) {
    char *crc = strstr(text, ";crc=");

    sprintf(crc, ";crc=%08x", bytes_crc32c(0, text, (size_t)(crc - text)));
}

START_TEST(cursors_come_back_as_they_were)
{
    const uint64_t numbers[] = {0, 1, 4711, UINT32_MAX, UINT64_MAX};
    char text[SEQFEED_CURSOR_BYTES];
    Feed *feed;

    setup_corpus();
    feed = fixture_feed(&fixture, "");
    for (size_t e = 0; e < ARRAY_COUNT(numbers); e++) {
        for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
            feed_cursor_format(feed, numbers[i], numbers[e], numbers[i], text);
            ck_assert_uint_le(strlen(text), 512);
            ck_assert_ptr_null(strchr(text, ' '));
            expect(feed, numbers[i], text, numbers[e], numbers[i]);
        }
    }
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* The exact text of docs/formats/plan.md. */
START_TEST(a_cursor_is_canonical)
{
    char text[SEQFEED_CURSOR_BYTES], plan[SEQFEED_PLAN_BYTES], id[33], expected[512];
    Feed *feed;

    setup_corpus();
    feed = fixture_feed(&fixture, "order: {window: 5, strands: 2, shuffle: false}\n"
                                  "batch: {size: 16, last: pad, tail: drop}\n"
                                  "length: {max: 15, overflow: truncate_left, empty: drop}\n"
                                  "pad: {to: 64, multiple_of: 8, side: left, value: -1}\n");
    text_format_hex(id, feed->catalog->id, 16);
    feed_cursor_format(feed, 18, 3, 4711, text);
    snprintf(expected, sizeof expected,
             "sf1;data=%s;order=input/5/2;batch=fixed/16/pad/drop;length=15/truncate_left/drop;"
             "pad=64/8/left/-1;seed=18;epoch=3;index=4711",
             id);
    ck_assert_mem_eq(text, expected, strlen(expected));
    ck_assert_uint_eq(strlen(text), strlen(expected) + 13);
    feed_plan_text(feed, 18, plan);
    expected[strlen(expected) - strlen(";epoch=3;index=4711")] = '\0';
    ck_assert_str_eq(plan, expected + 4);
    feed_unref(feed);

    feed = fixture_feed(&fixture, "order: {window: 7}\n");
    feed_plan_text(feed, 0, plan);
    snprintf(expected, sizeof expected,
             "data=%s;order=shuffle/7/1;batch=fixed/64/keep/repeat;length=20/error/keep;"
             "pad=longest/1/right/300;seed=0",
             id);
    ck_assert_str_eq(plan, expected);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(the_short_form_starts_any_epoch)
{
    Feed *feed;

    setup_corpus();
    feed = fixture_feed(&fixture, "");
    expect(feed, 9, "sf1;epoch=0", 0, 0);
    expect(feed, 9, "sf1;epoch=18446744073709551615", UINT64_MAX, 0);
    expect_refusal(feed, 9, "sf1;epoch=", -EINVAL, "one decimal number");
    expect_refusal(feed, 9, "sf1;epoch=01", -EINVAL, "one decimal number");
    expect_refusal(feed, 9, "sf1;epoch=18446744073709551616", -EINVAL, "one decimal number");
    expect_refusal(feed, 9, "sf1;epoch=1;index=2", -EINVAL, "no check sum");
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(another_plan_is_refused_field_by_field)
{
    char text[SEQFEED_CURSOR_BYTES];
    Feed *feed;

    setup_corpus();
    feed = fixture_feed(&fixture, "");
    feed_cursor_format(feed, 0, 1, 2, text);
    expect_refusal(feed, 5, text, -ESTALE, "train: seed: cursor has 0, the feed has 5");
    feed_unref(feed);

    feed = fixture_feed(&fixture, "batch: {size: 32}\npad: {multiple_of: 8}\n");
    expect_refusal(
        feed, 0, text, -ESTALE,
        "batch: cursor has fixed/64/keep/repeat, the feed has fixed/32/keep/repeat; pad: cursor "
        "has longest/1/right/300, the feed has longest/8/right/300");
    feed_unref(feed);

    feed = fixture_feed(&fixture, "layout: time_first\nring: {slots: 2}\ntensors: {t: {from: "
                                  "tokens}}\nbackend: cpu\n");
    expect(feed, 0, text, 1, 2);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(another_dataset_is_another_plan)
{
    char text[SEQFEED_CURSOR_BYTES];
    Fixture other;
    Feed *feed;

    setup_corpus();
    feed = fixture_feed(&fixture, "length: {max: 20}\norder: {window: 4}\n");
    feed_cursor_format(feed, 0, 1, 2, text);
    feed_unref(feed);
    fixture_init(&other);
    fixture_pack(&other, 301, NULL, 20);
    feed = fixture_feed(&other, "length: {max: 20}\norder: {window: 4}\n");
    expect_refusal(feed, 0, text, -ESTALE, "of another plan than feed train: data: cursor has ");
    feed_unref(feed);
    fixture_deinit(&other);
    fixture_deinit(&fixture);
}
END_TEST

/* No change of a single byte goes through, and no cut. */
START_TEST(damaged_cursors_are_refused)
{
    char text[SEQFEED_CURSOR_BYTES], changed[SEQFEED_CURSOR_BYTES];
    uint64_t epoch, index;
    Feed *feed;

    setup_corpus();
    feed = fixture_feed(&fixture, "");
    feed_cursor_format(feed, 7, 3, 41, text);
    for (size_t i = 0; i < strlen(text); i++) {
        strcpy(changed, text);
        changed[i] ^= 1;
        ck_assert_int_eq(feed_cursor_parse(feed, 7, changed, &epoch, &index, NULL), -EINVAL);
        strcpy(changed, text);
        changed[i] = '\0';
        ck_assert_int_eq(feed_cursor_parse(feed, 7, changed, &epoch, &index, NULL), -EINVAL);
    }
    strcat(strcpy(changed, text), "x");
    expect_refusal(feed, 7, changed, -EINVAL, "check sum is wrong");
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(texts_that_are_no_cursor_are_refused)
{
    char text[SEQFEED_CURSOR_BYTES], longer[2000];
    Feed *feed;
    char *at;

    setup_corpus();
    feed = fixture_feed(&fixture, "");
    expect_refusal(feed, 0, "", -EINVAL, "does not begin with 'sf1;'");
    expect_refusal(feed, 0, "sf2;epoch=1", -EINVAL, "does not begin with 'sf1;'");
    expect_refusal(feed, 0, "sf1;hello world", -EINVAL, "a space");
    expect_refusal(feed, 0, "sf1;\x1b[31m", -EINVAL, "not printable");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    expect_refusal(feed, 0, longer, -EINVAL, "longer than 512 bytes");

    /* Signed, but not as this program writes it. */
    strcpy(text, "sf1;abc;crc=");
    sign(text);
    expect_refusal(feed, 0, text, -EINVAL, "a field is missing");
    feed_cursor_format(feed, 0, 1, 2, text);
    at = strstr(text, ";index=2");
    memcpy(at, ";epoch=2", 8);
    sign(text);
    expect_refusal(feed, 0, text, -EINVAL, "a field is missing");
    feed_cursor_format(feed, 0, 1, 23, text);
    memcpy(strstr(text, "=23;") + 1, "03", 2);
    sign(text);
    expect_refusal(feed, 0, text, -EINVAL, "a field is missing");
    feed_cursor_format(feed, 0, 1, 2, text);
    memcpy(strstr(text, ";epoch=1;index=2"), ";index=2;epoch=1", 16);
    sign(text);
    expect_refusal(feed, 0, text, -EINVAL, "not in their order");
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(fields_that_one_side_lacks_are_named)
{
    char text[SEQFEED_CURSOR_BYTES], changed[2 * SEQFEED_CURSOR_BYTES];
    Feed *feed;
    char *seed;

    setup_corpus();
    feed = fixture_feed(&fixture, "");
    feed_cursor_format(feed, 0, 1, 2, text);
    seed = strstr(text, ";seed=");
    snprintf(changed, sizeof changed, "%.*s;mix=all%s", (int)(seed - text), text, seed);
    sign(changed);
    expect_refusal(feed, 0, changed, -ESTALE, "mix: cursor has all, the feed has no such field");
    snprintf(changed, sizeof changed, "%.*s%s", (int)(seed - text), text, seed + strlen(";seed=0"));
    sign(changed);
    expect_refusal(feed, 0, changed, -ESTALE, "seed: cursor has nothing, the feed has 0");
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

CHECK_MAIN("feed_cursor", cursors_come_back_as_they_were, a_cursor_is_canonical,
           the_short_form_starts_any_epoch, another_plan_is_refused_field_by_field,
           another_dataset_is_another_plan, damaged_cursors_are_refused,
           texts_that_are_no_cursor_are_refused, fields_that_one_side_lacks_are_named)
