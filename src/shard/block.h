/* SPDX-License-Identifier: MIT */
/* block.h: from the compressed bytes of one block to checked columns in memory. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "format/shard_format.h"
#include "shard/catalog.h"

/* A zstd decompression context; one per thread. */
typedef struct BlockDecoder BlockDecoder;

MUST_CHECK int block_decoder_new(BlockDecoder **ret_decoder); /* 0 or -ENOMEM */
void block_decoder_free(BlockDecoder *decoder);
/* Leave out zstd's checksum of the content, a tenth of the time: the CRC32C of the compressed
 * bytes, checked before, tells damage as well. For the data path; verify and salvage check both. */
void block_decoder_trust_crc(BlockDecoder *decoder);

/* Where the values of a decoded block lie. All pointers point into the raw bytes, are aligned to
 * SHARD_SECTION_ALIGN, and stay valid as long as these do. */
typedef struct BlockView {
    uint32_t sequences, tokens;
    const uint32_t *lengths; /* [sequences], little-endian as on disk */
    const uint8_t
        *columns[SHARD_COLUMNS_MAX]; /* start of column c's values (RAGGED: after its counts) */
    const uint32_t *counts[SHARD_COLUMNS_MAX]; /* RAGGED: [sequences]; else NULL */
} BlockView;

/* Check and decompress `block` of `catalog`. `compressed` holds its compressed_bytes; `raw` has
 * room for at least raw_bytes (its capacity is passed and respected). Verifies the CRC32C of the
 * compressed bytes, the frame's shape and checksum, the block header, the section table, and that
 * lengths sum to the tokens. Never reads or writes outside, whatever the bytes are. On damage
 * -EBADMSG and a sentence with file, block and offset. Any thread, its own decoder. */
MUST_CHECK int block_decode(BlockDecoder *decoder, const Catalog *catalog, uint32_t block,
                            const void *compressed, void *raw, size_t raw_capacity,
                            BlockView *ret_view, Error *error);

/* The view of bytes that block_decode() has accepted before (a cached block); cheap, cannot fail.
 */
void block_view(const Catalog *catalog, uint32_t block, const void *raw, BlockView *ret_view);
