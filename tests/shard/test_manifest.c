/* SPDX-License-Identifier: MIT */
/* What dataset.json may not say, with a checksum that fits. */
#include "shard/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "support/check_main.h"

#define COLUMN "{\"name\": \"tokens\", \"kind\": \"tokens\", \"type\": \"u16\", \"width\": 1}"
#define SHARD(path)                                                                              \
    "{\"path\": \"" path "\", \"bytes\": 5000, \"sequences\": 2, \"tokens\": 3, \"blocks\": 1, " \
    "\"length_max\": 2, \"content\": \"00112233445566778899aabbccddeeff\"}"
#define ID "00112233445566778899aabbccddeeff"

/* The manifest with these parts and the right tail. */
static int parse(const char *head, const char *columns, const char *shards, uint64_t sequences,
                 Error *error) {
    CLEANUP(text_deinit) Text text = {0};
    CLEANUP(manifest_deinit) Manifest manifest = {0};

    text_add(&text,
             "{\n  \"format\": \"seqfeed-dataset\",\n%s  \"pad_id\": null,\n  \"sequences\": %llu,"
             "\n  \"tokens\": %llu,\n  \"bytes\": %llu,\n  \"columns\": [%s],\n  \"shards\": [%s],"
             "\n",
             head, (unsigned long long)sequences, (unsigned long long)sequences / 2 * 3,
             (unsigned long long)sequences / 2 * 5000, columns, shards);
    text_add(&text, "  \"checksum\": \"crc32c:%08x\"\n}\n", bytes_crc32c(0, text.bytes, text.size));
    return manifest_parse(text.bytes, text.size, "dataset.json", &manifest, error);
}

#define HEAD "  \"version\": 1,\n  \"id\": \"" ID "\",\n"

START_TEST(a_good_one_is_read)
{
    Error error = {0};

    ck_assert_msg(parse(HEAD, COLUMN, SHARD("a.zst"), 2, &error) == 0, "%s", error.text);
    ck_assert_int_eq(parse(HEAD "  \"later\": [1],\n", COLUMN, SHARD("a.zst"), 2, &error), 0);
}
END_TEST

START_TEST(paths_cannot_leave_the_directory_or_stand_twice)
{
    static const char *const bad[] = {
        SHARD("../a.zst"), SHARD("/a.zst"),  SHARD("b/a.zst"),        SHARD(""),
        SHARD(".hidden"),  SHARD(".."),      SHARD("a\\u0000b"),      SHARD("a b"),
        SHARD("a\\nb"),    SHARD("\\u00e4"), SHARD("a\", \"x\": \""),
    };
    Error error = {0};

    for (size_t i = 0; i < ARRAY_COUNT(bad) - 1; i++)
        ck_assert_msg(parse(HEAD, COLUMN, bad[i], 2, &error) == -EBADMSG, "%s", bad[i]);
    ck_assert_int_eq(parse(HEAD, COLUMN, SHARD("a.zst") "," SHARD("a.zst"), 4, &error), -EBADMSG);
    ck_assert_int_eq(parse(HEAD, COLUMN, SHARD("a.zst") "," SHARD("b.zst"), 4, &error), 0);
}
END_TEST

START_TEST(numbers_and_names_must_be_right)
{
    Error error = {0};

    ck_assert_int_eq(parse(HEAD, COLUMN, SHARD("a.zst"), 4, &error), -EBADMSG);
    ck_assert_int_eq(parse(HEAD, COLUMN, "", 0, &error), -EBADMSG);
    ck_assert_int_eq(parse(HEAD, "", SHARD("a.zst"), 2, &error), -EBADMSG);
    ck_assert_int_eq(parse(HEAD, COLUMN "," COLUMN, SHARD("a.zst"), 2, &error), -EBADMSG);
    ck_assert_int_eq(parse(HEAD, "7", SHARD("a.zst"), 2, &error), -EBADMSG);
    ck_assert_int_eq(parse(HEAD, COLUMN, "[]", 2, &error), -EBADMSG);
    ck_assert_int_eq(
        parse("  \"version\": 1,\n  \"id\": \"00\",\n", COLUMN, SHARD("a.zst"), 2, &error),
        -EBADMSG);
    ck_assert_int_eq(parse(HEAD "  \"version\": 1,\n", COLUMN, SHARD("a.zst"), 2, &error),
                     -EBADMSG); /* a key that stands twice */
}
END_TEST

START_TEST(a_newer_version_says_so)
{
    Error error = {0};

    ck_assert_int_eq(
        parse("  \"version\": 2,\n  \"id\": \"" ID "\",\n", COLUMN, SHARD("a.zst"), 2, &error),
        -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(error.text, "newer"));
}
END_TEST

START_TEST(every_size_of_garbage_is_refused)
{
    char bytes[256];
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    Error error = {0};

    memset(bytes, '{', sizeof bytes);
    for (size_t size = 0; size < sizeof bytes; size++)
        ck_assert_int_eq(manifest_parse(bytes, size, "dataset.json", &manifest, &error), -EBADMSG);
}
END_TEST

/* A good manifest with a key that holds `count` times `value`. */
static int parse_many(const char *value, size_t count, Error *error) {
    CLEANUP(text_deinit) Text head = {0};

    text_add(&head, "%s  \"later\": [", HEAD);
    for (size_t i = 0; i < count; i++)
        text_add(&head, i ? ",%s" : "%s", value);
    text_add(&head, "],\n");
    return parse(head.bytes, COLUMN, SHARD("a.zst"), 2, error);
}

/* The parser would make gigabytes of what a file of tens of megabytes can hold. */
START_TEST(more_values_than_the_shards_could_have_are_refused_unseen)
{
    static const char *const small[] = {"[]", "1", "\"\"", "{}", "{\"a\":[]}", "\"\\\"\",1"};
    Error error = {0};

    for (size_t i = 0; i < ARRAY_COUNT(small); i++) {
        ck_assert_int_eq(parse_many(small[i], 1000, &error), 0);
        ck_assert_int_eq(parse_many(small[i], 4 << 20, &error), -EBADMSG);
        ck_assert_msg(strstr(error.text, "dataset.json is damaged: it holds more values"), "%s: %s",
                      small[i], error.text);
    }
    ck_assert_int_eq(parse_many("\"[[[,,,{{{\\\"[[[\"", 1 << 18, &error), 0); /* in strings */
}
END_TEST

START_TEST(as_many_shards_and_labels_as_anyone_has_are_read)
{
    CLEANUP(text_deinit) Text shards = {0}, head = {0};
    Error error = {0};

    for (int i = 0; i < 100000; i++)
        text_add(&shards,
                 "%s{\"path\":\"%x\",\"bytes\":5000,\"sequences\":2,\"tokens\":3,\"blocks\":1,"
                 "\"length_max\":2,\"content\":\"00112233445566778899aabbccddeeff\"}",
                 i ? "," : "", i);
    text_add(&head, "%s  \"label_names\": [\"\"", HEAD);
    for (int i = 1; i < MANIFEST_LABELS_MAX; i++)
        text_add(&head, ",\"\"");
    text_add(&head, "],\n");
    ck_assert_msg(parse(head.bytes, COLUMN, shards.bytes, 200000, &error) == 0, "%s", error.text);
}
END_TEST

CHECK_MAIN("manifest", a_good_one_is_read, paths_cannot_leave_the_directory_or_stand_twice,
           numbers_and_names_must_be_right, a_newer_version_says_so,
           every_size_of_garbage_is_refused,
           more_values_than_the_shards_could_have_are_refused_unseen,
           as_many_shards_and_labels_as_anyone_has_are_read)
