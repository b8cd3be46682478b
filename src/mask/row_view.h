/* SPDX-License-Identifier: MIT */
/* row_view.h: one sequence in its row as rules look at it: its place in the padded row, its tokens,
 * its lists in ragged columns. A packed row is a walk from one to the next. For the CPU backend's
 * own files. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "mask/fill.h"
#include "mask/mask_rule.h"
#include "mask/tensor.h"

/* A sequence and the row that it stands in. */
typedef struct RowView {
    const TensorSet *set;
    const FillRow *source; /* NULL: empty */
    uint32_t length;       /* of the row */
    uint32_t real, begin;  /* the sequence's places */
    const uint8_t *tokens; /* the first real one */
} RowView;

/* A sequence's own list in a ragged column. */
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

/* The runs of a row one after another: of a packed row the padding and each sequence by itself, of
 * any other the whole row. */
typedef struct RowRun {
    RowView view;
    uint32_t first, last; /* places */
    uint32_t number;      /* of the sequence in a packed row, from 1 on; 0: padding */
} RowRun;

typedef struct RowWalk {
    const TensorSet *set;
    const FillRow *sources;
    uint32_t count, length, begin; /* begin: where the first sequence stands */
    uint32_t next, at;
} RowWalk;

static inline uint32_t row_tokens(const FillRow *sources, uint32_t count) {
    uint32_t real = 0;

    for (uint32_t s = 0; s < count; s++)
        real += sources[s].length;
    return real;
}

static inline RowWalk row_walk(const TensorSet *set, const FillRow *sources, uint32_t count,
                               uint32_t length) {
    return (RowWalk){
        .set = set,
        .sources = sources,
        .count = count,
        .length = length,
        .begin = mask_rule_begin(set->side, length, row_tokens(sources, count)),
    };
}

/* False: the row is at its end. */
static inline bool row_walk_next(RowWalk *walk, RowRun *ret_run) {
    const FillRow *source = NULL;

    if (walk->at >= walk->length)
        return false;
    ret_run->first = walk->at;
    ret_run->number = 0;
    if (!walk->set->packed) {
        ret_run->view = row_view(walk->set, walk->count ? walk->sources : NULL, walk->length);
        ret_run->last = walk->at = walk->length;
        return true;
    }
    if (walk->at >= walk->begin && walk->next < walk->count) {
        source = &walk->sources[walk->next++];
        ret_run->number = walk->next;
        walk->at += source->length;
    } else {
        walk->at = walk->at < walk->begin ? walk->begin : walk->length;
    }
    ret_run->view = row_view(walk->set, source, walk->length);
    ret_run->view.begin = ret_run->first;
    ret_run->last = walk->at;
    return true;
}

/* What belongs to a sequence, by the ends of those of its block. */
typedef struct RowExtent {
    uint32_t begin, count;
} RowExtent;

static inline RowExtent row_extent(const uint8_t *ends, uint32_t sequence) {
    const uint32_t *words = (const void *)ends; /* sections of a block are aligned */
    uint32_t begin = sequence ? words[sequence - 1] : 0;

    return (RowExtent){begin, words[sequence] - begin};
}

static inline RowList row_list(const RowView *row, uint32_t column, uint32_t element,
                               uint32_t width) {
    const FillRow *source = row->source;
    RowExtent own;

    if (!source)
        return (RowList){.element = element};
    own = row_extent(source->columns[row->set->column_count + 1 + column], source->sequence);
    return (RowList){.values = source->columns[column] +
                               (uint64_t)own.begin * width * element_bytes(element),
                     .count = own.count * width,
                     .element = element};
}

static inline int64_t row_list_value(const RowList *list, uint32_t i) {
    return mask_rule_integer(list->element,
                             list->values + (size_t)i * element_bytes(list->element));
}

static inline RowExtent row_sequence(const RowView *row) {
    return row_extent(row->source->columns[row->set->column_count], row->source->sequence);
}

/* Tokens of the whole sequence, of which the row may have a piece. */
static inline uint32_t row_sequence_length(const RowView *row) {
    return row_sequence(row).count;
}

/* How many tokens of its sequence come before the row's first (truncated or split). */
static inline uint64_t row_offset(const RowView *row) {
    return row->source->start - row_sequence(row).begin;
}

static inline const MaskStep *steps_of(const TensorSet *set, const TensorSpec *spec) {
    return set->steps + spec->first_step;
}
