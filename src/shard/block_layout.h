/* SPDX-License-Identifier: MIT */
/* block_layout.h: where the parts of a decompressed block lie. Writer and reader both ask here, so
 * they cannot disagree. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "format/shard_format.h"
#include "shard/catalog.h"

typedef struct BlockLayout {
    uint32_t column_count;
    uint32_t header_bytes; /* block header and section table, padded */
    uint8_t kinds[SHARD_COLUMNS_MAX];
    uint32_t value_bytes[SHARD_COLUMNS_MAX]; /* of one value: element times width */
} BlockLayout;

void block_layout_init(BlockLayout *layout, const ShardColumn *columns, uint32_t count);
void block_layout_init_catalog(BlockLayout *layout, const Catalog *catalog);

/* Bytes of column c's section without padding; `values` counts for RAGGED columns only and is at
 * most SHARD_BLOCK_RAW_MAX. */
uint64_t block_layout_section(const BlockLayout *layout, uint32_t column, uint32_t sequences,
                              uint32_t tokens, uint64_t values);

/* Raw bytes of a whole block; values[c] as above. */
uint64_t block_layout_raw(const BlockLayout *layout, uint32_t sequences, uint32_t tokens,
                          const uint64_t values[]);

/* Where the parts of a decompressed block lie, as on disk. All pointers point into the raw bytes
 * and are aligned to SHARD_SECTION_ALIGN. */
typedef struct BlockView {
    uint32_t sequences, tokens;
    const uint32_t *lengths; /* [sequences], little-endian as on disk */
    const uint8_t
        *columns[SHARD_COLUMNS_MAX]; /* start of column c's values (RAGGED: after its counts) */
    const uint32_t *counts[SHARD_COLUMNS_MAX]; /* RAGGED: [sequences]; else NULL */
} BlockView;

/* What a block says about itself. */
typedef struct BlockFacts {
    uint64_t first_sequence;
    uint32_t block;
    uint32_t raw_bytes;
    uint32_t sequences;
    uint32_t tokens;
    uint32_t length_max; /* counted, not read */
} BlockFacts;

/* Check every byte of a block that is not a value: header, table, padding, lengths, counts. `raw`
 * is aligned to SHARD_SECTION_ALIGN and holds `raw_bytes`. NULL and both results, or what is wrong.
 */
const char *block_layout_parse(const BlockLayout *layout, const void *raw, uint32_t raw_bytes,
                               BlockFacts *ret_facts, BlockView *ret_view);

/* The view alone, of bytes that block_layout_parse() has accepted. */
void block_layout_view(const BlockLayout *layout, const void *raw, BlockView *ret_view);

/* CRC32C of the block's header and table, with the CRC's own field taken as zero. */
uint32_t block_layout_header_crc(const void *raw, uint32_t header_bytes);
