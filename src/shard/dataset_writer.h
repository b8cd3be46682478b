/* SPDX-License-Identifier: MIT */
/* dataset_writer.h: sequences in, a dataset out. Blocks are cut by content, compressed by several
 * threads and written in order: the same sequences and options give the same bytes, however many
 * threads there are. Memory does not grow with the number of sequences. One thread calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/block_builder.h"
#include "shard/column.h"
#include "shard/dataset_output.h"

typedef struct DatasetWriter DatasetWriter;

typedef struct DatasetWriterOptions {
    const ShardColumn *columns; /* column_make(); [0] is the primary column; copied */
    uint32_t column_count;
    bool has_pad_id;
    int64_t pad_id;
    int level;             /* of zstd; 0 means 9 */
    uint32_t block_target; /* raw bytes; 0 means 256 KiB */
    uint64_t shard_bytes;  /* compressed; 0 means 256 MiB */
    uint32_t jobs;         /* threads that compress; 0 or 1: the caller's own */
    bool force;            /* replace a dataset that is there */
} DatasetWriterOptions;

enum {
    DATASET_WRITER_LEVEL = 9,
    DATASET_WRITER_BLOCK = 256 << 10,
    DATASET_WRITER_SHARD = 256 << 20,
};

/* Begin a dataset at `path`, a directory that is absent or empty. Until it is finished nothing of
 * it can be seen there. */
MUST_CHECK int dataset_writer_new(const char *path, const DatasetWriterOptions *options,
                                  DatasetWriter **ret_writer, Error *error);
/* Drops the dataset unless it was finished. Accepts NULL. */
void dataset_writer_free(DatasetWriter *writer);

/* Append one sequence: values[c] for every column, little-endian as on disk. -E2BIG and a sentence
 * when the sequence is too large for a block; the writer is as before then. */
MUST_CHECK int dataset_writer_add(DatasetWriter *writer, const BlockValues values[], Error *error);

/* Names of the values of the column `label`, for people. Copied. */
MUST_CHECK int dataset_writer_set_labels(DatasetWriter *writer, const char *const *names,
                                         uint32_t count);

/* Write what is left, bring all to disk and give the dataset its name. */
MUST_CHECK int dataset_writer_finish(DatasetWriter *writer, Error *error);
/* After it. */
DatasetTotals dataset_writer_totals(const DatasetWriter *writer);
