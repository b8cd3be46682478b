/* SPDX-License-Identifier: MIT */
/* feed_support.h: a folder with a dataset and a configuration, removed at the end. The dataset has
 * tokens u16, label u8 and weight f32 per sequence, tag i32 per token, notes ragged. */
#pragma once

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "base/random.h"
#include "base/text.h"
#include "feed/feed.h"
#include "shard/dataset_writer.h"

typedef struct Fixture {
    char path[64];   /* the folder */
    char yaml[96];   /* FOLDER/c.yaml */
    char corpus[96]; /* FOLDER/corpus */
    Settings *settings;
} Fixture;

static inline void fixture_init(Fixture *fixture) {
    *fixture = (Fixture){.path = "/tmp/feed-test-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(fixture->path));
    snprintf(fixture->yaml, sizeof fixture->yaml, "%s/c.yaml", fixture->path);
    snprintf(fixture->corpus, sizeof fixture->corpus, "%s/corpus", fixture->path);
}

static inline int fixture_remove(const char *path, const struct stat *status, int flag,
                                 struct FTW *place) {
    return remove(path);
}

static inline void fixture_deinit(Fixture *fixture) {
    settings_free(fixture->settings);
    nftw(fixture->path, fixture_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* What is packed next goes to this folder. */
static inline void fixture_name(Fixture *fixture, const char *name) {
    snprintf(fixture->corpus, sizeof fixture->corpus, "%s/%s", fixture->path, name);
}

/* Lengths of sequence i: 0 .. longest, always the same. */
static inline uint32_t fixture_length(uint32_t i, uint32_t longest) {
    return random_below(random_philox(5, i, 0, 0, 0).word[0], longest + 1);
}

/* A dataset of `count` sequences of the given lengths (NULL: fixture_length). */
static inline void fixture_pack(Fixture *fixture, uint32_t count, const uint32_t *lengths,
                                uint32_t longest) {
    const ShardColumn columns[] = {
        column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_U16, 1),
        column_make("label", SHARD_KIND_SEQUENCE, ELEMENT_U8, 1),
        column_make("weight", SHARD_KIND_SEQUENCE, ELEMENT_F32, 2),
        column_make("tag", SHARD_KIND_TOKEN, ELEMENT_I32, 1),
        column_make("notes", SHARD_KIND_RAGGED, ELEMENT_I32, 1),
    };
    const DatasetWriterOptions options = {.columns = columns,
                                          .column_count = ARRAY_COUNT(columns),
                                          .has_pad_id = true,
                                          .pad_id = 300,
                                          .level = 1,
                                          .block_target = SHARD_BLOCK_TARGET_MIN};
    uint16_t *tokens = calloc(longest + (size_t)1, sizeof *tokens);
    uint32_t *tags = calloc(longest + (size_t)1, sizeof *tags);
    const float weight[2] = {0};
    DatasetWriter *writer;
    Error error = {0};

    ck_assert_msg(dataset_writer_new(fixture->corpus, &options, &writer, &error) == 0, "%s",
                  error.text);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = lengths ? lengths[i] : fixture_length(i, longest);
        uint8_t label = (uint8_t)i;
        BlockValues values[] = {
            {tokens, length}, {&label, 1}, {weight, 1}, {tags, length}, {tags, 0}};

        ck_assert_msg(dataset_writer_add(writer, values, &error) == 0, "%s", error.text);
    }
    ck_assert_msg(dataset_writer_finish(writer, &error) == 0, "%s", error.text);
    dataset_writer_free(writer);
    free(tokens);
    free(tags);
}

/* Open feed `train` of a configuration: `global` lines at the top, `keys` lines inside the feed,
 * each line ended. */
static inline int fixture_open(Fixture *fixture, const char *global, const char *keys,
                               Feed **ret_feed, Error *error) {
    FILE *file = fopen(fixture->yaml, "w");
    CLEANUP(text_deinit) Text text = {0};

    ck_assert_ptr_nonnull(file);
    text_add(&text, "%sfeeds:\n  train:\n%s", global,
             strstr(keys, "datasets:") ? "" : "    dataset: corpus\n");
    for (const char *at = keys; *at;) {
        size_t size = strcspn(at, "\n");

        text_add(&text, "    %.*s\n", (int)size, at);
        at += size + (at[size] == '\n');
    }
    fputs(text.bytes, file);
    fclose(file);
    settings_free(fixture->settings);
    fixture->settings = NULL;
    ck_assert_msg(settings_load(fixture->yaml, NULL, 0, &fixture->settings, error) == 0, "%s",
                  error->text);
    *error = (Error){0};
    return feed_open(fixture->settings, &fixture->settings->feeds[0], ret_feed, error);
}

static inline Feed *fixture_feed(Fixture *fixture, const char *keys) {
    Feed *feed = NULL;
    Error error = {0};

    ck_assert_msg(fixture_open(fixture, "", keys, &feed, &error) == 0, "%s", error.text);
    return feed;
}

/* The configuration is refused, and the sentence contains `part` and begins with the file. */
static inline void fixture_refused(Fixture *fixture, const char *global, const char *keys,
                                   const char *part) {
    Feed *feed = NULL;
    Error error = {0};
    int r = fixture_open(fixture, global, keys, &feed, &error);

    ck_assert_msg(r < 0, "accepted: %s", keys);
    ck_assert_int_eq(error.code, r);
    ck_assert_msg(strstr(error.text, part) != NULL, "'%s' does not say '%s'", error.text, part);
    ck_assert_msg(strncmp(error.text, fixture->path, strlen(fixture->path)) == 0, "%s", error.text);
}
