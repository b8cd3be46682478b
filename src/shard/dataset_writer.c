/* SPDX-License-Identifier: MIT */
/* Every block carries its number and its first sequence, counted within its shard, and a shard ends
 * by its compressed size: so whether a block begins a new shard is known only when all blocks
 * before it are compressed, while threads compress ahead. A block is therefore numbered on the
 * guess that no shard ends before it. When one does, the few blocks under way are numbered and
 * compressed again as they are collected. What is written is what one thread would have written. */
#include "shard/dataset_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"
#include "shard/block_codec.h"
#include "shard/ordered_jobs.h"

typedef struct Job {
    Buffer raw, compressed;
    uint32_t sequences;
    int r;
} Job;

struct DatasetWriter {
    BlockBuilder builder;
    DatasetOutput *output;
    OrderedJobs *jobs;
    BlockEncoder **encoders; /* one for each thread, the last for the caller */
    uint32_t encoder_count;
    uint32_t block_target;
    uint32_t flying_blocks; /* submitted, not yet collected */
    uint64_t flying_sequences;
};

static void compress(void *shared, uint32_t thread, void *argument) {
    const DatasetWriter *writer = shared;
    Job *job = argument;

    job->r = block_encode(writer->encoders[thread], job->raw.bytes, (uint32_t)job->raw.size,
                          &job->compressed);
}

void dataset_writer_free(DatasetWriter *writer) {
    if (!writer)
        return;
    if (writer->jobs) {
        ordered_jobs_stop(writer->jobs);
        for (uint32_t i = 0; i < ordered_jobs_count(writer->jobs); i++) {
            Job *job = ordered_jobs_at(writer->jobs, i);
            buffer_deinit(&job->raw);
            buffer_deinit(&job->compressed);
        }
        ordered_jobs_free(writer->jobs);
    }
    for (uint32_t i = 0; i < writer->encoder_count; i++)
        block_encoder_free(writer->encoders[i]);
    free(writer->encoders);
    dataset_output_free(writer->output);
    block_builder_deinit(&writer->builder);
    free(writer);
}

static void writer_cleanup(DatasetWriter **writer) {
    dataset_writer_free(*writer);
}

static int make_jobs(DatasetWriter *writer, uint32_t threads, int level) {
    int r;

    writer->encoders = calloc((size_t)threads + 1, sizeof(BlockEncoder *));
    if (!writer->encoders)
        return -ENOMEM;
    for (; writer->encoder_count < threads + 1; writer->encoder_count++) {
        r = block_encoder_new(&writer->encoders[writer->encoder_count], level);
        if (r < 0)
            return r;
    }
    return ordered_jobs_new(threads, threads ? 2 * threads + 1 : 1, sizeof(Job), compress, writer,
                            &writer->jobs);
}

int dataset_writer_new(const char *path, const DatasetWriterOptions *options,
                       DatasetWriter **ret_writer, Error *error) {
    CLEANUP(writer_cleanup) DatasetWriter *writer = calloc(1, sizeof *writer);
    int level = options->level ? options->level : DATASET_WRITER_LEVEL;
    uint32_t block_target = options->block_target ? options->block_target : DATASET_WRITER_BLOCK;
    DatasetOutputOptions output = {
        .shard = {.columns = options->columns,
                  .column_count = options->column_count,
                  .has_pad_id = options->has_pad_id,
                  .pad_id = options->pad_id,
                  .block_target = block_target,
                  .level = level},
        .shard_bytes = options->shard_bytes ? options->shard_bytes : DATASET_WRITER_SHARD,
        .force = options->force,
    };
    int r;

    assert(!column_check_all(options->columns, options->column_count));
    assert(block_target >= SHARD_BLOCK_TARGET_MIN && block_target <= SHARD_BLOCK_TARGET_MAX);
    if (!writer)
        return error_set(error, -ENOMEM, "out of memory");
    writer->block_target = block_target;
    block_builder_init(&writer->builder, options->columns, options->column_count);
    r = make_jobs(writer, options->jobs > 1 ? options->jobs : 0, level);
    if (r < 0)
        return error_set(error, r, "cannot start %u threads: %s", options->jobs, strerror(-r));
    r = dataset_output_new(path, &output, &writer->output, error);
    if (r < 0)
        return r;
    *ret_writer = writer;
    writer = NULL;
    return 0;
}

