/* SPDX-License-Identifier: MIT */
#include "mask/cell_pack.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/row_view.h"

enum { RUN_ALIGN = 16 };

/* What an input is to its sequences. */
typedef enum InputKind { INPUT_TOKENS, INPUT_SEQUENCE, INPUT_LIST } InputKind;

typedef struct Input {
    InputKind kind;
    uint32_t column, element, value_bytes, width;
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

static Input make_input(InputKind kind, uint32_t column, uint32_t element, uint32_t width) {
    return (Input){kind, column, element, element_bytes(element), width};
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
    const Input tokens = make_input(INPUT_TOKENS, 0, set->token_element, 1);
    uint32_t token_input = UINT32_MAX;

    *inputs = (Inputs){0};
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        InputKind kind = spec->source == TENSOR_SEQUENCE_COLUMN ? INPUT_SEQUENCE : INPUT_TOKENS;
        uint32_t input = 0, spans = 0;

        if (has_column(spec))
            input = inputs_add(inputs, make_input(kind, spec->column, spec->element, spec->width));
        if (spec->has_spans)
            spans = inputs_add(inputs, make_input(INPUT_LIST, spec->spans, spec->spans_element,
                                                  spec->spans_width));
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
            uint32_t input = inputs_add(inputs,
                                        make_input(INPUT_LIST, step->first, step->count, 1));
            if (plan)
                plan->steps[s].first = input;
        }
    }
    if (plan)
        plan->token_input = token_input;
}

/* Kernels count a tensor's elements, and the lines of dense masks, in 32 bits. */
static bool is_countable(const TensorSet *set) {
    uint64_t places = set->places_max ? set->places_max : (uint64_t)set->rows_max * set->length_max;

    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        uint64_t elements = places;

        if (spec->source != TENSOR_MASK_DENSE && !tensor_elements_max(set, spec, &elements))
            return false;
        if (MAX(elements, places) >= UINT32_MAX / MAX(spec->width, 1u))
            return false;
    }
    return true;
}

/* Do places of a packed row have to know whose they are? Columns and masks of rows do not. */
static bool is_by_sequence(const TensorSet *set, const TensorSpec *spec) {
    switch (spec->source) {
    case TENSOR_PACK_SEGMENTS:
    case TENSOR_POSITIONS:
    case TENSOR_LABELS:
    case TENSOR_LOSS_MASK:
        return set->packed;
    case TENSOR_TYPES:
        return set->packed && spec->counts_on;
    case TENSOR_APPLY:
        return set->packed && tensor_has_step(set, spec, MASK_INDEX_COLUMN);
    default:
        return false;
    }
}

