/* SPDX-License-Identifier: MIT */
/* The hot path. A padded row is three runs: padding, real tokens, padding, of which one padding is
 * empty. Batch first, the runs lie one after another in the slot and are written there at once.
 * Time first, a token's neighbours are the other rows: the runs of as many rows as share a cache
 * line of the slot are made in a small tile and dealt out from it line by line, so that no line is
 * touched twice. */
#include "mask/fill.h"

#include <assert.h>
#include <string.h>

#include "base/attributes.h"
#include "mask/block_lists.h"
#include "mask/compute.h"
#include "mask/convert.h"
#include "mask/dense.h"
#include "mask/mask_rule.h"

enum {
    TILE_PLACES = 64,
    AHEAD_TOKENS = 32768 /* of rows asked for at once: with the slot's lines they fit into an L2 */
};

/* One tensor of one batch, with everything decided that does not depend on the row. */
typedef struct Fill {
    ConvertFunction *convert; /* NULL: a mask, or computed */
    const TensorSet *set;
    const TensorSpec *computed; /* NULL: runs of a column or of two values */
    uint8_t *to;                /* start of the tensor */
    uint32_t column;
    uint32_t width;
    uint32_t from_bytes; /* of one token on disk */
    uint32_t value_bytes;
    uint32_t place_bytes; /* of one token in the tensor */
    uint32_t side;
    uint32_t rows, length;
    bool padding_is_there; /* zero already: only real places are written */
    uint64_t real_bits;    /* masks */
    uint64_t pad_bits;
} Fill;

/* Rows are written as a whole, batch first in every layout. */
static bool is_whole(const TensorSpec *spec) {
    return spec->source == TENSOR_MASK_DENSE || block_lists_knows(spec);
}

static Fill fill_new(const TensorSet *set, const TensorLayout *layout, uint32_t tensor, void *slot,
                     uint32_t rows, uint32_t length) {
    const TensorSpec *spec = &set->tensors[tensor];
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype);
    Fill fill = {
        .set = set,
        .to = (uint8_t *)slot + layout->offset[tensor],
        .column = spec->column,
        .width = 1,
        .value_bytes = value_bytes,
        .place_bytes = value_bytes,
        .side = set->side,
        .rows = rows,
        .length = length,
        .pad_bits = (uint64_t)spec->pad,
        .padding_is_there = layout->zeroed >> tensor & 1,
    };

    if (compute_knows(spec)) {
        fill.computed = spec;
        fill.place_bytes *= spec->source == TENSOR_APPLY ? spec->width : 1;
    } else if (spec->source == TENSOR_MASK_LENGTHS) {
        fill.real_bits = mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, 1);
        fill.pad_bits = mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, 0);
    } else if (spec->source != TENSOR_LENGTHS && !is_whole(spec)) {
        fill.width = spec->width;
        fill.place_bytes *= spec->width;
        fill.from_bytes = element_bytes(spec->element) * spec->width;
        fill.convert = convert_find(spec->element, spec->dtype);
        assert(fill.convert);
    }
    return fill;
}

/* Where the row's tokens begin in their block; NULL for a mask or an empty row. */
static const uint8_t *fill_source(const Fill *fill, const FillRow *row) {
    if (!fill->convert || !row)
        return NULL;
    return row->columns[fill->column] + (size_t)row->start * fill->from_bytes;
}

/* Write places first .. last of a padded row, one after another from `to` on. */
static void fill_places(const Fill *fill, const FillRow *row, uint32_t first, uint32_t last,
                        uint8_t *to) {
    const uint8_t *from = fill_source(fill, row);
    uint32_t real = row ? row->length : 0;
    uint32_t begin = mask_rule_begin(fill->side, fill->length, real), end = begin + real;
    uint32_t real_first = MIN(MAX(begin, first), last), real_last = MIN(MAX(end, first), last);
    size_t before = (size_t)(real_first - first), inside = (size_t)(real_last - real_first);
    size_t after = (size_t)(last - real_last);

    if (fill->computed) {
        compute_places(fill->set, fill->computed, row, fill->length, first, last, to);
        return;
    }
    if (before && !fill->padding_is_there)
        convert_repeat(to, fill->pad_bits, fill->value_bytes, before * fill->width);
    to += before * fill->place_bytes;
    if (inside && fill->convert)
        fill->convert(to, from + (size_t)(real_first - begin) * fill->from_bytes,
                      inside * fill->width);
    else if (inside)
        convert_repeat(to, fill->real_bits, fill->value_bytes, inside);
    to += inside * fill->place_bytes;
    if (after && !fill->padding_is_there)
        convert_repeat(to, fill->pad_bits, fill->value_bytes, after * fill->width);
}

