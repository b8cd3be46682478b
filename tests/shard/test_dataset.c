/* SPDX-License-Identifier: MIT */
#include "shard/dataset_writer.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
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
    BlockView view;

    ck_assert_int_eq(file_read_at(catalog->shards[entry->shard].fd, compressed,
                                  entry->compressed_bytes, entry->offset),
                     0);
    ck_assert_msg(block_decode(decoder, catalog, block, compressed, raw, entry->raw_bytes, &view,
                               &error) == 0,
                  "%s", error.text);
    ck_assert_int_eq(catalog_read_lengths(catalog, block, lengths, &error), 0);
    tokens = view.columns[0];
    for (uint32_t i = 0; i < view.sequences; i++) {
        ck_assert_uint_eq(view.lengths[i], dataset_length(first + i));
        ck_assert_uint_eq(lengths[i], view.lengths[i]);
        for (uint32_t t = 0; t < view.lengths[i]; t++, tokens += 2)
            ck_assert_uint_eq(bytes_get_u16(tokens), dataset_token(first + i, t));
        ck_assert_int_eq((int64_t)bytes_get_u64(view.columns[1] + 8 * (size_t)i),
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

CHECK_MAIN("dataset", what_was_added_is_read_back_in_order)
