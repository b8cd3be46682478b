/* SPDX-License-Identifier: MIT */
/* shard_format.h: a shard byte by byte, as docs/formats/shard.md specifies it. All numbers are
 * little-endian; every reserved byte is zero and checked.
 *
 *   file      := HEADER BLOCK{block_count} INDEX SEEK_TABLE
 *   HEADER     skippable frame SHARD_HEADER_FRAME, payload ShardHeader; blocks start at 4096
 *   BLOCK      one zstd frame: single segment, content size, content checksum, no dictionary
 *   INDEX      skippable frame SHARD_INDEX_FRAME, payload ShardIndex, arrays, lengths
 *   SEEK_TABLE the standard seekable format, with checksums, over all frames before it
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SHARD_HEADER_FRAME UINT32_C(0x184D2A57)
#define SHARD_INDEX_FRAME UINT32_C(0x184D2A58)
#define SHARD_SEEK_FRAME UINT32_C(0x184D2A5E)
#define SHARD_SEEK_MAGIC UINT32_C(0x8F92EAB1)
#define SHARD_ZSTD_MAGIC UINT32_C(0xFD2FB528)

#define SHARD_MAGIC "\x89SQF\r\n\x1a\n"
#define SHARD_INDEX_MAGIC "SQINDEX"
#define SHARD_BLOCK_MAGIC "SQBK"

enum {
    SHARD_VERSION_MAJOR = 1,
    SHARD_VERSION_MINOR = 0,
    SHARD_HEADER_BYTES = 4096, /* with the 8 bytes of the skippable frame */
    SHARD_FRAME_HEAD = 8,      /* magic and size of a skippable frame */
    SHARD_COLUMNS_MAX = 64,
    SHARD_COLUMN_NAME = 24, /* with the NUL */
    SHARD_WIDTH_MAX = 65536,
    SHARD_SECTION_ALIGN = 64,
    SHARD_BLOCK_TARGET_MIN = 4096,
    SHARD_BLOCK_TARGET_MAX = 16 << 20,
    SHARD_BLOCK_RAW_MAX = 64 << 20, /* no block is larger, whatever a file claims */
    SHARD_BLOCKS_MAX = 1 << 24,
    SHARD_FILES_MAX = 1 << 20,
    SHARD_SEEK_ENTRY = 12,
    SHARD_SEEK_FOOTER = 9,
};

/* What the values of a column belong to. */
typedef enum ShardKind {
    SHARD_KIND_TOKENS = 0,   /* the primary column: column record 0, and only that one */
    SHARD_KIND_TOKEN = 1,    /* `width` values for each token */
    SHARD_KIND_SEQUENCE = 2, /* `width` values for each sequence */
    SHARD_KIND_RAGGED = 3,   /* own count of `width`-wide values for each sequence */
    SHARD_KIND_COUNT
} ShardKind;

typedef struct ShardColumn {
    char name[SHARD_COLUMN_NAME]; /* [a-z0-9_]+ beginning with a letter, NUL-padded; record 0:
                                     "tokens" */
    uint8_t kind;
    uint8_t type; /* ElementType */
    uint16_t reserved_0;
    uint32_t width; /* 1..SHARD_WIDTH_MAX */
    uint8_t reserved_1[16];
} ShardColumn;
static_assert(sizeof(ShardColumn) == 48, "part of the file format");

/* Payload of the header frame. */
typedef struct ShardHeader {
    char magic[8];
    uint16_t version_major;
    uint16_t version_minor;
    uint32_t incompatible; /* an unknown bit: refuse */
    uint32_t read_only_compatible;
    uint32_t compatible;   /* unknown bits: ignore */
    uint32_t block_target; /* raw bytes at which the writer closes a block */
    uint32_t column_count;
    uint32_t has_pad_id; /* 0 or 1 */
    uint32_t reserved_0;
    int64_t pad_id;
    uint8_t reserved_1[64];
    ShardColumn columns[SHARD_COLUMNS_MAX]; /* unused ones are zero */
    uint8_t reserved_2[4088 - 112 - SHARD_COLUMNS_MAX * 48 - 4];
    uint32_t crc32c; /* of the 4084 bytes before it */
} ShardHeader;
static_assert(offsetof(ShardHeader, columns) == 112, "part of the file format");
static_assert(sizeof(ShardHeader) == SHARD_HEADER_BYTES - SHARD_FRAME_HEAD,
              "part of the file format");

