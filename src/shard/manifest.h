/* SPDX-License-Identifier: MIT */
/* manifest.h: dataset.json, read and written. Owner: who declared it, with
 * CLEANUP(manifest_deinit). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "format/shard_format.h"

#define MANIFEST_NAME "dataset.json"

enum { MANIFEST_ID_BYTES = 16, MANIFEST_LABELS_MAX = 1 << 20 };

typedef struct ManifestShard {
    const char *path; /* relative; [A-Za-z0-9._-]+, not beginning with a dot; the manifest's own */
    uint64_t bytes, sequences, tokens;
    uint32_t blocks, length_max;
    uint8_t content[16];
} ManifestShard;

typedef struct Manifest {
    uint8_t id[MANIFEST_ID_BYTES];
    bool has_pad_id;
    int64_t pad_id;
    ShardColumn *columns;
    uint32_t column_count;
    char **label_names;
    uint32_t label_count;
    ManifestShard *shards;
    uint32_t shard_count;
} Manifest;

void manifest_deinit(Manifest *manifest);

/* The bytes of dataset.json. `text->failed` tells when there was no memory or too many shards. */
void manifest_render(const Manifest *manifest, Text *text);

/* Read and check dataset.json in `dir_fd`; `shown` is how messages call the file. 0 or a negative
 * errno and a sentence that says what is wrong but not what to do. */
MUST_CHECK int manifest_load(int dir_fd, const char *shown, Manifest *ret_manifest, Error *error);
MUST_CHECK int manifest_parse(const char *bytes, size_t size, const char *shown,
                              Manifest *ret_manifest, Error *error);

/* Append a shard; its path is copied. 0 or -ENOMEM. */
MUST_CHECK int manifest_add_shard(Manifest *manifest, const ManifestShard *shard);
MUST_CHECK int manifest_set_labels(Manifest *manifest, const char *const *names, uint32_t count);
