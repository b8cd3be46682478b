/* SPDX-License-Identifier: MIT */
/* pack_row.h: the numbers of one JSON object, key by key. Cells are found again by their key in the
 * next row, and so is their memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/buffer.h"
#include "tool/json_scan.h"

typedef enum PackShape {
    PACK_SHAPE_ABSENT, /* the row has no such key */
    PACK_SHAPE_OTHER,  /* a string, null or an object: not kept */
    PACK_SHAPE_SCALAR,
    PACK_SHAPE_LIST,
    PACK_SHAPE_NESTED, /* a list of lists of one width */
} PackShape;

typedef struct PackCell {
    char key[JSON_SCAN_KEY_MAX];
    PackShape shape;
    uint32_t width;    /* of the inner lists; 1 if there are none */
    uint32_t count;    /* of the outer list; 1 for a scalar */
    bool is_real;      /* the numbers are doubles, else int64_t */
    size_t first_real; /* which number made it so */
    Buffer numbers;    /* count * width, 8 bytes each */
    uint64_t row;      /* in which it was last seen */
    bool mentioned;    /* the user was told that it is left out */
} PackCell;

enum { PACK_ROW_CELLS_MAX = 1024 };

typedef struct PackRow {
    PackCell *cells;
    uint32_t cell_count;
    uint32_t next; /* where the next key is expected */
    uint64_t row;
    const char *only; /* when set: the one key whose numbers are wanted; others are skipped */
} PackRow;

void pack_row_deinit(PackRow *row);

/* Read one JSON object. 0, or -EINVAL and what is wrong, without the place. */
MUST_CHECK int pack_row_read(PackRow *row, const char *text, size_t size, Error *error);

/* The cell of that key in the row that was read last, or NULL. */
const PackCell *pack_row_find(const PackRow *row, const char *key);

static inline const int64_t *pack_cell_integers(const PackCell *cell) {
    return (const int64_t *)(const void *)cell->numbers.bytes;
}

static inline const double *pack_cell_reals(const PackCell *cell) {
    return (const double *)(const void *)cell->numbers.bytes;
}