/* Do its lists count in the whole sequence, of which a row may have a piece? */
static bool has_parts(const TensorSet *set) {
    bool has = false;

    for (uint32_t t = 0; t < set->count; t++)
        has |= set->tensors[t].has_spans;
    for (uint32_t s = 0; s < set->step_count && set->packed; s++)
        has |= set->steps[s].op == MASK_INDEX_COLUMN;
    return has;
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

static CellTensor make_tensor(const TensorSet *set, const TensorSpec *spec) {
    return (CellTensor){
        .source = spec->source,
        .dtype = spec->dtype,
        .polarity = spec->polarity,
        .value_bytes = tensor_dtype_bytes(spec->dtype),
        .value_shift = (uint32_t)__builtin_ctz(tensor_dtype_bytes(spec->dtype)),
        .is_plain = is_plain(set, spec),
        .by_sequence = is_by_sequence(set, spec),
        .has_segments = spec->source == TENSOR_MASK_DENSE &&
                        tensor_has_step(set, spec, MASK_SEGMENTS),
        .element = spec->element,
        .element_bytes = element_bytes(spec->element),
        .width = has_column(spec) && spec->source != TENSOR_LABELS ? spec->width : 1,
        .shift = spec->shift,
        .multiply = spec->multiply,
        .counts_on = spec->counts_on,
        .block = MAX(spec->block, 1u),
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

int cell_plan_make(const TensorSet *set, CellPlan *ret_plan) {
    Inputs inputs;

    if (!is_countable(set))
        return -E2BIG;
    *ret_plan = (CellPlan){.tensor_count = set->count,
                           .side = set->side,
                           .time_first = set->time_first,
                           .packed = set->packed,
                           .tail_segment = set->tail_segment,
                           .has_parts = has_parts(set),
                           .token_element = set->token_element,
                           .token_element_bytes = element_bytes(set->token_element),
                           .token_pad = set->token_pad};
    memcpy(ret_plan->steps, set->steps, sizeof set->steps);
    memcpy(ret_plan->values, set->values, sizeof set->values);
    for (uint32_t t = 0; t < set->count; t++)
        ret_plan->tensors[t] = make_tensor(set, &set->tensors[t]);
    find_inputs(set, &inputs, ret_plan);
    ret_plan->input_count = inputs.count;
    return inputs.failed ? -E2BIG : 0;
}

/* ---- blocks ---- */

static uint64_t sums_bytes(uint64_t sequences) {
    return align_up((sequences + 1) * sizeof(uint32_t), RUN_ALIGN);
}

uint64_t cell_pack_bytes(const TensorSet *set, const CellPlan *plan, const CellExtent *extent) {
    uint64_t sums = sums_bytes(extent->sequences);
    uint64_t bytes = align_up(sizeof(CellBatch), RUN_ALIGN) +
                     align_up(extent->rows * sizeof(CellRow), RUN_ALIGN) + sums +
                     (plan->has_parts ? extent->sequences * sizeof(CellPart) + RUN_ALIGN : 0) +
                     plan->input_count * sizeof(CellInput);
    Inputs inputs;

    find_inputs(set, &inputs, NULL);
    for (uint32_t i = 0; i < inputs.count; i++) {
        const Input *input = &inputs.all[i];
        uint64_t values = input->kind == INPUT_TOKENS     ? extent->tokens
                          : input->kind == INPUT_SEQUENCE ? extent->sequences
                                                          : extent->list_entries;

        bytes += align_up(values * input->width * input->value_bytes, RUN_ALIGN) +
                 (input->kind == INPUT_LIST ? sums : 0);
    }
    return align_up(bytes, RUN_ALIGN);
}

/* A block as it grows. */
typedef struct Block {
    uint8_t *bytes;
    uint64_t at, capacity;
    bool is_full;
} Block;

/* Room for `bytes` more; NULL: there is none. */
static void *block_take(Block *block, uint64_t bytes, uint64_t *ret_at) {
    void *taken = block->bytes + block->at;

    *ret_at = block->at;
    if (block->is_full || bytes > block->capacity - block->at ||
        align_up(bytes, RUN_ALIGN) > block->capacity - block->at) {
        block->is_full = true;
        return NULL;
    }
    block->at += align_up(bytes, RUN_ALIGN);
    return taken;
}

static void pack_sums(const CellSource *source, uint32_t *ret_sums) {
    uint32_t sum = 0;

    for (uint32_t s = 0; s < source->count; s++) {
        ret_sums[s] = sum;
        sum += source->rows[s].length;
    }
    ret_sums[source->count] = sum;
}

/* A row that has the sequences [first, first + count). */
static CellRow make_row(const TensorSet *set, uint32_t length, const uint32_t *sums, uint32_t first,
                        uint32_t count) {
    CellRow row = {.real = sums[first + count] - sums[first],
                   .token = sums[first],
                   .first = first,
                   .count = count};

    assert(row.real <= length);
    row.begin = mask_rule_begin(set->side, length, row.real);
    return row;
}

static void pack_rows(const TensorSet *set, const CellSource *source, uint32_t rows,
                      uint32_t length, const uint32_t *sums, CellRow *ret_rows) {
    uint32_t row = 0;

    for (; !set->packed && row < source->count; row++)
        ret_rows[row] = make_row(set, length, sums, row, 1);
    for (uint32_t p = 0; set->packed && p < source->part_count; p++) {
        const FillPacked *part = &source->parts[p];

        assert(part->first_row == row);
        for (uint32_t r = 0; r < part->row_count; r++)
            ret_rows[row++] = make_row(set, length, sums,
                                       part->first_sequence + (part->firsts[r] - part->firsts[0]),
                                       part->firsts[r + 1] - part->firsts[r]);
    }
    for (; row < rows; row++)
        ret_rows[row] = make_row(set, length, sums, source->count, 0);
}

static void pack_parts(const TensorSet *set, const CellSource *source, uint32_t length,
                       CellPart *ret_parts) {
    for (uint32_t s = 0; s < source->count; s++) {
        RowView view = row_view(set, &source->rows[s], length);

        ret_parts[s] = (CellPart){(uint32_t)row_offset(&view), row_sequence_length(&view)};
    }
}

/* The values of tokens or of sequences. */
static void pack_values(const Input *input, const CellSource *source, uint8_t *to) {
    uint64_t each = (uint64_t)input->width * input->value_bytes;

    for (uint32_t s = 0; s < source->count; s++) {
        const FillRow *row = &source->rows[s];
        bool is_token = input->kind == INPUT_TOKENS;
        uint64_t bytes = is_token ? row->length * each : each;

        if (bytes)
            memcpy(to, row->columns[input->column] + (is_token ? row->start : row->sequence) * each,
                   bytes);
        to += bytes;
    }
}

/* The lists of a ragged column. More than 2^32 numbers are too many. */
static void pack_lists(const TensorSet *set, const Input *input, const CellSource *source,
                       uint32_t length, Block *block, CellInput *ret_input) {
    uint32_t *sums = block_take(block, (source->count + UINT64_C(1)) * sizeof *sums,
                                &ret_input->sums_at);
    uint64_t sum = 0;
    uint8_t *to;

    for (uint32_t s = 0; sums && s < source->count; s++) {
        RowView view = row_view(set, &source->rows[s], length);

        sums[s] = (uint32_t)sum;
        sum += row_list(&view, input->column, input->element, input->width).count;
        block->is_full |= sum > UINT32_MAX;
    }
    to = block_take(block, sum * input->value_bytes, &ret_input->at);
    if (!sums || !to)
        return;
    sums[source->count] = (uint32_t)sum;
    for (uint32_t s = 0; s < source->count; s++) {
        RowView view = row_view(set, &source->rows[s], length);
        RowList list = row_list(&view, input->column, input->element, input->width);
        uint64_t bytes = (uint64_t)list.count * input->value_bytes;

        if (bytes)
            memcpy(to, list.values, bytes);
        to += bytes;
    }
}

static void pack_inputs(const TensorSet *set, const CellSource *source, uint32_t length,
                        uint64_t tokens, Block *block, CellInput *ret_inputs) {
    Inputs inputs;

    find_inputs(set, &inputs, NULL);
    for (uint32_t i = 0; i < inputs.count; i++) {
        const Input *input = &inputs.all[i];
        uint64_t values = input->kind == INPUT_TOKENS ? tokens : source->count;
        uint8_t *to;

        ret_inputs[i] = (CellInput){0};
        if (input->kind == INPUT_LIST) {
            pack_lists(set, input, source, length, block, &ret_inputs[i]);
            continue;
        }
        to = block_take(block, values * input->width * input->value_bytes, &ret_inputs[i].at);
        if (to)
            pack_values(input, source, to);
    }
}

uint64_t cell_pack(const TensorSet *set, const CellPlan *plan, const TensorLayout *layout,
                   uint32_t length, const CellSource *source, void *ret_block, uint64_t capacity) {
    Block block = {.bytes = ret_block, .capacity = capacity};
    uint64_t parts = plan->has_parts ? source->count : 0, at;
    CellBatch *batch = block_take(&block, sizeof *batch, &at);
    CellBatch head = {.rows = layout->rows,
                      .length = length,
                      .sequences = source->count,
                      .longest = layout->longest,
                      .dense_stride = tensor_dense_stride(length)};
    CellRow *to_rows = block_take(&block, head.rows * sizeof *to_rows, &head.rows_at);
    uint32_t *sums = block_take(&block, (head.sequences + UINT64_C(1)) * sizeof *sums,
                                &head.sums_at);
    CellPart *to_parts = block_take(&block, parts * sizeof *to_parts, &head.parts_at);
    CellInput *to_inputs = block_take(&block, plan->input_count * sizeof *to_inputs,
                                      &head.inputs_at);

    if (block.is_full)
        return 0;
    memcpy(head.offset, layout->offset, set->count * sizeof *head.offset);
    for (uint32_t t = 0; t < set->count; t++)
        head.size_bytes[t] = layout->kept >> t & 1 ? 0 : layout->size_bytes[t];
    pack_sums(source, sums);
    pack_rows(set, source, head.rows, length, sums, to_rows);
    if (plan->has_parts)
        pack_parts(set, source, length, to_parts);
    pack_inputs(set, source, length, sums[source->count], &block, to_inputs);
    head.bytes = block.at;
    *batch = head;
    return block.is_full ? 0 : block.at;
}
