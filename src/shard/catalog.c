/* SPDX-License-Identifier: MIT */
#include "shard/catalog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"
#include "shard/block_codec.h"
#include "shard/dataset_id.h"
#include "shard/manifest.h"
#include "shard/shard_file.h"
#include "shard/shard_match.h"

/* How to go on when a dataset is damaged; appended to what is wrong. */
#define ADVICE "run 'seqfeed verify %s' to see all damage; 'seqfeed salvage' keeps what is left"

static void catalog_cleanup(Catalog **catalog) {
    catalog_free(*catalog);
}

static void id_cleanup(DatasetId **id) {
    dataset_id_free(*id);
}

void catalog_free(Catalog *catalog) {
    if (!catalog)
        return;
    for (uint32_t p = 0; p < catalog->part_count; p++) {
        catalog_free(catalog->parts[p].catalog);
        free(catalog->parts[p].columns);
    }
    /* The parts own the shards. */
    for (uint32_t s = 0; !catalog->parts && s < catalog->shard_count; s++) {
        file_close(&catalog->shards[s].fd);
        file_close(&catalog->shards[s].direct_fd);
        free(catalog->shards[s].path);
    }
    for (uint32_t i = 0; catalog->label_names && i < catalog->label_count; i++)
        free(catalog->label_names[i]);
    free(catalog->label_names);
    free(catalog->parts);
    free(catalog->shards);
    free(catalog->columns);
    free(catalog->blocks);
    free(catalog->block_sequences);
    free(catalog->block_tokens);
    free(catalog->path);
    free(catalog);
}

int catalog_find_column(const Catalog *catalog, const char *name) {
    for (uint32_t c = 0; c < catalog->column_count; c++)
        if (strcmp(catalog->columns[c].name, name) == 0)
            return (int)c;
    return -1;
}

uint64_t catalog_bytes(const Catalog *catalog) {
    uint64_t block = sizeof *catalog->blocks + sizeof *catalog->block_sequences +
                     sizeof *catalog->block_tokens;
    uint64_t bytes = sizeof *catalog + catalog->block_count * block +
                     catalog->shard_count * sizeof *catalog->shards +
                     catalog->column_count * sizeof *catalog->columns +
                     catalog->label_count * sizeof *catalog->label_names;

    for (uint32_t s = 0; s < catalog->shard_count; s++)
        bytes += strlen(catalog->shards[s].path) + 1;
    for (uint32_t i = 0; catalog->label_names && i < catalog->label_count; i++)
        bytes += strlen(catalog->label_names[i]) + 1;
    for (uint32_t p = 0; p < catalog->part_count; p++)
        bytes += catalog_bytes(catalog->parts[p].catalog);
    return bytes;
}

static int out_of_memory(const Catalog *catalog, Error *error) {
    return error_set(error, -ENOMEM, "out of memory for the index of %s", catalog->path);
}

static int take_schema(Catalog *catalog, const ShardColumn *columns, uint32_t column_count,
                       uint32_t shard_count, Error *error) {
    catalog->columns = calloc(column_count, sizeof *catalog->columns);
    catalog->shards = calloc(shard_count, sizeof *catalog->shards);
    if (!catalog->columns || !catalog->shards)
        return out_of_memory(catalog, error);
    catalog->column_count = column_count;
    for (uint32_t c = 0; c < column_count; c++) {
        CatalogColumn *column = &catalog->columns[c];
        memcpy(column->name, columns[c].name, sizeof column->name);
        column->kind = columns[c].kind;
        column->type = columns[c].type;
        column->width = columns[c].width;
    }
    return 0;
}

/* Everything that the manifest alone settles; label names move over. */
static int take_manifest(Catalog *catalog, Manifest *manifest, Error *error) {
    uint64_t blocks = 0;

    memcpy(catalog->id, manifest->id, sizeof catalog->id);
    catalog->has_pad_id = manifest->has_pad_id;
    catalog->pad_id = manifest->pad_id;
    catalog->label_names = manifest->label_names;
    catalog->label_count = manifest->label_count;
    manifest->label_names = NULL;
    for (uint32_t s = 0; s < manifest->shard_count; s++)
        blocks += manifest->shards[s].blocks;
    if (blocks > UINT32_MAX)
        return error_set(error, -EFBIG, "%s has more than 2^32 blocks", catalog->path);
    return take_schema(catalog, manifest->columns, manifest->column_count, manifest->shard_count,
                       error);
}

