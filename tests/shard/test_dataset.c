/* SPDX-License-Identifier: MIT */
#include "shard/dataset_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "shard/block.h"
#include "shard/catalog.h"
#include "support/check_main.h"
#include "support/dataset.h"

/* Compare one decoded block with what was added; sequences count on from `first`. */
static void check_block(const Catalog *catalog, BlockDecoder *decoder, uint32_t block,
                        uint64_t first) {
    const CatalogBlock *entry = &catalog->blocks[block];
    void *compressed = aligned_alloc(64, 64 + entry->compressed_bytes / 64 * 64 + 64);
    void *raw = aligned_alloc(64, entry->raw_bytes);
    uint32_t *lengths = calloc(catalog->block_sequences[block], sizeof *lengths);
    const uint8_t *tokens;
    Error error;
    BlockColumns columns;

    ck_assert_int_eq(file_read_at(catalog->shards[entry->shard].fd, compressed,
                                  entry->compressed_bytes, entry->offset),
                     0);
    ck_assert_msg(block_decode(decoder, catalog, block, compressed, raw, entry->raw_bytes, &columns,
                               &error) == 0,
                  "%s", error.text);
    ck_assert_int_eq(catalog_read_lengths(catalog, block, lengths, &error), 0);
    tokens = columns.values[0];
    for (uint32_t i = 0; i < columns.sequences; i++) {
        ck_assert_uint_eq(lengths[i], dataset_length(first + i));
        ck_assert_uint_eq(columns.token_ends[i],
                          block_begin(columns.token_ends, i) + dataset_length(first + i));
        for (uint32_t t = 0; t < lengths[i]; t++, tokens += 2)
            ck_assert_uint_eq(bytes_get_u16(tokens), dataset_token(first + i, t));
        ck_assert_int_eq((int64_t)bytes_get_u64(columns.values[1] + 8 * (size_t)i),
                         dataset_label(first + i));
    }
    free(lengths);
    free(raw);
    free(compressed);
}

START_TEST(what_was_added_is_read_back_in_order)
{
    char path[] = "/tmp/seqfeed-test-XXXXXX";
    Catalog *catalog = NULL;
    BlockDecoder *decoder = NULL;
    Error error = {0};
    uint64_t first = 0;

    ck_assert_ptr_nonnull(mkdtemp(path));
    dataset_make(path, &(DatasetMake){.sequences = 5000, .block_target = 16384});
    ck_assert_msg(catalog_open(path, &catalog, &error) == 0, "%s", error.text);
    ck_assert_uint_eq(catalog->sequences, 5000);
    ck_assert_int_eq(catalog_find_column(catalog, "label"), 1);
    ck_assert_int_eq(block_decoder_new(&decoder), 0);
    for (uint32_t b = 0; b < catalog->block_count; b++) {
        check_block(catalog, decoder, b, first);
        first += catalog->block_sequences[b];
    }
    ck_assert_uint_eq(first, 5000);
    block_decoder_free(decoder);
    catalog_free(catalog);
    dataset_remove(path);
}
END_TEST

/* Every byte of every file in the directory, and how many files there are. */
static uint64_t digest_directory(const char *path, uint32_t *ret_files) {
    uint64_t digest = 0;

    *ret_files = 0;
    for (uint32_t i = 0;; i++) {
        CLEANUP(file_close) int dir_fd = open(path, O_RDONLY | O_DIRECTORY);
        char name[32] = "dataset.json", *bytes;
        size_t size;
        if (i > 0)
            snprintf(name, sizeof name, "shard-%05u.zst", i - 1);
        if (file_load(dir_fd, name, 1 << 26, &bytes, &size) < 0)
            return digest;
        digest = digest * 31 + bytes_crc32c(0, bytes, size);
        free(bytes);
        ++*ret_files;
    }
}

