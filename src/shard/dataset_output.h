/* SPDX-License-Identifier: MIT */
/* dataset_output.h: compressed blocks in, a dataset out: shards of a given size, dataset.json, and
 * a name only when all is there. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/shard_writer.h"

typedef struct DatasetOutput DatasetOutput;

typedef struct DatasetOutputOptions {
    ShardWriterOptions shard;
    uint64_t shard_bytes; /* a shard ends with the block that brings its blocks to this size */
    bool force;
} DatasetOutputOptions;

/* Columns and the rest of options are copied. */
MUST_CHECK int dataset_output_new(const char *path, const DatasetOutputOptions *options,
                                  DatasetOutput **ret_output, Error *error);
/* Leaves nothing behind unless it was committed. */
void dataset_output_free(DatasetOutput *output);

/* The numbers that the next block must carry: it may be the first of a new shard. */
uint32_t dataset_output_next_block(const DatasetOutput *output);
uint64_t dataset_output_next_sequence(const DatasetOutput *output);

MUST_CHECK int dataset_output_add(DatasetOutput *output, const Buffer *compressed, const void *raw,
                                  uint32_t raw_bytes, Error *error);

/* Names of the values of the column `label`, copied. 0 or -ENOMEM. */
MUST_CHECK int dataset_output_set_labels(DatasetOutput *output, const char *const *names,
                                         uint32_t count);

/* Finish and name it. -ENODATA when no block was added. */
MUST_CHECK int dataset_output_commit(DatasetOutput *output, Error *error);

typedef struct DatasetTotals {
    uint64_t sequences, tokens, bytes;
    uint32_t shards;
} DatasetTotals;
/* Of a committed dataset. */
DatasetTotals dataset_output_totals(const DatasetOutput *output);
