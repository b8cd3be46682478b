/* SPDX-License-Identifier: MIT */
/* Masks are worked out for a tile of neighbouring places at a time: each step of the mask is one
 * loop over bytes that are 0 or 1, which compilers turn into vector code, and the steps' answers
 * stay in the first-level cache. What is right for one place is said in mask_rule.h. */
#include "mask/compute.h"

#include <assert.h>
#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "base/arithmetic.h"
#include "mask/convert.h"
#include "mask/mask_rule.h"
#include "mask/row_view.h"

#define TILE 256u
#define DENSE_COLUMNS 4096u

/* ---- steps ---- */

static void answer_range(uint8_t *answers, uint32_t first, uint32_t last, uint64_t from,
                         uint64_t to) {
    uint32_t low = (uint32_t)MIN(MAX(from, first), last), high = (uint32_t)MIN(MAX(to, low), last);

    memset(answers, 0, low - first);
    memset(answers + (low - first), 1, high - low);
    memset(answers + (high - first), 0, last - high);
}

static void clear_index(const RowView *row, uint8_t *answers, uint32_t first, uint32_t last,
                        int64_t index) {
    uint32_t place;

    if (mask_rule_index(index, row->length, &place) && place >= first && place < last)
        answers[place - first] = 0;
}

#define DIFFER(name, Token)                                                               \
    static void name(uint8_t *answers, const uint8_t *tokens, size_t count, int64_t id) { \
        const Token *values = (const void *)tokens;                                       \
        Token wanted = (Token)id;                                                         \
                                                                                          \
        if ((int64_t)wanted != id)                                                        \
            return; /* no token is that one */                                            \
        for (size_t i = 0; i < count; i++)                                                \
            answers[i] &= values[i] != wanted;                                            \
    }
DIFFER(differ_u8, uint8_t)
DIFFER(differ_u16, uint16_t)
DIFFER(differ_u32, uint32_t)
DIFFER(differ_i32, int32_t)
DIFFER(differ_i64, int64_t)
#undef DIFFER

static void differ_u24(uint8_t *answers, const uint8_t *tokens, size_t count, int64_t id) {
    for (size_t i = 0; i < count; i++)
        answers[i] &= mask_rule_integer(ELEMENT_U24, tokens + 3 * i) != id;
}

static void differ(uint32_t element, uint8_t *answers, const uint8_t *tokens, size_t count,
                   int64_t id) {
    static void (*const loops[ELEMENT_TYPE_COUNT])(uint8_t *, const uint8_t *, size_t, int64_t) = {
        [ELEMENT_U8] = differ_u8,   [ELEMENT_U16] = differ_u16, [ELEMENT_U24] = differ_u24,
        [ELEMENT_U32] = differ_u32, [ELEMENT_I32] = differ_i32, [ELEMENT_I64] = differ_i64};

    assert(element < ELEMENT_TYPE_COUNT && loops[element]);
    loops[element](answers, tokens, count, id);
}

/* 1 where the token, padding included, is none of the ids. */
static void answer_tokens(const RowView *row, const int64_t *ids, uint32_t count, uint32_t first,
                          uint32_t last, uint8_t *answers) {
    uint32_t element = row->set->token_element;
    uint32_t low = MIN(MAX(row->begin, first), last);
    uint32_t high = MIN(MAX(row->begin + row->real, low), last);
    uint8_t padding = 1;

    for (uint32_t i = 0; i < count; i++)
        padding &= ids[i] != row->set->token_pad;
    memset(answers, padding, low - first);
    memset(answers + (low - first), 1, high - low);
    memset(answers + (high - first), padding, last - high);
    for (uint32_t i = 0; i < count && low < high; i++)
        differ(element, answers + (low - first),
               row->tokens + (size_t)(low - row->begin) * element_bytes(element), high - low,
               ids[i]);
}

