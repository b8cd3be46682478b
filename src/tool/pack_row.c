/* SPDX-License-Identifier: MIT */
#include "tool/pack_row.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"

/* A line is at most 1 GiB and a number takes two bytes of it, so counts fit 32 bits. */
static_assert(sizeof(double) == sizeof(int64_t), "numbers of both kinds share a buffer");

enum { NUMBER_BYTES = 8 };

void pack_row_deinit(PackRow *row) {
    for (uint32_t i = 0; i < row->cell_count; i++)
        buffer_deinit(&row->cells[i].numbers);
    free(row->cells);
    *row = (PackRow){0};
}

const PackCell *pack_row_find(const PackRow *row, const char *key) {
    for (uint32_t i = 0; i < row->cell_count; i++)
        if (strcmp(row->cells[i].key, key) == 0)
            return row->cells[i].row == row->row && row->cells[i].shape != PACK_SHAPE_ABSENT
                       ? &row->cells[i]
                       : NULL;
    return NULL;
}

static PackCell *find_or_add(PackRow *row, const char *key) {
    uint32_t count = row->cell_count;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (row->next + i) % count; /* rows mostly have the same keys in one order */
        if (strcmp(row->cells[at].key, key) == 0) {
            row->next = at + 1;
            return &row->cells[at];
        }
    }
    if (count == PACK_ROW_CELLS_MAX)
        return NULL;
    PackCell *cells = realloc(row->cells, (count + 1) * sizeof *cells);
    if (!cells)
        return NULL;
    row->cells = cells;
    row->cells[count] = (PackCell){0};
    memcpy(row->cells[count].key, key, strlen(key) + 1);
    row->cell_count++;
    row->next = count + 1;
    return &row->cells[count];
}

/* From now on the cell holds doubles. */
static void turn_real(PackCell *cell) {
    size_t count = cell->numbers.size / NUMBER_BYTES;

    for (size_t i = 0; i < count; i++) {
        int64_t integer;
        memcpy(&integer, cell->numbers.bytes + i * NUMBER_BYTES, sizeof integer);
        double real = (double)integer;
        memcpy(cell->numbers.bytes + i * NUMBER_BYTES, &real, sizeof real);
    }
    cell->is_real = true;
    cell->first_real = count;
}

static bool add_number(JsonScan *scan, PackCell *cell) {
    JsonNumber number;
    uint8_t *to;

    if (!json_scan_number(scan, &number))
        return false;
    if (number.is_real && !cell->is_real)
        turn_real(cell);
    if (cell->numbers.size == cell->numbers.capacity &&
        buffer_reserve(&cell->numbers, cell->numbers.size + NUMBER_BYTES) < 0) {
        scan->wrong = "there is not enough memory for it";
        return false;
    }
    to = cell->numbers.bytes + cell->numbers.size;
    if (cell->is_real)
        memcpy(to, &number.real, sizeof number.real);
    else
        memcpy(to, &number.integer, sizeof number.integer);
    cell->numbers.size += NUMBER_BYTES;
    return true;
}

/* Most lists are of short whole numbers, "12, 7, 4096": take as many of them as stand here, each
 * with its comma and one space, and leave everything else to add_number(). How many they were. */
static uint32_t take_plain_numbers(JsonScan *scan, PackCell *cell) {
    enum { DIGITS_MAX = 18, CHUNK = 4096 };
    const char *at = scan->at;
    uint32_t count = 0;

    for (;;) {
        const char *digits = at;
        int64_t value = 0;
        while (*at >= '0' && *at <= '9' && at - digits < DIGITS_MAX)
            value = value * 10 + (*at++ - '0');
        if (*at != ',' || at == digits || (*digits == '0' && at - digits > 1))
            return count; /* scan->at is still at the number */
        if (cell->numbers.size == cell->numbers.capacity &&
            buffer_reserve(&cell->numbers, cell->numbers.size + CHUNK) < 0)
            return count;
        memcpy(cell->numbers.bytes + cell->numbers.size, &value, sizeof value);
        cell->numbers.size += NUMBER_BYTES;
        count++;
        at += at[1] == ' ' ? 2 : 1;
        scan->at = at;
    }
}