/* Room for the blocks of one more shard. It grows with what the opened files justify, not with what
 * the manifest claims. */
static int grow_blocks(Catalog *catalog, uint32_t more) {
    size_t count = (size_t)catalog->block_count + more;
    CatalogBlock *blocks = realloc(catalog->blocks, count * sizeof *blocks);
    uint32_t *sequences, *tokens;

    if (!blocks)
        return -ENOMEM;
    catalog->blocks = blocks;
    sequences = realloc(catalog->block_sequences, count * sizeof *sequences);
    if (!sequences)
        return -ENOMEM;
    catalog->block_sequences = sequences;
    tokens = realloc(catalog->block_tokens, count * sizeof *tokens);
    if (!tokens)
        return -ENOMEM;
    catalog->block_tokens = tokens;
    return 0;
}

static void add_blocks(Catalog *catalog, const ShardFile *file, uint32_t shard) {
    uint64_t offset = SHARD_HEADER_BYTES, lengths = file->lengths_offset, first_sequence = 0;

    for (uint32_t b = 0; b < file->index.block_count; b++) {
        const ShardIndexBlock *from = &file->blocks[b];
        uint32_t at = catalog->block_count++;
        catalog->blocks[at] = (CatalogBlock){
            .offset = offset,
            .lengths_offset = lengths,
            .first_sequence = first_sequence,
            .shard = shard,
            .compressed_bytes = from->compressed_bytes,
            .raw_bytes = from->raw_bytes,
            .crc32c = from->crc32c,
            .lengths_crc32c = from->lengths_crc32c,
            .length_max = from->length_max & ((1u << 29) - 1),
            .lengths_width = from->lengths_width & 7,
        };
        catalog->block_sequences[at] = from->sequences;
        catalog->block_tokens[at] = from->tokens;
        catalog->block_sequences_max = MAX(catalog->block_sequences_max, from->sequences);
        offset += from->compressed_bytes;
        lengths += shard_file_lengths_bytes(from);
        first_sequence += from->sequences;
    }
}

static int add_shard(Catalog *catalog, ShardFile *file, const char *path, Error *error) {
    CatalogShard *shard = &catalog->shards[catalog->shard_count];
    const ShardIndex *index = &file->index;
    bool first = catalog->shard_count == 0;

    *shard = (CatalogShard){
        .path = strdup(path),
        .fd = FILE_NONE,
        .direct_fd = FILE_NONE,
        .file_bytes = file->file_bytes,
        .sequences = index->sequences,
        .tokens = index->tokens,
        .first_block = catalog->block_count,
        .block_count = index->block_count,
        .length_min = index->length_min,
    };
    if (!shard->path || grow_blocks(catalog, index->block_count) < 0) {
        free(shard->path);
        return out_of_memory(catalog, error);
    }
    add_blocks(catalog, file, catalog->shard_count);
    shard->fd = file->fd;
    file->fd = FILE_NONE;
    catalog->shard_count++;
    catalog->sequences += index->sequences;
    catalog->tokens += index->tokens;
    catalog->raw_bytes += index->raw_bytes;
    catalog->file_bytes += file->file_bytes;
    catalog->block_raw_max = MAX(catalog->block_raw_max, index->block_raw_max);
    catalog->block_compressed_max = MAX(catalog->block_compressed_max, index->block_compressed_max);
    catalog->block_target = MAX(catalog->block_target, file->header.block_target);
    catalog->length_min = first ? index->length_min : MIN(catalog->length_min, index->length_min);
    catalog->length_max = MAX(catalog->length_max, index->length_max);
    for (uint32_t c = 0; c < catalog->column_count; c++) {
        catalog->columns[c].values += file->columns[c].values;
        catalog->columns[c].count_max = MAX(catalog->columns[c].count_max,
                                            file->columns[c].count_max);
    }
    return 0;
}

