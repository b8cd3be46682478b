/* SPDX-License-Identifier: MIT */
/* dataset.h: a small dataset for tests, whose every value follows from its position: u16 tokens and
 * an i64 label. */
#pragma once

#include <check.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "shard/dataset_writer.h"

typedef struct DatasetMake {
    uint64_t sequences;
    uint32_t block_target; /* 0: the default */
    uint64_t shard_bytes;
    uint32_t jobs;
} DatasetMake;

enum { DATASET_LENGTH_MAX = 96 };

static inline uint32_t dataset_length(uint64_t sequence) {
    return (uint32_t)(sequence * 2654435761u >> 7) % (DATASET_LENGTH_MAX + 1);
}

static inline uint16_t dataset_token(uint64_t sequence, uint32_t position) {
    return (uint16_t)(sequence * 31 + position * 7 + 1);
}

static inline int64_t dataset_label(uint64_t sequence) {
    return (int64_t)(sequence % 10) - 3;
}

static inline void dataset_make(const char *path, const DatasetMake *make) {
    const ShardColumn columns[] = {column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_U16, 1),
                                   column_make("label", SHARD_KIND_SEQUENCE, ELEMENT_I64, 1)};
    DatasetWriter *writer = NULL;
    Error error = {0};

    ck_assert_msg(dataset_writer_new(path,
                                     &(DatasetWriterOptions){.columns = columns,
                                                             .column_count = 2,
                                                             .level = 1,
                                                             .block_target = make->block_target,
                                                             .shard_bytes = make->shard_bytes,
                                                             .jobs = make->jobs},
                                     &writer, &error) == 0,
                  "%s", error.text);
    for (uint64_t s = 0; s < make->sequences; s++) {
        uint8_t tokens[2 * DATASET_LENGTH_MAX], label[8];
        for (uint32_t t = 0; t < dataset_length(s); t++)
            bytes_put_u16(tokens + 2 * (size_t)t, dataset_token(s, t));
        bytes_put_u64(label, (uint64_t)dataset_label(s));
        const BlockValues values[] = {{tokens, dataset_length(s)}, {label, 1}};
        ck_assert_msg(dataset_writer_add(writer, values, &error) == 0, "%s", error.text);
    }
    ck_assert_msg(dataset_writer_finish(writer, &error) == 0, "%s", error.text);
    dataset_writer_free(writer);
}

/* Remove a directory that holds files only. */
static inline void dataset_remove(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;

    while (directory && (entry = readdir(directory)))
        if (entry->d_type != DT_DIR)
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    (void)rmdir(path);
}
