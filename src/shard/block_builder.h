/* SPDX-License-Identifier: MIT */
/* block_builder.h: gathers sequences until they fill a block, then lays them out. One thread. */
#pragma once

#include <stdint.h>

#include "shard/block_layout.h"
#include "shard/buffer.h"

/* The values of one column of one sequence, as they stand on disk (little-endian). */
typedef struct BlockValues {
    const void *bytes;
    uint32_t count; /* of values, each as wide as the column */
} BlockValues;

typedef struct BlockBuilder {
    BlockLayout layout;
    Buffer lengths;
    Buffer counts[SHARD_COLUMNS_MAX];
    Buffer values[SHARD_COLUMNS_MAX];
    uint64_t value_counts[SHARD_COLUMNS_MAX]; /* of RAGGED columns */
    uint32_t sequences, tokens;
} BlockBuilder;

void block_builder_init(BlockBuilder *builder, const ShardColumn *columns, uint32_t count);
void block_builder_deinit(BlockBuilder *builder);

/* Raw bytes of the block with one more sequence, and of a block that holds only this sequence;
 * above SHARD_BLOCK_RAW_MAX it cannot be one. */
uint64_t block_builder_size_with(const BlockBuilder *builder, const BlockValues values[]);
uint64_t block_builder_size_alone(const BlockBuilder *builder, const BlockValues values[]);

/* values[0] is the primary column and says the length; a per-token column has as many, a
 * per-sequence one has one. 0 or -ENOMEM. */
MUST_CHECK int block_builder_add(BlockBuilder *builder, const BlockValues values[]);

/* Lay the block out in *raw (replaced) with these numbers, and begin the next. 0 or -ENOMEM. */
MUST_CHECK int block_builder_close(BlockBuilder *builder, uint64_t first_sequence, uint32_t block,
                                   Buffer *raw);