static int open_shard(Catalog *catalog, int dir_fd, const Manifest *manifest, uint32_t s,
                      DatasetId *id, Error *error) {
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    CLEANUP(text_deinit) Text shown = {0};
    const ManifestShard *entry = &manifest->shards[s];
    int r;

    text_add(&shown, "%s/%s", catalog->path, entry->path);
    if (shown.failed)
        return out_of_memory(catalog, error);
    r = shard_file_open(dir_fd, entry->path, shown.bytes, &file, error);
    if (r < 0)
        return r;
    r = shard_match_manifest(&file, manifest, s, error);
    if (r < 0)
        return r;
    dataset_id_add_shard(id, &file.index, file.blocks);
    return add_shard(catalog, &file, entry->path, error);
}

static int open_shards(Catalog *catalog, int dir_fd, const Manifest *manifest, Error *error) {
    CLEANUP(id_cleanup) DatasetId *id = NULL;
    uint8_t digest[MANIFEST_ID_BYTES];
    int r;

    if (dataset_id_new(manifest->columns, manifest->column_count, &id) < 0)
        return out_of_memory(catalog, error);
    for (uint32_t s = 0; s < manifest->shard_count; s++) {
        r = open_shard(catalog, dir_fd, manifest, s, id, error);
        if (r < 0)
            return r;
    }
    dataset_id_digest(id, digest);
    if (memcmp(digest, manifest->id, sizeof digest) != 0)
        return error_set(error, -EBADMSG, "%s/%s is damaged: its id is not that of its shards",
                         catalog->path, MANIFEST_NAME);
    return 0;
}

static int open_directory(const char *path, int *ret_fd, Error *error) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 && errno == ENOTDIR)
        return error_set(error, -ENOTDIR,
                         "%s is not a directory: a dataset is the directory that 'seqfeed pack -o "
                         "DIR' makes",
                         path);
    if (fd < 0)
        return error_set(error, -errno, "cannot open dataset %s: %s", path, strerror(errno));
    *ret_fd = fd;
    return 0;
}

static int open_checked(Catalog *catalog, int dir_fd, Error *error) {
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    CLEANUP(text_deinit) Text shown = {0};
    int r;

    text_add(&shown, "%s/%s", catalog->path, MANIFEST_NAME);
    if (shown.failed)
        return out_of_memory(catalog, error);
    r = manifest_load(dir_fd, shown.bytes, &manifest, error);
    if (r == -ENOENT)
        return error_set(error, -ENOENT,
                         "%s is not a dataset: it has no %s; make one with "
                         "'seqfeed pack -o DIR INPUT'",
                         catalog->path, MANIFEST_NAME);
    if (r < 0)
        return r;
    r = take_manifest(catalog, &manifest, error);
    return r < 0 ? r : open_shards(catalog, dir_fd, &manifest, error);
}

static Catalog *catalog_new(const char *path) {
    Catalog *catalog = calloc(1, sizeof *catalog);

    if (!catalog)
        return NULL;
    catalog->path = strdup(path);
    if (catalog->path)
        return catalog;
    free(catalog);
    return NULL;
}

/* Damage has a way out; other errors say their own. */
static void add_advice(const char *path, Error *error) {
    CLEANUP(text_deinit) Text advice = {0};
    size_t length = error ? strlen(error->text) : 0;

    text_add(&advice, "; " ADVICE, path);
    if (error && !advice.failed && length + advice.size < sizeof error->text)
        memcpy(error->text + length, advice.bytes, advice.size + 1);
}

int catalog_open(const char *path, Catalog **ret_catalog, Error *error) {
    CLEANUP(catalog_cleanup) Catalog *catalog = catalog_new(path);
    CLEANUP(file_close) int dir_fd = FILE_NONE;
    int r;

    if (!catalog)
        return error_set(error, -ENOMEM, "out of memory");
    r = open_directory(path, &dir_fd, error);
    if (r < 0)
        return r;
    r = open_checked(catalog, dir_fd, error);
    if (r == -EBADMSG)
        add_advice(path, error);
    if (r < 0)
        return r;
    *ret_catalog = catalog;
    catalog = NULL;
    return 0;
}

