/* SPDX-License-Identifier: MIT */
#include "mask/mask_case.h"

#include <string.h>

#include "base/random.h"

enum { COLUMN_WEIGHTS = 1, COLUMN_LABEL, COLUMN_HOLES, COLUMN_SPANS };

static uint32_t draw_seed, draw_count;

uint32_t mask_case_draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

static void make_data(MaskCase *test) {
    uint32_t holes = 0, spans = 0;

    for (size_t i = 0; i < sizeof test->weights; i++)
        test->weights[i] = (uint8_t)mask_case_draw(256);
    for (size_t i = 0; i < sizeof test->labels; i++)
        test->labels[i] = (uint8_t)mask_case_draw(256);
    for (size_t i = 0; i < sizeof test->tokens; i++) /* small numbers, so that lists find some */
        test->tokens[i] = mask_case_draw(3) ? 0 : (uint8_t)mask_case_draw(6);
    for (uint32_t s = 0; s < CASE_SEQUENCES; s++) {
        test->lengths[s] = mask_case_draw(4) ? mask_case_draw(CASE_LENGTH) : 0;
        test->hole_counts[s] = mask_case_draw(4);
        test->span_counts[s] = mask_case_draw(3);
        for (uint32_t i = 0; i < test->hole_counts[s]; i++)
            test->holes[holes++] = (int32_t)mask_case_draw(60) - 30;
        for (uint32_t i = 0; i < test->span_counts[s]; i++) {
            test->spans[spans++] = (int32_t)mask_case_draw(CASE_LENGTH) - 4;
            test->spans[spans++] = (int32_t)mask_case_draw(CASE_LENGTH + 9);
        }
    }
}

static void make_steps(MaskCase *test, TensorSpec *spec) {
    TensorSet *set = &test->set;
    uint32_t pending = 0, leaves = 1 + mask_case_draw(4);

    spec->first_step = set->step_count;
    while (leaves > 0 || pending > 1) {
        MaskStep step = {.op = mask_case_draw(MASK_TOKEN_IDS + 1)};

        if (pending > 1 && (leaves == 0 || mask_case_draw(2))) {
            step.op = mask_case_draw(3) ? MASK_AND : MASK_OR;
            pending--;
        } else {
            bool is_list = step.op == MASK_INDICES || step.op == MASK_TOKEN_IDS;

            step.count = step.op == MASK_WINDOW ? 1 + mask_case_draw(CASE_LENGTH) : ELEMENT_I32;
            step.first = COLUMN_HOLES;
            if (is_list) {
                step.first = set->value_count;
                step.count = mask_case_draw(4);
                for (uint32_t i = 0; i < step.count; i++)
                    set->values[set->value_count++] = (int64_t)mask_case_draw(40) - 10;
            }
            pending++;
            leaves--;
        }
        set->steps[set->step_count++] = step;
        if (mask_case_draw(5) == 0)
            set->steps[set->step_count++] = (MaskStep){.op = MASK_NOT};
    }
    spec->step_count = set->step_count - spec->first_step;
}

static uint32_t draw_dtype(uint32_t element) {
    uint32_t dtype;

    do
        dtype = 1 + mask_case_draw(SEQFEED_DTYPE_COUNT - 1);
    while (!tensor_dtype_allows((uint8_t)element, dtype));
    return dtype;
}

