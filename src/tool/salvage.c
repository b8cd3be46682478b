/* SPDX-License-Identifier: MIT */
/* A damaged shard becomes a shard again, or a damaged dataset a dataset: good blocks are renumbered
 * without gaps. A block whose number did not change keeps its compressed bytes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "shard/dataset_output.h"
#include "shard/dataset_stage.h"
#include "shard/dataset_writer.h"
#include "shard/manifest.h"
#include "shard/shard_file.h"
#include "shard/shard_salvage.h"
#include "tool/interrupt.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed salvage SHARD -o FILE\n"
    "       seqfeed salvage SHARD -o DIR/\n"
    "       seqfeed salvage DATASET -o DIR\n"
    "Save the blocks of a damaged shard whose checksums are good: as a shard, or, when the output\n"
    "ends with '/' or the input is a dataset, as a dataset that can be fed. Says what was lost.\n"
    "\n"
    "  -o, --output PATH   what to write; must be absent\n";

/* What one shard says about itself, as far as it can still be believed. */
typedef struct Source {
    int fd;
    char *path;
    ShardHeader header;
    bool has_expectation; /* the two below are known */
    uint64_t blocks, sequences;
} Source;

typedef struct Salvage {
    const char *input, *output;
    /* One of the two receives the blocks. */
    ShardWriter *shard;
    DatasetOutput *dataset;
    BlockEncoder *encoder;
    Progress progress;
    /* Of the shard at hand. */
    int64_t next_block;
    uint64_t next_sequence;
    uint64_t kept_blocks, kept_sequences;
    /* Of all. */
    uint64_t total_blocks, total_sequences;
    bool lost_any;
} Salvage;

static void source_deinit(Source *source) {
    file_close(&source->fd);
    free(source->path);
}

static void salvage_deinit(Salvage *salvage) {
    shard_writer_free(salvage->shard);
    dataset_output_free(salvage->dataset);
    block_encoder_free(salvage->encoder);
}

/* Blocks are numbered and sequences counted, so a gap tells what is missing. */
static void say_gap(Salvage *salvage, const char *path, uint64_t blocks_end,
                    uint64_t sequences_end) {
    uint64_t blocks = blocks_end - (uint64_t)salvage->next_block;
    uint64_t sequences = sequences_end - salvage->next_sequence;

    if (blocks == 0 && sequences == 0)
        return;
    salvage->lost_any = true;
    printf("%s: lost block%s %" PRId64, path, blocks == 1 ? "" : "s", salvage->next_block);
    if (blocks > 1)
        printf(" to %" PRIu64, blocks_end - 1);
    printf(", sequences %" PRIu64 " to %" PRIu64 " (%" PRIu64 ")\n", salvage->next_sequence,
           sequences_end - 1, sequences);
}

typedef struct SinkContext {
    Salvage *salvage;
    const Source *source;
} SinkContext;

static int keep_block(void *argument, const SalvageBlock *block, Error *error) {
    SinkContext *context = argument;
    Salvage *salvage = context->salvage;
    uint64_t sequence = salvage->shard ? shard_writer_next_sequence(salvage->shard)
                                       : dataset_output_next_sequence(salvage->dataset);
    uint32_t number = salvage->shard ? shard_writer_next_block(salvage->shard)
                                     : dataset_output_next_block(salvage->dataset);
    int r = interrupt_wait(-1);

    if (r < 0)
        return error_set(error, r, "interrupted: %s was not written", salvage->output);
    say_gap(salvage, context->source->path, block->facts->block, block->facts->first_sequence);
    salvage->next_block = (int64_t)block->facts->block + 1;
    salvage->next_sequence = block->facts->first_sequence + block->facts->sequences;
    salvage->kept_blocks++;
    salvage->kept_sequences += block->facts->sequences;
    if (block->facts->block != number || block->facts->first_sequence != sequence) {
        shard_writer_number(block->raw->bytes, sequence, number);
        r = block_encode(salvage->encoder, block->raw->bytes, (uint32_t)block->raw->size,
                         block->compressed);
        if (r < 0)
            return error_set(error, r, "cannot compress a block: %s", strerror(-r));
    }
    return salvage->shard
               ? shard_writer_add(salvage->shard, block->compressed, block->raw->bytes,
                                  (uint32_t)block->raw->size, error)
               : dataset_output_add(salvage->dataset, block->compressed, block->raw->bytes,
                                    (uint32_t)block->raw->size, error);
}