int catalog_open_shard(const char *path, Catalog **ret_catalog, Error *error) {
    const char *slash = strrchr(path, '/');
    CLEANUP(catalog_cleanup) Catalog *catalog = catalog_new(slash ? path : ".");
    CLEANUP(shard_file_close) ShardFile file = SHARD_FILE_NONE;
    CLEANUP(id_cleanup) DatasetId *id = NULL;
    int r;

    if (!catalog)
        return error_set(error, -ENOMEM, "out of memory");
    r = shard_file_open(AT_FDCWD, path, path, &file, error);
    if (r == -EBADMSG)
        add_advice(path, error);
    if (r < 0)
        return r;
    r = take_schema(catalog, file.header.columns, file.header.column_count, 1, error);
    if (r < 0)
        return r;
    if (dataset_id_new(file.header.columns, file.header.column_count, &id) < 0)
        return out_of_memory(catalog, error);
    dataset_id_add_shard(id, &file.index, file.blocks);
    dataset_id_digest(id, catalog->id);
    catalog->has_pad_id = file.header.has_pad_id;
    catalog->pad_id = file.header.pad_id;
    if (slash)
        catalog->path[slash - path] = '\0';
    r = add_shard(catalog, &file, slash ? slash + 1 : path, error);
    if (r < 0)
        return r;
    *ret_catalog = catalog;
    catalog = NULL;
    return 0;
}

int catalog_block_error(const Catalog *catalog, uint32_t block, CatalogExtent extent, int code,
                        Error *error, const char *format, ...) {
    const CatalogBlock *entry;
    const CatalogShard *shard;
    bool is_lengths = extent == CATALOG_LENGTHS;
    Error clause;
    va_list arguments;

    assert(block < catalog->block_count);
    catalog = catalog_part(catalog, block, &block);
    entry = &catalog->blocks[block];
    shard = &catalog->shards[entry->shard];
    va_start(arguments, format);
    vsnprintf(clause.text, sizeof clause.text, format, arguments);
    va_end(arguments);
    return error_set(error, code, "%s/%s: %sblock %u at offset %llu %s", catalog->path, shard->path,
                     is_lengths ? "the lengths of " : "", block - shard->first_block,
                     (unsigned long long)(is_lengths ? entry->lengths_offset : entry->offset),
                     clause.text);
}

int catalog_block_unreadable(const Catalog *catalog, uint32_t block, CatalogExtent extent, int code,
                             Error *error) {
    return catalog_block_error(catalog, block, extent, code, error, "cannot be read: %s",
                               code == -ENODATA ? "the file has become shorter; restore it, or "
                                                  "salvage it, and start again what reads it"
                                                : strerrordesc_np(-code));
}

int catalog_block_damaged(const Catalog *catalog, uint32_t block, CatalogExtent extent,
                          const char *what, Error *error) {
    uint32_t number;

    return catalog_block_error(catalog, block, extent, -EBADMSG, error, "%s damaged%s%s; " ADVICE,
                               extent == CATALOG_LENGTHS ? "are" : "is", what ? ": " : "",
                               what ? what : "", catalog_part(catalog, block, &number)->path);
}

static ShardIndexBlock lengths_entry(const Catalog *catalog, uint32_t block) {
    const CatalogBlock *from = &catalog->blocks[block];

    return (ShardIndexBlock){
        .sequences = catalog->block_sequences[block],
        .tokens = catalog->block_tokens[block],
        .lengths_crc32c = from->lengths_crc32c,
        .length_max = from->length_max,
        .lengths_width = from->lengths_width,
    };
}

int catalog_unpack_lengths(const Catalog *catalog, uint32_t block, const void *packed,
                           uint32_t *ret_lengths, Error *error) {
    const CatalogShard *shard;
    ShardIndexBlock entry;

    catalog = catalog_part(catalog, block, &block);
    shard = &catalog->shards[catalog->blocks[block].shard];
    entry = lengths_entry(catalog, block);
    if (shard_file_unpack_lengths(&entry, shard->length_min, packed, ret_lengths) < 0)
        return catalog_block_damaged(catalog, block, CATALOG_LENGTHS, NULL, error);
    return 0;
}

