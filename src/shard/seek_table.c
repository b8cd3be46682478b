/* SPDX-License-Identifier: MIT */
#include "shard/seek_table.h"

#include <string.h>

#include "base/bytes.h"

enum {
    DESCRIPTOR = 0x80,      /* entries have checksums; the reserved bits are zero */
    ENTRY_DECOMPRESSED = 4, /* within an entry */
    ENTRY_CHECKSUM = 8,
};

/* Low 32 bits of XXH64 of no bytes: the checksum of a frame that holds none. */
#define CHECKSUM_OF_NOTHING UINT32_C(0x51D8E999)

uint64_t seek_table_bytes(uint32_t frames) {
    return SHARD_FRAME_HEAD + (uint64_t)frames * SHARD_SEEK_ENTRY + SHARD_SEEK_FOOTER;
}

static uint8_t *put_entry(uint8_t *at, uint32_t compressed, uint32_t raw, uint32_t checksum) {
    bytes_put_u32(at, compressed);
    bytes_put_u32(at + ENTRY_DECOMPRESSED, raw);
    bytes_put_u32(at + ENTRY_CHECKSUM, checksum);
    return at + SHARD_SEEK_ENTRY;
}

int seek_table_add(Buffer *to, const ShardIndexBlock *blocks, const uint32_t *frame_checksums,
                   uint32_t block_count, uint32_t index_bytes) {
    uint32_t frames = block_count + 2;
    uint64_t size = seek_table_bytes(frames);
    uint8_t *at;
    int r;

    r = buffer_reserve(to, to->size + size);
    if (r < 0)
        return r;
    at = to->bytes + to->size;
    bytes_put_u32(at, SHARD_SEEK_FRAME);
    bytes_put_u32(at + 4, (uint32_t)(size - SHARD_FRAME_HEAD));
    at = put_entry(at + SHARD_FRAME_HEAD, SHARD_HEADER_BYTES, 0, CHECKSUM_OF_NOTHING);
    for (uint32_t b = 0; b < block_count; b++)
        at = put_entry(at, blocks[b].compressed_bytes, blocks[b].raw_bytes, frame_checksums[b]);
    at = put_entry(at, index_bytes, 0, CHECKSUM_OF_NOTHING);
    bytes_put_u32(at, frames);
    at[4] = DESCRIPTOR;
    bytes_put_u32(at + 5, SHARD_SEEK_MAGIC);
    to->size += size;
    return 0;
}

bool seek_table_equals(const uint8_t *table, uint64_t size, const ShardIndexBlock *blocks,
                       const uint32_t *frame_checksums, uint32_t block_count,
                       uint32_t index_bytes) {
    CLEANUP(buffer_deinit) Buffer expected = {0};

    return seek_table_add(&expected, blocks, frame_checksums, block_count, index_bytes) == 0 &&
           expected.size == size && memcmp(expected.bytes, table, size) == 0;
}

uint32_t seek_table_compressed(const uint8_t *table, uint32_t entry) {
    return bytes_get_u32(table + SHARD_FRAME_HEAD + (size_t)entry * SHARD_SEEK_ENTRY);
}

uint32_t seek_table_checksum(const uint8_t *table, uint32_t entry) {
    return bytes_get_u32(table + SHARD_FRAME_HEAD + (size_t)entry * SHARD_SEEK_ENTRY +
                         ENTRY_CHECKSUM);
}
