/* SPDX-License-Identifier: MIT */
/* catalog.h: a dataset that was opened and checked: its columns, its shards and one table of all
 * their blocks in input order. Immutable after catalog_open(), so any thread may read it.
 * Owner: the Feed (or the tool) that opened it. Memory: 56 bytes a block, see catalog_bytes(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "format/shard_format.h"

typedef struct CatalogColumn {
    char name[SHARD_COLUMN_NAME];
    uint8_t kind; /* ShardKind */
    uint8_t type; /* ElementType */
    uint32_t width;
    uint32_t count_max; /* RAGGED: largest count in any shard */
    uint64_t values;    /* over all shards */
} CatalogColumn;

typedef struct CatalogShard {
    char *path;            /* relative to the dataset's directory */
    int fd;                /* open for reading, close-on-exec; stays open as long as the catalog */
    int direct_fd;         /* the same for O_DIRECT; FILE_NONE without catalog_open_direct() */
    uint32_t direct_align; /* of offset, size and memory of direct reads */
    uint64_t file_bytes;
    uint64_t sequences, tokens;
    uint32_t first_block, block_count;
    uint32_t length_min; /* of its sequences, as its index says: lengths below it are refused */
} CatalogShard;

/* One block; `block` numbers everywhere outside shard/ count over the whole dataset. */
typedef struct CatalogBlock {
    uint64_t offset;         /* of its zstd frame in the shard file */
    uint64_t lengths_offset; /* of its packed lengths in the shard file */
    uint64_t first_sequence; /* counted within the shard */
    uint32_t shard;
    uint32_t compressed_bytes;
    uint32_t raw_bytes;
    uint32_t crc32c;
    uint32_t lengths_crc32c;
    uint32_t length_max : 29;
    uint32_t lengths_width : 3; /* 1, 2 or 4 bytes a length */
} CatalogBlock;

typedef struct Catalog Catalog;

/* One of several datasets that were joined, and where its blocks and columns are among all. */
typedef struct CatalogPart {
    Catalog *catalog;
    uint32_t first_block;
    uint32_t *columns; /* [column_count of all] the dataset's own number of each, or
                          CATALOG_NO_COLUMN */
} CatalogPart;

#define CATALOG_NO_COLUMN UINT32_MAX

struct Catalog {
    char *path;     /* as given, for messages; of several datasets all of them */
    uint8_t id[16]; /* dataset id, docs/formats/shard.md; of several datasets zeros */
    bool has_pad_id;
    int64_t pad_id;
    CatalogColumn *columns; /* [0] is the primary column */
    uint32_t column_count;
    CatalogShard *shards;
    uint32_t shard_count;
    CatalogBlock *blocks;
    uint32_t *block_sequences; /* [block_count]: what the planner reads */
    uint32_t *block_tokens;    /* [block_count] */
    uint32_t block_count;
    uint64_t sequences, tokens, raw_bytes, file_bytes;
    uint32_t block_raw_max, block_compressed_max, block_sequences_max, block_target;
    uint32_t length_min, length_max;
    char **label_names; /* of `--label file`: label value -> name; NULL when there are none */
    uint32_t label_count;
    CatalogPart *parts; /* of several datasets; NULL with one */
    uint32_t part_count;
};

/* Open the dataset at `path` (a directory with dataset.json). Reads and checks the manifest, every
 * header, index and seek table; no block is read. On failure the sentence names the file and what
 * to do. Blocks; not for the control thread. 0 or negative errno (-EBADMSG: damaged or foreign). */
MUST_CHECK int catalog_open(const char *path, Catalog **ret_catalog, Error *error);
/* The same for one shard file, as if it were a dataset of its own: for tools that look at shards.
 */
MUST_CHECK int catalog_open_shard(const char *path, Catalog **ret_catalog, Error *error);
void catalog_free(Catalog *catalog); /* accepts NULL */

/* Bytes that it takes, those of its parts included. */
uint64_t catalog_bytes(const Catalog *catalog);

/* Open every shard once more, to be read past the page cache; one on a file system that cannot do
 * it is left without. Before anybody else has the catalog. Blocks. 0, or -EMFILE and the like with
 * a sentence. */
MUST_CHECK int catalog_open_direct(Catalog *catalog, Error *error);

/* Several datasets as one: blocks and shards of the first, then those of the second, and so on. Its
 * columns are those of all by name, each with the type that it has where it comes first. It takes
 * the parts over when it succeeds. 0, -ENOMEM, -EFBIG: more than 2^32 blocks. */
MUST_CHECK int catalog_join(Catalog *const *parts, uint32_t count, Catalog **ret_catalog,
                            Error *error);

/* The part that a block belongs to; NULL with one dataset. */
const CatalogPart *catalog_find_part(const Catalog *catalog, uint32_t block);
/* The dataset itself, and the block's number there. */
const Catalog *catalog_part(const Catalog *catalog, uint32_t block, uint32_t *ret_block);

/* The first dataset in which this column is missing or of another kind, type or width; -1: none. */
int catalog_column_differs(const Catalog *catalog, uint32_t column);

/* Index of the column of that name, or -1. */
int catalog_find_column(const Catalog *catalog, const char *name);

/* What of a block an error is about. */
typedef enum CatalogExtent { CATALOG_CONTENT, CATALOG_LENGTHS } CatalogExtent;

/* An error of one block, named as people find it again: the file, the block's number in that file
 * (as 'seqfeed verify' counts), its offset, then the caller's clause. Returns `code`. */
int catalog_block_error(const Catalog *catalog, uint32_t block, CatalogExtent extent, int code,
                        Error *error, const char *format, ...) PRINTF_FORMAT(6, 7);
/* It cannot be read: `code` says why, -ENODATA that the file ends before. */
int catalog_block_unreadable(const Catalog *catalog, uint32_t block, CatalogExtent extent, int code,
                             Error *error);
/* It is damaged, -EBADMSG; `what` says how, or is NULL. */
int catalog_block_damaged(const Catalog *catalog, uint32_t block, CatalogExtent extent,
                          const char *what, Error *error);

/* Read and check the lengths of `block` into ret_lengths[block_sequences[block]]: one small pread.
 * Blocks. -EBADMSG with a sentence when they are damaged. */
MUST_CHECK int catalog_read_lengths(const Catalog *catalog, uint32_t block, uint32_t *ret_lengths,
                                    Error *error);

/* The same without the read: `packed` holds block_sequences[block] * lengths_width bytes as they
 * stand at lengths_offset. Checks CRC, sum and maximum. */
MUST_CHECK int catalog_unpack_lengths(const Catalog *catalog, uint32_t block, const void *packed,
                                      uint32_t *ret_lengths, Error *error);
