/* SPDX-License-Identifier: MIT */
#include "mask/dense.h"

#include <string.h>

#include "base/arithmetic.h"
#include "mask/answer.h"
#include "mask/convert.h"
#include "mask/dense_line.h"
#include "mask/row_view.h"

enum {
    INSIDE_BYTES = 16384,  /* of a line that are worked out at once: they stay in the L1 … */
    CACHED_BYTES = 4 << 20 /* a mask up to this stays in the cache for who reads it next */
};

/* A mask over queries and places as a conjunction: whatever looks at places alone is worked out
 * once for all queries; causal, window and segments cut a run out of it. */
typedef struct Dense {
    uint32_t window; /* UINT32_MAX: none */
    bool causal, segments, lengths;
    bool general; /* something mixes queries and places in another way */
    MaskStep keys[TENSOR_STEPS_MAX];
    uint32_t key_count;
    uint32_t begin, end; /* places that may be kept: all, or with LENGTHS those that are real */
    bool past_cache;
} Dense;

/* Where the operand begins whose last step is steps[last]. */
static uint32_t operand_begin(const MaskStep *steps, uint32_t last) {
    uint32_t wanted = 1;

    for (uint32_t s = last;; s--) {
        if (steps[s].op == MASK_AND || steps[s].op == MASK_OR)
            wanted++;
        else if (steps[s].op != MASK_NOT)
            wanted--;
        if (wanted == 0)
            return s;
    }
}

static void dense_add(Dense *dense, const MaskStep *steps, uint32_t count) {
    bool looks_at_queries = false, first = dense->key_count == 0;

    if (count > 1 && steps[count - 1].op == MASK_AND) {
        uint32_t middle = operand_begin(steps, count - 2);

        dense_add(dense, steps, middle);
        dense_add(dense, steps + middle, count - 1 - middle);
        return;
    }
    if (count == 1 && steps[0].op == MASK_CAUSAL) {
        dense->causal = true;
        return;
    }
    if (count == 1 && steps[0].op == MASK_WINDOW) {
        dense->window = MIN(dense->window, steps[0].count);
        return;
    }
    if (count == 1 && steps[0].op == MASK_SEGMENTS) {
        dense->segments = true;
        return;
    }
    if (count == 1 && steps[0].op == MASK_LENGTHS) {
        dense->lengths = true;
        return;
    }
    if (count == 1 && steps[0].op == MASK_TRUE)
        return;
    for (uint32_t s = 0; s < count; s++)
        looks_at_queries |= steps[s].op == MASK_CAUSAL || steps[s].op == MASK_WINDOW ||
                            steps[s].op == MASK_SEGMENTS;
    dense->general |= looks_at_queries;
    memcpy(dense->keys + dense->key_count, steps, count * sizeof *steps);
    dense->key_count += count;
    if (!first)
        dense->keys[dense->key_count++] = (MaskStep){.op = MASK_AND};
}

/* Every query against every place, run by run. */
static void dense_general(const RowWalk *row, const TensorSpec *spec, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint64_t bits[2], stride = tensor_dense_stride(length);
    uint8_t answers[ANSWER_TILE];

    answer_bits(spec, bits);
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        RowWalk walk = *row;
        RowRun run;

        while (row_walk_next(&walk, &run)) {
            for (uint32_t at = run.first, last; at < run.last; at = last) {
                last = MIN(run.last - at, (uint32_t)ANSWER_TILE) + at;
                answer_steps(&run.view, steps_of(row->set, spec), spec->step_count, query, at, last,
                             answers);
                convert_select(to + (size_t)at * bytes, answers, bits, bytes, last - at);
            }
        }
        memset(to + (size_t)length * bytes, 0, (stride - length) * bytes);
    }
}

/* What of low .. high the query's own sequence has, as far as it is not padding. A query that
 * stands in no sequence sees nothing, and lies as far on as those before and behind it need. */
static void dense_own_segment(const RowRun *run, uint32_t query, uint32_t *low, uint32_t *high) {
    uint32_t begin = run->view.begin, end = begin + run->view.real;

    if (query - begin >= run->view.real)
        *low = *high = query < begin ? begin : end;
    *low = MAX(*low, begin);
    *high = MIN(*high, end);
}