/* The answer of a step that combines nothing. */
static void answer_leaf(const RowView *row, const MaskStep *step, uint32_t query, uint32_t first,
                        uint32_t last, uint8_t *answers) {
    const int64_t *values = row->set->values + step->first;
    uint32_t window_first = query >= step->count ? query - step->count + 1 : 0;

    switch (step->op) {
    case MASK_LENGTHS:
        answer_range(answers, first, last, row->begin, (uint64_t)row->begin + row->real);
        return;
    case MASK_CAUSAL:
        answer_range(answers, first, last, 0, (uint64_t)query + 1);
        return;
    case MASK_WINDOW:
        answer_range(answers, first, last, window_first, UINT64_MAX);
        return;
    case MASK_TOKEN_IDS:
        answer_tokens(row, values, step->count, first, last, answers);
        return;
    case MASK_INDICES:
        memset(answers, 1, last - first);
        for (uint32_t i = 0; i < step->count; i++)
            clear_index(row, answers, first, last, values[i]);
        return;
    case MASK_INDEX_COLUMN: {
        RowList list = row_list(row, step->first, step->count, 1);

        memset(answers, 1, last - first);
        for (uint32_t i = 0; i < list.count; i++)
            clear_index(row, answers, first, last, row_list_value(&list, i));
        return;
    }
    default:
        memset(answers, step->op == MASK_TRUE, last - first);
    }
}

/* The answers of steps for at most TILE places. */
static void answer_steps(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                         uint32_t first, uint32_t last, uint8_t *ret_answers) {
    uint8_t stack[TENSOR_DEPTH_MAX][TILE];
    uint32_t top = 0, places = last - first;

    assert(places <= TILE);
    for (uint32_t s = 0; s < count; s++) {
        uint8_t *a = top > 1 ? stack[top - 2] : stack[0], *b = top > 0 ? stack[top - 1] : stack[0];

        switch (steps[s].op) {
        case MASK_AND:
            for (uint32_t i = 0; i < places; i++)
                a[i] &= b[i];
            top--;
            break;
        case MASK_OR:
            for (uint32_t i = 0; i < places; i++)
                a[i] |= b[i];
            top--;
            break;
        case MASK_NOT:
            for (uint32_t i = 0; i < places; i++)
                b[i] ^= 1;
            break;
        default:
            assert(top < TENSOR_DEPTH_MAX);
            answer_leaf(row, &steps[s], query, first, last, stack[top++]);
        }
    }
    assert(top == 1);
    memcpy(ret_answers, stack[0], places);
}

static void mask_bits(const TensorSpec *spec, uint64_t ret_bits[2]) {
    for (int keep = 0; keep < 2; keep++)
        ret_bits[keep] = mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, keep);
}

/* ---- tensors ---- */

static void compute_mask(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                         uint8_t *to) {
    uint8_t answers[TILE];
    uint64_t bits[2];

    answer_steps(row, steps_of(row->set, spec), spec->step_count, 0, first, last, answers);
    mask_bits(spec, bits);
    convert_select(to, answers, bits, tensor_dtype_bytes(spec->dtype), last - first);
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
    uint8_t answers[TILE];
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
    uint8_t ordinary[TILE], real[TILE];

    answer_tokens(row, row->set->values + spec->first_value, spec->value_count, first, last,
                  ordinary);
    answer_range(real, first, last, row->begin, (uint64_t)row->begin + row->real);
    for (uint32_t i = 0; i < last - first; i++)
        ordinary[i] &= real[i];
    convert_select(to, ordinary, bits, tensor_dtype_bytes(spec->dtype), last - first);
}

static void compute_positions(const RowView *row, const TensorSpec *spec, uint32_t first,
                              uint32_t last, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    uint32_t low = MIN(MAX(row->begin, first), last);
    uint32_t high = MIN(MAX(row->begin + row->real, low), last);
    uint64_t position = low - row->begin;

    convert_repeat(to, (uint64_t)spec->pad, bytes, low - first);
    convert_repeat(to + (size_t)(high - first) * bytes, (uint64_t)spec->pad, bytes, last - high);
    to += (size_t)(low - first) * bytes;
    if (spec->source == TENSOR_TYPES)
        memset(to, 0, (size_t)(high - low) * bytes);
    else if (bytes == 8)
        for (uint32_t i = 0; i < high - low; i++)
            ((uint64_t *)(void *)to)[i] = position + i;
    else
        for (uint32_t i = 0; i < high - low; i++)
            ((uint32_t *)(void *)to)[i] = (uint32_t)position + i;
}

/* Places first .. last of labels or a loss mask, whose tokens from .. end (counted in the row) are
 * to be learned. Returns the places between which they were written. */
typedef struct Places {
    uint32_t first, end;
} Places;