/* Threads compress ahead across the end of a shard; what is written must not show it. */
START_TEST(the_number_of_threads_changes_no_byte)
{
    static const uint32_t jobs[] = {1, 2, 5};
    uint64_t digests[ARRAY_COUNT(jobs)];
    uint32_t files[ARRAY_COUNT(jobs)];

    for (size_t i = 0; i < ARRAY_COUNT(jobs); i++) {
        char path[] = "/tmp/seqfeed-test-XXXXXX";
        ck_assert_ptr_nonnull(mkdtemp(path));
        dataset_make(path, &(DatasetMake){.sequences = 3000,
                                          .block_target = 4096,
                                          .shard_bytes = 20000,
                                          .jobs = jobs[i]});
        digests[i] = digest_directory(path, &files[i]);
        dataset_remove(path);
        ck_assert_uint_eq(digests[i], digests[0]);
        ck_assert_uint_eq(files[i], files[0]);
    }
    ck_assert_uint_gt(files[0], 4);
}
END_TEST

START_TEST(several_shards_are_one_dataset)
{
    char path[] = "/tmp/seqfeed-test-XXXXXX";
    Catalog *catalog = NULL;
    BlockDecoder *decoder = NULL;
    Error error = {0};
    uint64_t first = 0;

    ck_assert_ptr_nonnull(mkdtemp(path));
    dataset_make(
        path,
        &(DatasetMake){.sequences = 3000, .block_target = 4096, .shard_bytes = 20000, .jobs = 2});
    ck_assert_msg(catalog_open(path, &catalog, &error) == 0, "%s", error.text);
    ck_assert_uint_gt(catalog->shard_count, 3);
    ck_assert_int_eq(block_decoder_new(&decoder), 0);
    for (uint32_t b = 0; b < catalog->block_count; b++) {
        check_block(catalog, decoder, b, first);
        first += catalog->block_sequences[b];
    }
    ck_assert_uint_eq(first, 3000);
    block_decoder_free(decoder);
    catalog_free(catalog);
    dataset_remove(path);
}
END_TEST

static DatasetWriter *begin(const char *path, bool force, Error *error) {
    static ShardColumn columns[2];
    DatasetWriter *writer = NULL;

    columns[0] = column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_U8, 1);
    columns[1] = column_make("spans", SHARD_KIND_RAGGED, ELEMENT_U24, 2);
    DatasetWriterOptions options = {
        .columns = columns, .column_count = 2, .level = 1, .force = force};
    return dataset_writer_new(path, &options, &writer, error) == 0 ? writer : NULL;
}

START_TEST(a_writer_that_is_dropped_leaves_nothing)
{
    char base[] = "/tmp/seqfeed-test-XXXXXX", path[64];
    const BlockValues values[] = {{"abc", 3}, {"123456", 1}};
    Error error = {0};

    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(path, sizeof path, "%s/d", base);
    DatasetWriter *writer = begin(path, false, &error);
    ck_assert_msg(writer, "%s", error.text);
    ck_assert_int_eq(dataset_writer_add(writer, values, &error), 0);
    dataset_writer_free(writer);
    ck_assert_int_eq(rmdir(base), 0); /* empty */
}
END_TEST

START_TEST(a_dataset_without_sequences_is_refused)
{
    char base[] = "/tmp/seqfeed-test-XXXXXX", path[64];
    Error error = {0};

    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(path, sizeof path, "%s/d", base);
    DatasetWriter *writer = begin(path, false, &error);
    ck_assert_int_eq(dataset_writer_finish(writer, &error), -ENODATA);
    ck_assert_ptr_nonnull(strstr(error.text, "not one sequence"));
    dataset_writer_free(writer);
    ck_assert_int_eq(rmdir(base), 0);
}
END_TEST

START_TEST(a_directory_that_is_not_empty_is_left_alone)
{
    char path[] = "/tmp/seqfeed-test-XXXXXX", file[64];
    Error error = {0};

    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(file, sizeof file, "%s/precious", path);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    ck_assert_ptr_null(begin(path, false, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "not empty"));
    ck_assert_ptr_null(begin(path, true, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "more than a dataset"));
    ck_assert_int_eq(access(file, F_OK), 0);
    dataset_remove(path);
}
END_TEST

