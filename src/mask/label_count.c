/* SPDX-License-Identifier: MIT */
#include "mask/label_count.h"

#include <string.h>

#include "mask/row_view.h"

enum { TILE = 1024 };

static const TensorSpec *find_source(const TensorSet *set, TensorSource source) {
    for (uint32_t t = 0; t < set->count; t++)
        if (set->tensors[t].source == source)
            return &set->tensors[t];
    return NULL;
}

static const TensorSpec *find_column(const TensorSet *set) {
    for (uint32_t t = 0; t < set->count; t++)
        if ((set->tensors[t].source == TENSOR_SEQUENCE_COLUMN ||
             set->tensors[t].source == TENSOR_TOKEN_COLUMN) &&
            strcmp(set->tensors[t].name, "labels") == 0)
            return &set->tensors[t];
    return NULL;
}

LabelKind label_kind(const TensorSet *set, const TensorSpec **ret_spec) {
    const TensorSpec *spec = find_source(set, TENSOR_LOSS_MASK);

    if (!spec)
        spec = find_source(set, TENSOR_LABELS);
    if (!spec)
        spec = find_column(set);
    if (ret_spec)
        *ret_spec = spec;
    if (!spec)
        return LABEL_NONE;
    return spec->source == TENSOR_SEQUENCE_COLUMN ? LABEL_SEQUENCE : LABEL_TOKEN;
}

/* The first token of a sequence that a label can be about: where labels are about the next token,
 * and in packed rows, nothing precedes the first one. */
static uint32_t first_token(const TensorSet *set, const TensorSpec *spec) {
    return set->packed || spec->shift;
}

/* One span as tokens of the row, from `first` on; empty ones end where they begin. */
typedef struct Stretch {
    uint64_t from, end;
} Stretch;

static Stretch stretch_of(const RowList *list, uint32_t i, uint64_t offset, uint32_t first,
                          uint32_t real) {
    int64_t from = row_list_value(list, i), end = row_list_value(list, i + 1);
    Stretch stretch;

    from = MAX(from, (int64_t)offset);
    if (end <= from)
        return (Stretch){0};
    stretch.from = MAX((uint64_t)from - offset, (uint64_t)first);
    stretch.end = MIN((uint64_t)end - offset, (uint64_t)real);
    return stretch.from < stretch.end ? stretch : (Stretch){0};
}

/* Tokens in any of the spans, which may overlap. */
static uint64_t count_overlapping(const RowList *list, uint64_t offset, uint32_t first,
                                  uint32_t real) {
    uint8_t inside[TILE];
    uint64_t count = 0;

    for (uint64_t begin = 0; begin < real; begin += TILE) {
        memset(inside, 0, sizeof inside);
        for (uint32_t i = 0; i + 2 <= list->count; i += 2) {
            Stretch stretch = stretch_of(list, i, offset, first, real);
            uint64_t from = MAX(stretch.from, begin), end = MIN(stretch.end, begin + TILE);

            if (from < end)
                memset(inside + (from - begin), 1, end - from);
        }
        for (uint32_t i = 0; i < TILE; i++)
            count += inside[i];
    }
    return count;
}

/* Tokens in spans, from `first` on, and whether `first` itself is one of them. */
static uint64_t count_spans(const TensorSet *set, const TensorSpec *spec, const FillRow *source,
                            uint32_t first, bool *ret_has_first) {
    RowView row = row_view(set, source, MAX(source->length, 1u));
    RowList list = row_list(&row, spec->spans, spec->spans_element, spec->spans_width);
    uint64_t offset = row_offset(&row), count = 0, last = 0;
    bool has_first = false, apart = true;

    for (uint32_t i = 0; i + 2 <= list.count; i += 2) {
        Stretch stretch = stretch_of(&list, i, offset, first, source->length);

        if (stretch.from >= stretch.end)
            continue;
        has_first |= stretch.from == first;
        apart &= stretch.from >= last;
        count += stretch.end - stretch.from;
        last = stretch.end;
    }
    *ret_has_first = has_first;
    return apart ? count : count_overlapping(&list, offset, first, source->length);
}

/* Is there no padding before a packed row of these sequences? */
static bool begins_at_once(const TensorSet *set, uint32_t length, const FillRow *sources,
                           uint32_t count) {
    uint32_t real = 0;

    for (uint32_t i = 0; i < count; i++)
        real += sources[i].length;
    return mask_rule_begin(set->side, length, real) == 0;
}

LabelCount label_count(const TensorSet *set, uint32_t length, const FillRow *sources,
                       uint32_t count, const uint32_t *firsts, uint32_t row_count, uint32_t base) {
    const TensorSpec *spec;
    LabelKind kind = label_kind(set, &spec);
    uint32_t first, row = 0;
    bool is_fresh = false; /* a packed row's first place is still to come */
    LabelCount sum = {0};

    if (kind == LABEL_NONE)
        return sum;
    if (kind == LABEL_SEQUENCE)
        return (LabelCount){.items = count};
    first = first_token(set, spec);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t real = sources[i].length;
        uint64_t items = real > first ? real - first : 0;
        bool has_first = items > 0, begins_row = mask_rule_begin(set->side, length, real) == 0;

        if (spec->has_spans)
            items = count_spans(set, spec, &sources[i], first, &has_first);
        if (firsts) {
            if (row < row_count && firsts[row] - base == i) {
                row++;
                is_fresh = begins_at_once(set, length, sources + i, firsts[row] - base - i);
            }
            begins_row = is_fresh && real > 0; /* an empty sequence takes none of its places */
            is_fresh &= real == 0;
        }
        sum.items += items;
        /* A packed row's own labels begin with one that does not count, unless they are shifted. */
        sum.items_first += begins_row && has_first && (!set->packed || spec->shift);
    }
    return sum;
}
