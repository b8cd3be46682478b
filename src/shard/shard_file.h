/* SPDX-License-Identifier: MIT */
/* shard_file.h: one shard file, opened and checked but for its blocks: header, index, seek table.
 * Immutable after shard_file_open(), so any thread may read it. Owner: who declared it. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "format/shard_format.h"
#include "shard/block_layout.h"

typedef struct ShardFile {
    int fd;
    char *path; /* for messages */
    uint64_t file_bytes;
    ShardHeader header;
    ShardIndex index;
    ShardIndexBlock *blocks;   /* [index.block_count] */
    ShardIndexColumn *columns; /* [header.column_count] */
    uint32_t *frame_checksums; /* [index.block_count], from the seek table */
    uint64_t lengths_offset;   /* of the first block's lengths in the file */
} ShardFile;
#define SHARD_FILE_NONE ((ShardFile){.fd = -1})

/* Open `name` in `dir_fd`; `shown` is how messages call it. 0 or a negative errno and a sentence
 * that says what is wrong but not what to do (-EBADMSG: damaged; -ENOEXEC: something else). */
MUST_CHECK int shard_file_open(int dir_fd, const char *name, const char *shown, ShardFile *ret_file,
                               Error *error);
void shard_file_close(ShardFile *file); /* accepts SHARD_FILE_NONE */

/* Check the 4096 bytes that a shard begins with. 0, -EBADMSG, -ENOEXEC or -ENOTSUP and a sentence.
 */
MUST_CHECK int shard_file_check_header(const void *bytes, const char *shown,
                                       ShardHeader *ret_header, Error *error);

/* Bytes of one block's packed lengths, and from packed to plain: -EBADMSG when CRC, sum or maximum
 * do not fit the entry, or one is below the minimum of the shard: whoever makes room for batches
 * relies on both. */
uint64_t shard_file_lengths_bytes(const ShardIndexBlock *block);
MUST_CHECK int shard_file_unpack_lengths(const ShardIndexBlock *block, uint32_t length_min,
                                         const void *packed, uint32_t *ret_lengths);
/* 1, 2 or 4: the narrowest that holds length_max. */
uint8_t shard_file_lengths_width(uint32_t length_max);
