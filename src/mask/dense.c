/* SPDX-License-Identifier: MIT */
#include "mask/dense.h"

#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "base/arithmetic.h"
#include "mask/answer.h"
#include "mask/convert.h"
#include "mask/row_view.h"

#define DENSE_COLUMNS 4096u

/* A mask over queries and places as a conjunction: whatever looks at places alone is worked out
 * once for all queries; causal, window and segments cut a run out of it. */
typedef struct Dense {
    uint32_t window; /* UINT32_MAX: none */
    bool causal, segments;
    bool general; /* something mixes queries and places in another way */
    MaskStep keys[TENSOR_STEPS_MAX];
    uint32_t key_count;
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

/* Copy whole 16-byte units past the cache: nobody reads a dense mask before it is published, and a
 * line that is written whole need not be read first. */
static void store_line(uint8_t *to, const uint8_t *line, size_t bytes) {
#ifdef __SSE2__
    for (size_t i = 0; i < bytes; i += sizeof(__m128i))
        _mm_stream_si128((__m128i *)(void *)(to + i),
                         _mm_load_si128((const __m128i *)(const void *)(line + i)));
#else
    memcpy(to, line, bytes);
#endif
}

static void store_end(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
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

/* The columns first .. last of all queries; `keys` are their elements as far as places decide. From
 * one query to the next the run that is kept only moves on, so its line is made from the last. */
static void dense_columns(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                          uint32_t first, uint32_t last, const uint8_t *keys, uint8_t *to) {
    _Alignas(CACHE_LINE) uint8_t line[DENSE_COLUMNS * sizeof(uint64_t)] = {0};
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint64_t bits[2], stride = tensor_dense_stride(length);
    size_t line_bytes = (size_t)((last == length ? stride : last) - first) * bytes;
    uint32_t kept_first = first, kept_end = first;
    RowWalk walk = *row;
    RowRun run = {0};

    answer_bits(spec, bits);
    convert_repeat(line, bits[0], bytes, last - first);
    to += (size_t)first * bytes;
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        uint32_t low = query >= dense->window ? query - dense->window + 1 : 0;
        uint32_t high = dense->causal ? query + 1 : length;

        while (dense->segments && query >= run.last)
            (void)row_walk_next(&walk, &run);
        if (dense->segments)
            dense_own_segment(&run, query, &low, &high);
        low = MIN(MAX(low, first), last);
        high = MIN(MAX(high, low), last);
        if (high > kept_end)
            memcpy(line + (size_t)(kept_end - first) * bytes,
                   keys + (size_t)(kept_end - first) * bytes, (size_t)(high - kept_end) * bytes);
        if (low > kept_first)
            convert_repeat(line + (size_t)(kept_first - first) * bytes, bits[0], bytes,
                           low - kept_first);
        kept_first = low;
        kept_end = high;
        store_line(to, line, line_bytes);
    }
}

/* The elements of columns first .. last as far as places decide. */
static void dense_keys(const RowWalk *row, const TensorSpec *spec, const Dense *dense,
                       uint32_t first, uint32_t last, uint8_t *ret_keys) {
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
            convert_select(ret_keys + (size_t)(at - first) * bytes, answers, bits, bytes,
                           stop - at);
        }
    }
}

void dense_fill(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                uint32_t count, uint32_t length, void *to) {
    RowWalk row = row_walk(set, sources, count, length);
    Dense dense = {.window = UINT32_MAX};
    uint8_t keys[DENSE_COLUMNS * sizeof(uint64_t)];

    dense_add(&dense, steps_of(set, spec), spec->step_count);
    if (dense.general) {
        dense_general(&row, spec, to);
        return;
    }
    if (dense.key_count == 0)
        dense.keys[dense.key_count++] = (MaskStep){.op = MASK_TRUE};
    for (uint32_t first = 0; first < length; first += MIN(DENSE_COLUMNS, length - first)) {
        uint32_t last = MIN(length - first, DENSE_COLUMNS) + first;

        dense_keys(&row, spec, &dense, first, last, keys);
        dense_columns(&row, spec, &dense, first, last, keys, to);
    }
    store_end();
}
