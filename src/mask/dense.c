/* SPDX-License-Identifier: MIT */
#include "mask/dense.h"

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
    CASE_BYTES = 4096       /* of a line that are worked out at once for each case of those */
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
        dense_inside(row, spec, dense->keys, dense->key_count, first, last,
                     inside + DENSE_LINE_MARGIN);
        dense_columns(row, spec, dense, &line, first, last, to);
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

/* As much of columns first .. last as lies in at .. end, for the query that leaves_query() was
 * told, from those of the cases. */
static void leaves_line(const Leaves *leaves, const uint8_t *const *cases, uint32_t bytes,
                        uint32_t first, uint32_t last, uint32_t at, uint32_t end, uint8_t *to) {
    at = MAX(at, first);
    end = MIN(end, last);
    for (uint32_t next; at < end; at = next) {
        size_t offset = (size_t)(at - first) * bytes;
        uint32_t truths = 0;

        next = end;
        for (uint32_t l = 0; l < leaves->count; l++) {
            if (at >= leaves->high[l])
                continue;
            truths |= (uint32_t)(at >= leaves->low[l]) << l;
            next = MIN(next, at < leaves->low[l] ? leaves->low[l] : leaves->high[l]);
        }
        memcpy(to + offset, cases[truths] + offset, (size_t)(next - at) * bytes);
    }
}

/* The line of the query before becomes that of this one: only what the ends of runs passed changes.
 */
static void leaves_turn(const Leaves *before, const Leaves *leaves, const uint8_t *const *cases,
                        uint32_t bytes, uint32_t first, uint32_t last, uint8_t *line) {
    for (uint32_t l = 0; l < leaves->count; l++) {
        uint32_t low = leaves->low[l], high = leaves->high[l];

        leaves_line(leaves, cases, bytes, first, last, MIN(low, before->low[l]),
                    MAX(low, before->low[l]), line);
        leaves_line(leaves, cases, bytes, first, last, MIN(high, before->high[l]),
                    MAX(high, before->high[l]), line);
    }
}

/* Columns first .. last of all queries. */
static void leaves_columns(Leaves *leaves, const RowWalk *row, const TensorSpec *spec,
                           DenseLineFunction *store, uint32_t first, uint32_t last, uint8_t *to) {
    uint8_t memory[1 << LEAVES_MAX][CASE_BYTES], inside[CASE_BYTES + 2 * DENSE_LINE_MARGIN] = {0};
    const uint8_t *cases[1 << LEAVES_MAX];
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint64_t stride = tensor_dense_stride(length);
    DenseLine line = {.inside = inside + DENSE_LINE_MARGIN, .end = (size_t)(last - first) * bytes};
    RowWalk walk = *row;
    RowRun run = {0};

    line.bytes = last == length ? (stride - first) * bytes : line.end;
    for (uint32_t truths = 0; truths < leaves->cases; truths++) {
        leaves_case(leaves, truths, row, spec, first, last, memory[truths]);
        cases[truths] = memory[truths];
    }
    to += (size_t)first * bytes;
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        Leaves before = *leaves;

        while (query >= run.last)
            (void)row_walk_next(&walk, &run);
        leaves_query(leaves, &run, query, length);
        if (query == 0)
            leaves_line(leaves, cases, bytes, first, last, first, last, inside + DENSE_LINE_MARGIN);
        else
            leaves_turn(&before, leaves, cases, bytes, first, last, inside + DENSE_LINE_MARGIN);
        store(&line, 0, line.end, to);
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
    DenseLine line = {.end = (size_t)length * bytes, .bytes = tensor_dense_stride(length) * bytes};
    uint64_t bits[2];
    Leaves leaves;

    dense_add(&dense, steps_of(set, spec), spec->step_count);
    dense.past_cache = dense_bytes(set, spec, length) > CACHED_BYTES;
    answer_bits(spec, bits);
    convert_repeat(line.out, bits[0], bytes, sizeof line.out / bytes);
    convert_repeat(line.kept, bits[1], bytes, sizeof line.kept / bytes);
    if (dense.lengths) {
        dense.begin = row.begin;
        dense.end = row.begin + row_tokens(sources, count);
    }
    if (dense.general && leaves_find(steps_of(set, spec), spec->step_count, &leaves))
        dense_leaves(&leaves, &row, spec, dense_line_find(dense.past_cache), to);
    else if (dense.general)
        dense_general(&row, spec, to);
    else if (dense.key_count == 0)
        dense_columns(&row, spec, &dense, &line, 0, length, to);
    else
        dense_mixed(&row, spec, &dense, &line, to);
    if (dense.past_cache)
        dense_line_flush();
}
