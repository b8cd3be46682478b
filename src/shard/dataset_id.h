/* SPDX-License-Identifier: MIT */
/* dataset_id.h: the identity of a dataset, fed shard by shard: XXH3-128 over the columns, and over
 * each shard's content hash, counts and block counts. docs/formats/shard.md has the bytes. */
#pragma once

#include <stdint.h>

#include "base/attributes.h"
#include "format/shard_format.h"

typedef struct DatasetId DatasetId;

MUST_CHECK int dataset_id_new(const ShardColumn *columns, uint32_t count, DatasetId **ret_id);
void dataset_id_free(DatasetId *id);

void dataset_id_add_shard(DatasetId *id, const ShardIndex *index, const ShardIndexBlock *blocks);
void dataset_id_digest(const DatasetId *id, uint8_t ret_digest[16]);
