/* SPDX-License-Identifier: MIT */
#include "mask/dense.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/answer.h"
#include "mask/convert.h"
#include "mask/dense_line.h"
#include "mask/row_view.h"

enum {
    INSIDE_BYTES = 16384,   /* of a line that are worked out at once: they stay in the L1 … */
    CACHED_BYTES = 4 << 20, /* a mask up to this stays in the cache for who reads it next */
    LEAVES_MAX = 4,         /* steps about queries in a mask that is no conjunction */
    CASE_BYTES = 4096,      /* of a line that are worked out at once for each case of those */
    /* Lines that are copied lie in memory twice, so far apart. */
    INSIDE_APART = INSIDE_BYTES + DENSE_LINE_APART,
    CASE_APART = CASE_BYTES + DENSE_LINE_APART
};
static_assert(DENSE_LINE_APART >= 2 * DENSE_LINE_MARGIN, "lines do not overlap");
static_assert(INSIDE_APART / DENSE_LINE_APART % 2 == 1 && CASE_APART / DENSE_LINE_APART % 2 == 1,
              "one of two suits any place");
static_assert(2 * LEAVES_MAX + 1 <= DENSE_LINE_SPANS_MAX, "a leaf begins and ends within a line");

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
    _Alignas(CACHE_LINE) uint8_t elements[2][CACHE_LINE]; /* masked out and kept, repeated */
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

static bool is_about_queries(const MaskStep *step) {
    return step->op == MASK_CAUSAL || step->op == MASK_WINDOW || step->op == MASK_SEGMENTS;
}

static void dense_add(Dense *dense, const MaskStep *steps, uint32_t count) {
    bool first = dense->key_count == 0;

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
        dense->general |= is_about_queries(&steps[s]);
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

/* Elements that columns first .. last have of a line: the last ones also what follows the row. */
static uint64_t dense_piece(const RowWalk *row, uint32_t first, uint32_t last) {
    return (last == row->length ? tensor_dense_stride(last) : last) - first;
}

/* The columns first .. last of all queries. `inside`: what places make of them, twice; NULL: they
 * keep everything. */
static void dense_columns(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                          const uint8_t *inside, uint32_t first, uint32_t last, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint32_t begin = MIN(MAX(dense->begin, first), last), end = MAX(MIN(dense->end, last), begin);
    uint64_t stride = tensor_dense_stride(length);
    DenseLineFunction *store = dense_line_find(dense->past_cache);
    const DenseSpan out = {
        .from = dense->elements[0], .end = (size_t)(last - first) * bytes, .repeats = true};
    DenseLine line = {.spans = {out, {.from = dense->elements[1], .repeats = !inside}, out},
                      .count = 3,
                      .bytes = dense_piece(row, first, last) * bytes};
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
        line.spans[0].end = (size_t)(low - first) * bytes;
        line.spans[1].end = (size_t)(high - first) * bytes;
        if (inside)
            line.spans[1].from = inside + (dense_line_waits(inside, to) ? INSIDE_APART : 0);
        store(&line, to);
    }
}

/* The elements of columns first .. last as far as places decide. */
static void dense_inside(const RowWalk *row, const TensorSpec *spec, const MaskStep *steps,
                         uint32_t step_count, uint32_t first, uint32_t last, uint8_t *ret_inside) {
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
            answer_steps(&run.view, steps, step_count, 0, at, stop, answers);
            convert_select(ret_inside + (size_t)(at - first) * bytes, answers, bits, bytes,
                           stop - at);
        }
    }
}

/* Places decide one by one: as many columns at a time as have room. */
static void dense_mixed(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                        uint8_t *to) {
    _Alignas(CACHE_LINE) uint8_t memory[INSIDE_APART + INSIDE_BYTES + 2 * DENSE_LINE_MARGIN];
    uint8_t *inside = memory + DENSE_LINE_MARGIN;
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), columns = INSIDE_BYTES / bytes;

    for (uint32_t first = 0, last; first < row->length; first = last) {
        last = MIN(row->length - first, columns) + first;
        dense_inside(row, spec, dense->keys, dense->key_count, first, last, inside);
        memcpy(inside + INSIDE_APART, inside, (size_t)(last - first) * bytes);
        dense_columns(row, spec, dense, inside, first, last, to);
    }
}

/* The different steps of a mask that are about queries. For one query each is true in a run of
 * places; where a run begins or ends, one case of truths gives way to another. What places decide
 * in each case is worked out once for all queries. */
typedef struct Leaves {
    MaskStep steps[LEAVES_MAX];
    uint32_t count, cases;
    uint32_t low[LEAVES_MAX], high[LEAVES_MAX]; /* as one query has them */
} Leaves;

static uint32_t leaf_find(const Leaves *leaves, const MaskStep *step) {
    uint32_t leaf = 0;

    while (leaf < leaves->count &&
           (leaves->steps[leaf].op != step->op || leaves->steps[leaf].count != step->count))
        leaf++;
    return leaf;
}

/* False: there are too many. */
static bool leaves_find(const MaskStep *steps, uint32_t count, Leaves *ret_leaves) {
    Leaves leaves = {0};

    for (uint32_t s = 0; s < count; s++) {
        if (!is_about_queries(&steps[s]) || leaf_find(&leaves, &steps[s]) < leaves.count)
            continue;
        if (leaves.count == LEAVES_MAX)
            return false;
        leaves.steps[leaves.count++] = steps[s];
    }
    leaves.cases = 1u << leaves.count;
    *ret_leaves = leaves;
    return true;
}