static void make_tensor(MaskCase *test, TensorSpec *spec, uint32_t weights) {
    static const TensorSource sources[] = {
        TENSOR_TOKENS,       TENSOR_TOKEN_COLUMN, TENSOR_SEQUENCE_COLUMN, TENSOR_LENGTHS,
        TENSOR_MASK_LENGTHS, TENSOR_MASK,         TENSOR_MASK_DENSE,      TENSOR_APPLY,
        TENSOR_POSITIONS,    TENSOR_TYPES,        TENSOR_LABELS,          TENSOR_LOSS_MASK,
        TENSOR_SPECIAL};

    *spec = (TensorSpec){.source = sources[mask_case_draw(ARRAY_COUNT(sources))], .width = 1};
    spec->element = test->set.token_element;
    if (spec->source == TENSOR_TOKEN_COLUMN ||
        (spec->source == TENSOR_APPLY && mask_case_draw(2))) {
        spec->column = COLUMN_WEIGHTS;
        spec->element = (uint8_t)weights;
        spec->width = 2;
    } else if (spec->source == TENSOR_SEQUENCE_COLUMN) {
        spec->column = COLUMN_LABEL;
        spec->element = ELEMENT_I64;
    }
    spec->pad = (int64_t)mask_case_draw(UINT32_MAX) - INT32_MAX;
    spec->dtype = 1 + mask_case_draw(SEQFEED_DTYPE_COUNT - 1);
    spec->shift = mask_case_draw(2);
    spec->multiply = mask_case_draw(2);
    spec->counts_on = spec->source == TENSOR_POSITIONS && mask_case_draw(2);
    if (spec->source == TENSOR_TOKENS || spec->source == TENSOR_TOKEN_COLUMN ||
        spec->source == TENSOR_SEQUENCE_COLUMN || spec->source == TENSOR_APPLY)
        spec->dtype = draw_dtype(spec->element);
    if (spec->source == TENSOR_LENGTHS || spec->source == TENSOR_POSITIONS ||
        spec->source == TENSOR_TYPES || spec->source == TENSOR_LABELS)
        spec->dtype = spec->source == TENSOR_LABELS ? SEQFEED_INT64
                      : mask_case_draw(2)           ? SEQFEED_INT32
                                                    : SEQFEED_INT64;
    if (spec->source == TENSOR_LABELS || spec->source == TENSOR_LOSS_MASK) {
        spec->has_spans = mask_case_draw(2);
        spec->spans = COLUMN_SPANS;
        spec->spans_element = ELEMENT_I32;
        spec->spans_width = 2;
    }
    if (spec->source == TENSOR_SPECIAL) {
        spec->first_value = test->set.value_count;
        spec->value_count = mask_case_draw(4);
        for (uint32_t i = 0; i < spec->value_count; i++)
            test->set.values[test->set.value_count++] = mask_case_draw(6);
    }
    if (spec->source == TENSOR_MASK || spec->source == TENSOR_MASK_DENSE ||
        spec->source == TENSOR_MASK_LENGTHS)
        spec->polarity = 1 + mask_case_draw(3);
    if (spec->source == TENSOR_MASK || spec->source == TENSOR_MASK_DENSE ||
        spec->source == TENSOR_APPLY)
        make_steps(test, spec);
}

static void make_rows(MaskCase *test) {
    bool has_dense = false;

    test->row_count = 1 + mask_case_draw(CASE_SEQUENCES);
    test->count = mask_case_draw(3) ? test->row_count : mask_case_draw(test->row_count + 1);
    for (uint32_t r = 0; r < test->count; r++) {
        uint32_t sequence = mask_case_draw(CASE_SEQUENCES), start = 0, cut;

        for (uint32_t s = 0; s < sequence; s++)
            start += test->lengths[s];
        cut = mask_case_draw(3) ? 0 : mask_case_draw(test->lengths[sequence] + 1);
        test->rows[r] = (FillRow){.columns = test->columns,
                                  .sequence = sequence,
                                  .start = start + cut,
                                  .length = test->lengths[sequence] - cut};
        test->length = MAX(test->length, test->rows[r].length);
    }
    /* Sometimes more than one tile of the CPU backend. */
    for (uint32_t t = 0; t < test->set.count; t++)
        has_dense |= test->set.tensors[t].source == TENSOR_MASK_DENSE;
    if (mask_case_draw(3))
        test->length += mask_case_draw(20);
    else if (!has_dense)
        test->length += mask_case_draw(8) ? 300 : 1100;
}

void mask_case_init(MaskCase *test, uint32_t seed) {
    static const uint8_t tokens[] = {ELEMENT_U8,  ELEMENT_U16, ELEMENT_U24,
                                     ELEMENT_U32, ELEMENT_I32, ELEMENT_I64};
    static const uint8_t weights[] = {ELEMENT_F16, ELEMENT_BF16, ELEMENT_F32, ELEMENT_U8,
                                      ELEMENT_U24};
    uint32_t weight;

    memset(test, 0, sizeof *test);
    draw_seed = seed;
    draw_count = 0;
    make_data(test);
    const uint8_t *columns[] = {test->tokens,
                                test->weights,
                                test->labels,
                                (const uint8_t *)test->holes,
                                (const uint8_t *)test->spans,
                                (const uint8_t *)test->lengths,
                                NULL,
                                NULL,
                                NULL,
                                (const uint8_t *)test->hole_counts,
                                (const uint8_t *)test->span_counts};
    memcpy(test->columns, columns, sizeof columns);
    test->set.token_element = tokens[mask_case_draw(ARRAY_COUNT(tokens))];
    test->set.token_pad = mask_case_draw(6);
    test->set.column_count = CASE_COLUMNS;
    test->set.side = mask_case_draw(2);
    test->set.time_first = mask_case_draw(4) == 0;
    test->set.count = 1 + mask_case_draw(8);
    weight = weights[mask_case_draw(ARRAY_COUNT(weights))];
    for (uint32_t t = 0; t < test->set.count; t++)
        make_tensor(test, &test->set.tensors[t], weight);
    make_rows(test);
    test->set.rows_max = test->row_count;
    test->set.length_max = test->length;
    tensor_layout(&test->set, test->row_count, test->length, &test->layout);
}

void mask_case_fill(const MaskCase *test, void *slot) {
    fill_rows(&test->set, &test->layout, slot, test->row_count, test->length, 0, test->rows,
              test->count);
    fill_empty_rows(&test->set, &test->layout, slot, test->row_count, test->length, test->count,
                    test->row_count - test->count);
}
