/* SPDX-License-Identifier: MIT */
/* dataset_stage.h: the place where a dataset is written until it is complete. Only
 * dataset_stage_commit() makes it visible under its name; anything else leaves nothing behind. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

typedef struct DatasetStage {
    char *path;      /* where the dataset will be */
    char *temporary; /* the directory that is being filled, or NULL */
    int dir_fd;      /* of the temporary directory */
    bool inside;     /* `path` is there and empty: the files move up into it */
    bool replace;    /* `path` holds a dataset that is to be replaced */
} DatasetStage;
#define DATASET_STAGE_NONE ((DatasetStage){.dir_fd = -1})

/* `path` must be absent or empty, or, with `force`, hold a dataset. */
MUST_CHECK int dataset_stage_open(const char *path, bool force, DatasetStage *ret_stage,
                                  Error *error);
/* Whether dataset_stage_open() would accept `path`, before long work is done for it. */
MUST_CHECK int dataset_stage_check(const char *path, bool force, Error *error);
/* A new file in the stage; the caller owns the descriptor. */
MUST_CHECK int dataset_stage_create(const DatasetStage *stage, const char *name, int *ret_fd,
                                    Error *error);
/* Write a whole small file into the stage and bring it to disk. */
MUST_CHECK int dataset_stage_write(const DatasetStage *stage, const char *name, const void *bytes,
                                   size_t size, Error *error);
/* The last step: all files are in the stage and on disk. */
MUST_CHECK int dataset_stage_commit(DatasetStage *stage, Error *error);
/* Remove what was not committed. Accepts DATASET_STAGE_NONE. */
void dataset_stage_deinit(DatasetStage *stage);