static void on_progress(void *argument, uint64_t bytes) {
    SinkContext *context = argument;

    progress_update(&context->salvage->progress, bytes);
}

/* The columns of a shard whose header is damaged stand in the dataset.json beside it. `r`: what is
 * wrong with the header. */
static int header_from_manifest(Source *source, int r, Error *error) {
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    CLEANUP(file_close) int dir_fd = FILE_NONE;
    CLEANUP(text_deinit) Text directory = {0};
    const char *slash = strrchr(source->path, '/');

    text_add_bytes(&directory, slash ? source->path : ".",
                   slash ? (size_t)(slash - source->path) + 1 : 1);
    dir_fd = directory.failed ? FILE_NONE
                              : open(directory.bytes, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || manifest_load(dir_fd, MANIFEST_NAME, &manifest, NULL) < 0)
        return r == -ENOEXEC
                   ? r
                   : error_prefix(
                         error, -EBADMSG,
                         "the columns are unknown, and there is no good %s beside the shard",
                         MANIFEST_NAME);
    source->header = (ShardHeader){
        .block_target = DATASET_WRITER_BLOCK,
        .column_count = manifest.column_count,
        .has_pad_id = manifest.has_pad_id,
        .pad_id = manifest.pad_id,
    };
    memcpy(source->header.columns, manifest.columns,
           manifest.column_count * sizeof *manifest.columns);
    return 0;
}

/* Header and, if the index is whole, how much there should be. */
static int source_open(const char *path, Source *ret_source, Error *error) {
    CLEANUP(source_deinit) Source source = {.fd = FILE_NONE};
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    uint8_t header[SHARD_HEADER_BYTES] = {0};
    int r;

    source.path = strdup(path);
    source.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!source.path)
        return error_set(error, -ENOMEM, "out of memory");
    if (source.fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", path, strerror(errno));
    if (shard_file_open(AT_FDCWD, path, path, &file, NULL) == 0) {
        source.header = file.header;
        source.has_expectation = true;
        source.blocks = file.index.block_count;
        source.sequences = file.index.sequences;
    } else {
        (void)!file_read_at(source.fd, header, sizeof header, 0); /* zeros are not a header */
        r = shard_file_check_header(header, path, &source.header, error);
        if (r == -EBADMSG || r == -ENOEXEC)
            r = header_from_manifest(&source, r, error);
        if (r < 0)
            return r;
    }
    if (source.header.read_only_compatible != 0)
        return error_set(error, -ENOTSUP, "%s was written by a newer seqfeed: use that version",
                         path);
    *ret_source = source;
    source = (Source){.fd = FILE_NONE};
    return 0;
}

static ShardWriterOptions writer_options(const Source *source) {
    return (ShardWriterOptions){
        .columns = source->header.columns,
        .column_count = source->header.column_count,
        .has_pad_id = source->header.has_pad_id == 1,
        .pad_id = source->header.pad_id,
        .block_target = source->header.block_target,
        .level = DATASET_WRITER_LEVEL,
    };
}

/* Move the good blocks of one shard to the output. */
static int salvage_source(Salvage *salvage, const Source *source, Error *error) {
    SinkContext context = {salvage, source};
    SalvageOptions options = {
        .columns = source->header.columns,
        .column_count = source->header.column_count,
        .sink = keep_block,
        .progress = on_progress,
        .context = &context,
    };
    uint64_t size = 0;
    int r;

    salvage->next_block = 0;
    salvage->next_sequence = salvage->kept_blocks = salvage->kept_sequences = 0;
    (void)!file_size(source->fd, &size);
    progress_start(&salvage->progress, "salvaging", "bytes", size);
    r = shard_salvage(source->fd, &options, error);
    progress_end(&salvage->progress, size);
    if (r < 0)
        return r;
    if (source->has_expectation)
        say_gap(salvage, source->path, source->blocks, source->sequences);
    printf("%s: kept %" PRIu64 " block%s, %" PRIu64 " sequence%s%s\n", source->path,
           salvage->kept_blocks, salvage->kept_blocks == 1 ? "" : "s", salvage->kept_sequences,
           salvage->kept_sequences == 1 ? "" : "s",
           source->has_expectation ? ""
                                   : "; its index is damaged, so blocks may be missing at the end");
    salvage->total_blocks += salvage->kept_blocks;
    salvage->total_sequences += salvage->kept_sequences;
    return 0;
}

