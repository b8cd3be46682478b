/* SPDX-License-Identifier: MIT */
#include "shard/dataset_output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "shard/dataset_id.h"
#include "shard/dataset_stage.h"
#include "shard/manifest.h"

struct DatasetOutput {
    DatasetOutputOptions options;
    DatasetStage stage;
    ShardWriter *writer; /* of the shard that is open; NULL between two */
    Manifest manifest;
    DatasetId *id;
};

static void output_cleanup(DatasetOutput **output) {
    dataset_output_free(*output);
}

void dataset_output_free(DatasetOutput *output) {
    if (!output)
        return;
    shard_writer_free(output->writer);
    dataset_id_free(output->id);
    manifest_deinit(&output->manifest);
    dataset_stage_deinit(&output->stage);
    free(output);
}

int dataset_output_new(const char *path, const DatasetOutputOptions *options,
                       DatasetOutput **ret_output, Error *error) {
    CLEANUP(output_cleanup) DatasetOutput *output = calloc(1, sizeof *output);
    size_t columns_bytes = options->shard.column_count * sizeof(ShardColumn);
    Manifest *manifest;
    int r;

    if (!output)
        return error_set(error, -ENOMEM, "out of memory");
    output->stage = DATASET_STAGE_NONE;
    manifest = &output->manifest;
    manifest->columns = malloc(columns_bytes);
    if (!manifest->columns)
        return error_set(error, -ENOMEM, "out of memory");
    memcpy(manifest->columns, options->shard.columns, columns_bytes);
    manifest->column_count = options->shard.column_count;
    manifest->has_pad_id = options->shard.has_pad_id;
    manifest->pad_id = options->shard.has_pad_id ? options->shard.pad_id : 0;
    output->options = *options;
    output->options.shard.columns = manifest->columns;
    r = dataset_id_new(manifest->columns, manifest->column_count, &output->id);
    if (r < 0)
        return error_set(error, r, "out of memory");
    r = dataset_stage_open(path, options->force, &output->stage, error);
    if (r < 0)
        return r;
    *ret_output = output;
    output = NULL;
    return 0;
}

uint32_t dataset_output_next_block(const DatasetOutput *output) {
    return output->writer ? shard_writer_next_block(output->writer) : 0;
}

uint64_t dataset_output_next_sequence(const DatasetOutput *output) {
    return output->writer ? shard_writer_next_sequence(output->writer) : 0;
}

static void shard_name(char to[32], uint32_t shard) {
    snprintf(to, 32, "shard-%05u.zst", shard);
}

static int begin_shard(DatasetOutput *output, Error *error) {
    CLEANUP(text_deinit) Text shown = {0};
    char name[32];
    int fd, r;

    if (output->manifest.shard_count == SHARD_FILES_MAX)
        return error_set(error, -EFBIG, "more than %d shards: give a larger --shard",
                         SHARD_FILES_MAX);
    shard_name(name, output->manifest.shard_count);
    r = dataset_stage_create(&output->stage, name, &fd, error);
    if (r < 0)
        return r;
    text_add(&shown, "%s/%s", output->stage.path, name);
    return shard_writer_new(fd, shown.failed ? name : shown.bytes, &output->options.shard,
                            &output->writer, error);
}

static int finish_shard(DatasetOutput *output, Error *error) {
    const ShardIndex *index;
    ManifestShard entry;
    char name[32];
    int r;

    r = shard_writer_finish(output->writer, error);
    if (r < 0)
        return r;
    index = shard_writer_index(output->writer);
    shard_name(name, output->manifest.shard_count);
    entry = (ManifestShard){
        .path = name,
        .bytes = index->file_bytes,
        .sequences = index->sequences,
        .tokens = index->tokens,
        .blocks = index->block_count,
        .length_max = index->length_max,
    };
    memcpy(entry.content, index->content, sizeof entry.content);
    dataset_id_add_shard(output->id, index, shard_writer_blocks(output->writer));
    r = manifest_add_shard(&output->manifest, &entry);
    if (r < 0)
        return error_set(error, r, "out of memory");
    shard_writer_free(output->writer);
    output->writer = NULL;
    return 0;
}

int dataset_output_add(DatasetOutput *output, const Buffer *compressed, const void *raw,
                       uint32_t raw_bytes, Error *error) {
    int r = output->writer ? 0 : begin_shard(output, error);

    if (r < 0)
        return r;
    r = shard_writer_add(output->writer, compressed, raw, raw_bytes, error);
    if (r < 0)
        return r;
    if (shard_writer_block_bytes(output->writer) >= output->options.shard_bytes ||
        shard_writer_is_full(output->writer))
        return finish_shard(output, error);
    return 0;
}

int dataset_output_set_labels(DatasetOutput *output, const char *const *names, uint32_t count) {
    return manifest_set_labels(&output->manifest, names, count);
}

int dataset_output_commit(DatasetOutput *output, Error *error) {
    CLEANUP(text_deinit) Text text = {0};
    int r;

    if (output->writer) {
        r = finish_shard(output, error);
        if (r < 0)
            return r;
    }
    if (output->manifest.shard_count == 0)
        return error_set(error, -ENODATA, "there is not one sequence to write to %s",
                         output->stage.path);
    dataset_id_digest(output->id, output->manifest.id);
    manifest_render(&output->manifest, &text);
    if (text.failed)
        return error_set(error, -EFBIG,
                         "%s needs more memory than there is, or too many shards: "
                         "give a larger --shard",
                         MANIFEST_NAME);
    r = dataset_stage_write(&output->stage, MANIFEST_NAME, text.bytes, text.size, error);
    return r < 0 ? r : dataset_stage_commit(&output->stage, error);
}

DatasetTotals dataset_output_totals(const DatasetOutput *output) {
    DatasetTotals totals = {.shards = output->manifest.shard_count};

    for (uint32_t s = 0; s < output->manifest.shard_count; s++) {
        totals.sequences += output->manifest.shards[s].sequences;
        totals.tokens += output->manifest.shards[s].tokens;
        totals.bytes += output->manifest.shards[s].bytes;
    }
    return totals;
}
