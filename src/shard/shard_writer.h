/* SPDX-License-Identifier: MIT */
/* shard_writer.h: one shard file, written front to back: header, blocks as they come, index, seek
 * table. Memory: 36 bytes a block and 1 to 4 a sequence until it is finished. One thread. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "format/shard_format.h"
#include "shard/block_layout.h"
#include "shard/buffer.h"

typedef struct ShardWriterOptions {
    const ShardColumn *columns; /* borrowed until the writer is freed */
    uint32_t column_count;
    bool has_pad_id;
    int64_t pad_id;
    uint32_t block_target;
    int level; /* noted in the index */
} ShardWriterOptions;

typedef struct ShardWriter ShardWriter;

/* Begin a shard in `fd`, which is empty and becomes the writer's; `shown` is how messages call the
 * file. */
MUST_CHECK int shard_writer_new(int fd, const char *shown, const ShardWriterOptions *options,
                                ShardWriter **ret_writer, Error *error);
void shard_writer_free(ShardWriter *writer);

/* The numbers that the next block must carry. */
uint32_t shard_writer_next_block(const ShardWriter *writer);
uint64_t shard_writer_next_sequence(const ShardWriter *writer);

/* Bytes of the blocks so far, compressed. */
uint64_t shard_writer_block_bytes(const ShardWriter *writer);
/* Whether the index of one more block might not fit the format: finish and begin another shard. */
bool shard_writer_is_full(const ShardWriter *writer);

/* Append a block that carries the next numbers; `raw` is aligned to SHARD_SECTION_ALIGN. */
MUST_CHECK int shard_writer_add(ShardWriter *writer, const Buffer *compressed, const void *raw,
                                uint32_t raw_bytes, Error *error);

/* Write index and seek table and bring all to disk. */
MUST_CHECK int shard_writer_finish(ShardWriter *writer, Error *error);

/* Of a finished shard. */
const ShardIndex *shard_writer_index(const ShardWriter *writer);
const ShardIndexBlock *shard_writer_blocks(const ShardWriter *writer);

/* Store the numbers of a block in its raw bytes and renew its checksum. */
void shard_writer_number(void *raw, uint64_t first_sequence, uint32_t block);
