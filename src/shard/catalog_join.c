/* SPDX-License-Identifier: MIT */
/* Several datasets as one. The joined catalog has tables of its own with numbers that count over
 * all, so whoever goes by blocks and shards sees no difference; what needs the dataset itself (its
 * columns as they lie in a block, its name in a message) asks catalog_part(). */
#include "shard/catalog.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"

static void catalog_cleanup(Catalog **catalog) {
    catalog_free(*catalog);
}

const CatalogPart *catalog_find_part(const Catalog *catalog, uint32_t block) {
    uint32_t low = 0, high = catalog->part_count;

    if (!catalog->parts)
        return NULL;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (catalog->parts[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return &catalog->parts[low];
}

const Catalog *catalog_part(const Catalog *catalog, uint32_t block, uint32_t *ret_block) {
    const CatalogPart *part = catalog_find_part(catalog, block);

    *ret_block = part ? block - part->first_block : block;
    return part ? part->catalog : catalog;
}

int catalog_column_differs(const Catalog *catalog, uint32_t column) {
    const CatalogColumn *is = &catalog->columns[column];

    for (uint32_t p = 0; p < catalog->part_count; p++) {
        const CatalogPart *part = &catalog->parts[p];
        const CatalogColumn *other;

        if (part->columns[column] == CATALOG_NO_COLUMN)
            return (int)p;
        other = &part->catalog->columns[part->columns[column]];
        if (other->kind != is->kind || other->type != is->type || other->width != is->width)
            return (int)p;
    }
    return -1;
}

static void join_columns(Catalog *joined) {
    for (uint32_t p = 0; p < joined->part_count; p++) {
        const Catalog *part = joined->parts[p].catalog;

        for (uint32_t c = 0; c < part->column_count; c++) {
            int found = catalog_find_column(joined, part->columns[c].name);
            uint32_t at = found < 0 ? joined->column_count : (uint32_t)found;
            CatalogColumn *column = &joined->columns[at];

            joined->parts[p].columns[at] = c;
            if (at == joined->column_count) {
                joined->column_count++;
                *column = part->columns[c];
                continue;
            }
            column->values += part->columns[c].values;
            column->count_max = MAX(column->count_max, part->columns[c].count_max);
        }
    }
}

static void join_blocks(Catalog *joined, const Catalog *part) {
    for (uint32_t s = 0; s < part->shard_count; s++) {
        CatalogShard *shard = &joined->shards[joined->shard_count + s];

        *shard = part->shards[s];
        shard->first_block += joined->block_count;
    }
    for (uint32_t b = 0; b < part->block_count; b++) {
        uint32_t at = joined->block_count + b;

        joined->blocks[at] = part->blocks[b];
        joined->blocks[at].shard += joined->shard_count;
        joined->block_sequences[at] = part->block_sequences[b];
        joined->block_tokens[at] = part->block_tokens[b];
    }
    joined->shard_count += part->shard_count;
    joined->block_count += part->block_count;
}

static void join_totals(Catalog *joined, const Catalog *part, bool is_first) {
    joined->sequences += part->sequences;
    joined->tokens += part->tokens;
    joined->raw_bytes += part->raw_bytes;
    joined->file_bytes += part->file_bytes;
    joined->block_raw_max = MAX(joined->block_raw_max, part->block_raw_max);
    joined->block_compressed_max = MAX(joined->block_compressed_max, part->block_compressed_max);
    joined->block_sequences_max = MAX(joined->block_sequences_max, part->block_sequences_max);
    joined->block_target = MAX(joined->block_target, part->block_target);
    joined->length_min = is_first ? part->length_min : MIN(joined->length_min, part->length_min);
    joined->length_max = MAX(joined->length_max, part->length_max);
}

/* Empty tables that all parts fit into. -ENOMEM, -EFBIG. */
static int make_room(Catalog *joined, Catalog *const *parts, uint32_t count) {
    CLEANUP(text_deinit) Text path = {0};
    uint64_t blocks = 0, shards = 0;
    size_t columns = 0;

    for (uint32_t p = 0; p < count; p++) {
        blocks += parts[p]->block_count;
        shards += parts[p]->shard_count;
        columns += parts[p]->column_count;
        text_add(&path, "%s%s", p ? ", " : "", parts[p]->path);
    }
    if (blocks > UINT32_MAX || shards > UINT32_MAX)
        return -EFBIG;
    joined->path = path.failed ? NULL : strdup(path.bytes);
    joined->parts = calloc(count, sizeof *joined->parts);
    joined->columns = calloc(columns, sizeof *joined->columns);
    joined->shards = calloc(shards, sizeof *joined->shards);
    joined->blocks = malloc((blocks + 1) * sizeof *joined->blocks);
    joined->block_sequences = malloc((blocks + 1) * sizeof *joined->block_sequences);
    joined->block_tokens = malloc((blocks + 1) * sizeof *joined->block_tokens);
    if (!joined->path || !joined->parts || !joined->columns || !joined->shards || !joined->blocks ||
        !joined->block_sequences || !joined->block_tokens)
        return -ENOMEM;
    for (; joined->part_count < count; joined->part_count++) {
        uint32_t **own = &joined->parts[joined->part_count].columns;

        *own = malloc(columns * sizeof **own);
        if (!*own)
            return -ENOMEM;
        memset(*own, 0xff, columns * sizeof **own); /* CATALOG_NO_COLUMN */
    }
    return 0;
}

int catalog_join(Catalog *const *parts, uint32_t count, Catalog **ret_catalog, Error *error) {
    CLEANUP(catalog_cleanup) Catalog *joined = calloc(1, sizeof *joined);
    int r;

    assert(count > 0);
    r = joined ? make_room(joined, parts, count) : -ENOMEM;
    if (r < 0)
        return error_set(error, r,
                         r == -EFBIG ? "the datasets have more than 2^32 blocks together"
                                     : "out of memory for the index of several datasets");
    for (uint32_t p = 0; p < count; p++) {
        joined->parts[p].first_block = joined->block_count;
        joined->parts[p].catalog = parts[p];
        join_totals(joined, parts[p], p == 0);
        join_blocks(joined, parts[p]);
    }
    join_columns(joined);
    *ret_catalog = joined;
    joined = NULL;
    return 0;
}
