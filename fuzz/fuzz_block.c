/* SPDX-License-Identifier: MIT */
/* Any bytes as a decompressed block, with the checksum of its header mended. What is accepted must
 * have all its values inside. The columns are those of the seeds: tokens u16, label i64 for each
 * sequence, weight f32 for each token, spans u32 ragged. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "shard/block_layout.h"
#include "shard/column.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const uint8_t *raw, size_t size, const void *at, uint64_t bytes) {
    const uint8_t *start = at;

    assert(start >= raw && bytes <= size && (size_t)(start - raw) <= size - bytes);
}

static void parse(const BlockLayout *layout, const uint8_t *raw, uint32_t size) {
    BlockFacts facts;
    BlockView view;
    uint64_t tokens = 0, spans = 0;

    if (block_layout_parse(layout, raw, size, &facts, &view) != NULL)
        return;
    check_inside(raw, size, view.lengths, 4 * (uint64_t)view.sequences);
    check_inside(raw, size, view.counts[3], 4 * (uint64_t)view.sequences);
    for (uint32_t s = 0; s < view.sequences; s++) {
        tokens += view.lengths[s];
        spans += view.counts[3][s];
    }
    assert(tokens == view.tokens);
    check_inside(raw, size, view.columns[0], 2 * tokens);
    check_inside(raw, size, view.columns[1], 8 * (uint64_t)view.sequences);
    check_inside(raw, size, view.columns[2], 4 * tokens);
    check_inside(raw, size, view.columns[3], 4 * spans);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const ShardColumn columns[] = {column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_U16, 1),
                                   column_make("label", SHARD_KIND_SEQUENCE, ELEMENT_I64, 1),
                                   column_make("weight", SHARD_KIND_TOKEN, ELEMENT_F32, 1),
                                   column_make("spans", SHARD_KIND_RAGGED, ELEMENT_U32, 1)};
    size_t room = align_up(size ? size : 1, SHARD_SECTION_ALIGN);
    BlockLayout layout;
    uint8_t *raw;

    if (size > SHARD_BLOCK_RAW_MAX)
        return 0;
    raw = aligned_alloc(SHARD_SECTION_ALIGN, room);
    if (!raw)
        return 0;
    memcpy(raw, data, size);
    block_layout_init(&layout, columns, ARRAY_COUNT(columns));
    parse(&layout, raw, (uint32_t)size);
    if (size >= sizeof(ShardBlockHeader) && size >= layout.header_bytes) {
        bytes_put_u32(raw + offsetof(ShardBlockHeader, crc32c),
                      block_layout_header_crc(raw, layout.header_bytes));
        parse(&layout, raw, (uint32_t)size);
    }
    free(raw);
    return 0;
}
