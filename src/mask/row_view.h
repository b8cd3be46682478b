/* SPDX-License-Identifier: MIT */
/* row_view.h: one row as rules look at it: its place in the padded batch, its tokens, its lists in
 * ragged columns. For the CPU backend's own files. */
#pragma once

#include <stdint.h>

#include "mask/fill.h"
#include "mask/mask_rule.h"
#include "mask/tensor.h"

/* One row, as rules look at it. */
typedef struct RowView {
    const TensorSet *set;
    const FillRow *source; /* NULL: empty */
    uint32_t length, real, begin;
    const uint8_t *tokens; /* the first real one */
} RowView;

/* A row's own list in a ragged column. */
typedef struct RowList {
    const uint8_t *values;
    uint32_t count, element;
} RowList;

static inline RowView row_view(const TensorSet *set, const FillRow *source, uint32_t length) {
    RowView row = {
        .set = set, .source = source, .length = length, .real = source ? source->length : 0};

    row.begin = mask_rule_begin(set->side, length, row.real);
    if (source)
        row.tokens = source->columns[0] + (size_t)source->start * element_bytes(set->token_element);
    return row;
}

static inline uint64_t sum_words(const uint8_t *words, uint32_t count) {
    const uint32_t *values = (const void *)words; /* sections of a block are aligned */
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += values[i];
    return sum;
}

static inline RowList row_list(const RowView *row, uint32_t column, uint32_t element,
                               uint32_t width) {
    const FillRow *source = row->source;
    const uint8_t *counts;
    uint64_t before;

    if (!source)
        return (RowList){.element = element};
    counts = source->columns[row->set->column_count + 1 + column];
    before = sum_words(counts, source->sequence);
    return (RowList){.values = source->columns[column] + before * width * element_bytes(element),
                     .count = ((const uint32_t *)(const void *)counts)[source->sequence] * width,
                     .element = element};
}

static inline int64_t row_list_value(const RowList *list, uint32_t i) {
    return mask_rule_integer(list->element,
                             list->values + (size_t)i * element_bytes(list->element));
}

/* How many tokens of its sequence come before the row's first (truncated or split). */
static inline uint64_t row_offset(const RowView *row) {
    const FillRow *source = row->source;

    return source->start - sum_words(source->columns[row->set->column_count], source->sequence);
}

static inline const MaskStep *steps_of(const TensorSet *set, const TensorSpec *spec) {
    return set->steps + spec->first_step;
}
