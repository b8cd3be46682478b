/* SPDX-License-Identifier: MIT */
#include "shard/block_builder.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"
#include "shard/shard_writer.h"

void block_builder_init(BlockBuilder *builder, const ShardColumn *columns, uint32_t count) {
    *builder = (BlockBuilder){0};
    block_layout_init(&builder->layout, columns, count);
}

void block_builder_deinit(BlockBuilder *builder) {
    buffer_deinit(&builder->lengths);
    for (uint32_t c = 0; c < SHARD_COLUMNS_MAX; c++) {
        buffer_deinit(&builder->counts[c]);
        buffer_deinit(&builder->values[c]);
    }
}

static uint64_t size_of(const BlockLayout *layout, uint32_t sequences, uint64_t tokens,
                        const uint64_t values[]) {
    if (tokens > SHARD_BLOCK_RAW_MAX)
        return UINT64_MAX;
    for (uint32_t c = 0; c < layout->column_count; c++)
        if (values[c] > SHARD_BLOCK_RAW_MAX)
            return UINT64_MAX;
    return block_layout_raw(layout, sequences, (uint32_t)tokens, values);
}

uint64_t block_builder_size_with(const BlockBuilder *builder, const BlockValues values[]) {
    uint64_t counts[SHARD_COLUMNS_MAX];

    for (uint32_t c = 0; c < builder->layout.column_count; c++)
        counts[c] = builder->value_counts[c] + values[c].count;
    return size_of(&builder->layout, builder->sequences + 1,
                   (uint64_t)builder->tokens + values[0].count, counts);
}

uint64_t block_builder_size_alone(const BlockBuilder *builder, const BlockValues values[]) {
    uint64_t counts[SHARD_COLUMNS_MAX];

    for (uint32_t c = 0; c < builder->layout.column_count; c++)
        counts[c] = values[c].count;
    return size_of(&builder->layout, 1, values[0].count, counts);
}

int block_builder_add(BlockBuilder *builder, const BlockValues values[]) {
    const BlockLayout *layout = &builder->layout;
    uint32_t length = values[0].count;
    int r = buffer_add(&builder->lengths, &length, sizeof length);

    for (uint32_t c = 0; r == 0 && c < layout->column_count; c++) {
        assert(layout->kinds[c] != SHARD_KIND_TOKEN || values[c].count == length);
        assert(layout->kinds[c] != SHARD_KIND_SEQUENCE || values[c].count == 1);
        if (layout->kinds[c] == SHARD_KIND_RAGGED) {
            r = buffer_add(&builder->counts[c], &values[c].count, sizeof values[c].count);
            builder->value_counts[c] += values[c].count;
        }
        if (r == 0)
            r = buffer_add(&builder->values[c], values[c].bytes,
                           (size_t)values[c].count * layout->value_bytes[c]);
    }
    builder->sequences++;
    builder->tokens += length;
    return r;
}

/* Copy one part of a section and say where the next begins. */
static uint8_t *put(uint8_t *at, Buffer *part) {
    if (part->size > 0)
        memcpy(at, part->bytes, part->size);
    at += part->size;
    part->size = 0;
    return at;
}

static void fill_sections(BlockBuilder *builder, uint8_t *raw) {
    const BlockLayout *layout = &builder->layout;
    ShardSection section = {.offset = layout->header_bytes, .bytes = 4 * builder->sequences};
    uint8_t *table = raw + sizeof(ShardBlockHeader);

    memcpy(table, &section, sizeof section);
    (void)put(raw + section.offset, &builder->lengths);
    for (uint32_t c = 0; c < layout->column_count; c++) {
        section.offset += (uint32_t)align_up(section.bytes, SHARD_SECTION_ALIGN);
        section.bytes = (uint32_t)block_layout_section(layout, c, builder->sequences,
                                                       builder->tokens, builder->value_counts[c]);
        table += sizeof section;
        memcpy(table, &section, sizeof section);
        uint8_t *end = raw + section.offset + section.bytes;
        size_t values = builder->values[c].size;
        (void)put(raw + section.offset, &builder->counts[c]);
        (void)put(end - values, &builder->values[c]);
        builder->value_counts[c] = 0;
    }
}

int block_builder_close(BlockBuilder *builder, uint64_t first_sequence, uint32_t block,
                        Buffer *raw) {
    uint64_t size = block_layout_raw(&builder->layout, builder->sequences, builder->tokens,
                                     builder->value_counts);
    ShardBlockHeader header = {
        .header_bytes = builder->layout.header_bytes,
        .raw_bytes = (uint32_t)size,
        .sequences = builder->sequences,
        .tokens = builder->tokens,
        .section_count = 1 + builder->layout.column_count,
    };
    int r;

    assert(builder->sequences > 0 && size <= SHARD_BLOCK_RAW_MAX);
    raw->size = 0;
    r = buffer_reserve(raw, size);
    if (r < 0)
        return r;
    raw->size = size;
    memset(raw->bytes, 0, size);
    memcpy(header.magic, SHARD_BLOCK_MAGIC, sizeof header.magic);
    memcpy(raw->bytes, &header, sizeof header);
    fill_sections(builder, raw->bytes);
    shard_writer_number(raw->bytes, first_sequence, block);
    builder->sequences = 0;
    builder->tokens = 0;
    return 0;
}