static void leaves_query(Leaves *leaves, const RowRun *run, uint32_t query, uint32_t length) {
    for (uint32_t l = 0; l < leaves->count; l++) {
        uint32_t low = 0, high = length, window = leaves->steps[l].count;

        if (leaves->steps[l].op == MASK_CAUSAL)
            high = query + 1;
        else if (leaves->steps[l].op == MASK_WINDOW)
            low = query >= window ? query - window + 1 : 0;
        else
            dense_own_segment(run, query, &low, &high);
        leaves->low[l] = low;
        leaves->high[l] = high;
    }
}

/* Columns first .. last in one case: bit l tells what leaf l is. */
static void leaves_case(const Leaves *leaves, uint32_t truths, const RowWalk *row,
                        const TensorSpec *spec, uint32_t first, uint32_t last, uint8_t *to) {
    MaskStep steps[TENSOR_STEPS_MAX];

    memcpy(steps, steps_of(row->set, spec), spec->step_count * sizeof *steps);
    for (uint32_t s = 0; s < spec->step_count; s++)
        if (is_about_queries(&steps[s]))
            steps[s] = (MaskStep){.op = truths >> leaf_find(leaves, &steps[s]) & 1 ? MASK_TRUE
                                                                                   : MASK_FALSE};
    dense_inside(row, spec, steps, spec->step_count, first, last, to);
}

/* Columns first .. last for the query that leaves_query() was told, from those of the cases. */
static void leaves_line(const Leaves *leaves, const uint8_t *const *cases, uint32_t bytes,
                        uint32_t first, uint32_t last, DenseLine *line) {
    line->count = 0;
    for (uint32_t at = first, next; at < last; at = next) {
        uint32_t truths = 0;

        next = last;
        for (uint32_t l = 0; l < leaves->count; l++) {
            if (at >= leaves->high[l])
                continue;
            truths |= (uint32_t)(at >= leaves->low[l]) << l;
            next = MIN(next, at < leaves->low[l] ? leaves->low[l] : leaves->high[l]);
        }
        line->spans[line->count++] = (DenseSpan){.from = cases[truths],
                                                 .end = (size_t)(next - first) * bytes};
    }
}

/* Columns first .. last of all queries. */
static void leaves_columns(Leaves *leaves, const RowWalk *row, const TensorSpec *spec,
                           DenseLineFunction *store, uint32_t first, uint32_t last, uint8_t *to) {
    _Alignas(CACHE_LINE) uint8_t memory[1 << LEAVES_MAX][2 * CASE_APART];
    const uint8_t *cases[2][1 << LEAVES_MAX];
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint64_t stride = tensor_dense_stride(length);
    DenseLine line = {.bytes = dense_piece(row, first, last) * bytes};
    RowWalk walk = *row;
    RowRun run = {0};

    for (uint32_t truths = 0; truths < leaves->cases; truths++) {
        uint8_t *inside = memory[truths] + DENSE_LINE_MARGIN;

        leaves_case(leaves, truths, row, spec, first, last, inside);
        memcpy(inside + CASE_APART, inside, (size_t)(last - first) * bytes);
        cases[0][truths] = inside;
        cases[1][truths] = inside + CASE_APART;
    }
    to += (size_t)first * bytes;
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        while (query >= run.last)
            (void)row_walk_next(&walk, &run);
        leaves_query(leaves, &run, query, length);
        leaves_line(leaves, cases[dense_line_waits(cases[0][0], to)], bytes, first, last, &line);
        store(&line, to);
    }
}

static void dense_leaves(Leaves *leaves, const RowWalk *row, const TensorSpec *spec,
                         DenseLineFunction *store, uint8_t *to) {
    uint32_t columns = CASE_BYTES / tensor_dtype_bytes(spec->dtype);

    for (uint32_t first = 0, last; first < row->length; first = last) {
        last = MIN(row->length - first, columns) + first;
        leaves_columns(leaves, row, spec, store, first, last, to);
    }
}

/* Of the largest batch with rows of this length. */
static uint64_t dense_bytes(const TensorSet *set, const TensorSpec *spec, uint32_t length) {
    uint64_t rows = set->rows_max;

    if (set->places_max)
        rows = MIN(rows, set->places_max / MAX(length, 1u));
    return rows * tensor_row_bytes(spec, length);
}

void dense_fill(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                uint32_t count, uint32_t length, void *to) {
    RowWalk row = row_walk(set, sources, count, length);
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    Dense dense = {.window = UINT32_MAX, .end = length};
    uint64_t bits[2];
    Leaves leaves;

    dense_add(&dense, steps_of(set, spec), spec->step_count);
    dense.past_cache = dense_bytes(set, spec, length) > CACHED_BYTES;
    answer_bits(spec, bits);
    for (int keep = 0; keep < 2; keep++)
        convert_repeat(dense.elements[keep], bits[keep], bytes, CACHE_LINE / bytes);
    if (dense.lengths) {
        dense.begin = row.begin;
        dense.end = row.begin + row_tokens(sources, count);
    }
    if (dense.general && leaves_find(steps_of(set, spec), spec->step_count, &leaves))
        dense_leaves(&leaves, &row, spec, dense_line_find(dense.past_cache), to);
    else if (dense.general)
        dense_general(&row, spec, to);
    else if (dense.key_count == 0)
        dense_columns(&row, spec, &dense, NULL, 0, length, to);
    else
        dense_mixed(&row, spec, &dense, to);
    if (dense.past_cache)
        dense_line_flush();
}
