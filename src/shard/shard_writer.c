/* SPDX-License-Identifier: MIT */
#include "shard/shard_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"
#include "shard/block_codec.h"
#include "shard/seek_table.h"
#include "shard/shard_file.h"

/* Far below what a 32-bit frame size holds, so that the index always fits its frame. */
enum { LENGTHS_BYTES_MAX = 512 << 20 };

struct ShardWriter {
    int fd;
    char *shown;
    ShardWriterOptions options;
    BlockLayout layout;
    XXH3_state_t *content;
    Buffer blocks;    /* ShardIndexBlock each */
    Buffer checksums; /* uint32_t each */
    Buffer lengths;   /* packed */
    ShardIndexColumn columns[SHARD_COLUMNS_MAX];
    ShardIndex index;
    uint64_t block_bytes;
};

void shard_writer_free(ShardWriter *writer) {
    if (!writer)
        return;
    file_close(&writer->fd);
    free(writer->shown);
    if (writer->content)
        (void)XXH3_freeState(writer->content);
    buffer_deinit(&writer->blocks);
    buffer_deinit(&writer->checksums);
    buffer_deinit(&writer->lengths);
    free(writer);
}

static int write_failed(const ShardWriter *writer, int r, Error *error) {
    if (r == -ENOMEM)
        return error_set(error, r, "out of memory while writing %s", writer->shown);
    return error_set(error, r, "cannot write %s: %s%s", writer->shown, strerror(-r),
                     r == -ENOSPC || r == -EDQUOT ? ": make room or choose another place"
                     : r == -EFBIG                ? ": raise the limit with 'ulimit -f'"
                                                  : "");
}

static int write_header(ShardWriter *writer, Error *error) {
    uint8_t frame[SHARD_HEADER_BYTES];
    ShardHeader header = {
        .version_major = SHARD_VERSION_MAJOR,
        .version_minor = SHARD_VERSION_MINOR,
        .block_target = writer->options.block_target,
        .column_count = writer->options.column_count,
        .has_pad_id = writer->options.has_pad_id,
        .pad_id = writer->options.has_pad_id ? writer->options.pad_id : 0,
    };
    int r;

    memcpy(header.magic, SHARD_MAGIC, sizeof header.magic);
    memcpy(header.columns, writer->options.columns,
           writer->options.column_count * sizeof(ShardColumn));
    header.crc32c = bytes_crc32c(0, &header, offsetof(ShardHeader, crc32c));
    bytes_put_u32(frame, SHARD_HEADER_FRAME);
    bytes_put_u32(frame + 4, sizeof header);
    memcpy(frame + SHARD_FRAME_HEAD, &header, sizeof header);
    r = file_write(writer->fd, frame, sizeof frame);
    return r < 0 ? write_failed(writer, r, error) : 0;
}

static void writer_cleanup(ShardWriter **writer) {
    shard_writer_free(*writer);
}

int shard_writer_new(int fd, const char *shown, const ShardWriterOptions *options,
                     ShardWriter **ret_writer, Error *error) {
    CLEANUP(writer_cleanup) ShardWriter *writer = calloc(1, sizeof *writer);
    int r;

    if (!writer) {
        file_close(&fd);
        return error_set(error, -ENOMEM, "out of memory");
    }
    writer->fd = fd;
    writer->shown = strdup(shown);
    writer->options = *options;
    writer->content = XXH3_createState();
    if (!writer->shown || !writer->content)
        return error_set(error, -ENOMEM, "out of memory");
    block_layout_init(&writer->layout, options->columns, options->column_count);
    (void)XXH3_128bits_reset(writer->content);
    memcpy(writer->index.magic, SHARD_INDEX_MAGIC, sizeof writer->index.magic);
    writer->index.header_bytes = sizeof writer->index;
    writer->index.zstd_level = options->level;
    writer->index.zstd_version = ZSTD_versionNumber();
    writer->index.column_count = options->column_count;
    r = write_header(writer, error);
    if (r < 0)
        return r;
    *ret_writer = writer;
    writer = NULL;
    return 0;
}

uint32_t shard_writer_next_block(const ShardWriter *writer) {
    return writer->index.block_count;
}

uint64_t shard_writer_next_sequence(const ShardWriter *writer) {
    return writer->index.sequences;
}

uint64_t shard_writer_block_bytes(const ShardWriter *writer) {
    return writer->block_bytes;
}

bool shard_writer_is_full(const ShardWriter *writer) {
    return writer->index.block_count >= SHARD_BLOCKS_MAX ||
           writer->lengths.size >= LENGTHS_BYTES_MAX;
}

void shard_writer_number(void *raw, uint64_t first_sequence, uint32_t block) {
    ShardBlockHeader *header = raw;

    header->first_sequence = first_sequence;
    header->block = block;
    header->crc32c = block_layout_header_crc(raw, header->header_bytes);
}

static int add_lengths(ShardWriter *writer, const BlockView *view, ShardIndexBlock *entry) {
    uint8_t *to;
    size_t size;
    int r;

    entry->lengths_width = shard_file_lengths_width(entry->length_max);
    size = shard_file_lengths_bytes(entry);
    r = buffer_reserve(&writer->lengths, writer->lengths.size + size);
    if (r < 0)
        return r;
    to = writer->lengths.bytes + writer->lengths.size;
    for (uint32_t i = 0; i < view->sequences; i++) {
        if (entry->lengths_width == 1)
            to[i] = (uint8_t)view->lengths[i];
        else if (entry->lengths_width == 2)
            bytes_put_u16(to + 2 * (size_t)i, (uint16_t)view->lengths[i]);
        else
            bytes_put_u32(to + 4 * (size_t)i, view->lengths[i]);
    }
    entry->lengths_crc32c = bytes_crc32c(0, to, size);
    writer->lengths.size += size;
    return 0;
}