static Places learn_run(const RowView *row, const TensorSpec *spec, uint32_t first, uint32_t last,
                        uint64_t from, uint64_t end, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    uint64_t low, high;

    from = MAX(from, spec->shift); /* nothing precedes the first token */
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

void compute_places(const TensorSet *set, const TensorSpec *spec, const FillRow *source,
                    uint32_t length, uint32_t first, uint32_t last, void *to) {
    RowView row = row_view(set, source, length);
    ComputeFunction *compute = compute_find(spec->source);
    uint32_t width = spec->source == TENSOR_APPLY ? spec->width : 1;
    size_t place_bytes = (size_t)tensor_dtype_bytes(spec->dtype) * width;
    bool by_runs = spec->source != TENSOR_MASK && spec->source != TENSOR_APPLY &&
                   spec->source != TENSOR_SPECIAL;
    uint32_t tile = by_runs ? length : TILE;

    for (uint32_t at = first; at < last; at += MIN(tile, last - at))
        compute(&row, spec, at, at + MIN(tile, last - at),
                (uint8_t *)to + (size_t)(at - first) * place_bytes);
}

/* ---- dense masks ---- */

/* A mask over queries and places as a conjunction: whatever looks at places alone is worked out
 * once for all queries; causal and window cut a run out of it. */
typedef struct Dense {
    uint32_t window; /* UINT32_MAX: none */
    bool causal;
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
    for (uint32_t s = 0; s < count; s++)
        looks_at_queries |= steps[s].op == MASK_CAUSAL || steps[s].op == MASK_WINDOW;
    dense->general |= looks_at_queries;
    memcpy(dense->keys + dense->key_count, steps, count * sizeof *steps);
    dense->key_count += count;
    if (!first)
        dense->keys[dense->key_count++] = (MaskStep){.op = MASK_AND};
}

static void dense_general(const RowView *row, const TensorSpec *spec, uint8_t *to) {
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint64_t bits[2], stride = tensor_dense_stride(length);
    uint8_t answers[TILE];

    mask_bits(spec, bits);
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        for (uint32_t at = 0; at < length; at += TILE) {
            uint32_t last = MIN(length - at, TILE) + at;

            answer_steps(row, steps_of(row->set, spec), spec->step_count, query, at, last, answers);
            convert_select(to + (size_t)at * bytes, answers, bits, bytes, last - at);
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

/* The columns first .. last of all queries; `keys` are their elements as far as places decide. From
 * one query to the next the run that is kept only moves on, so its line is made from the last. */
static void dense_columns(const RowView *row, const TensorSpec *spec, const Dense *dense,
                          uint32_t first, uint32_t last, const uint8_t *keys, uint8_t *to) {
    _Alignas(CACHE_LINE) uint8_t line[DENSE_COLUMNS * sizeof(uint64_t)] = {0};
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), length = row->length;
    uint64_t bits[2], stride = tensor_dense_stride(length);
    size_t line_bytes = (size_t)((last == length ? stride : last) - first) * bytes;
    uint32_t kept_first = first, kept_end = first;

    mask_bits(spec, bits);
    convert_repeat(line, bits[0], bytes, last - first);
    to += (size_t)first * bytes;
    for (uint32_t query = 0; query < length; query++, to += stride * bytes) {
        uint32_t low = query >= dense->window ? query - dense->window + 1 : 0;
        uint32_t high = dense->causal ? query + 1 : length;

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

void compute_dense(const TensorSet *set, const TensorSpec *spec, const FillRow *source,
                   uint32_t length, void *to) {
    RowView row = row_view(set, source, length);
    Dense dense = {.window = UINT32_MAX};
    uint8_t answers[TILE], keys[DENSE_COLUMNS * sizeof(uint64_t)];
    uint32_t bytes = tensor_dtype_bytes(spec->dtype);
    uint64_t bits[2];

    dense_add(&dense, steps_of(set, spec), spec->step_count);
    if (dense.general) {
        dense_general(&row, spec, to);
        return;
    }
    if (dense.key_count == 0)
        dense.keys[dense.key_count++] = (MaskStep){.op = MASK_TRUE};
    mask_bits(spec, bits);
    for (uint32_t first = 0; first < length; first += MIN(DENSE_COLUMNS, length - first)) {
        uint32_t last = MIN(length - first, DENSE_COLUMNS) + first;

        for (uint32_t at = first; at < last; at += MIN(TILE, last - at)) {
            uint32_t end = MIN(last - at, TILE) + at;

            answer_steps(&row, dense.keys, dense.key_count, 0, at, end, answers);
            convert_select(keys + (size_t)(at - first) * bytes, answers, bits, bytes, end - at);
        }
        dense_columns(&row, spec, &dense, first, last, keys, to);
    }
    store_end();
}
