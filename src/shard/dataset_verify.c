/* SPDX-License-Identifier: MIT */
/* Opening a shard has already compared everything that is not a block. What is left is done here:
 * each block decoded and compared with the index, with the seek table and with the lengths that are
 * stored beside it, and the sums that only all blocks together give: content hash, shortest
 * sequence, values of each column. Threads read and decode; one collects in order. */
#include "shard/dataset_verify.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "shard/block_codec.h"
#include "shard/dataset_id.h"
#include "shard/manifest.h"
#include "shard/ordered_jobs.h"
#include "shard/shard_file.h"
#include "shard/shard_match.h"

typedef struct Job {
    const ShardFile *file;
    const BlockLayout *layout;
    uint32_t block;
    uint64_t offset, lengths_offset, first_sequence;
    Buffer compressed, raw, packed, lengths;
    const char *wrong; /* NULL when the block is good */
    BlockView view;
} Job;

typedef struct Verifier {
    const VerifyOptions *options;
    BlockDecoder **decoders;
    uint32_t decoder_count;
    OrderedJobs *jobs;
    VerifyTotals totals;
} Verifier;

/* Of one shard, while its blocks are collected. */
typedef struct ShardSums {
    const char *name;
    XXH3_state_t *content;
    uint32_t length_min;
    ShardIndexColumn columns[SHARD_COLUMNS_MAX];
    bool damaged;
} ShardSums;

static void report(Verifier *verifier, const char *file, int64_t block, int64_t offset,
                   const char *what) {
    verifier->totals.damages++;
    verifier->options->damage(
        verifier->options->context,
        &(VerifyDamage){.file = file, .block = block, .offset = offset, .what = what});
}

static const char *read_parts(Job *job, const ShardIndexBlock *entry) {
    uint64_t lengths_bytes = shard_file_lengths_bytes(entry);

    if (buffer_reserve(&job->compressed, entry->compressed_bytes) < 0 ||
        buffer_reserve(&job->raw, entry->raw_bytes) < 0 ||
        buffer_reserve(&job->packed, lengths_bytes) < 0 ||
        buffer_reserve(&job->lengths, UINT64_C(4) * entry->sequences) < 0)
        return "there is not enough memory to look at it";
    if (file_read_at(job->file->fd, job->compressed.bytes, entry->compressed_bytes, job->offset) <
            0 ||
        file_read_at(job->file->fd, job->packed.bytes, lengths_bytes, job->lengths_offset) < 0)
        return "it cannot be read";
    return NULL;
}

static const char *check_block(Job *job, BlockDecoder *decoder, const ShardIndexBlock *entry) {
    uint32_t *lengths = (uint32_t *)(void *)job->lengths.bytes;
    BlockFacts facts;
    const char *wrong;

    if (bytes_crc32c(0, job->compressed.bytes, entry->compressed_bytes) != entry->crc32c)
        return "its checksum does not match";
    wrong = block_codec_decode(decoder, job->layout, job->compressed.bytes, entry->compressed_bytes,
                               job->raw.bytes, entry->raw_bytes, &facts, &job->view);
    if (wrong)
        return wrong;
    if (facts.block != job->block || facts.first_sequence != job->first_sequence ||
        facts.sequences != entry->sequences || facts.tokens != entry->tokens ||
        facts.length_max != entry->length_max)
        return "it is not the block that the index describes";
    if (block_codec_checksum(job->compressed.bytes, entry->compressed_bytes) !=
        job->file->frame_checksums[job->block])
        return "the seek table has another checksum for it";
    if (shard_file_unpack_lengths(entry, 0, job->packed.bytes, lengths) < 0)
        return "its lengths in the index are damaged";
    if (memcmp(lengths, job->view.lengths, 4 * (size_t)entry->sequences) != 0)
        return "its lengths in the index are not its own";
    return NULL;
}

static void verify_block(void *shared, uint32_t thread, void *argument) {
    Verifier *verifier = shared;
    Job *job = argument;
    const ShardIndexBlock *entry = &job->file->blocks[job->block];

    job->wrong = read_parts(job, entry);
    if (!job->wrong)
        job->wrong = check_block(job, verifier->decoders[thread], entry);
}

