/* SPDX-License-Identifier: MIT */
/* A row at a time, or a sequence of a packed row: to the rules both are a sequence that stands
 * somewhere in a row. */
#include "mask/compute.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/answer.h"
#include "mask/convert.h"
#include "mask/mask_rule.h"
#include "mask/row_view.h"

/* Are the answers themselves the tensor's bytes? */
static bool is_plain(const TensorSpec *spec) {
    uint64_t bits[2];

    answer_bits(spec, bits);
    return tensor_dtype_bytes(spec->dtype) == 1 && bits[0] == 0 && bits[1] == 1;
}

static void compute_mask(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                         uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    bool plain = is_plain(spec);
    uint8_t answers[ANSWER_TILE];
    uint64_t bits[2];
    int answer = answer_whole(row, steps_of(row->set, spec), spec->step_count, 0, first, last,
                              plain ? to : answers);

    answer_bits(spec, bits);
    if (answer != ANSWER_MIXED)
        convert_repeat(to, bits[answer], bytes, last - first);
    else if (!plain)
        convert_select(to, answers, bits, bytes, last - first);
}

/* The padded column for places first .. last. */
static void pad_column(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                       uint8_t *to) {
    uint32_t low = MIN(MAX(row->begin, first), last);
    uint32_t high = MIN(MAX(row->begin + row->real, low), last);
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype);
    size_t place_bytes = (size_t)value_bytes * spec->width;

    convert_repeat(to, (uint64_t)spec->pad, value_bytes, (size_t)(low - first) * spec->width);
    if (low < high)
        convert_find(spec->element, spec->dtype)(
            to + (low - first) * place_bytes,
            row->source->columns[spec->column] + ((size_t)row->source->start + low - row->begin) *
                                                     spec->width * element_bytes(spec->element),
            (size_t)(high - low) * spec->width);
    convert_repeat(to + (high - first) * place_bytes, (uint64_t)spec->pad, value_bytes,
                   (size_t)(last - high) * spec->width);
}

#define TIMES(name, Value)                                                                        \
    static void name(void *to, const uint8_t *answers, const TensorSpec *spec, uint32_t places) { \
        Value *values = to;                                                                       \
                                                                                                  \
        if (spec->multiply)                                                                       \
            for (size_t i = 0; i < (size_t)places * spec->width; i++)                             \
                values[i] = (Value)mask_rule_times(spec->dtype, values[i],                        \
                                                   answers[i / spec->width]);                     \
        else if (spec->width == 1)                                                                \
            for (size_t i = 0; i < places; i++)                                                   \
                values[i] = answers[i] ? values[i] : 0;                                           \
        else                                                                                      \
            for (size_t i = 0; i < (size_t)places * spec->width; i++)                             \
                values[i] = answers[i / spec->width] ? values[i] : 0;                             \
    }
TIMES(times_8, uint8_t)
TIMES(times_16, uint16_t)
TIMES(times_32, uint32_t)
TIMES(times_64, uint64_t)
#undef TIMES

static void compute_apply(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                          uint8_t *to) {
    uint8_t answers[ANSWER_TILE];
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);

    pad_column(row, spec, first, last, to);
    answer_steps(row, steps_of(row->set, spec), spec->step_count, 0, first, last, answers);
    (bytes == 1   ? times_8
     : bytes == 2 ? times_16
     : bytes == 4 ? times_32
                  : times_64)(to, answers, spec, last - first);
}

static void compute_special(const RowView *row, const TensorSpec *spec, uint32_t first,
                            uint32_t last, uint8_t *to) {
    const uint64_t bits[2] = {mask_rule_one(spec->dtype), 0};
    uint8_t ordinary[ANSWER_TILE];

    answer_tokens(row, spec->first_value, spec->value_count, 0, first, last, ordinary);
    convert_select(to, ordinary, bits, tensor_dtype_bytes(spec->dtype), last - first);
}

void compute_count(uint8_t *to, uint32_t bytes, uint64_t from, uint32_t count) {
    if (bytes == sizeof(uint64_t))
        for (uint32_t i = 0; i < count; i++)
            ((uint64_t *)(void *)to)[i] = from + i;
    else
        for (uint32_t i = 0; i < count; i++)
            ((uint32_t *)(void *)to)[i] = (uint32_t)from + i;
}

static void compute_positions(const RowView *row, const TensorSpec *spec, uint32_t first,
                              uint32_t last, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    uint32_t low = MIN(MAX(row->begin, first), last);
    uint32_t high = MIN(MAX(row->begin + row->real, low), last);

    if (spec->counts_on)
        high = last;
    if (first < low)
        convert_repeat(to, (uint64_t)spec->pad, bytes, low - first);
    if (high < last)
        convert_repeat(to + (size_t)(high - first) * bytes, (uint64_t)spec->pad, bytes,
                       last - high);
    to += (size_t)(low - first) * bytes;
    if (spec->source == TENSOR_TYPES)
        memset(to, 0, (size_t)(high - low) * bytes);
    else
        compute_count(to, bytes, low - row->begin, high - low);
}

