/* SPDX-License-Identifier: MIT */
/* Blocks that zstd accepts and the format does not. */
#include "shard/block_layout.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "shard/block_builder.h"
#include "shard/block_codec.h"
#include "shard/column.h"
#include "shard/shard_writer.h"
#include "support/check_main.h"

static ShardColumn columns[4];
static BlockLayout layout;
static Buffer raw;

/* Three sequences with a label each, a weight a token, and ragged pairs. */
static void make_block(void) {
    CLEANUP(block_builder_deinit) BlockBuilder builder;
    static const uint8_t bytes[256];

    columns[0] = column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_U24, 1);
    columns[1] = column_make("label", SHARD_KIND_SEQUENCE, ELEMENT_I64, 1);
    columns[2] = column_make("weight", SHARD_KIND_TOKEN, ELEMENT_F16, 1);
    columns[3] = column_make("spans", SHARD_KIND_RAGGED, ELEMENT_U8, 2);
    block_builder_init(&builder, columns, 4);
    block_layout_init(&layout, columns, 4);
    for (uint32_t i = 0; i < 3; i++) {
        const BlockValues values[] = {{bytes, 5 * i}, {bytes, 1}, {bytes, 5 * i}, {bytes, i}};
        ck_assert_int_eq(block_builder_add(&builder, values), 0);
    }
    ck_assert_int_eq(block_builder_close(&builder, 70, 7, &raw), 0);
}

/* NULL when the block is accepted with a header checksum that fits. */
static const char *parse(uint32_t raw_bytes) {
    BlockFacts facts;
    BlockView view;

    ((ShardBlockHeader *)(void *)raw.bytes)->crc32c = block_layout_header_crc(raw.bytes,
                                                                              layout.header_bytes);
    return block_layout_parse(&layout, raw.bytes, raw_bytes, &facts, &view);
}

#define REFUSED(words, ...)                                              \
    do {                                                                 \
        make_block();                                                    \
        ShardBlockHeader *header = (void *)raw.bytes;                    \
        ShardSection *section = (void *)(header + 1);                    \
        (void)section;                                                   \
        __VA_ARGS__;                                                     \
        const char *wrong = parse((uint32_t)raw.size);                   \
        ck_assert_msg(wrong &&strstr(wrong, words), "%s", #__VA_ARGS__); \
    } while (0)

START_TEST(a_good_block_says_what_it_holds)
{
    BlockFacts facts;
    BlockView view;

    make_block();
    ck_assert_ptr_null(block_layout_parse(&layout, raw.bytes, (uint32_t)raw.size, &facts, &view));
    ck_assert_uint_eq(facts.first_sequence, 70);
    ck_assert_uint_eq(facts.block, 7);
    ck_assert_uint_eq(facts.sequences, 3);
    ck_assert_uint_eq(facts.tokens, 15);
    ck_assert_uint_eq(facts.length_max, 10);
    ck_assert_uint_eq(view.counts[3][2], 2);
    ck_assert_ptr_eq(view.columns[3], (const uint8_t *)view.counts[3] + 16);
    for (int c = 0; c < 4; c++)
        ck_assert_uint_eq((uintptr_t)(view.counts[c] ? (const void *)view.counts[c]
                                                     : (const void *)view.columns[c]) %
                              SHARD_SECTION_ALIGN,
                          0);
}
END_TEST

START_TEST(a_lying_block_is_refused)
{
    REFUSED("begin", header->magic[0] = 'X');
    REFUSED("section table", header->section_count = 4);
    REFUSED("section table", header->header_bytes += 64);
    REFUSED("size", header->raw_bytes += 64);
    REFUSED("reserved", header->reserved_1[0] = 1);
    REFUSED("section table", header->sequences = UINT32_MAX);
    REFUSED("add up", header->tokens++);
    REFUSED("section table", section[1].offset += 64);
    REFUSED("section table", section[2].bytes++);
    REFUSED("section table", section[4].bytes = 0);
    REFUSED("add up", raw.bytes[section[0].offset] = 1);
    REFUSED("padding", raw.bytes[section[0].offset + 12] = 1);
    REFUSED("padding", raw.bytes[layout.header_bytes - 1] = 1);
    REFUSED("padding", raw.bytes[raw.size - 1] = 1);
    REFUSED("padding", raw.bytes[section[4].offset + 12] = 1); /* between counts and values */
    REFUSED("section table", raw.bytes[section[4].offset] = 1);
    REFUSED("counts", raw.bytes[section[4].offset + 3] = 0xff);
}
END_TEST

START_TEST(every_shorter_block_is_refused)
{
    make_block();
    for (uint32_t size = 0; size < raw.size; size++) {
        ((ShardBlockHeader *)(void *)raw.bytes)->raw_bytes = size;
        ck_assert_ptr_nonnull(parse(size));
    }
}
END_TEST

START_TEST(every_level_makes_frames_that_are_accepted)
{
    BlockFacts facts;
    BlockView view;
    CLEANUP(buffer_deinit) Buffer compressed = {0}, decoded = {0};
    BlockDecoder *decoder = NULL;

    ck_assert_int_eq(block_decoder_new(&decoder), 0);
    make_block();
    ck_assert_int_eq(buffer_reserve(&decoded, raw.size), 0);
    for (int level = 1; level <= 22; level++) {
        BlockEncoder *encoder = NULL;
        ck_assert_int_eq(block_encoder_new(&encoder, level), 0);
        ck_assert_int_eq(block_encode(encoder, raw.bytes, (uint32_t)raw.size, &compressed), 0);
        ck_assert_ptr_null(block_codec_decode(decoder, &layout, compressed.bytes, compressed.size,
                                              decoded.bytes, (uint32_t)raw.size, &facts, &view));
        ck_assert_mem_eq(decoded.bytes, raw.bytes, raw.size);
        block_encoder_free(encoder);
    }
    block_decoder_free(decoder);
}
END_TEST

CHECK_MAIN("block", a_good_block_says_what_it_holds, a_lying_block_is_refused,
           every_shorter_block_is_refused, every_level_makes_frames_that_are_accepted)
