/* SPDX-License-Identifier: MIT */
/* Shards that lie with checksums that fit: each lie must be refused before it does harm. */
#include "shard/shard_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "shard/seek_table.h"
#include "support/check_main.h"
#include "support/dataset.h"

enum { BLOCKS_MAX = 8, COLUMNS = 2 };

/* A good shard in memory, and copies of its parts, which mend() puts back. */
typedef struct Image {
    char *bytes;
    size_t size;
    ShardHeader header;
    ShardIndex index;
    ShardIndexBlock blocks[BLOCKS_MAX];
    ShardIndexColumn columns[COLUMNS];
    uint32_t block_count; /* in truth */
    uint8_t *index_at;    /* its payload */
    uint8_t *seek_table;
} Image;

static void image_deinit(Image *image) {
    free(image->bytes);
}

static Image image_make(void) {
    char path[] = "/tmp/seqfeed-test-XXXXXX";
    Image image = {0};

    ck_assert_ptr_nonnull(mkdtemp(path));
    dataset_make(path, &(DatasetMake){.sequences = 80, .block_target = 4096});
    CLEANUP(file_close) int dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(file_load(dir_fd, "shard-00000.zst", 1 << 20, &image.bytes, &image.size), 0);
    dataset_remove(path);
    uint32_t frames = bytes_get_u32(image.bytes + image.size - SHARD_SEEK_FOOTER);
    image.seek_table = (uint8_t *)image.bytes + image.size - seek_table_bytes(frames);
    image.index_at = image.seek_table - seek_table_compressed(image.seek_table, frames - 1) +
                     SHARD_FRAME_HEAD;
    image.block_count = frames - 2;
    ck_assert_uint_le(image.block_count, BLOCKS_MAX);
    memcpy(&image.header, image.bytes + SHARD_FRAME_HEAD, sizeof image.header);
    const uint8_t *at = image.index_at;
    memcpy(&image.index, at, sizeof image.index);
    at += sizeof image.index;
    memcpy(image.blocks, at, image.block_count * sizeof *image.blocks);
    at += image.block_count * sizeof *image.blocks;
    memcpy(image.columns, at, sizeof image.columns);
    return image;
}

/* Put the parts back and renew every checksum, so that only the lie itself is wrong. */
static void mend(Image *image) {
    size_t blocks_bytes = image->block_count * sizeof *image->blocks;
    uint8_t *arrays = image->index_at + sizeof image->index;
    size_t table_bytes = (size_t)((uint8_t *)image->bytes + image->size - image->seek_table);

    image->header.crc32c = bytes_crc32c(0, &image->header, offsetof(ShardHeader, crc32c));
    memcpy(image->bytes + SHARD_FRAME_HEAD, &image->header, sizeof image->header);
    memcpy(arrays, image->blocks, blocks_bytes);
    memcpy(arrays + blocks_bytes, image->columns, sizeof image->columns);
    image->index.arrays_crc32c = bytes_crc32c(0, arrays, blocks_bytes + sizeof image->columns);
    image->index.seek_crc32c = bytes_crc32c(0, image->seek_table, table_bytes);
    image->index.crc32c = bytes_crc32c(0, &image->index, offsetof(ShardIndex, crc32c));
    memcpy(image->index_at, &image->index, sizeof image->index);
}