static void count_block(ShardWriter *writer, const BlockView *view, const ShardIndexBlock *entry) {
    ShardIndex *index = &writer->index;
    uint32_t shortest = UINT32_MAX;

    for (uint32_t i = 0; i < view->sequences; i++)
        shortest = MIN(shortest, view->lengths[i]);
    index->length_min = index->block_count ? MIN(index->length_min, shortest) : shortest;
    index->length_max = MAX(index->length_max, entry->length_max);
    index->block_count++;
    index->sequences += entry->sequences;
    index->tokens += entry->tokens;
    index->raw_bytes += entry->raw_bytes;
    index->block_raw_max = MAX(index->block_raw_max, entry->raw_bytes);
    index->block_compressed_max = MAX(index->block_compressed_max, entry->compressed_bytes);
    for (uint32_t c = 0; c < writer->options.column_count; c++) {
        ShardIndexColumn *column = &writer->columns[c];
        if (!view->counts[c]) {
            column->values += writer->layout.kinds[c] == SHARD_KIND_SEQUENCE ? entry->sequences
                                                                             : entry->tokens;
            continue;
        }
        for (uint32_t i = 0; i < view->sequences; i++) {
            column->values += view->counts[c][i];
            column->count_max = MAX(column->count_max, view->counts[c][i]);
        }
    }
}

int shard_writer_add(ShardWriter *writer, const Buffer *compressed, const void *raw,
                     uint32_t raw_bytes, Error *error) {
    ShardIndexBlock entry = {0};
    BlockFacts facts;
    BlockView view;
    uint32_t checksum = block_codec_checksum(compressed->bytes, compressed->size);
    const char *wrong = block_layout_parse(&writer->layout, raw, raw_bytes, &facts, &view);
    int r;

    assert(!wrong && facts.block == writer->index.block_count &&
           facts.first_sequence == writer->index.sequences);
    (void)wrong;
    entry.compressed_bytes = (uint32_t)compressed->size;
    entry.raw_bytes = raw_bytes;
    entry.sequences = facts.sequences;
    entry.tokens = facts.tokens;
    entry.crc32c = bytes_crc32c(0, compressed->bytes, compressed->size);
    entry.length_max = facts.length_max;
    r = add_lengths(writer, &view, &entry);
    if (r == 0)
        r = buffer_add(&writer->blocks, &entry, sizeof entry);
    if (r == 0)
        r = buffer_add(&writer->checksums, &checksum, sizeof checksum);
    if (r == 0)
        r = file_write(writer->fd, compressed->bytes, compressed->size);
    if (r < 0)
        return write_failed(writer, r, error);
    (void)XXH3_128bits_update(writer->content, raw, raw_bytes);
    count_block(writer, &view, &entry);
    writer->block_bytes += compressed->size;
    return 0;
}

/* Index and seek table together; each holds a number that the other has to fit. */
static int build_tail(ShardWriter *writer, Buffer *tail) {
    ShardIndex *index = &writer->index;
    size_t columns_bytes = writer->options.column_count * sizeof(ShardIndexColumn);
    uint64_t payload = sizeof *index + writer->blocks.size + columns_bytes + writer->lengths.size;
    uint32_t frame_bytes = (uint32_t)(SHARD_FRAME_HEAD + payload);
    const void *blocks = writer->blocks.bytes, *checksums = writer->checksums.bytes;
    XXH128_canonical_t content;
    int r;

    assert(payload < UINT32_MAX - SHARD_FRAME_HEAD);
    r = buffer_reserve(tail, frame_bytes + seek_table_bytes(index->block_count + 2));
    if (r < 0)
        return r;
    tail->size = frame_bytes;
    r = seek_table_add(tail, blocks, checksums, index->block_count, frame_bytes);
    if (r < 0)
        return r;
    XXH128_canonicalFromHash(&content, XXH3_128bits_digest(writer->content));
    memcpy(index->content, content.digest, sizeof index->content);
    index->file_bytes = SHARD_HEADER_BYTES + writer->block_bytes + tail->size;
    index->lengths_offset = payload - writer->lengths.size;
    index->lengths_bytes = writer->lengths.size;
    index->arrays_crc32c = bytes_crc32c(bytes_crc32c(0, blocks, writer->blocks.size),
                                        writer->columns, columns_bytes);
    index->seek_crc32c = bytes_crc32c(0, tail->bytes + frame_bytes, tail->size - frame_bytes);
    index->crc32c = bytes_crc32c(0, index, offsetof(ShardIndex, crc32c));

    uint8_t *at = tail->bytes;
    bytes_put_u32(at, SHARD_INDEX_FRAME);
    bytes_put_u32(at + 4, (uint32_t)payload);
    at = mempcpy(at + SHARD_FRAME_HEAD, index, sizeof *index);
    at = mempcpy(at, blocks, writer->blocks.size);
    at = mempcpy(at, writer->columns, columns_bytes);
    memcpy(at, writer->lengths.bytes, writer->lengths.size);
    return 0;
}

int shard_writer_finish(ShardWriter *writer, Error *error) {
    CLEANUP(buffer_deinit) Buffer tail = {0};
    int r;

    assert(writer->index.block_count > 0);
    r = build_tail(writer, &tail);
    if (r == 0)
        r = file_write(writer->fd, tail.bytes, tail.size);
    if (r == 0 && fsync(writer->fd) < 0)
        r = -errno;
    return r < 0 ? write_failed(writer, r, error) : 0;
}

const ShardIndex *shard_writer_index(const ShardWriter *writer) {
    return &writer->index;
}

const ShardIndexBlock *shard_writer_blocks(const ShardWriter *writer) {
    return (const ShardIndexBlock *)(const void *)writer->blocks.bytes;
}