/* Places first .. last of labels or a loss mask, whose tokens from .. end (counted in the row) are
 * to be learned. Returns the places between which they were written. */
typedef struct Places {
    uint32_t first, end;
} Places;

static Places learn_run(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                        uint64_t from, uint64_t end, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    uint64_t low, high, earliest = spec->shift || row->set->packed;

    from = MAX(from, earliest); /* nothing predicts the first token */
    end = MAX(MIN(end, row->real), from);
    low = MIN(MAX(row->begin + from - spec->shift, first), last);
    high = MIN(MAX(row->begin + end - spec->shift, low), last);
    to += (low - first) * bytes;
    if (low < high && spec->source == TENSOR_LOSS_MASK)
        convert_repeat(to, mask_rule_one(spec->dtype), bytes, high - low);
    else if (low < high)
        convert_find(spec->element, spec->dtype)(
            to, row->tokens + (low + spec->shift - row->begin) * element_bytes(spec->element),
            high - low);
    return (Places){(uint32_t)low, (uint32_t)high};
}

static void learn_spans(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                        uint8_t *to) {
    uint64_t offset = row->source ? row_offset(row) : 0;
    RowList list = row_list(row, spec->spans, spec->spans_element, spec->spans_width);

    for (uint32_t i = 0; i + 2 <= list.count; i += 2) {
        int64_t from = MAX(row_list_value(&list, i), (int64_t)offset);
        int64_t end = row_list_value(&list, i + 1);

        if (end > from)
            (void)learn_run(row, spec, first, last, (uint64_t)from - offset, (uint64_t)end - offset,
                            to);
    }
}

static void compute_labels(const RowView *row, const TensorSpec *spec, uint32_t first,
                           uint32_t last, uint8_t *to) {
    uint64_t none = spec->source == TENSOR_LABELS ? (uint64_t)spec->pad : 0;
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    Places learned = {last, last};

    if (!spec->has_spans)
        learned = learn_run(row, spec, first, last, 0, row->real, to);
    convert_repeat(to, none, bytes, learned.first - first);
    convert_repeat(to + (size_t)(learned.end - first) * bytes, none, bytes, last - learned.end);
    if (spec->has_spans)
        learn_spans(row, spec, first, last, to);
}

typedef void ComputeFunction(const RowView *row, const TensorSpec *spec, uint32_t first,
                             uint32_t last, uint8_t *to);

static ComputeFunction *compute_find(TensorSource source) {
    switch (source) {
    case TENSOR_MASK:
        return compute_mask;
    case TENSOR_APPLY:
        return compute_apply;
    case TENSOR_POSITIONS:
    case TENSOR_TYPES:
        return compute_positions;
    case TENSOR_LABELS:
    case TENSOR_LOSS_MASK:
        return compute_labels;
    case TENSOR_SPECIAL:
        return compute_special;
    default:
        return NULL;
    }
}

bool compute_knows(const TensorSpec *spec) {
    return compute_find(spec->source) != NULL;
}

/* Places that are worked out at once: rules that know runs take a row as a whole. */
static uint32_t tile_places(const TensorSpec *spec) {
    bool in_tiles = spec->source == TENSOR_APPLY || spec->source == TENSOR_SPECIAL ||
                    (spec->source == TENSOR_MASK && (spec->step_count > 1 || !is_plain(spec)));

    return in_tiles ? ANSWER_TILE : UINT32_MAX;
}

static size_t place_bytes(const TensorSpec *spec) {
    return (size_t)tensor_dtype_bytes(spec->dtype) *
           (spec->source == TENSOR_APPLY ? spec->width : 1);
}

static void compute_run(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                        uint8_t *to) {
    ComputeFunction *compute = compute_find(spec->source);
    uint32_t tile = tile_places(spec);

    for (uint32_t at = first; at < last; at += MIN(tile, last - at))
        compute(row, spec, at, at + MIN(tile, last - at), to + (at - first) * place_bytes(spec));
}

void compute_places(const TensorSet *set, const TensorSpec *spec, const FillRow *source,
                    uint32_t length, uint32_t first, uint32_t last, void *to) {
    RowView row = row_view(set, source, length);

    compute_run(&row, spec, first, last, to);
}

void compute_packed(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                    uint32_t count, uint32_t length, void *to) {
    RowWalk walk = row_walk(set, sources, count, length);
    RowRun run;

    while (row_walk_next(&walk, &run))
        compute_run(&run.view, spec, run.first, run.last,
                    (uint8_t *)to + run.first * place_bytes(spec));
}
