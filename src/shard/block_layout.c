/* SPDX-License-Identifier: MIT */
#include "shard/block_layout.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "format/element_format.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "structs of the format are used as they stand on disk");

enum { RAGGED_VALUES_ALIGN = 8 };

static void layout_begin(BlockLayout *layout, uint32_t column_count) {
    layout->column_count = column_count;
    layout->header_bytes = (uint32_t)align_up(
        sizeof(ShardBlockHeader) + sizeof(ShardSection) * (1 + column_count), SHARD_SECTION_ALIGN);
}

void block_layout_init(BlockLayout *layout, const ShardColumn *columns, uint32_t count) {
    layout_begin(layout, count);
    for (uint32_t c = 0; c < count; c++) {
        layout->kinds[c] = columns[c].kind;
        layout->value_bytes[c] = element_bytes(columns[c].type) * columns[c].width;
    }
}

void block_layout_init_catalog(BlockLayout *layout, const Catalog *catalog) {
    layout_begin(layout, catalog->column_count);
    for (uint32_t c = 0; c < catalog->column_count; c++) {
        layout->kinds[c] = catalog->columns[c].kind;
        layout->value_bytes[c] = element_bytes(catalog->columns[c].type) *
                                 catalog->columns[c].width;
    }
}

static uint64_t counts_bytes(uint32_t sequences) {
    return align_up(UINT64_C(4) * sequences, RAGGED_VALUES_ALIGN);
}

uint64_t block_layout_section(const BlockLayout *layout, uint32_t column, uint32_t sequences,
                              uint32_t tokens, uint64_t values) {
    uint64_t value_bytes = layout->value_bytes[column];

    switch (layout->kinds[column]) {
    case SHARD_KIND_SEQUENCE:
        return sequences * value_bytes;
    case SHARD_KIND_RAGGED:
        assert(values <= SHARD_BLOCK_RAW_MAX);
        return counts_bytes(sequences) + values * value_bytes;
    default:
        return tokens * value_bytes;
    }
}

uint64_t block_layout_raw(const BlockLayout *layout, uint32_t sequences, uint32_t tokens,
                          const uint64_t values[]) {
    uint64_t size = layout->header_bytes + align_up(UINT64_C(4) * sequences, SHARD_SECTION_ALIGN);

    for (uint32_t c = 0; c < layout->column_count; c++)
        size += align_up(block_layout_section(layout, c, sequences, tokens, values[c]),
                         SHARD_SECTION_ALIGN);
    return size;
}

uint32_t block_layout_header_crc(const void *raw, uint32_t header_bytes) {
    static const uint8_t zero[4];
    const uint8_t *bytes = raw;
    size_t at = offsetof(ShardBlockHeader, crc32c);
    uint32_t crc = bytes_crc32c(0, bytes, at);

    crc = bytes_crc32c(crc, zero, sizeof zero);
    return bytes_crc32c(crc, bytes + at + sizeof zero, header_bytes - at - sizeof zero);
}

static const char *check_header(const BlockLayout *layout, const uint8_t *raw, uint32_t raw_bytes,
                                ShardBlockHeader *ret_header) {
    ShardBlockHeader header;

    if (raw_bytes < layout->header_bytes)
        return "the block is shorter than its header";
    memcpy(&header, raw, sizeof header);
    if (memcmp(header.magic, SHARD_BLOCK_MAGIC, sizeof header.magic) != 0)
        return "it does not begin as a block does";
    if (header.header_bytes != layout->header_bytes ||
        header.section_count != 1 + layout->column_count)
        return "its section table does not fit the columns";
    if (header.crc32c != block_layout_header_crc(raw, layout->header_bytes))
        return "the checksum of its header does not match";
    if (header.raw_bytes != raw_bytes)
        return "its size is not the one in the index";
    if (header.reserved_0 != 0 || !bytes_are_zero(header.reserved_1, sizeof header.reserved_1))
        return "reserved bytes of its header are not zero";
    *ret_header = header;
    return NULL;
}

