/* SPDX-License-Identifier: MIT */
/* Any bytes as a shard file, with the checksums of header and index mended, so that changes reach
 * the checks behind them. Whatever opens must be safe to ask for lengths. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "shard/seek_table.h"
#include "shard/shard_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_header(uint8_t *bytes, size_t size) {
    size_t payload = offsetof(ShardHeader, crc32c);

    if (size >= SHARD_HEADER_BYTES)
        bytes_put_u32(bytes + SHARD_FRAME_HEAD + payload,
                      bytes_crc32c(0, bytes + SHARD_FRAME_HEAD, payload));
}

/* The index lies before the seek table, whose size its footer tells, and is as long as the table's
 * last entry says. */
static void mend_index(uint8_t *bytes, size_t size) {
    uint64_t table, index;
    uint32_t frames;

    if (size < SHARD_HEADER_BYTES + SHARD_SEEK_FOOTER)
        return;
    frames = bytes_get_u32(bytes + size - SHARD_SEEK_FOOTER);
    table = seek_table_bytes(frames);
    if (frames == 0 || frames > SHARD_BLOCKS_MAX || table > size)
        return;
    index = seek_table_compressed(bytes + size - table, frames - 1);
    if (index < SHARD_FRAME_HEAD + sizeof(ShardIndex) || index > size - table)
        return;
    uint8_t *at = bytes + size - table - index + SHARD_FRAME_HEAD;
    bytes_put_u32(at + offsetof(ShardIndex, crc32c),
                  bytes_crc32c(0, at, offsetof(ShardIndex, crc32c)));
}

static void read_lengths(const ShardFile *file) {
    uint64_t offset = file->lengths_offset;

    for (uint32_t b = 0; b < file->index.block_count; b++) {
        const ShardIndexBlock *block = &file->blocks[b];
        uint64_t bytes = shard_file_lengths_bytes(block);
        void *packed = malloc(bytes ? bytes : 1);
        uint32_t *lengths = malloc(sizeof *lengths * ((size_t)block->sequences + 1));
        if (packed && lengths && file_read_at(file->fd, packed, bytes, offset) == 0 &&
            shard_file_unpack_lengths(block, file->index.length_min, packed, lengths) < 0) {
            free(lengths);
            lengths = NULL;
        }
        free(packed);
        free(lengths);
        offset += bytes;
    }
}

static void open_shard(const uint8_t *bytes, size_t size) {
    CLEANUP(file_close) int fd = FILE_NONE;
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    Error error = {0};
    char path[64];

    if (file_memory_new("fuzz", size ? size : 1, NULL, &fd) < 0 ||
        pwrite(fd, bytes, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (shard_file_open(AT_FDCWD, path, "shard", &file, &error) == 0)
        read_lengths(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        return 0;
    memcpy(copy, data, size);
    open_shard(copy, size);
    mend_index(copy, size);
    mend_header(copy, size);
    open_shard(copy, size);
    free(copy);
    return 0;
}