static void fill_batch_first(const Fill *fill, uint32_t first_row, const FillRow *sources,
                             uint32_t count) {
    size_t row_bytes = (size_t)fill->length * fill->place_bytes;
    uint8_t *to = fill->to + first_row * row_bytes;

    for (uint32_t r = 0; r < count; r++, to += row_bytes) {
        const FillRow *row = sources ? &sources[r] : NULL;

        fill_places(fill, row, 0, fill->length, to);
    }
}

/* Write the places of a tile, made row by row, step by step: those of one step lie side by side. */
#define DEAL(name, Value)                                                          \
    static void name(uint8_t *to, size_t step, const uint8_t *tile, uint32_t rows, \
                     uint32_t places) {                                            \
        const __typeof__(Value) *values = (const void *)tile;                      \
                                                                                   \
        for (uint32_t p = 0; p < places; p++, to += step) {                        \
            __typeof__(Value) *out = (void *)to;                                   \
            for (uint32_t r = 0; r < rows; r++)                                    \
                out[r] = values[r * TILE_PLACES + p];                              \
        }                                                                          \
    }
DEAL(deal_8, uint8_t)
DEAL(deal_16, uint16_t)
DEAL(deal_32, uint32_t)
DEAL(deal_64, uint64_t)
#undef DEAL

static void deal_any(uint8_t *to, size_t step, const uint8_t *tile, uint32_t place_bytes,
                     uint32_t rows, uint32_t places) {
    for (uint32_t p = 0; p < places; p++, to += step)
        for (uint32_t r = 0; r < rows; r++)
            memcpy(to + (size_t)r * place_bytes, tile + (size_t)(r * TILE_PLACES + p) * place_bytes,
                   place_bytes);
}

static void fill_deal(uint8_t *to, size_t step, const uint8_t *tile, uint32_t place_bytes,
                      uint32_t rows, uint32_t places) {
    switch (place_bytes) {
    case 1:
        deal_8(to, step, tile, rows, places);
        break;
    case 2:
        deal_16(to, step, tile, rows, places);
        break;
    case 4:
        deal_32(to, step, tile, rows, places);
        break;
    case 8:
        deal_64(to, step, tile, rows, places);
        break;
    default:
        deal_any(to, step, tile, place_bytes, rows, places);
    }
}

/* Places first .. last of `rows` neighbouring rows, as many as a cache line of the slot holds. */
static void fill_tile(const Fill *fill, uint8_t *to, const FillRow *sources, uint32_t rows,
                      uint32_t first, uint32_t last) {
    _Alignas(CACHE_LINE) uint8_t tile[TILE_PLACES * CACHE_LINE];
    size_t step = (size_t)fill->rows * fill->place_bytes;

    assert(!fill->padding_is_there); /* a tile remembers nothing: every place of it is written */
    for (uint32_t r = 0; r < rows; r++) {
        const FillRow *row = sources ? &sources[r] : NULL;

        fill_places(fill, row, first, last, tile + (size_t)r * TILE_PLACES * fill->place_bytes);
    }
    fill_deal(to, step, tile, fill->place_bytes, rows, last - first);
}

static void fill_time_first(const Fill *fill, uint32_t first_row, const FillRow *sources,
                            uint32_t count) {
    bool is_wide = fill->place_bytes > CACHE_LINE; /* straight to the slot, place by place */
    uint32_t tile_rows = is_wide ? 1 : CACHE_LINE / fill->place_bytes;
    uint32_t tile_places = is_wide ? 1 : TILE_PLACES;
    size_t step = (size_t)fill->rows * fill->place_bytes;

    for (uint32_t first = 0; first < fill->length; first += tile_places) {
        uint32_t last = MIN(fill->length - first, tile_places) + first;

        for (uint32_t r = 0; r < count; r += tile_rows) {
            const FillRow *row = sources ? &sources[r] : NULL;
            uint8_t *to = fill->to + first * step + (size_t)(first_row + r) * fill->place_bytes;

            if (is_wide)
                fill_places(fill, row, first, last, to);
            else
                fill_tile(fill, to, row, MIN(count - r, tile_rows), first, last);
        }
    }
}

