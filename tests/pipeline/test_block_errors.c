/* SPDX-License-Identifier: MIT */
/* Errors of a block name its file, its number in that file and its offset, whoever finds them. */
#include <errno.h>

#include "base/file.h"
#include "pipeline/stream_bench.h"

/* What happens to reads of some bytes of a file. */
typedef enum FaultKind { FAULT_ERROR, FAULT_END, FAULT_BIT, FAULT_SWAP } FaultKind;

static struct {
    int fd;
    uint64_t offset, size;
    FaultKind kind;
} fault;

/* Two numbers of a byte each that differ change places, so that their sum and maximum stay. */
static void swap_two(uint8_t *numbers, uint64_t count) {
    uint64_t i = 1;

    while (i < count && numbers[i] == numbers[0])
        i++;
    ck_assert_uint_lt(i, count);
    numbers[0] ^= numbers[i];
    numbers[i] ^= numbers[0];
    numbers[0] ^= numbers[i];
}

ssize_t __real_pread64(int fd, void *to, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t size, off_t offset) {
    ssize_t count;

    if (fd != fault.fd || (uint64_t)offset != fault.offset)
        return __real_pread64(fd, to, size, offset);
    if (fault.kind == FAULT_END)
        return 0;
    if (fault.kind == FAULT_ERROR) {
        errno = EIO;
        return -1;
    }
    count = __real_pread64(fd, to, size, offset);
    ck_assert_int_eq(count, (ssize_t)fault.size);
    if (fault.kind == FAULT_BIT)
        *(uint8_t *)to ^= 1;
    else
        swap_two(to, fault.size);
    return count;
}

/* Lengths that agree with themselves, but not with the block. */
static void swap_lengths(Catalog *catalog, uint32_t block) {
    uint8_t lengths[8192];

    ck_assert_uint_eq(catalog->blocks[block].lengths_width, 1);
    ck_assert_int_eq(file_read_at(fault.fd, lengths, fault.size, fault.offset), 0);
    catalog->blocks[block].lengths_crc32c = bytes_crc32c(0, lengths, fault.size);
}

/* The last block of the first epoch that is neither of the first shard nor the first of its own, so
 * that no number is another. */
static uint32_t choose_block(Bench *bench) {
    const Catalog *catalog = bench->feed->catalog;
    FeedEpoch *epoch;
    const PlanStrand *strand;
    uint32_t at, block;
    Error error;

    ck_assert_int_eq(feed_epoch_get(bench->feed, bench->feed->plan.seed, 0, NULL, &epoch, &error),
                     0);
    strand = &epoch->plan->strands[0];
    at = catalog->block_count;
    do
        block = strand->blocks[--at];
    while (catalog->blocks[block].shard == 0 ||
           block == catalog->shards[catalog->blocks[block].shard].first_block);
    ck_assert_uint_gt(at, 20); /* nothing of it is read before the stream is made */
    feed_epoch_unref(bench->feed, epoch);
    return block;
}

/* Take batches until the stream fails. */
static PipelineEvent run_into_it(Bench *bench) {
    PipelineEvent event;

    while (!bench_event(bench, &event)) {
        bench_run(bench);
        while (bench->rings[0].header->head > bench->rings[0].taken)
            bench_release(bench, 0);
        stream_poke(bench->stream);
    }
    return event;
}

static void check_fault(FaultKind kind, bool in_lengths, const char *about_lengths, int code,
                        const char *cause) {
    BenchOptions options = bench_usual(3000, 1);
    Bench bench;
    const CatalogBlock *entry;
    const CatalogShard *shard;
    Catalog *catalog;
    PipelineEvent event;
    char begin[256];
    uint32_t block;

    options.shard_bytes = 16384;
    options.pread = true;
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    catalog = (Catalog *)(uintptr_t)bench.feed->catalog;
    block = choose_block(&bench);
    entry = &catalog->blocks[block];
    shard = &catalog->shards[entry->shard];
    fault.fd = shard->fd;
    fault.kind = kind;
    fault.offset = in_lengths ? entry->lengths_offset : entry->offset;
    fault.size = in_lengths ? catalog->block_sequences[block] : entry->compressed_bytes;
    if (kind == FAULT_SWAP)
        swap_lengths(catalog, block);
    event = run_into_it(&bench);
    ck_assert_int_eq(event.kind, PIPELINE_EVENT_FAILED);
    ck_assert_int_eq(event.code, code);
    snprintf(begin, sizeof begin, "%s/data/%s: %sblock %u at offset %lu %s", bench.dir, shard->path,
             about_lengths, block - shard->first_block,
             (unsigned long)(about_lengths[0] ? entry->lengths_offset : entry->offset), cause);
    ck_assert_msg(strncmp(event.text, begin, strlen(begin)) == 0, "%s\n%s", event.text, begin);
    fault.fd = -1;
    bench_end(&bench);
}

START_TEST(a_block_is_named_as_people_count)
{
    check_fault(FAULT_ERROR, false, "", -EIO, "cannot be read: Input/output error");
    check_fault(FAULT_END, false, "", -ENODATA,
                "cannot be read: the file has become shorter; restore it");
    check_fault(FAULT_BIT, false, "", -EBADMSG,
                "is damaged: its checksum does not match; run 'seqfeed verify");
    check_fault(FAULT_ERROR, true, "the lengths of ", -EIO, "cannot be read: Input/output error");
    check_fault(FAULT_END, true, "the lengths of ", -ENODATA,
                "cannot be read: the file has become shorter; restore it");
    check_fault(FAULT_BIT, true, "the lengths of ", -EBADMSG, "are damaged; run 'seqfeed verify");
    check_fault(FAULT_SWAP, true, "", -EBADMSG,
                "is damaged: it holds other lengths than the index says; run 'seqfeed verify");
}
END_TEST

CHECK_MAIN("block_errors", a_block_is_named_as_people_count)
