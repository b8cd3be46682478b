/* SPDX-License-Identifier: MIT */
/* seek_table.h: the standard zstd seek table of a shard: a skippable frame with one entry for each
 * frame before it, {compressed size, decompressed size, checksum}, and a footer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "format/shard_format.h"
#include "shard/buffer.h"

/* Bytes of the whole frame with `frames` entries. */
uint64_t seek_table_bytes(uint32_t frames);

/* Append the table of a shard: header frame, blocks, index frame. 0 or -ENOMEM. */
MUST_CHECK int seek_table_add(Buffer *to, const ShardIndexBlock *blocks,
                              const uint32_t *frame_checksums, uint32_t block_count,
                              uint32_t index_bytes);

/* True when `table` is byte for byte what seek_table_add() makes. */
bool seek_table_equals(const uint8_t *table, uint64_t size, const ShardIndexBlock *blocks,
                       const uint32_t *frame_checksums, uint32_t block_count, uint32_t index_bytes);

/* Fields of one entry; the table is at least seek_table_bytes(entry + 1) long. */
uint32_t seek_table_compressed(const uint8_t *table, uint32_t entry);
uint32_t seek_table_checksum(const uint8_t *table, uint32_t entry);