/* One value, or `width` of them, for each row. */
static void fill_sequence_column(const Fill *fill, uint32_t first_row, const FillRow *sources,
                                 uint32_t count) {
    uint8_t *to = fill->to + (size_t)first_row * fill->place_bytes;

    if (!sources) {
        convert_repeat(to, fill->pad_bits, fill->value_bytes, (size_t)count * fill->width);
        return;
    }
    for (uint32_t r = 0; r < count; r++, to += fill->place_bytes)
        fill->convert(
            to, sources[r].columns[fill->column] + (size_t)sources[r].sequence * fill->from_bytes,
            fill->width);
}

static void fill_lengths(const Fill *fill, uint32_t first_row, const FillRow *sources,
                         uint32_t count) {
    uint8_t *to = fill->to + (size_t)first_row * fill->value_bytes;

    assert(fill->value_bytes >= 4);
    for (uint32_t r = 0; r < count; r++)
        convert_repeat(to + (size_t)r * fill->value_bytes, sources ? sources[r].length : 0,
                       fill->value_bytes, 1);
}

static void fill_whole(const Fill *fill, const TensorSpec *spec, uint32_t first_row,
                       const FillRow *sources, uint32_t count) {
    uint64_t row_bytes = tensor_row_bytes(spec, fill->length);
    uint8_t *to = fill->to + first_row * row_bytes;

    for (uint32_t r = 0; r < count; r++, to += row_bytes)
        (block_lists_knows(spec) ? block_lists_fill : dense_fill)(
            fill->set, spec, sources ? &sources[r] : NULL, sources ? 1 : 0, fill->length, to);
}

/* `sources` NULL: empty rows. */
static void fill_all(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t rows,
                     uint32_t length, uint32_t first_row, const FillRow *sources, uint32_t count) {
    assert(first_row <= rows && count <= rows - first_row);
    for (uint32_t t = 0; t < set->count; t++) {
        Fill fill = fill_new(set, layout, t, slot, rows, length);
        TensorSource source = set->tensors[t].source;

        if (layout->kept >> t & 1)
            continue;
        if (is_whole(&set->tensors[t]))
            fill_whole(&fill, &set->tensors[t], first_row, sources, count);
        else if (source == TENSOR_LENGTHS)
            fill_lengths(&fill, first_row, sources, count);
        else if (source == TENSOR_SEQUENCE_COLUMN)
            fill_sequence_column(&fill, first_row, sources, count);
        else if (set->time_first)
            fill_time_first(&fill, first_row, sources, count);
        else
            fill_batch_first(&fill, first_row, sources, count);
    }
}

/* As many of these rows as are asked for at once. */
static uint32_t rows_ahead(const FillRow *rows, uint32_t count) {
    uint64_t tokens = 0;
    uint32_t r = 0;

    while (r < count && tokens < AHEAD_TOKENS)
        tokens += rows[r++].length;
    return r;
}

/* Into the L2: they would push each other out of the L1. GCC 12 drops calls of functions that do
 * nothing but prefetch, hence the empty statement. */
static void prefetch_lines(const uint8_t *from, size_t bytes) {
    __asm__ volatile("");
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_prefetch(from + i, 0, 2);
}

static void prefetch_rows(const TensorSet *set, const FillRow *rows, uint32_t count) {
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        size_t bytes = (size_t)element_bytes(spec->element) * spec->width;

        if (spec->source == TENSOR_TOKENS || spec->source == TENSOR_TOKEN_COLUMN)
            for (uint32_t r = 0; r < count; r++)
                prefetch_lines(rows[r].columns[spec->column] + rows[r].start * bytes,
                               rows[r].length * bytes);
        else if (spec->source == TENSOR_SEQUENCE_COLUMN)
            for (uint32_t r = 0; r < count; r++)
                prefetch_lines(rows[r].columns[spec->column] + rows[r].sequence * bytes, bytes);
    }
}

void fill_prefetch(const TensorSet *set, const FillRow *rows, uint32_t count) {
    prefetch_rows(set, rows, rows_ahead(rows, count));
}

void fill_rows(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t rows,
               uint32_t length, uint32_t first_row, const FillRow *sources, uint32_t count) {
    uint32_t first = 0, end = set->time_first ? count : rows_ahead(sources, count);

    assert(sources || count == 0);
    while (first < count) {
        uint32_t next = rows_ahead(sources + end, count - end);

        prefetch_rows(set, sources + end, next);
        fill_all(set, layout, slot, rows, length, first_row + first, sources + first, end - first);
        first = end;
        end += next;
    }
}

void fill_empty_rows(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t rows,
                     uint32_t length, uint32_t first_row, uint32_t count) {
    fill_all(set, layout, slot, rows, length, first_row, NULL, count);
}