static void sum_block(ShardSums *sums, const Job *job) {
    const ShardIndexBlock *entry = &job->file->blocks[job->block];

    (void)XXH3_128bits_update(sums->content, job->raw.bytes, entry->raw_bytes);
    for (uint32_t i = 0; i < entry->sequences; i++)
        sums->length_min = MIN(sums->length_min, job->view.lengths[i]);
    for (uint32_t c = 0; c < job->layout->column_count; c++)
        for (uint32_t i = 0; job->view.counts[c] && i < entry->sequences; i++) {
            sums->columns[c].values += job->view.counts[c][i];
            sums->columns[c].count_max = MAX(sums->columns[c].count_max, job->view.counts[c][i]);
        }
}

static void collect_block(Verifier *verifier, ShardSums *sums) {
    const Job *job = ordered_jobs_collect(verifier->jobs);

    assert(job);
    verifier->totals.blocks++;
    verifier->totals.bytes += job->file->blocks[job->block].compressed_bytes;
    if (job->wrong) {
        report(verifier, sums->name, job->block, (int64_t)job->offset, job->wrong);
        sums->damaged = true;
    } else {
        sum_block(sums, job);
    }
    if (verifier->options->progress)
        verifier->options->progress(verifier->options->context, verifier->totals.bytes);
    ordered_jobs_give_back(verifier->jobs);
}

static void verify_sums(Verifier *verifier, const ShardFile *file, const ShardSums *sums) {
    XXH128_canonical_t content;

    XXH128_canonicalFromHash(&content, XXH3_128bits_digest(sums->content));
    if (memcmp(content.digest, file->index.content, sizeof content.digest) != 0)
        report(verifier, sums->name, -1, -1, "the hash of its content is not the one in its index");
    if (sums->length_min != file->index.length_min)
        report(verifier, sums->name, -1, -1, "its shortest sequence is not the one in its index");
    for (uint32_t c = 0; c < file->header.column_count; c++)
        if (file->header.columns[c].kind == SHARD_KIND_RAGGED &&
            (sums->columns[c].values != file->columns[c].values ||
             sums->columns[c].count_max != file->columns[c].count_max))
            report(verifier, sums->name, -1, -1, "the values of a column are not as in its index");
}

static int verify_blocks(Verifier *verifier, const ShardFile *file, const char *name,
                         Error *error) {
    ShardSums sums = {.name = name, .length_min = UINT32_MAX, .content = XXH3_createState()};
    BlockLayout layout;
    uint64_t offset = SHARD_HEADER_BYTES, lengths_offset = file->lengths_offset;
    uint64_t first_sequence = 0;
    uint32_t collected = 0;

    if (!sums.content)
        return error_set(error, -ENOMEM, "out of memory");
    (void)XXH3_128bits_reset(sums.content);
    block_layout_init(&layout, file->header.columns, file->header.column_count);
    for (uint32_t b = 0; b < file->index.block_count; b++) {
        const ShardIndexBlock *entry = &file->blocks[b];
        Job *job = ordered_jobs_claim(verifier->jobs);
        if (!job) {
            collect_block(verifier, &sums);
            collected++;
            job = ordered_jobs_claim(verifier->jobs);
        }
        job->file = file;
        job->layout = &layout;
        job->block = b;
        job->offset = offset;
        job->lengths_offset = lengths_offset;
        job->first_sequence = first_sequence;
        ordered_jobs_submit(verifier->jobs);
        offset += entry->compressed_bytes;
        lengths_offset += shard_file_lengths_bytes(entry);
        first_sequence += entry->sequences;
    }
    for (; collected < file->index.block_count; collected++)
        collect_block(verifier, &sums);
    if (!sums.damaged)
        verify_sums(verifier, file, &sums);
    (void)XXH3_freeState(sums.content);
    return 0;
}

/* One shard; `manifest` and `id` may be NULL. */
static int verify_shard(Verifier *verifier, int dir_fd, const char *name, const Manifest *manifest,
                        uint32_t shard, DatasetId *id, Error *error) {
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    Error found = {0};
    int r = shard_file_open(dir_fd, name, name, &file, &found);

    verifier->totals.shards++;
    /* What is of a newer version, or never was a shard, is not damaged. */
    if (r == -ENOMEM || r == -ENOTSUP || (r == -ENOEXEC && !manifest))
        return error_set(error, r, "%s", found.text);
    if (r < 0) {
        report(verifier, name, -1, -1, found.text);
        return 0;
    }
    if (manifest && shard_match_manifest(&file, manifest, shard, &found) < 0)
        report(verifier, name, -1, -1, found.text);
    if (id)
        dataset_id_add_shard(id, &file.index, file.blocks);
    return verify_blocks(verifier, &file, name, error);
}