/* A block is closed early rather than late, and a sequence that no block can hold is refused. */
START_TEST(a_long_sequence_gets_a_block_of_its_own)
{
    char path[] = "/tmp/seqfeed-test-XXXXXX";
    uint8_t *bytes = calloc(1, SHARD_BLOCK_RAW_MAX);
    const BlockValues small[] = {{bytes, 100}, {bytes, 0}};
    const BlockValues large[] = {{bytes, 1 << 20}, {bytes, 3}};
    const BlockValues huge[] = {{bytes, SHARD_BLOCK_RAW_MAX}, {bytes, 0}};
    const BlockValues many[] = {{bytes, 1}, {bytes, UINT32_MAX}};
    Catalog *catalog = NULL;
    Error error = {0};

    ck_assert_ptr_nonnull(mkdtemp(path));
    DatasetWriter *writer = begin(path, false, &error);
    ck_assert_msg(writer, "%s", error.text);
    ck_assert_int_eq(dataset_writer_add(writer, small, &error), 0);
    ck_assert_int_eq(dataset_writer_add(writer, large, &error), 0);
    ck_assert_int_eq(dataset_writer_add(writer, huge, &error), -E2BIG);
    ck_assert_int_eq(dataset_writer_add(writer, many, &error), -E2BIG);
    ck_assert_int_eq(dataset_writer_add(writer, small, &error), 0);
    ck_assert_int_eq(dataset_writer_finish(writer, &error), 0);
    dataset_writer_free(writer);
    ck_assert_msg(catalog_open(path, &catalog, &error) == 0, "%s", error.text);
    ck_assert_uint_eq(catalog->block_count, 3);
    ck_assert_uint_eq(catalog->block_tokens[1], 1 << 20);
    ck_assert_uint_eq(catalog->columns[1].values, 3);
    ck_assert_uint_eq(catalog->columns[1].count_max, 3);
    catalog_free(catalog);
    dataset_remove(path);
    free(bytes);
}
END_TEST

/* Blocks are numbered through, and each is found in its own dataset. */
START_TEST(joined_datasets_are_one)
{
    char paths[2][32] = {"/tmp/seqfeed-test-XXXXXX", "/tmp/seqfeed-test-XXXXXX"};
    Catalog *parts[2], *joined = NULL;
    BlockDecoder *decoder = NULL;
    uint64_t sequences = 0;
    uint32_t own;

    for (int p = 0; p < 2; p++) {
        ck_assert_ptr_nonnull(mkdtemp(paths[p]));
        dataset_make(paths[p], &(DatasetMake){.sequences = p ? 500 : 2000,
                                              .block_target = SHARD_BLOCK_TARGET_MIN,
                                              .shard_bytes = 20000});
        ck_assert_int_eq(catalog_open(paths[p], &parts[p], NULL), 0);
    }
    ck_assert_int_eq(block_decoder_new(&decoder), 0);
    ck_assert_int_eq(catalog_join(parts, 2, &joined, NULL), 0);
    ck_assert_uint_eq(joined->sequences, 2500);
    ck_assert_uint_eq(joined->tokens, parts[0]->tokens + parts[1]->tokens);
    ck_assert_uint_eq(joined->block_count, parts[0]->block_count + parts[1]->block_count);
    ck_assert_uint_eq(joined->shard_count, parts[0]->shard_count + parts[1]->shard_count);
    ck_assert_uint_eq(joined->column_count, 2);
    ck_assert_int_eq(catalog_column_differs(joined, 0), -1);
    ck_assert_int_eq(catalog_column_differs(joined, 1), -1);
    for (uint32_t b = 0; b < joined->block_count; b++) {
        bool second = b >= parts[0]->block_count;

        if (b == parts[0]->block_count)
            sequences = 0; /* the second dataset begins with its own sequence 0 */
        ck_assert_ptr_eq(catalog_part(joined, b, &own), parts[second]);
        ck_assert_uint_eq(own, second ? b - parts[0]->block_count : b);
        check_block(joined, decoder, b, sequences);
        sequences += joined->block_sequences[b];
    }
    ck_assert_uint_eq(sequences, 500);
    block_decoder_free(decoder);
    catalog_free(joined);
    dataset_remove(paths[0]);
    dataset_remove(paths[1]);
}
END_TEST

CHECK_MAIN("dataset", what_was_added_is_read_back_in_order, the_number_of_threads_changes_no_byte,
           several_shards_are_one_dataset, a_writer_that_is_dropped_leaves_nothing,
           a_dataset_without_sequences_is_refused, a_directory_that_is_not_empty_is_left_alone,
           a_long_sequence_gets_a_block_of_its_own, joined_datasets_are_one)
