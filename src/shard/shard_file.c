/* SPDX-License-Identifier: MIT */
/* A shard is read from both ends: the header in front, and from the footer of the seek table back
 * to the table, whose last entry says how large the index before it is. Nothing is allocated that
 * the file's own size does not justify, and every byte before the blocks, behind them, and every
 * number that is said twice is compared. What remains unread is the blocks and the lengths; each
 * has a CRC32C in the index. */
#include "shard/shard_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"
#include "shard/block_codec.h"
#include "shard/column.h"
#include "shard/seek_table.h"

void shard_file_close(ShardFile *file) {
    file_close(&file->fd);
    free(file->path);
    free(file->blocks);
    free(file->columns);
    free(file->frame_checksums);
    *file = SHARD_FILE_NONE;
}

static int damaged(Error *error, const char *shown, const char *what) {
    return error_set(error, -EBADMSG, "%s is damaged: %s", shown, what);
}

static int check_header_fields(const ShardHeader *header, const char *shown, Error *error) {
    const char *wrong;

    if (header->version_major != SHARD_VERSION_MAJOR || header->incompatible != 0)
        return error_set(error, -ENOTSUP,
                         "%s was written by a newer seqfeed (format %u.%u, features %#x): use that "
                         "version to read it",
                         shown, header->version_major, header->version_minor, header->incompatible);
    if (header->reserved_0 != 0 || !bytes_are_zero(header->reserved_1, sizeof header->reserved_1) ||
        !bytes_are_zero(header->reserved_2, sizeof header->reserved_2))
        return damaged(error, shown, "reserved bytes of its header are not zero");
    if (header->has_pad_id > 1 || (!header->has_pad_id && header->pad_id != 0))
        return damaged(error, shown, "its header has a wrong pad id");
    if (header->block_target < SHARD_BLOCK_TARGET_MIN ||
        header->block_target > SHARD_BLOCK_TARGET_MAX)
        return damaged(error, shown, "its header has a wrong block size");
    wrong = column_check_all(header->columns, header->column_count);
    if (wrong)
        return damaged(error, shown, wrong);
    if (!bytes_are_zero(&header->columns[header->column_count],
                        (SHARD_COLUMNS_MAX - header->column_count) * sizeof(ShardColumn)))
        return damaged(error, shown, "unused column records of its header are not zero");
    return 0;
}

int shard_file_check_header(const void *bytes, const char *shown, ShardHeader *ret_header,
                            Error *error) {
    const uint8_t *frame = bytes;
    ShardHeader header;
    int r;

    memcpy(&header, frame + SHARD_FRAME_HEAD, sizeof header);
    if (memcmp(header.magic, SHARD_MAGIC, sizeof header.magic) != 0) {
        if (bytes_get_u32(frame) == SHARD_HEADER_FRAME)
            return damaged(error, shown, "its header does not begin as it should");
        return error_set(error, -ENOEXEC,
                         "%s is not a shard of seqfeed: make one with 'seqfeed pack'", shown);
    }
    if (bytes_get_u32(frame) != SHARD_HEADER_FRAME || bytes_get_u32(frame + 4) != sizeof header)
        return damaged(error, shown, "the frame of its header is wrong");
    if (header.crc32c != bytes_crc32c(0, &header, offsetof(ShardHeader, crc32c)))
        return damaged(error, shown, "the checksum of its header does not match");
    r = check_header_fields(&header, shown, error);
    if (r < 0)
        return r;
    *ret_header = header;
    return 0;
}

static int read_at(ShardFile *file, void *to, size_t size, uint64_t offset, Error *error) {
    int r = file_read_at(file->fd, to, size, offset);

    if (r == -ENODATA)
        return damaged(error, file->path, "it is shorter than it should be");
    if (r < 0)
        return error_set(error, r, "cannot read %s: %s", file->path, strerror(-r));
    return 0;
}

/* The frames that the seek table counts: header, blocks, index. */
enum { FRAMES_BESIDE_BLOCKS = 2 };