static int open_image(const Image *image, Error *error) {
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    CLEANUP(file_close) int fd = FILE_NONE;
    char path[64];

    ck_assert_int_eq(file_memory_new("shard", image->size, NULL, &fd), 0);
    ck_assert_int_eq(pwrite(fd, image->bytes, image->size, 0), (ssize_t)image->size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return shard_file_open(AT_FDCWD, path, "shard", &file, error);
}

#define REFUSED(code, words, ...)                                                \
    do {                                                                         \
        CLEANUP(image_deinit) Image image = image_make();                        \
        Error error = {0};                                                       \
        __VA_ARGS__;                                                             \
        mend(&image);                                                            \
        ck_assert_msg(open_image(&image, &error) == (code), "%s", #__VA_ARGS__); \
        ck_assert_msg(strstr(error.text, (words)), "%s", error.text);            \
    } while (0)

START_TEST(a_good_shard_opens)
{
    CLEANUP(image_deinit) Image image = image_make();
    Error error = {0};

    ck_assert_uint_gt(image.index.block_count, 2);
    mend(&image);
    ck_assert_msg(open_image(&image, &error) == 0, "%s", error.text);
}
END_TEST

START_TEST(a_lying_header_is_refused)
{
    REFUSED(-ENOTSUP, "newer", image.header.version_major = 2);
    REFUSED(-ENOTSUP, "newer", image.header.incompatible = 1);
    REFUSED(-EBADMSG, "reserved", image.header.reserved_1[3] = 1);
    REFUSED(-EBADMSG, "reserved", image.header.reserved_2[899] = 1);
    REFUSED(-EBADMSG, "pad id", image.header.pad_id = 4);
    REFUSED(-EBADMSG, "pad id", image.header.has_pad_id = 2);
    REFUSED(-EBADMSG, "block size", image.header.block_target = 1);
    REFUSED(-EBADMSG, "columns", image.header.column_count = 0);
    REFUSED(-EBADMSG, "columns", image.header.column_count = 65);
    REFUSED(-EBADMSG, "unused", image.header.column_count = 1);
    REFUSED(-EBADMSG, "name", image.header.columns[1].name[0] = 'L');
    REFUSED(-EBADMSG, "name", memcpy(image.header.columns[1].name, "tokens", 7));
    REFUSED(-EBADMSG, "end", image.header.columns[1].name[20] = 'x');
    REFUSED(-EBADMSG, "kind", image.header.columns[1].kind = 0);
    REFUSED(-EBADMSG, "type", image.header.columns[1].type = 10);
    REFUSED(-EBADMSG, "width", image.header.columns[1].width = 0);
    REFUSED(-EBADMSG, "width", image.header.columns[1].width = 65537);
    REFUSED(-EBADMSG, "frame", image.bytes[0] ^= 1);
}
END_TEST

START_TEST(compatible_features_are_ignored)
{
    CLEANUP(image_deinit) Image image = image_make();
    Error error = {0};

    image.header.compatible = 0x80;
    image.header.read_only_compatible = 1;
    mend(&image);
    ck_assert_msg(open_image(&image, &error) == 0, "%s", error.text);
}
END_TEST

START_TEST(a_lying_index_is_refused)
{
    REFUSED(-EBADMSG, "not fit", image.index.block_count--);
    REFUSED(-EBADMSG, "not fit", image.index.column_count = 1);
    REFUSED(-EBADMSG, "not fit", image.index.file_bytes++);
    REFUSED(-EBADMSG, "not fit", image.index.lengths_offset += 4);
    REFUSED(-EBADMSG, "not fit", image.index.lengths_bytes = UINT64_MAX - 100);
    REFUSED(-EBADMSG, "reserved", image.index.reserved[0] = 1);
    REFUSED(-EBADMSG, "add up", image.index.sequences++);
    REFUSED(-EBADMSG, "add up", image.index.tokens = UINT64_MAX);
    REFUSED(-EBADMSG, "add up", image.index.raw_bytes--);
    REFUSED(-EBADMSG, "add up", image.index.block_raw_max++);
    REFUSED(-EBADMSG, "add up", image.index.block_compressed_max++);
    REFUSED(-EBADMSG, "add up", image.index.length_max++);
    REFUSED(-EBADMSG, "add up", image.index.length_min = image.index.length_max + 1);
}
END_TEST

START_TEST(a_lying_entry_is_refused)
{
    REFUSED(-EBADMSG, "block 1", image.blocks[1].raw_bytes = (64 << 20) + 64);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].raw_bytes = 64);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].compressed_bytes = UINT32_MAX);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].compressed_bytes = 3);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].sequences = 0);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].sequences = UINT32_MAX);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].tokens = UINT32_MAX);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].length_max = image.blocks[1].tokens + 1);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].length_max = 1);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].lengths_width = 2);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].lengths_width = 0);
    REFUSED(-EBADMSG, "block 1", image.blocks[1].reserved[0] = 1);
    REFUSED(-EBADMSG, "add up", image.blocks[1].tokens--);
    REFUSED(-EBADMSG, "column", image.columns[0].values++);
    REFUSED(-EBADMSG, "column", image.columns[1].count_max = 1);
    REFUSED(-EBADMSG, "column", image.columns[1].reserved = 1);
}
END_TEST

START_TEST(a_lying_seek_table_is_refused)
{
    REFUSED(-EBADMSG, "agree", image.seek_table[8] ^= 1);           /* size of the header */
    REFUSED(-EBADMSG, "agree", image.seek_table[8 + 12] ^= 1);      /* size of block 0 */
    REFUSED(-EBADMSG, "agree", image.seek_table[8 + 12 + 4] ^= 64); /* its raw size */
    REFUSED(-EBADMSG, "agree", image.seek_table[4] ^= 1);           /* size of the frame */
    REFUSED(-EBADMSG, "agree", image.bytes[image.size - 5] = 0);    /* descriptor */
    REFUSED(-EBADMSG, "cut off", image.bytes[image.size - 1] ^= 1);
    REFUSED(-EBADMSG, "entries", bytes_put_u32(image.bytes + image.size - 9, UINT32_MAX));
    REFUSED(-EBADMSG, "entries", bytes_put_u32(image.bytes + image.size - 9, 2));
    REFUSED(-EBADMSG, "larger", bytes_put_u32(image.bytes + image.size - 9, 1 << 20));
}
END_TEST

START_TEST(something_else_is_called_by_its_name)
{
    REFUSED(-ENOEXEC, "not a shard", memcpy(image.bytes, "\x28\xb5\x2f\xfd", 4);
            memset(&image.header, 0, 100));
    REFUSED(-ENOEXEC, "pack", memset(image.bytes, 'x', 8); memset(&image.header, 'x', 100));
}
END_TEST

CHECK_MAIN("shard_file", a_good_shard_opens, a_lying_header_is_refused,
           compatible_features_are_ignored, a_lying_index_is_refused, a_lying_entry_is_refused,
           a_lying_seek_table_is_refused, something_else_is_called_by_its_name)
