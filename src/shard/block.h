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
 * SHARD_SECTION_ALIGN, and stay valid as long as these do. Where a sequence's own values lie is
 * told by where those of all sequences end, so that finding one takes no sum: block_decode() leaves
 * ends where the file has lengths and counts. */
typedef struct BlockColumns {
    uint32_t sequences, tokens;
    const uint32_t *token_ends;                    /* [sequences] */
    const uint8_t *values[SHARD_COLUMNS_MAX];      /* of column c */
    const uint32_t *value_ends[SHARD_COLUMNS_MAX]; /* RAGGED: [sequences]; else NULL */
} BlockColumns;

/* Where what belongs to a sequence begins, by the ends of all. */
static inline uint32_t block_begin(const uint32_t *ends, uint32_t sequence) {
    return sequence ? ends[sequence - 1] : 0;
}

/* Check and decompress `block` of `catalog`. `compressed` holds its compressed_bytes; `raw` has
 * room for at least raw_bytes (its capacity is passed and respected). Verifies the CRC32C of the
 * compressed bytes, the frame's shape and checksum, the block header, the section table, and that
 * lengths sum to the tokens. Never reads or writes outside, whatever the bytes are. On damage
 * -EBADMSG and a sentence with file, block and offset. Any thread, its own decoder. */
MUST_CHECK int block_decode(BlockDecoder *decoder, const Catalog *catalog, uint32_t block,
                            const void *compressed, void *raw, size_t raw_capacity,
                            BlockColumns *ret_columns, Error *error);

/* The columns of bytes that block_decode() has left before (a cached block); cheap, cannot fail. */
void block_find_columns(const Catalog *catalog, uint32_t block, const void *raw,
                        BlockColumns *ret_columns);