static int find_seek_table(ShardFile *file, uint64_t *ret_bytes, uint32_t *ret_blocks,
                           Error *error) {
    uint8_t footer[SHARD_SEEK_FOOTER];
    uint32_t frames;
    uint64_t size;
    int r;

    if (file->file_bytes < SHARD_HEADER_BYTES + seek_table_bytes(FRAMES_BESIDE_BLOCKS))
        return damaged(error, file->path, "it is cut off");
    r = read_at(file, footer, sizeof footer, file->file_bytes - sizeof footer, error);
    if (r < 0)
        return r;
    if (bytes_get_u32(footer + 5) != SHARD_SEEK_MAGIC)
        return damaged(error, file->path, "it does not end with a seek table; it may be cut off");
    frames = bytes_get_u32(footer);
    if (frames <= FRAMES_BESIDE_BLOCKS || frames - FRAMES_BESIDE_BLOCKS > SHARD_BLOCKS_MAX)
        return damaged(error, file->path, "its seek table has a wrong number of entries");
    size = seek_table_bytes(frames);
    if (size > file->file_bytes - SHARD_HEADER_BYTES)
        return damaged(error, file->path, "its seek table is larger than the file");
    *ret_bytes = size;
    *ret_blocks = frames - FRAMES_BESIDE_BLOCKS;
    return 0;
}

static int check_index_head(ShardFile *file, const uint8_t *frame, uint64_t frame_bytes,
                            uint32_t block_count, Error *error) {
    ShardIndex *index = &file->index;
    uint64_t arrays = block_count * sizeof(ShardIndexBlock) +
                      file->header.column_count * sizeof(ShardIndexColumn);

    memcpy(index, frame + SHARD_FRAME_HEAD, sizeof *index);
    if (bytes_get_u32(frame) != SHARD_INDEX_FRAME ||
        bytes_get_u32(frame + 4) != frame_bytes - SHARD_FRAME_HEAD ||
        memcmp(index->magic, SHARD_INDEX_MAGIC, sizeof index->magic) != 0)
        return damaged(error, file->path, "its index is not where it should be");
    if (index->crc32c != bytes_crc32c(0, index, offsetof(ShardIndex, crc32c)))
        return damaged(error, file->path, "the checksum of its index does not match");
    if (!bytes_are_zero(index->reserved, sizeof index->reserved))
        return damaged(error, file->path, "reserved bytes of its index are not zero");
    if (index->header_bytes != sizeof *index || index->block_count != block_count ||
        index->column_count != file->header.column_count || index->file_bytes != file->file_bytes ||
        index->lengths_offset != sizeof *index + arrays || index->lengths_bytes > frame_bytes ||
        frame_bytes != SHARD_FRAME_HEAD + index->lengths_offset + index->lengths_bytes)
        return damaged(error, file->path, "its index does not fit the file");
    return 0;
}

/* What one entry may claim, whatever the block turns out to be. */
static bool block_is_plausible(const ShardFile *file, const BlockLayout *layout,
                               const ShardIndexBlock *block) {
    static const uint64_t no_values[SHARD_COLUMNS_MAX];

    return block->sequences > 0 && block->raw_bytes <= SHARD_BLOCK_RAW_MAX &&
           block_layout_raw(layout, block->sequences, block->tokens, no_values) <=
               block->raw_bytes &&
           block->compressed_bytes >= SHARD_FRAME_HEAD &&
           block->compressed_bytes <= block_codec_bound(block->raw_bytes) &&
           block->length_max <= block->tokens &&
           block->length_max >= divide_up(block->tokens, block->sequences) &&
           block->lengths_width == shard_file_lengths_width(block->length_max) &&
           bytes_are_zero(block->reserved, sizeof block->reserved);
}