int catalog_read_lengths(const Catalog *catalog, uint32_t block, uint32_t *ret_lengths,
                         Error *error) {
    CLEANUP(buffer_deinit) Buffer packed = {0};
    const CatalogBlock *from;
    ShardIndexBlock entry;
    size_t size;
    int r;

    assert(block < catalog->block_count);
    catalog = catalog_part(catalog, block, &block);
    from = &catalog->blocks[block];
    entry = lengths_entry(catalog, block);
    size = shard_file_lengths_bytes(&entry);
    if (buffer_reserve(&packed, size) < 0)
        return error_set(error, -ENOMEM, "out of memory for the lengths of %s", catalog->path);
    r = file_read_at(catalog->shards[from->shard].fd, packed.bytes, size, from->lengths_offset);
    if (r < 0)
        return catalog_block_unreadable(catalog, block, CATALOG_LENGTHS, r, error);
    return catalog_unpack_lengths(catalog, block, packed.bytes, ret_lengths, error);
}

static bool facts_fit(const Catalog *catalog, uint32_t block, const BlockFacts *facts) {
    const CatalogBlock *entry = &catalog->blocks[block];

    return facts->block == block - catalog->shards[entry->shard].first_block &&
           facts->first_sequence == entry->first_sequence &&
           facts->sequences == catalog->block_sequences[block] &&
           facts->tokens == catalog->block_tokens[block] && facts->length_max == entry->length_max;
}

static void set_columns(const BlockLayout *layout, const BlockView *view,
                        BlockColumns *ret_columns) {
    ret_columns->sequences = view->sequences;
    ret_columns->tokens = view->tokens;
    ret_columns->token_ends = view->lengths;
    memcpy(ret_columns->values, view->columns, layout->column_count * sizeof *view->columns);
    memcpy(ret_columns->value_ends, view->counts, layout->column_count * sizeof *view->counts);
}

/* Numbers that lie in `raw` become the sums up to each. */
static void add_up(void *raw, const uint32_t *numbers, uint32_t count) {
    uint32_t *to = (void *)((uint8_t *)raw + ((const uint8_t *)numbers - (const uint8_t *)raw));
    uint32_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        to[i] = sum += to[i];
}

int block_decode(BlockDecoder *decoder, const Catalog *catalog, uint32_t block,
                 const void *compressed, void *raw, size_t raw_capacity, BlockColumns *ret_columns,
                 Error *error) {
    const CatalogBlock *entry;
    BlockLayout layout;
    BlockFacts facts;
    BlockView view;
    const char *wrong;

    assert(block < catalog->block_count);
    catalog = catalog_part(catalog, block, &block);
    entry = &catalog->blocks[block];
    assert(raw_capacity >= entry->raw_bytes);
    (void)raw_capacity;
    if (bytes_crc32c(0, compressed, entry->compressed_bytes) != entry->crc32c)
        return catalog_block_damaged(catalog, block, CATALOG_CONTENT, "its checksum does not match",
                                     error);
    block_layout_init_catalog(&layout, catalog);
    wrong = block_codec_decode(decoder, &layout, compressed, entry->compressed_bytes, raw,
                               entry->raw_bytes, &facts, &view);
    if (wrong)
        return catalog_block_damaged(catalog, block, CATALOG_CONTENT, wrong, error);
    if (!facts_fit(catalog, block, &facts))
        return catalog_block_damaged(catalog, block, CATALOG_CONTENT,
                                     "it is not the block that the index describes", error);
    set_columns(&layout, &view, ret_columns);
    add_up(raw, ret_columns->token_ends, view.sequences);
    for (uint32_t c = 0; c < layout.column_count; c++)
        if (view.counts[c])
            add_up(raw, ret_columns->value_ends[c], view.sequences);
    return 0;
}

void block_find_columns(const Catalog *catalog, uint32_t block, const void *raw,
                        BlockColumns *ret_columns) {
    BlockLayout layout;
    BlockView view;

    assert(block < catalog->block_count);
    block_layout_init_catalog(&layout, catalog_part(catalog, block, &block));
    block_layout_view(&layout, raw, &view);
    set_columns(&layout, &view, ret_columns);
}
