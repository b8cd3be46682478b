/* SPDX-License-Identifier: MIT */
/* A small dataset is damaged in every way that one bit or one cut can do it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "shard/block.h"
#include "shard/catalog.h"
#include "shard/dataset_verify.h"
#include "support/check_main.h"
#include "support/dataset.h"

enum { SEQUENCES = 12, RAW_MAX = 1 << 20 };

typedef struct Fixture {
    char path[64];
    char names[2][32];
    char *bytes[2]; /* as written */
    size_t sizes[2];
    int fds[2];
    uint8_t *raw, *good; /* decoded blocks, one after another: now, and before the damage */
    size_t good_bytes;
} Fixture;

static Fixture fixture;

/* Decode every block into `to`; how many bytes, or a negative errno at the first that is refused.
 */
static ssize_t decode_all(uint8_t *to) {
    Catalog *catalog = NULL;
    BlockDecoder *decoder = NULL;
    char compressed[1 << 16];
    size_t at = 0;
    ssize_t r = catalog_open(fixture.path, &catalog, NULL);

    ck_assert_int_eq(block_decoder_new(&decoder), 0);
    block_decoder_trust_crc(decoder); /* as the daemon reads; verify checks all */
    for (uint32_t b = 0; r == 0 && b < catalog->block_count; b++) {
        const CatalogBlock *block = &catalog->blocks[b];
        BlockColumns columns;
        ck_assert_uint_le(block->compressed_bytes, sizeof compressed);
        ck_assert_uint_le(block->raw_bytes, RAW_MAX - at);
        r = file_read_at(catalog->shards[block->shard].fd, compressed, block->compressed_bytes,
                         block->offset);
        if (r == 0)
            r = block_decode(decoder, catalog, b, compressed, to + at, block->raw_bytes, &columns,
                             NULL);
        if (r == 0)
            at += block->raw_bytes;
    }
    block_decoder_free(decoder);
    catalog_free(catalog);
    return r < 0 ? r : (ssize_t)at;
}

static void setup(void) {
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    snprintf(fixture.path, sizeof fixture.path, "%s/seqfeed-damage-XXXXXX", base);
    ck_assert_ptr_nonnull(mkdtemp(fixture.path));
    dataset_make(fixture.path, &(DatasetMake){.sequences = SEQUENCES, .block_target = 4096});
    snprintf(fixture.names[0], sizeof fixture.names[0], "dataset.json");
    snprintf(fixture.names[1], sizeof fixture.names[1], "shard-00000.zst");
    int dir_fd = open(fixture.path, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            file_load(dir_fd, fixture.names[i], 1 << 20, &fixture.bytes[i], &fixture.sizes[i]), 0);
        fixture.fds[i] = openat(dir_fd, fixture.names[i], O_RDWR);
        ck_assert_int_ge(fixture.fds[i], 0);
    }
    close(dir_fd);
    fixture.raw = aligned_alloc(64, RAW_MAX);
    fixture.good = aligned_alloc(64, RAW_MAX);
    fixture.good_bytes = (size_t)decode_all(fixture.good);
    ck_assert_int_gt((ssize_t)fixture.good_bytes, 0);
}

static void teardown(void) {
    for (int i = 0; i < 2; i++) {
        free(fixture.bytes[i]);
        close(fixture.fds[i]);
    }
    free(fixture.raw);
    free(fixture.good);
    dataset_remove(fixture.path);
}

static void count_damage(void *context, const VerifyDamage *damage) {
    ck_assert_ptr_nonnull(damage->file);
    ck_assert_ptr_nonnull(damage->what);
    (*(uint64_t *)context)++;
}

/* True when verify finds the dataset as it should be. */
static bool verify_accepts(void) {
    uint64_t found = 0;
    VerifyTotals totals;
    VerifyOptions options = {.context = &found, .damage = count_damage};
    int r = dataset_verify(fixture.path, &options, &totals, NULL);

    return r == 0 && found == 0;
}

static void put(int file, size_t at, char byte) {
    ck_assert_int_eq(pwrite(fixture.fds[file], &byte, 1, (off_t)at), 1);
}

/* Reading gives the right bytes or an error, never something else. */
static void check_reading(void) {
    ssize_t n = decode_all(fixture.raw);

    if (n >= 0) {
        ck_assert_uint_eq((size_t)n, fixture.good_bytes);
        ck_assert_mem_eq(fixture.raw, fixture.good, fixture.good_bytes);
    }
}

START_TEST(an_undamaged_dataset_is_accepted)
{ ck_assert(verify_accepts()); }
END_TEST

START_TEST(every_flipped_bit_is_refused)
{
    for (int file = 0; file < 2; file++)
        for (size_t at = 0; at < fixture.sizes[file]; at++)
            for (int bit = 0; bit < 8; bit++) {
                put(file, at, (char)(fixture.bytes[file][at] ^ 1 << bit));
                ck_assert_msg(!verify_accepts(), "%s byte %zu bit %d", fixture.names[file], at,
                              bit);
                if (file == 0 || at >= SHARD_HEADER_BYTES)
                    check_reading();
                put(file, at, fixture.bytes[file][at]);
            }
    ck_assert(verify_accepts());
}
END_TEST

START_TEST(every_cut_and_every_added_byte_is_refused)
{
    for (int file = 0; file < 2; file++) {
        for (size_t size = 0; size < fixture.sizes[file]; size++) {
            ck_assert_int_eq(ftruncate(fixture.fds[file], (off_t)size), 0);
            ck_assert_msg(!verify_accepts(), "%s cut to %zu", fixture.names[file], size);
            ck_assert_int_lt(decode_all(fixture.raw), 0);
            ck_assert_int_eq(pwrite(fixture.fds[file], fixture.bytes[file], fixture.sizes[file], 0),
                             (ssize_t)fixture.sizes[file]);
        }
        for (int byte = 0; byte < 256; byte++) {
            put(file, fixture.sizes[file], (char)byte);
            ck_assert_msg(!verify_accepts(), "%s with a byte added", fixture.names[file]);
            ck_assert_int_lt(decode_all(fixture.raw), 0);
        }
        ck_assert_int_eq(ftruncate(fixture.fds[file], (off_t)fixture.sizes[file]), 0);
    }
    ck_assert(verify_accepts());
}
END_TEST

int main(void) {
    Suite *suite = suite_create("damage");
    TCase *test_case = tcase_create("damage");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(test_case, 300);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, an_undamaged_dataset_is_accepted);
    tcase_add_test(test_case, every_flipped_bit_is_refused);
    tcase_add_test(test_case, every_cut_and_every_added_byte_is_refused);
    suite_add_tcase(suite, test_case);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