static int check_blocks(ShardFile *file, uint64_t index_offset, Error *error) {
    const ShardIndex *index = &file->index;
    ShardIndex sums = {0};
    BlockLayout layout;
    uint64_t at = SHARD_HEADER_BYTES;

    block_layout_init(&layout, file->header.columns, file->header.column_count);
    for (uint32_t b = 0; b < index->block_count; b++) {
        const ShardIndexBlock *block = &file->blocks[b];
        if (!block_is_plausible(file, &layout, block))
            return error_set(error, -EBADMSG,
                             "%s is damaged: its index has a wrong entry for block %u", file->path,
                             b);
        at += block->compressed_bytes;
        sums.sequences += block->sequences;
        sums.tokens += block->tokens;
        sums.raw_bytes += block->raw_bytes;
        sums.lengths_bytes += shard_file_lengths_bytes(block);
        sums.block_raw_max = MAX(sums.block_raw_max, block->raw_bytes);
        sums.block_compressed_max = MAX(sums.block_compressed_max, block->compressed_bytes);
        sums.length_max = MAX(sums.length_max, block->length_max);
    }
    if (at != index_offset || sums.sequences != index->sequences || sums.tokens != index->tokens ||
        sums.raw_bytes != index->raw_bytes || sums.lengths_bytes != index->lengths_bytes ||
        sums.block_raw_max != index->block_raw_max ||
        sums.block_compressed_max != index->block_compressed_max ||
        sums.length_max != index->length_max || index->length_min > index->length_max)
        return damaged(error, file->path, "its index does not add up");
    return 0;
}

static int check_columns(ShardFile *file, Error *error) {
    for (uint32_t c = 0; c < file->header.column_count; c++) {
        const ShardIndexColumn *column = &file->columns[c];
        uint32_t kind = file->header.columns[c].kind;
        uint64_t expected = kind == SHARD_KIND_SEQUENCE ? file->index.sequences
                                                        : file->index.tokens;
        bool fits = kind == SHARD_KIND_RAGGED
                        ? column->count_max <= column->values
                        : column->values == expected && column->count_max == 0;
        if (!fits || column->reserved != 0)
            return damaged(error, file->path, "its index has a wrong entry for a column");
    }
    return 0;
}

static int read_index(ShardFile *file, uint64_t offset, uint64_t frame_bytes, uint32_t block_count,
                      Error *error) {
    uint8_t head[SHARD_FRAME_HEAD + sizeof(ShardIndex)];
    size_t blocks_bytes = block_count * sizeof(ShardIndexBlock);
    size_t columns_bytes = file->header.column_count * sizeof(ShardIndexColumn);
    uint64_t at = offset + sizeof head;
    uint32_t crc;
    int r;

    if (frame_bytes < sizeof head + blocks_bytes + columns_bytes)
        return damaged(error, file->path, "its index is too small");
    r = read_at(file, head, sizeof head, offset, error);
    if (r < 0)
        return r;
    r = check_index_head(file, head, frame_bytes, block_count, error);
    if (r < 0)
        return r;
    file->blocks = malloc(MAX(blocks_bytes, 1u));
    file->columns = malloc(columns_bytes);
    if (!file->blocks || !file->columns)
        return error_set(error, -ENOMEM, "out of memory for the index of %s", file->path);
    r = read_at(file, file->blocks, blocks_bytes, at, error);
    if (r < 0)
        return r;
    r = read_at(file, file->columns, columns_bytes, at + blocks_bytes, error);
    if (r < 0)
        return r;
    crc = bytes_crc32c(0, file->blocks, blocks_bytes);
    if (bytes_crc32c(crc, file->columns, columns_bytes) != file->index.arrays_crc32c)
        return damaged(error, file->path, "the checksum of its index does not match");
    file->lengths_offset = at + blocks_bytes + columns_bytes;
    r = check_blocks(file, offset, error);
    return r < 0 ? r : check_columns(file, error);
}

static int check_seek_table(ShardFile *file, const uint8_t *table, uint64_t size, Error *error) {
    uint32_t count = file->index.block_count;
    bool fits;

    if (bytes_crc32c(0, table, size) != file->index.seek_crc32c)
        return damaged(error, file->path, "the checksum of its seek table does not match");
    file->frame_checksums = malloc(MAX(count, 1u) * sizeof(uint32_t));
    if (!file->frame_checksums)
        return error_set(error, -ENOMEM, "out of memory for the index of %s", file->path);
    for (uint32_t b = 0; b < count; b++)
        file->frame_checksums[b] = seek_table_checksum(table, 1 + b);
    fits = seek_table_equals(
        table, size, file->blocks, file->frame_checksums, count,
        (uint32_t)(SHARD_FRAME_HEAD + file->index.lengths_offset + file->index.lengths_bytes));
    if (!fits)
        return damaged(error, file->path, "its seek table does not agree with its index");
    return 0;
}