static void id_cleanup(DatasetId **id) {
    dataset_id_free(*id);
}

static int verify_shards(Verifier *verifier, int dir_fd, const Manifest *manifest, Error *error) {
    CLEANUP(id_cleanup) DatasetId *id = NULL;
    uint8_t digest[MANIFEST_ID_BYTES];
    int r = dataset_id_new(manifest->columns, manifest->column_count, &id);

    if (r < 0)
        return error_set(error, r, "out of memory");
    for (uint32_t s = 0; s < manifest->shard_count; s++) {
        r = verify_shard(verifier, dir_fd, manifest->shards[s].path, manifest, s, id, error);
        if (r < 0)
            return r;
    }
    dataset_id_digest(id, digest);
    if (verifier->totals.damages == 0 && memcmp(digest, manifest->id, sizeof digest) != 0)
        report(verifier, MANIFEST_NAME, -1, -1, "its id is not that of its shards");
    return 0;
}

static int verify_directory(Verifier *verifier, const char *path, Error *error) {
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    CLEANUP(file_close) int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    Error found = {0};
    int r;

    if (dir_fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", path, strerror(errno));
    r = manifest_load(dir_fd, MANIFEST_NAME, &manifest, &found);
    if (r == -ENOENT)
        return error_set(error, r, "%s is not a dataset: it has no %s", path, MANIFEST_NAME);
    if (r == -ENOMEM || r == -ENOTSUP)
        return error_set(error, r, "%s", found.text);
    if (r < 0) {
        report(verifier, MANIFEST_NAME, -1, -1, found.text);
        return 0;
    }
    return verify_shards(verifier, dir_fd, &manifest, error);
}

static void verifier_deinit(Verifier *verifier) {
    if (verifier->jobs) {
        ordered_jobs_stop(verifier->jobs);
        for (uint32_t i = 0; i < ordered_jobs_count(verifier->jobs); i++) {
            Job *job = ordered_jobs_at(verifier->jobs, i);
            buffer_deinit(&job->compressed);
            buffer_deinit(&job->raw);
            buffer_deinit(&job->packed);
            buffer_deinit(&job->lengths);
        }
        ordered_jobs_free(verifier->jobs);
    }
    for (uint32_t i = 0; i < verifier->decoder_count; i++)
        block_decoder_free(verifier->decoders[i]);
    free(verifier->decoders);
}

static int verifier_start(Verifier *verifier) {
    uint32_t threads = verifier->options->jobs > 1 ? verifier->options->jobs : 0;
    int r;

    verifier->decoders = calloc(MAX(threads, 1u), sizeof(BlockDecoder *));
    if (!verifier->decoders)
        return -ENOMEM;
    for (; verifier->decoder_count < MAX(threads, 1u); verifier->decoder_count++) {
        r = block_decoder_new(&verifier->decoders[verifier->decoder_count]);
        if (r < 0)
            return r;
    }
    return ordered_jobs_new(threads, threads ? 2 * threads : 1, sizeof(Job), verify_block, verifier,
                            &verifier->jobs);
}

int dataset_verify(const char *path, const VerifyOptions *options, VerifyTotals *ret_totals,
                   Error *error) {
    CLEANUP(verifier_deinit) Verifier verifier = {.options = options};
    struct stat status;
    int r;

    if (stat(path, &status) < 0)
        return error_set(error, -errno, "cannot open %s: %s", path, strerror(errno));
    r = verifier_start(&verifier);
    if (r < 0)
        return error_set(error, r, "cannot start: %s", strerror(-r));
    if (S_ISDIR(status.st_mode))
        r = verify_directory(&verifier, path, error);
    else
        r = verify_shard(&verifier, AT_FDCWD, path, NULL, 0, NULL, error);
    if (r == 0)
        *ret_totals = verifier.totals;
    return r;
}