/* The columns first .. last of all queries, to which `line` belongs. */
static void dense_columns(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                          const DenseLine *line, uint32_t first, uint32_t last, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint32_t begin = MIN(MAX(dense->begin, first), last), end = MAX(MIN(dense->end, last), begin);
    uint64_t stride = tensor_dense_stride(length);
    DenseLineFunction *store = dense_line_find(dense->past_cache);
    RowWalk walk = *row;
    RowRun run = {0};

    to += (size_t)first * bytes;
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        uint32_t low = query >= dense->window ? query - dense->window + 1 : 0;
        uint32_t high = dense->causal ? query + 1 : length;

        while (dense->segments && query >= run.last)
            (void)row_walk_next(&walk, &run);
        if (dense->segments)
            dense_own_segment(&run, query, &low, &high);
        low = MIN(MAX(low, begin), end);
        high = MAX(MIN(high, end), low);
        store(line, (size_t)(low - first) * bytes, (size_t)(high - first) * bytes, to);
    }
}

/* The elements of columns first .. last as far as places decide. */
static void dense_inside(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                         uint32_t first, uint32_t last, uint8_t *ret_inside) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    uint8_t answers[ANSWER_TILE];
    RowWalk walk = *row;
    uint64_t bits[2];
    RowRun run;

    answer_bits(spec, bits);
    while (row_walk_next(&walk, &run) && run.first < last) {
        uint32_t end = MIN(run.last, last);

        for (uint32_t at = MAX(run.first, first), stop; at < end; at = stop) {
            stop = MIN(end - at, (uint32_t)ANSWER_TILE) + at;
            answer_steps(&run.view, dense->keys, dense->key_count, 0, at, stop, answers);
            convert_select(ret_inside + (size_t)(at - first) * bytes, answers, bits, bytes,
                           stop - at);
        }
    }
}

/* Places decide one by one: as many columns at a time as have room. */
static void dense_mixed(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                        const DenseLine *whole, uint8_t *to) {
    uint8_t inside[INSIDE_BYTES + 2 * DENSE_LINE_MARGIN] = {0};
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint32_t columns = INSIDE_BYTES / bytes;
    DenseLine line = *whole;

    line.inside = inside + DENSE_LINE_MARGIN;
    for (uint32_t first = 0, last; first < length; first = last) {
        last = MIN(length - first, columns) + first;
        line.end = (size_t)(last - first) * bytes;
        line.bytes = last == length ? (tensor_dense_stride(length) - first) * bytes : line.end;
        dense_inside(row, spec, dense, first, last, inside + DENSE_LINE_MARGIN);
        dense_columns(row, spec, dense, &line, first, last, to);
    }
}

/* Of the largest batch with rows of this length. */
static uint64_t dense_bytes(const TensorSet *set, const TensorSpec *spec, uint32_t length) {
    uint64_t rows = set->rows_max;

    if (set->places_max)
        rows = MIN(rows, set->places_max / length);
    return rows * tensor_row_bytes(spec, length);
}

void dense_fill(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                uint32_t count, uint32_t length, void *to) {
    RowWalk row = row_walk(set, sources, count, length);
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    Dense dense = {.window = UINT32_MAX, .end = length};
    DenseLine line = {.end = (size_t)length * bytes, .bytes = tensor_dense_stride(length) * bytes};
    uint64_t bits[2];

    dense_add(&dense, steps_of(set, spec), spec->step_count);
    if (dense.general) {
        dense_general(&row, spec, to);
        return;
    }
    dense.past_cache = dense_bytes(set, spec, length) > CACHED_BYTES;
    answer_bits(spec, bits);
    convert_repeat(line.out, bits[0], bytes, sizeof line.out / bytes);
    convert_repeat(line.kept, bits[1], bytes, sizeof line.kept / bytes);
    if (dense.lengths) {
        dense.begin = row.begin;
        dense.end = row.begin + row_tokens(sources, count);
    }
    if (dense.key_count == 0)
        dense_columns(&row, spec, &dense, &line, 0, length, to);
    else
        dense_mixed(&row, spec, &dense, &line, to);
    if (dense.past_cache)
        dense_line_flush();
}