static int read_tail(ShardFile *file, Error *error) {
    CLEANUP(buffer_deinit) Buffer table = {0};
    uint64_t table_bytes = 0, index_bytes, before_table;
    uint32_t block_count = 0;
    int r;

    r = find_seek_table(file, &table_bytes, &block_count, error);
    if (r < 0)
        return r;
    if (buffer_reserve(&table, table_bytes) < 0)
        return error_set(error, -ENOMEM, "out of memory for the seek table of %s", file->path);
    before_table = file->file_bytes - table_bytes;
    r = read_at(file, table.bytes, table_bytes, before_table, error);
    if (r < 0)
        return r;
    index_bytes = seek_table_compressed(table.bytes, 1 + block_count);
    if (index_bytes > before_table - SHARD_HEADER_BYTES)
        return damaged(error, file->path, "its seek table has a wrong entry for the index");
    r = read_index(file, before_table - index_bytes, index_bytes, block_count, error);
    return r < 0 ? r : check_seek_table(file, table.bytes, table_bytes, error);
}

/* A file that ends within its header: of a shard, or it never was one. */
static int too_short(ShardFile *file, const char *shown, Error *error) {
    uint8_t header[SHARD_HEADER_BYTES] = {0};
    ShardHeader ignored;
    int r = read_at(file, header, file->file_bytes, 0, error);

    if (r < 0)
        return r;
    if (file->file_bytes >= SHARD_FRAME_HEAD &&
        shard_file_check_header(header, shown, &ignored, error) == -ENOEXEC)
        return -ENOEXEC;
    return damaged(error, shown, "it is cut off within its header");
}

int shard_file_open(int dir_fd, const char *name, const char *shown, ShardFile *ret_file,
                    Error *error) {
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    uint8_t header[SHARD_HEADER_BYTES];
    int r;

    file.path = strdup(shown);
    if (!file.path)
        return error_set(error, -ENOMEM, "out of memory");
    file.fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file.fd < 0) {
        r = -errno;
        return error_set(error, r, "cannot open %s: %s%s", shown, strerror(-r),
                         r == -EMFILE ? " (raise the limit with 'ulimit -n')" : "");
    }
    if (file_size(file.fd, &file.file_bytes) < 0)
        return error_set(error, -ENOEXEC, "%s is not a regular file", shown);
    if (file.file_bytes < sizeof header)
        return too_short(&file, shown, error);
    r = read_at(&file, header, sizeof header, 0, error);
    if (r < 0)
        return r;
    r = shard_file_check_header(header, shown, &file.header, error);
    if (r < 0)
        return r;
    r = read_tail(&file, error);
    if (r < 0)
        return r;
    *ret_file = file;
    file = SHARD_FILE_NONE;
    return 0;
}

uint8_t shard_file_lengths_width(uint32_t length_max) {
    return length_max <= UINT8_MAX ? 1 : length_max <= UINT16_MAX ? 2 : 4;
}

uint64_t shard_file_lengths_bytes(const ShardIndexBlock *block) {
    return (uint64_t)block->sequences * block->lengths_width;
}

int shard_file_unpack_lengths(const ShardIndexBlock *block, uint32_t length_min, const void *packed,
                              uint32_t *ret_lengths) {
    const uint8_t *from = packed;
    uint64_t sum = 0;
    uint32_t min = UINT32_MAX, max = 0;

    if (bytes_crc32c(0, packed, shard_file_lengths_bytes(block)) != block->lengths_crc32c)
        return -EBADMSG;
    for (uint32_t i = 0; i < block->sequences; i++) {
        uint32_t length = block->lengths_width == 1   ? from[i]
                          : block->lengths_width == 2 ? bytes_get_u16(from + 2 * (size_t)i)
                                                      : bytes_get_u32(from + 4 * (size_t)i);
        ret_lengths[i] = length;
        sum += length;
        min = MIN(min, length);
        max = MAX(max, length);
    }
    return sum == block->tokens && min >= length_min && max == block->length_max ? 0 : -EBADMSG;
}
