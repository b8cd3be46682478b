/* SPDX-License-Identifier: MIT */
/* Every block begins with the magic number of a zstd frame. Wherever these four bytes stand the
 * search tries to decode a block; the content checksum and the block's own header decide. After a
 * good block it goes on behind it, after a bad one at the next magic number, so damage costs only
 * the blocks that it touches, even when bytes were lost or inserted. */
#include "shard/shard_salvage.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"

enum {
    WINDOW_BYTES = 2 * SHARD_BLOCK_RAW_MAX,
    READ_BYTES = 1 << 20,
    PAGE_BYTES = 4096,
};

/* A stretch of the file in memory. */
typedef struct Window {
    int fd;
    uint64_t file_bytes;
    uint64_t offset; /* of bytes.bytes[0] in the file; bytes.size are there */
    Buffer bytes;
} Window;

typedef struct Search {
    const SalvageOptions *options;
    BlockLayout layout;
    BlockDecoder *decoder;
    Window window;
    Buffer raw, compressed;
    int64_t last_block;
} Search;

static void search_deinit(Search *search) {
    block_decoder_free(search->decoder);
    buffer_deinit(&search->window.bytes);
    buffer_deinit(&search->raw);
    buffer_deinit(&search->compressed);
}

/* Read what can be read; a page that the disk refuses counts as zeros. */
static void read_tolerantly(int fd, uint8_t *to, size_t size, uint64_t offset) {
    for (size_t done = 0; done < size;) {
        size_t step = MIN(size - done, (size_t)READ_BYTES);
        if (file_read_at(fd, to + done, step, offset + done) < 0) {
            step = MIN(step, (size_t)PAGE_BYTES);
            if (file_read_at(fd, to + done, step, offset + done) < 0)
                memset(to + done, 0, step);
        }
        done += step;
    }
}

/* The bytes at `offset`: at least `wanted`, or all to the end of the file. */
static const uint8_t *window_at(Window *window, uint64_t offset, uint64_t wanted,
                                size_t *ret_available) {
    uint64_t end = window->offset + window->bytes.size;

    wanted = MIN(wanted, window->file_bytes - offset);
    if (offset < window->offset || offset + wanted > end) {
        window->offset = offset;
        window->bytes.size = MIN((uint64_t)WINDOW_BYTES, window->file_bytes - offset);
        read_tolerantly(window->fd, window->bytes.bytes, window->bytes.size, offset);
    }
    *ret_available = window->offset + window->bytes.size - offset;
    return window->bytes.bytes + (offset - window->offset);
}

/* Offset of the next magic number at or behind `offset`; the file's size when there is none. */
static uint64_t find_magic(Window *window, uint64_t offset) {
    static const uint8_t magic[] = {0x28, 0xB5, 0x2F, 0xFD};

    while (offset + sizeof magic <= window->file_bytes) {
        size_t available;
        const uint8_t *at = window_at(window, offset, sizeof magic, &available);
        const uint8_t *found = memmem(at, available, magic, sizeof magic);
        if (found)
            return offset + (uint64_t)(found - at);
        offset += available - (sizeof magic - 1);
    }
    return window->file_bytes;
}

/* Try the block at `offset`. Its compressed size, 0 when it is none, or a negative errno. */
static int64_t try_block(Search *search, uint64_t offset, Error *error) {
    BlockFacts facts;
    BlockView view;
    size_t available, size;
    const uint8_t *at = window_at(&search->window, offset, SHARD_HEADER_BYTES, &available);
    uint64_t raw_bytes = block_codec_content_size(at, available);

    if (raw_bytes < sizeof(ShardBlockHeader) || raw_bytes > SHARD_BLOCK_RAW_MAX)
        return 0;
    at = window_at(&search->window, offset, block_codec_bound((uint32_t)raw_bytes), &available);
    size = block_codec_frame_size(at, available);
    if (size == 0)
        return 0;
    search->compressed.size = 0;
    if (buffer_reserve(&search->raw, raw_bytes) < 0 ||
        buffer_add(&search->compressed, at, size) < 0)
        return error_set(error, -ENOMEM, "out of memory");
    search->raw.size = raw_bytes;
    if (block_codec_decode(search->decoder, &search->layout, at, size, search->raw.bytes,
                           (uint32_t)raw_bytes, &facts, &view))
        return 0;
    if ((int64_t)facts.block > search->last_block && facts.sequences > 0) {
        SalvageBlock block = {&search->raw, &search->compressed, &facts};
        int r = search->options->sink(search->options->context, &block, error);
        if (r < 0)
            return r;
        search->last_block = facts.block;
    }
    return (int64_t)size;
}

int shard_salvage(int fd, const SalvageOptions *options, Error *error) {
    CLEANUP(search_deinit) Search search = {.options = options, .last_block = -1};
    uint64_t offset = SHARD_HEADER_BYTES;
    int r;

    block_layout_init(&search.layout, options->columns, options->column_count);
    search.window.fd = fd;
    r = file_size(fd, &search.window.file_bytes);
    if (r < 0)
        return error_set(error, r, "it is not a regular file");
    if (block_decoder_new(&search.decoder) < 0 ||
        buffer_reserve(&search.window.bytes,
                       MIN((uint64_t)WINDOW_BYTES, search.window.file_bytes + 1)) < 0)
        return error_set(error, -ENOMEM, "out of memory");
    while ((offset = find_magic(&search.window, offset)) < search.window.file_bytes) {
        int64_t size = try_block(&search, offset, error);
        if (size < 0)
            return (int)size;
        offset += size > 0 ? (uint64_t)size : 1;
        if (options->progress)
            options->progress(options->context, offset);
    }
    return 0;
}