/* The block was numbered on a wrong guess: see the head of this file. */
static void renumber(DatasetWriter *writer, Job *job) {
    shard_writer_number(job->raw.bytes, dataset_output_next_sequence(writer->output),
                        dataset_output_next_block(writer->output));
    compress(writer, writer->encoder_count - 1, job);
}

static int write_oldest(DatasetWriter *writer, Error *error) {
    Job *job = ordered_jobs_collect(writer->jobs);
    const ShardBlockHeader *header;
    int r;

    assert(job);
    header = (const void *)job->raw.bytes;
    if (header->block != dataset_output_next_block(writer->output) ||
        header->first_sequence != dataset_output_next_sequence(writer->output))
        renumber(writer, job);
    if (job->r < 0)
        return error_set(error, job->r, "cannot compress a block: %s", strerror(-job->r));
    r = dataset_output_add(writer->output, &job->compressed, job->raw.bytes,
                           (uint32_t)job->raw.size, error);
    if (r < 0)
        return r;
    writer->flying_blocks--;
    writer->flying_sequences -= job->sequences;
    ordered_jobs_give_back(writer->jobs);
    return 0;
}

static int close_block(DatasetWriter *writer, Error *error) {
    Job *job = ordered_jobs_claim(writer->jobs);
    int r;

    if (!job) {
        r = write_oldest(writer, error);
        if (r < 0)
            return r;
        job = ordered_jobs_claim(writer->jobs);
    }
    job->sequences = writer->builder.sequences;
    r = block_builder_close(
        &writer->builder, dataset_output_next_sequence(writer->output) + writer->flying_sequences,
        dataset_output_next_block(writer->output) + writer->flying_blocks, &job->raw);
    if (r < 0)
        return error_set(error, r, "out of memory for a block");
    writer->flying_blocks++;
    writer->flying_sequences += job->sequences;
    ordered_jobs_submit(writer->jobs);
    return 0;
}

static int too_large(const BlockValues values[], Error *error) {
    return error_set(error, -E2BIG,
                     "a sequence of %u tokens is too large for one block (at most %d MiB with all "
                     "its columns): split it into shorter ones",
                     values[0].count, SHARD_BLOCK_RAW_MAX >> 20);
}

int dataset_writer_add(DatasetWriter *writer, const BlockValues values[], Error *error) {
    int r;

    if (block_builder_size_alone(&writer->builder, values) > SHARD_BLOCK_RAW_MAX)
        return too_large(values, error);
    if (writer->builder.sequences > 0 &&
        block_builder_size_with(&writer->builder, values) > writer->block_target) {
        r = close_block(writer, error);
        if (r < 0)
            return r;
    }
    r = block_builder_add(&writer->builder, values);
    return r < 0 ? error_set(error, r, "out of memory for a block") : 0;
}

int dataset_writer_set_labels(DatasetWriter *writer, const char *const *names, uint32_t count) {
    return dataset_output_set_labels(writer->output, names, count);
}

int dataset_writer_finish(DatasetWriter *writer, Error *error) {
    int r;

    if (writer->builder.sequences > 0) {
        r = close_block(writer, error);
        if (r < 0)
            return r;
    }
    while (writer->flying_blocks > 0) {
        r = write_oldest(writer, error);
        if (r < 0)
            return r;
    }
    return dataset_output_commit(writer->output, error);
}

DatasetTotals dataset_writer_totals(const DatasetWriter *writer) {
    return dataset_output_totals(writer->output);
}