/* The numbers of a list whose bracket was taken, and how many they are. */
static bool read_numbers(JsonScan *scan, PackCell *cell, uint32_t *ret_count) {
    bool more = json_scan_peek(scan) != ']';
    uint32_t count = more && !cell->is_real ? take_plain_numbers(scan, cell) : 0;

    if (!more)
        scan->at++;
    while (more) {
        if (!add_number(scan, cell) || !json_scan_next(scan, ']', &more))
            return false;
        count++;
    }
    *ret_count = count;
    return true;
}

static bool read_lists(JsonScan *scan, PackCell *cell) {
    bool more = true;

    cell->shape = PACK_SHAPE_NESTED;
    while (more) {
        uint32_t width;
        if (!json_scan_take(scan, '[') || !read_numbers(scan, cell, &width) ||
            !json_scan_next(scan, ']', &more))
            return false;
        if (cell->count++ == 0)
            cell->width = width;
        if (width != cell->width || width == 0) {
            scan->wrong = "its inner lists have different lengths, or none";
            return false;
        }
    }
    return true;
}

static bool read_cell(JsonScan *scan, PackCell *cell) {
    char c = json_scan_peek(scan);

    cell->numbers.size = 0;
    cell->is_real = false;
    cell->width = 1;
    cell->count = 0;
    if (c == '[') {
        scan->at++;
        cell->shape = PACK_SHAPE_LIST;
        c = json_scan_peek(scan);
        if (c == '[')
            return read_lists(scan, cell);
        if (c != '"' && c != '{' && c != 'n')
            return read_numbers(scan, cell, &cell->count);
        scan->at = scan->start; /* a list of something else: the caller steps over it */
        cell->shape = PACK_SHAPE_OTHER;
        return true;
    }
    if (c == '"' || c == '{' || c == 'n') {
        cell->shape = PACK_SHAPE_OTHER;
        return json_scan_skip(scan);
    }
    cell->shape = PACK_SHAPE_SCALAR;
    cell->count = 1;
    return add_number(scan, cell);
}

static bool read_pair(PackRow *row, JsonScan *scan, const char *key) {
    const char *value = scan->at;
    PackCell *cell;

    if (row->only && strcmp(row->only, key) != 0)
        return json_scan_skip(scan);
    cell = find_or_add(row, key);
    if (!cell) {
        scan->wrong = "there are too many different keys";
        return false;
    }
    if (cell->row == row->row) {
        scan->wrong = "the key stands there twice";
        return false;
    }
    cell->row = row->row;
    if (!read_cell(scan, cell))
        return false;
    if (scan->at != scan->start)
        return true;
    scan->at = value; /* read_cell() gave it back */
    return json_scan_skip(scan);
}

int pack_row_read(PackRow *row, const char *text, size_t size, Error *error) {
    JsonScan scan = json_scan_begin(text, size);
    char key[JSON_SCAN_KEY_MAX] = "";
    bool fine, more;

    row->row++;
    row->next = 0;
    fine = json_scan_take(&scan, '{');
    more = fine && json_scan_peek(&scan) != '}';
    if (fine && !more)
        scan.at++;
    while (fine && more)
        fine = json_scan_key(&scan, key) && read_pair(row, &scan, key) &&
               json_scan_next(&scan, '}', &more);
    if (fine)
        fine = json_scan_finish(&scan);
    if (fine)
        return 0;
    return error_set(error, -EINVAL, "%s (at byte %zu%s%s%s)", scan.wrong,
                     (size_t)(scan.at - scan.start) + 1, *key ? ", after the key \"" : "", key,
                     *key ? "\"" : "");
}