static int nothing_left(const Salvage *salvage, Error *error) {
    return error_set(error, -ENODATA, "%s: no block is whole, so there is nothing to save",
                     salvage->input);
}

/* SHARD -o FILE: a temporary file beside it that is renamed when it is complete. */
static int salvage_to_file(Salvage *salvage, const Source *source, const char *temporary, int fd,
                           Error *error) {
    ShardWriterOptions options = writer_options(source);
    int r = shard_writer_new(fd, salvage->output, &options, &salvage->shard, error);

    if (r == 0)
        r = salvage_source(salvage, source, error);
    if (r == 0 && salvage->kept_blocks == 0)
        r = nothing_left(salvage, error);
    if (r == 0)
        r = shard_writer_finish(salvage->shard, error);
    if (r == 0 && rename(temporary, salvage->output) < 0)
        r = error_set(error, -errno, "cannot give %s its name: %s", salvage->output,
                      strerror(errno));
    return r;
}

static int salvage_shard(Salvage *salvage, Error *error) {
    CLEANUP(source_deinit) Source source = {.fd = FILE_NONE};
    CLEANUP(text_deinit) Text temporary = {0};
    int fd, r = source_open(salvage->input, &source, error);

    if (r < 0)
        return r;
    if (access(salvage->output, F_OK) == 0)
        return error_set(error, -EEXIST, "%s is there already: choose another name",
                         salvage->output);
    text_add(&temporary, "%s.tmp-%ld", salvage->output, (long)getpid());
    if (temporary.failed)
        return error_set(error, -ENOMEM, "out of memory");
    fd = open(temporary.bytes, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set(error, -errno, "cannot create %s: %s", temporary.bytes, strerror(errno));
    r = salvage_to_file(salvage, &source, temporary.bytes, fd, error);
    if (r < 0)
        (void)unlink(temporary.bytes);
    return r;
}

/* One shard into the dataset that is being made; the first one settles its columns. */
static int add_to_dataset(Salvage *salvage, const char *path, const Manifest *manifest,
                          Error *error) {
    CLEANUP(source_deinit) Source source = {.fd = FILE_NONE};
    int r = source_open(path, &source, error);

    if (r == 0 && manifest &&
        (source.header.column_count != manifest->column_count ||
         memcmp(source.header.columns, manifest->columns,
                manifest->column_count * sizeof *manifest->columns) != 0))
        r = error_set(error, -EBADMSG, "%s has other columns than %s says", path, MANIFEST_NAME);
    if (r == -ENOMEM || (r < 0 && !manifest))
        return r;
    if (r < 0) {
        fprintf(stderr, "seqfeed salvage: %s\n", error->text);
        salvage->lost_any = true;
        return 0;
    }
    if (!salvage->dataset) {
        DatasetOutputOptions options = {.shard = writer_options(&source),
                                        .shard_bytes = DATASET_WRITER_SHARD};
        r = dataset_output_new(salvage->output, &options, &salvage->dataset, error);
        if (r == 0 && manifest && manifest->label_names &&
            dataset_output_set_labels(salvage->dataset, (const char *const *)manifest->label_names,
                                      manifest->label_count) < 0)
            r = error_set(error, -ENOMEM, "out of memory");
        if (r < 0)
            return r;
    }
    return salvage_source(salvage, &source, error);
}

static int finish_dataset(Salvage *salvage, Error *error) {
    if (salvage->total_blocks == 0)
        return nothing_left(salvage, error);
    return dataset_output_commit(salvage->dataset, error);
}

/* As the writer of a dataset would, but here nothing can be replaced. */
static int check_directory(const Salvage *salvage, Error *error) {
    int r = dataset_stage_check(salvage->output, false, error);

    return r == -EEXIST ? error_set(error, r,
                                    "%s is there already: choose a directory that is absent or "
                                    "empty",
                                    salvage->output)
                        : r;
}

static int manifest_is_bad(const Salvage *salvage, int r, Error *error) {
    Error why = *error;

    return error_set(
        error, r,
        "%s; nothing else says which shards there are and in which order: salvage "
        "those of %s one by one, 'seqfeed salvage %s/shard-00000.zst -o DIR/' and so on",
        why.text, salvage->input, salvage->input);
}

static int salvage_dataset(Salvage *salvage, Error *error) {
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    CLEANUP(file_close) int dir_fd = open(salvage->input, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (dir_fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", salvage->input, strerror(errno));
    r = check_directory(salvage, error);
    if (r < 0)
        return r;
    r = manifest_load(dir_fd, MANIFEST_NAME, &manifest, error);
    if (r < 0)
        return manifest_is_bad(salvage, r, error);
    for (uint32_t s = 0; s < manifest.shard_count; s++) {
        CLEANUP(text_deinit) Text path = {0};
        text_add(&path, "%s/%s", salvage->input, manifest.shards[s].path);
        if (path.failed)
            return error_set(error, -ENOMEM, "out of memory");
        r = add_to_dataset(salvage, path.bytes, &manifest, error);
        if (r < 0)
            return r;
    }
    return finish_dataset(salvage, error);
}

static int salvage_to_directory(Salvage *salvage, Error *error) {
    int r = check_directory(salvage, error);

    if (r == 0)
        r = add_to_dataset(salvage, salvage->input, NULL, error);
    return r < 0 ? r : finish_dataset(salvage, error);
}

static void print_summary(const Salvage *salvage, bool is_dataset) {
    printf("%s: %" PRIu64 " block%s, %" PRIu64 " sequence%s%s\n", salvage->output,
           salvage->total_blocks, salvage->total_blocks == 1 ? "" : "s", salvage->total_sequences,
           salvage->total_sequences == 1 ? "" : "s",
           salvage->lost_any ? "" : "; nothing that could be seen was lost");
    if (is_dataset)
        printf(
            "It is a new dataset with an id of its own: cursors of the old one do not fit it.\n");
    else
        printf("The shard no longer fits the %s that it came with. To feed it on its own: "
               "'seqfeed salvage %s -o DIR/'; to save the whole dataset: 'seqfeed salvage DATASET "
               "-o DIR'.\n",
               MANIFEST_NAME, salvage->output);
}

static int salvage(const char *input, const char *output) {
    CLEANUP(salvage_deinit) Salvage salvage = {.input = input, .output = output};
    Error error = {0};
    struct stat status;
    bool from_directory = stat(input, &status) == 0 && S_ISDIR(status.st_mode);
    bool to_directory = from_directory || output[strlen(output) - 1] == '/';
    int r = block_encoder_new(&salvage.encoder, DATASET_WRITER_LEVEL);

    interrupt_begin();
    if (r < 0)
        (void)error_set(&error, r, "out of memory");
    else if (from_directory)
        r = salvage_dataset(&salvage, &error);
    else if (to_directory)
        r = salvage_to_directory(&salvage, &error);
    else
        r = salvage_shard(&salvage, &error);
    if (r < 0)
        return tool_refuse("salvage", &error);
    if (!to_directory) {
        salvage.total_blocks = salvage.kept_blocks;
        salvage.total_sequences = salvage.kept_sequences;
    }
    print_summary(&salvage, to_directory);
    return tool_finish("salvage");
}

int salvage_main(int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *output = NULL;
    int option;

    while ((option = getopt_long(argc, argv, ":o:h", options, NULL)) != -1) {
        switch (option) {
        case 'o':
            output = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return tool_finish("salvage");
        default:
            return tool_wrong_option("salvage", option, argv);
        }
    }
    if (argc - optind != 1)
        return tool_usage("salvage", "name one shard or dataset");
    if (!output || !*output)
        return tool_usage("salvage", "say with -o FILE what to write");
    return salvage(argv[optind], output);
}