/* Section `s` must start at *at, have `bytes` bytes and zero padding; *at moves behind it. */
static const char *check_section(const uint8_t *raw, uint32_t raw_bytes, uint32_t s, uint64_t bytes,
                                 uint64_t *at) {
    ShardSection section;
    uint64_t end = *at + bytes, padded = align_up(end, SHARD_SECTION_ALIGN);

    memcpy(&section, raw + sizeof(ShardBlockHeader) + s * sizeof section, sizeof section);
    if (section.offset != *at || section.bytes != bytes)
        return "its section table is wrong";
    if (padded > raw_bytes)
        return "a section reaches beyond its end";
    if (!bytes_are_zero(raw + end, padded - end))
        return "its padding is not zero";
    *at = padded;
    return NULL;
}

static const uint32_t *words_at(const uint8_t *bytes) {
    return (const uint32_t *)(const void *)bytes;
}

static uint64_t sum_words(const uint32_t *words, uint32_t count, uint32_t *ret_max) {
    uint64_t sum = 0;
    uint32_t max = 0;

    for (uint32_t i = 0; i < count; i++) {
        sum += words[i];
        max = MAX(max, words[i]);
    }
    *ret_max = max;
    return sum;
}

/* Section of column c, which begins at *at. */
static const char *check_column(const BlockLayout *layout, const uint8_t *raw, uint32_t raw_bytes,
                                const ShardBlockHeader *header, uint32_t c, uint64_t *at) {
    uint64_t values = 0, start = *at;

    if (layout->kinds[c] == SHARD_KIND_RAGGED) {
        uint64_t end = start + UINT64_C(4) * header->sequences;
        uint64_t padded = start + counts_bytes(header->sequences);
        uint32_t max;
        if (padded > raw_bytes)
            return "a section reaches beyond its end";
        values = sum_words(words_at(raw + start), header->sequences, &max);
        if (values > SHARD_BLOCK_RAW_MAX)
            return "the counts of a column do not fit its size";
        if (!bytes_are_zero(raw + end, padded - end))
            return "its padding is not zero";
    }
    return check_section(raw, raw_bytes, 1 + c,
                         block_layout_section(layout, c, header->sequences, header->tokens, values),
                         at);
}

const char *block_layout_parse(const BlockLayout *layout, const void *raw, uint32_t raw_bytes,
                               BlockFacts *ret_facts, BlockView *ret_view) {
    const uint8_t *bytes = raw;
    ShardBlockHeader header;
    BlockFacts facts;
    const char *wrong;
    uint64_t at = layout->header_bytes;
    size_t table_end = sizeof header + sizeof(ShardSection) * (1 + layout->column_count);

    assert((uintptr_t)raw % SHARD_SECTION_ALIGN == 0);
    wrong = check_header(layout, bytes, raw_bytes, &header);
    if (wrong)
        return wrong;
    if (!bytes_are_zero(bytes + table_end, layout->header_bytes - table_end))
        return "its padding is not zero";
    wrong = check_section(bytes, raw_bytes, 0, UINT64_C(4) * header.sequences, &at);
    if (wrong)
        return wrong;
    facts = (BlockFacts){.first_sequence = header.first_sequence,
                         .block = header.block,
                         .raw_bytes = raw_bytes,
                         .sequences = header.sequences,
                         .tokens = header.tokens};
    if (sum_words(words_at(bytes + layout->header_bytes), header.sequences, &facts.length_max) !=
        header.tokens)
        return "its lengths do not add up to its tokens";
    for (uint32_t c = 0; c < layout->column_count && !wrong; c++)
        wrong = check_column(layout, bytes, raw_bytes, &header, c, &at);
    if (wrong)
        return wrong;
    if (at != raw_bytes)
        return "there are bytes behind its last section";
    *ret_facts = facts;
    block_layout_view(layout, raw, ret_view);
    return NULL;
}

void block_layout_view(const BlockLayout *layout, const void *raw, BlockView *ret_view) {
    const uint8_t *bytes = raw;
    const ShardBlockHeader *header = raw;

    ret_view->sequences = header->sequences;
    ret_view->tokens = header->tokens;
    ret_view->lengths = words_at(bytes + layout->header_bytes);
    for (uint32_t c = 0; c < layout->column_count; c++) {
        ShardSection section;
        memcpy(&section, bytes + sizeof *header + (1 + c) * sizeof section, sizeof section);
        ret_view->columns[c] = bytes + section.offset;
        ret_view->counts[c] = NULL;
        if (layout->kinds[c] == SHARD_KIND_RAGGED) {
            ret_view->counts[c] = words_at(bytes + section.offset);
            ret_view->columns[c] += counts_bytes(header->sequences);
        }
    }
}
