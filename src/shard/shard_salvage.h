/* SPDX-License-Identifier: MIT */
/* shard_salvage.h: find the blocks of a damaged shard that are still whole. It trusts nothing but
 * checksums: not the index, not the seek table, not that blocks lie where they should. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "shard/block_codec.h"

typedef struct SalvageBlock {
    Buffer *raw, *compressed; /* lent for the call; may be changed */
    const BlockFacts *facts;  /* as the damaged shard numbered it */
} SalvageBlock;

/* Takes a good block; a negative errno ends the search. */
typedef int SalvageSink(void *context, const SalvageBlock *block, Error *error);

typedef struct SalvageOptions {
    const ShardColumn *columns;
    uint32_t column_count;
    SalvageSink *sink;
    void (*progress)(void *context, uint64_t bytes); /* may be NULL */
    void *context;
} SalvageOptions;

/* Hand every good block of `fd` to the sink, in the order of their numbers. 0 or a negative errno.
 */
MUST_CHECK int shard_salvage(int fd, const SalvageOptions *options, Error *error);
