/* SPDX-License-Identifier: MIT */
#include "mask/cell_pack.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/arithmetic.h"

enum { RUN_ALIGN = 16 };

/* What an input is to its rows. */
typedef enum InputKind { INPUT_TOKENS, INPUT_SEQUENCE, INPUT_LIST } InputKind;

typedef struct Input {
    InputKind kind;
    uint32_t column, value_bytes, width;
} Input;

typedef struct Inputs {
    Input all[CELL_INPUTS_MAX];
    uint32_t count;
    bool failed;
} Inputs;

static uint32_t inputs_add(Inputs *inputs, Input input) {
    for (uint32_t i = 0; i < inputs->count; i++)
        if (inputs->all[i].column == input.column)
            return i;
    if (inputs->count == CELL_INPUTS_MAX) {
        inputs->failed = true;
        return 0;
    }
    inputs->all[inputs->count] = input;
    return inputs->count++;
}

static Input list_input(uint32_t column, uint32_t element, uint32_t width) {
    return (Input){INPUT_LIST, column, element_bytes(element), width};
}

/* Does the tensor hold values of a column? */
static bool has_column(const TensorSpec *spec) {
    return spec->source == TENSOR_TOKENS || spec->source == TENSOR_TOKEN_COLUMN ||
           spec->source == TENSOR_SEQUENCE_COLUMN || spec->source == TENSOR_APPLY ||
           spec->source == TENSOR_LABELS;
}

/* The inputs of a set, in the order in which tensors and steps ask for them; where `plan` is given,
 * their numbers go there. */
static void find_inputs(const TensorSet *set, Inputs *inputs, CellPlan *plan) {
    const Input tokens = {INPUT_TOKENS, 0, element_bytes(set->token_element), 1};
    uint32_t token_input = UINT32_MAX;

    *inputs = (Inputs){0};
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        InputKind kind = spec->source == TENSOR_SEQUENCE_COLUMN ? INPUT_SEQUENCE : INPUT_TOKENS;
        uint32_t input = 0, spans = 0;

        if (has_column(spec))
            input = inputs_add(
                inputs, (Input){kind, spec->column, element_bytes(spec->element), spec->width});
        if (spec->has_spans)
            spans = inputs_add(inputs,
                               list_input(spec->spans, spec->spans_element, spec->spans_width));
        if (spec->source == TENSOR_SPECIAL)
            token_input = inputs_add(inputs, tokens);
        if (plan) {
            plan->tensors[t].input = input;
            plan->tensors[t].spans_input = spans;
        }
    }
    for (uint32_t s = 0; s < set->step_count; s++) {
        const MaskStep *step = &set->steps[s];

        if (step->op == MASK_TOKEN_IDS)
            token_input = inputs_add(inputs, tokens);
        if (step->op == MASK_INDEX_COLUMN) {
            uint32_t input = inputs_add(inputs, list_input(step->first, step->count, 1));
            if (plan)
                plan->steps[s].first = input;
        }
    }
    if (plan)
        plan->token_input = token_input;
}

/* Is every tensor one that mask_cell.h has rules for? Rows of several sequences, segments and lists of
 * blocks are the CPU's. */
static bool has_rules(const TensorSet *set) {
    for (uint32_t t = 0; t < set->count; t++)
        if (set->tensors[t].source > TENSOR_SPECIAL)
            return false;
    for (uint32_t s = 0; s < set->step_count; s++)
        if (set->steps[s].op > MASK_NOT)
            return false;
    return !set->packed;
}

/* Kernels count a tensor's elements, and the lines of dense masks, in 32 bits. */
static bool is_countable(const TensorSet *set) {
    uint64_t places = set->places_max ? set->places_max : (uint64_t)set->rows_max * set->length_max;

    for (uint32_t t = 0; t < set->count; t++)
        if (places >= UINT32_MAX / MAX(set->tensors[t].width, 1u))
            return false;
    return true;
}

static bool is_plain(const TensorSet *set, const TensorSpec *spec) {
    bool is_column = spec->source == TENSOR_TOKENS || spec->source == TENSOR_TOKEN_COLUMN;

    if (spec->dtype != SEQFEED_INT32 && spec->dtype != SEQFEED_INT64)
        return false;
    return !set->time_first &&
           ((is_column && spec->width == 1) || (spec->source == TENSOR_LABELS && !spec->has_spans));
}

/* Eight bytes of one element. */
static uint64_t repeat(uint64_t bits, uint32_t value_bytes) {
    if (value_bytes == 1)
        return (bits & 0xff) * 0x0101010101010101u;
    if (value_bytes == 2)
        return (bits & 0xffff) * 0x0001000100010001u;
    return value_bytes == 4 ? (bits & 0xffffffffu) * 0x0000000100000001u : bits;
}

static uint64_t mask_pattern(const TensorSpec *spec, int keep) {
    return repeat(mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, keep),
                  tensor_dtype_bytes(spec->dtype));
}