/* A block, decompressed: ShardBlockHeader, section table, sections. Section 0 is the lengths (u32
 * for each sequence), section 1 + c is column c. A RAGGED section begins with u32 counts, one a
 * sequence, its values follow at the next multiple of 8. Sections start at multiples of
 * SHARD_SECTION_ALIGN in order, without gaps but the zero padding; `bytes` does not count it. The
 * last section is padded as well, so raw_bytes is a multiple of SHARD_SECTION_ALIGN. */
typedef struct ShardBlockHeader {
    char magic[4];
    uint32_t header_bytes; /* header and table, rounded up to SHARD_SECTION_ALIGN: where section 0
                              starts */
    uint32_t raw_bytes;    /* the whole block */
    uint32_t sequences;
    uint64_t first_sequence; /* counted within the shard */
    uint32_t tokens;
    uint32_t block; /* number within the shard */
    uint32_t section_count;
    uint32_t reserved_0;
    uint8_t reserved_1[20];
    uint32_t crc32c; /* of header_bytes bytes, with this field zero */
} ShardBlockHeader;
static_assert(sizeof(ShardBlockHeader) == 64, "part of the file format");

typedef struct ShardSection {
    uint32_t offset; /* from the start of the block */
    uint32_t bytes;
} ShardSection;
static_assert(sizeof(ShardSection) == 8, "part of the file format");

/* Payload of the index frame: ShardIndex, ShardIndexBlock[block_count],
 * ShardIndexColumn[column_count], then every block's lengths one after another. Blocks lie without
 * gaps from SHARD_HEADER_BYTES on, so offsets are sums of compressed_bytes. */
typedef struct ShardIndex {
    char magic[8];
    uint32_t header_bytes; /* sizeof(ShardIndex) */
    uint32_t block_count;
    uint64_t sequences;
    uint64_t tokens;
    uint64_t raw_bytes;  /* sum over blocks */
    uint64_t file_bytes; /* the whole file, seek table included */
    uint32_t block_raw_max;
    uint32_t block_compressed_max;
    uint32_t length_min; /* 0 when there are no sequences */
    uint32_t length_max;
    int32_t zstd_level;
    uint32_t zstd_version;   /* ZSTD_versionNumber() of the writer */
    uint8_t content[16];     /* XXH3-128 (canonical bytes) over all blocks' decompressed bytes */
    uint64_t lengths_offset; /* from the start of the payload */
    uint64_t lengths_bytes;
    uint32_t column_count;
    uint32_t arrays_crc32c; /* of the bytes between this struct and lengths_offset */
    uint32_t seek_crc32c;   /* of the whole seek table frame */
    uint8_t reserved[136];
    uint32_t crc32c; /* of the 252 bytes before it */
} ShardIndex;
static_assert(sizeof(ShardIndex) == 256, "part of the file format");

typedef struct ShardIndexBlock {
    uint32_t compressed_bytes;
    uint32_t raw_bytes;
    uint32_t sequences;
    uint32_t tokens;
    uint32_t crc32c;         /* of the compressed bytes */
    uint32_t lengths_crc32c; /* of this block's lengths as they stand in the index */
    uint32_t length_max;
    uint8_t lengths_width; /* 1, 2 or 4: the narrowest that holds length_max */
    uint8_t reserved[3];
} ShardIndexBlock;
static_assert(sizeof(ShardIndexBlock) == 32, "part of the file format");

typedef struct ShardIndexColumn {
    uint64_t values;    /* in all, `width`-wide ones */
    uint32_t count_max; /* RAGGED: the largest count of one sequence; else 0 */
    uint32_t reserved;
} ShardIndexColumn;
static_assert(sizeof(ShardIndexColumn) == 16, "part of the file format");
