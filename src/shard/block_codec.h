/* SPDX-License-Identifier: MIT */
/* block_codec.h: one block between its compressed and its raw bytes, without a catalog. */
#pragma once

#include <stdint.h>

#include "shard/block.h"
#include "shard/block_layout.h"
#include "shard/buffer.h"

/* A zstd compression context; one per thread. */
typedef struct BlockEncoder BlockEncoder;

MUST_CHECK int block_encoder_new(BlockEncoder **ret_encoder, int level); /* 0 or -ENOMEM */
void block_encoder_free(BlockEncoder *encoder);

/* Compress one raw block into *compressed (replaced). 0, -ENOMEM or -EINVAL (zstd says no). */
MUST_CHECK int block_encode(BlockEncoder *encoder, const void *raw, uint32_t raw_bytes,
                            Buffer *compressed);

/* Upper bound of the compressed size of a block. */
uint64_t block_codec_bound(uint32_t raw_bytes);

/* Check and decompress exactly one frame of `size` bytes into `raw`, which has room for raw_bytes.
 * NULL and both results, or what is wrong in a few words. */
const char *block_codec_decode(BlockDecoder *decoder, const BlockLayout *layout,
                               const void *compressed, size_t size, void *raw, uint32_t raw_bytes,
                               BlockFacts *ret_facts, BlockView *ret_view);

/* Content size that the frame's header declares; 0 when it is not a frame as the format wants it.
 */
uint64_t block_codec_content_size(const void *compressed, size_t size);

/* Compressed size of the frame that begins here; 0 when it is none or not whole. */
size_t block_codec_frame_size(const void *compressed, size_t available);

/* The frame's own checksum: low 32 bits of XXH64 of the content, its last four bytes. */
uint32_t block_codec_checksum(const void *compressed, size_t size);