int cell_plan_make(const TensorSet *set, CellPlan *ret_plan) {
    Inputs inputs;

    if (!has_rules(set))
        return -EOPNOTSUPP;
    if (!is_countable(set))
        return -E2BIG;
    *ret_plan = (CellPlan){.tensor_count = set->count,
                           .side = set->side,
                           .time_first = set->time_first,
                           .token_element = set->token_element,
                           .token_element_bytes = element_bytes(set->token_element),
                           .token_pad = set->token_pad};
    memcpy(ret_plan->steps, set->steps, sizeof set->steps);
    memcpy(ret_plan->values, set->values, sizeof set->values);
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];

        ret_plan->tensors[t] = (CellTensor){
            .source = spec->source,
            .dtype = spec->dtype,
            .polarity = spec->polarity,
            .value_bytes = tensor_dtype_bytes(spec->dtype),
            .value_shift = (uint32_t)__builtin_ctz(tensor_dtype_bytes(spec->dtype)),
            .is_plain = is_plain(set, spec),
            .element = spec->element,
            .element_bytes = element_bytes(spec->element),
            .width = has_column(spec) && spec->source != TENSOR_LABELS ? spec->width : 1,
            .shift = spec->shift,
            .multiply = spec->multiply,
            .counts_on = spec->counts_on,
            .has_spans = spec->has_spans,
            .spans_element = spec->spans_element,
            .spans_element_bytes = element_bytes(spec->spans_element),
            .first_step = spec->first_step,
            .step_count = spec->step_count,
            .first_value = spec->first_value,
            .value_count = spec->value_count,
            .pad = spec->pad,
            .keeps = mask_pattern(spec, 1),
            .drops = mask_pattern(spec, 0),
        };
    }
    find_inputs(set, &inputs, ret_plan);
    ret_plan->input_count = inputs.count;
    return inputs.failed ? -E2BIG : 0;
}

uint64_t cell_pack_bytes(const TensorSet *set, const CellPlan *plan, uint32_t rows, uint32_t length,
                         uint64_t list_values) {
    uint64_t bytes = sizeof(CellBatch) + rows * sizeof(CellRow) +
                     (uint64_t)plan->input_count * rows * sizeof(CellRun);
    Inputs inputs;

    find_inputs(set, &inputs, NULL);
    for (uint32_t i = 0; i < inputs.count; i++) {
        const Input *input = &inputs.all[i];
        uint64_t values = input->kind == INPUT_TOKENS     ? length
                          : input->kind == INPUT_SEQUENCE ? 1
                                                          : list_values;

        bytes += rows * align_up(values * input->width * input->value_bytes, RUN_ALIGN);
    }
    return align_up(bytes, RUN_ALIGN) + RUN_ALIGN;
}

static uint64_t sum_words(const uint32_t *words, uint32_t count) {
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += words[i];
    return sum;
}

/* Where the row's values of an input begin in its block, and how many there are. */
static const uint8_t *find_run(const TensorSet *set, const Input *input, const FillRow *row,
                               uint64_t *ret_values) {
    const uint32_t *counts;
    uint64_t first;

    switch (input->kind) {
    case INPUT_TOKENS:
        first = row->start;
        *ret_values = row->length;
        break;
    case INPUT_SEQUENCE:
        first = row->sequence;
        *ret_values = 1;
        break;
    default:
        counts = (const void *)row->columns[set->column_count + 1 + input->column];
        first = sum_words(counts, row->sequence);
        *ret_values = counts[row->sequence];
    }
    return row->columns[input->column] + first * input->width * input->value_bytes;
}

static void pack_row(const TensorSet *set, const FillRow *source, bool needs_skipped,
                     CellRow *ret_row) {
    *ret_row = (CellRow){.is_empty = source == NULL};
    if (!source)
        return;
    ret_row->real = source->length;
    if (needs_skipped)
        ret_row->skipped = source->start -
                           sum_words((const void *)source->columns[set->column_count],
                                     source->sequence);
}

uint64_t cell_pack(const TensorSet *set, const CellPlan *plan, const TensorLayout *layout,
                   uint32_t rows, uint32_t length, const FillRow *sources, uint32_t count,
                   void *ret_block, uint64_t capacity) {
    uint64_t rows_at = align_up(sizeof(CellBatch), RUN_ALIGN);
    uint64_t runs_at = rows_at + rows * sizeof(CellRow);
    uint64_t at = align_up(runs_at + (uint64_t)plan->input_count * rows * sizeof(CellRun),
                           RUN_ALIGN);
    CellBatch *batch = ret_block;
    uint8_t *block = ret_block;
    bool needs_skipped = false;
    Inputs inputs;

    if (at > capacity)
        return 0;
    find_inputs(set, &inputs, NULL);
    for (uint32_t t = 0; t < set->count; t++)
        needs_skipped |= set->tensors[t].has_spans;
    *batch = (CellBatch){.rows = rows,
                         .length = length,
                         .rows_at = rows_at,
                         .runs_at = runs_at,
                         .dense_stride = tensor_dense_stride(length)};
    memcpy(batch->offset, layout->offset, set->count * sizeof *batch->offset);
    for (uint32_t t = 0; t < set->count; t++)
        batch->size_bytes[t] = layout->kept >> t & 1 ? 0 : layout->size_bytes[t];
    for (uint32_t r = 0; r < rows; r++)
        pack_row(set, r < count ? &sources[r] : NULL, needs_skipped,
                 (CellRow *)(void *)(block + rows_at) + r);
    for (uint32_t i = 0; i < inputs.count; i++) {
        CellRun *runs = (CellRun *)(void *)(block + runs_at) + (uint64_t)i * rows;

        for (uint32_t r = 0; r < rows; r++) {
            uint64_t values = 0, bytes = 0;
            const uint8_t *from = NULL;

            if (r < count)
                from = find_run(set, &inputs.all[i], &sources[r], &values);
            bytes = values * inputs.all[i].width * inputs.all[i].value_bytes;
            if (bytes > capacity - at)
                return 0;
            runs[r] = (CellRun){at, values * inputs.all[i].width};
            if (bytes)
                memcpy(block + at, from, bytes);
            at = align_up(at + bytes, RUN_ALIGN);
            if (at > capacity)
                return 0;
        }
    }
    batch->bytes = at;
    return at;
}
