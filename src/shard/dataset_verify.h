/* SPDX-License-Identifier: MIT */
/* dataset_verify.h: look at every bit of a dataset and tell all that is wrong with it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct VerifyDamage {
    const char *file; /* within the dataset */
    int64_t block;    /* number within the shard, or -1 */
    int64_t offset;   /* in the file, or -1 */
    const char *what;
} VerifyDamage;

typedef struct VerifyOptions {
    uint32_t jobs; /* threads that decode; 0 or 1: the caller's own */
    void *context;
    void (*damage)(void *context, const VerifyDamage *damage);
    void (*progress)(void *context, uint64_t bytes); /* of all shards so far; may be NULL */
} VerifyOptions;

typedef struct VerifyTotals {
    uint64_t shards, blocks, bytes;
    uint64_t damages; /* how often `damage` was called */
} VerifyTotals;

/* `path` is a dataset's directory or a single shard. 0 when it could be looked at, whatever was
 * found; a negative errno and a sentence when not (out of memory, not a dataset at all). */
MUST_CHECK int dataset_verify(const char *path, const VerifyOptions *options,
                              VerifyTotals *ret_totals, Error *error);
