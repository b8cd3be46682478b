/* SPDX-License-Identifier: MIT */
/* mask_cell.h: the bits of any element of any tensor, from the packed form of a batch in which it
 * goes to a device. Integers only and plain C that nvcc reads too: kernels are thin shells around
 * mask_cell_chunk(), and tests run the same function on the host against the CPU backend.
 *
 * The plan is the feed's and stays on the device; a batch is one block of bytes:
 *
 *   CellBatch | CellRow[rows] | CellRun[inputs][rows] | values, each run aligned to 16 */
#pragma once

#include <stdint.h>

#include "mask/mask_rule.h"
#include "mask/tensor.h"

enum {
    CELL_INPUTS_MAX = 2 * SEQFEED_TENSORS_MAX + 32, /* columns that tensors and steps look at */
    CELL_CHUNK_BYTES = 16                           /* what one thread writes */
};

typedef struct CellTensor {
    uint32_t source, dtype, polarity, value_bytes;
    uint32_t value_shift; /* log2 of value_bytes */
    uint32_t is_plain;    /* integers of one column or of labels, as they stand: mask_chunk.h */
    uint32_t element, element_bytes, width;
    uint32_t input; /* of its column; of tokens for labels */
    uint32_t shift, multiply, counts_on;
    uint32_t has_spans, spans_input, spans_element, spans_element_bytes;
    uint32_t first_step, step_count, first_value, value_count;
    int64_t pad;
    uint64_t keeps, drops; /* masks: eight bytes of elements that are kept, and that are not */
} CellTensor;

typedef struct CellPlan {
    uint32_t tensor_count, input_count, side, time_first;
    uint32_t token_input, token_element, token_element_bytes, reserved;
    int64_t token_pad;
    CellTensor tensors[SEQFEED_TENSORS_MAX];
    MaskStep steps[TENSOR_STEPS_MAX]; /* an index column's `first` is an input */
    int64_t values[TENSOR_VALUES_MAX];
} CellPlan;

typedef struct CellBatch {
    uint64_t bytes; /* of this block */
    uint32_t rows, length;
    uint64_t rows_at, runs_at;
    uint64_t offset[SEQFEED_TENSORS_MAX], size_bytes[SEQFEED_TENSORS_MAX];
    uint64_t dense_stride; /* elements */
} CellBatch;

typedef struct CellRow {
    uint32_t real, is_empty;
    uint64_t skipped; /* tokens of its sequence before its first */
} CellRow;

/* A row's values of one input. */
typedef struct CellRun {
    uint64_t at; /* from the start of the block */
    uint64_t count;
} CellRun;

/* Where an element stands. */
typedef struct CellPlace {
    uint32_t row, query, place, lane;
} CellPlace;

MASK_SHARED uint32_t cell_least(uint64_t value, uint32_t most) {
    return value < most ? (uint32_t)value : most;
}

MASK_SHARED const CellRow *cell_row(const CellBatch *batch, uint32_t row) {
    return (const CellRow *)(const void *)((const uint8_t *)batch + batch->rows_at) + row;
}

MASK_SHARED CellRun cell_run(const CellBatch *batch, uint32_t input, uint32_t row) {
    return ((const CellRun *)(const void *)((const uint8_t *)batch +
                                            batch->runs_at))[(uint64_t)input * batch->rows + row];
}

MASK_SHARED uint32_t cell_element_bytes(uint32_t element) {
    return element == ELEMENT_I64   ? 8
           : element == ELEMENT_U24 ? 3
           : element <= ELEMENT_U16 ? element
                                    : 4;
}

/* As mask_rule_integer(), of a run of a block, where every value but three bytes is aligned. */
MASK_SHARED int64_t cell_integer(uint32_t element, const uint8_t *at) {
    const void *value = at;

    switch (element) {
    case ELEMENT_U16:
        return *(const uint16_t *)value;
    case ELEMENT_U32:
        return *(const uint32_t *)value;
    case ELEMENT_I32:
        return *(const int32_t *)value;
    case ELEMENT_I64:
        return *(const int64_t *)value;
    default:
        return mask_rule_integer(element, at);
    }
}

/* The bits of an integer below 2^24 as float32. */
MASK_SHARED uint32_t cell_float_of_integer(uint32_t value) {
    uint32_t exponent = 150;

    if (value == 0)
        return 0;
    for (; value < (1u << 23); value <<= 1)
        exponent--;
    return (exponent << 23) | (value & 0x7fffffu);
}

MASK_SHARED uint32_t cell_float_of_half(uint32_t half) {
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ffu;

    if (exponent == 31)
        return sign | 0x7f800000u | fraction << 13;
    if (exponent)
        return sign | (exponent + 112) << 23 | fraction << 13;
    if (fraction == 0)
        return sign;
    for (exponent = 113; !(fraction & 0x400u); fraction <<= 1)
        exponent--;
    return sign | exponent << 23 | (fraction & 0x3ffu) << 13;
}

/* One value from its type on disk to a tensor's dtype; tensor_dtype_allows() both. */
MASK_SHARED uint64_t cell_convert(uint32_t element, uint32_t dtype, const uint8_t *at) {
    uint32_t half = (uint32_t)at[0], single;

    if (element == ELEMENT_F16 || element == ELEMENT_BF16) {
        half |= (uint32_t)at[1] << 8;
        if (dtype != SEQFEED_FLOAT32)
            return half;
        return element == ELEMENT_BF16 ? half << 16 : cell_float_of_half(half);
    }
    if (element == ELEMENT_F32)
        return (uint32_t)cell_integer(ELEMENT_I32, at);
    if (dtype != SEQFEED_FLOAT16 && dtype != SEQFEED_BFLOAT16 && dtype != SEQFEED_FLOAT32)
        return (uint64_t)cell_integer(element, at);
    single = cell_float_of_integer((uint32_t)cell_integer(element, at));
    if (dtype == SEQFEED_BFLOAT16)
        return single >> 16;
    return dtype == SEQFEED_FLOAT32 ? single : single ? (single >> 13) - (112u << 10) : 0;
}

MASK_SHARED int64_t cell_token(const CellPlan *plan, const CellBatch *batch, uint32_t row,
                               uint32_t place) {
    uint32_t real = cell_row(batch, row)->real;

    if (!mask_rule_keeps(plan->side, batch->length, real, place))
        return plan->token_pad;
    place -= mask_rule_begin(plan->side, batch->length, real);
    return cell_integer(plan->token_element, (const uint8_t *)batch +
                                                 cell_run(batch, plan->token_input, row).at +
                                                 (uint64_t)place * plan->token_element_bytes);
}

MASK_SHARED int cell_lists(const CellPlan *plan, uint32_t first, uint32_t count, int64_t value) {
    for (uint32_t i = 0; i < count; i++)
        if (plan->values[first + i] == value)
            return 1;
    return 0;
}

MASK_SHARED int cell_index_listed(const CellPlan *plan, const CellBatch *batch,
                                  const MaskStep *step, CellPlace at) {
    uint32_t place, bytes = cell_element_bytes(step->count);

    if (step->op == MASK_INDICES) {
        for (uint32_t i = 0; i < step->count; i++)
            if (mask_rule_index(plan->values[step->first + i], batch->length, &place) &&
                place == at.place)
                return 1;
        return 0;
    }
    for (uint64_t i = 0; i < cell_run(batch, step->first, at.row).count; i++) {
        const uint8_t *value = (const uint8_t *)batch + cell_run(batch, step->first, at.row).at +
                               i * bytes;

        if (mask_rule_index(cell_integer(step->count, value), batch->length, &place) &&
            place == at.place)
            return 1;
    }
    return 0;
}

MASK_SHARED int cell_leaf(const CellPlan *plan, const CellBatch *batch, const MaskStep *step,
                          CellPlace at) {
    switch (step->op) {
    case MASK_LENGTHS:
        return mask_rule_keeps(plan->side, batch->length, cell_row(batch, at.row)->real, at.place);
    case MASK_CAUSAL:
        return mask_rule_causal(at.query, at.place);
    case MASK_WINDOW:
        return mask_rule_window(step->count, at.query, at.place);
    case MASK_TOKEN_IDS:
        return !cell_lists(plan, step->first, step->count,
                           cell_token(plan, batch, at.row, at.place));
    case MASK_INDICES:
    case MASK_INDEX_COLUMN:
        return !cell_index_listed(plan, batch, step, at);
    default:
        return step->op == MASK_TRUE;
    }
}

/* The pending answers are the low bits of one word. */
MASK_SHARED int cell_keeps(const CellPlan *plan, const CellBatch *batch, const CellTensor *tensor,
                           CellPlace at) {
    uint32_t stack = 0;

    for (uint32_t s = 0; s < tensor->step_count; s++) {
        const MaskStep *step = &plan->steps[tensor->first_step + s];

        if (step->op == MASK_AND)
            stack = (stack >> 1) & (~1u | (stack & 1));
        else if (step->op == MASK_OR)
            stack = (stack >> 1) | (stack & 1);
        else if (step->op == MASK_NOT)
            stack ^= 1;
        else
            stack = stack << 1 | (uint32_t)cell_leaf(plan, batch, step, at);
    }
    return (int)(stack & 1);
}

/* The element of a column, padded where the tensor is. */
MASK_SHARED uint64_t cell_column(const CellPlan *plan, const CellBatch *batch,
                                 const CellTensor *tensor, CellPlace at) {
    const CellRow *row = cell_row(batch, at.row);
    uint64_t value = at.lane;

    if (tensor->source == TENSOR_SEQUENCE_COLUMN) {
        if (row->is_empty)
            return (uint64_t)tensor->pad;
    } else {
        if (!mask_rule_keeps(plan->side, batch->length, row->real, at.place))
            return (uint64_t)tensor->pad;
        value += (uint64_t)(at.place - mask_rule_begin(plan->side, batch->length, row->real)) *
                 tensor->width;
    }
    return cell_convert(tensor->element, tensor->dtype,
                        (const uint8_t *)batch + cell_run(batch, tensor->input, at.row).at +
                            value * tensor->element_bytes);
}

MASK_SHARED int cell_in_spans(const CellBatch *batch, const CellTensor *tensor, uint32_t row,
                              int64_t token) {
    CellRun run = cell_run(batch, tensor->spans_input, row);
    const uint8_t *values = (const uint8_t *)batch + run.at;

    for (uint64_t i = 0; i + 2 <= run.count; i += 2, values += 2 * tensor->spans_element_bytes)
        if (mask_rule_in_span(
                cell_integer(tensor->spans_element, values),
                cell_integer(tensor->spans_element, values + tensor->spans_element_bytes), token))
            return 1;
    return 0;
}

MASK_SHARED uint64_t cell_learned(const CellPlan *plan, const CellBatch *batch,
                                  const CellTensor *tensor, CellPlace at) {
    const CellRow *row = cell_row(batch, at.row);
    int64_t target = mask_rule_target(plan->side, batch->length, row->real, tensor->shift,
                                      at.place);

    if (target >= 0 && tensor->has_spans &&
        !cell_in_spans(batch, tensor, at.row, target + (int64_t)row->skipped))
        target = -1;
    if (tensor->source == TENSOR_LOSS_MASK)
        return target >= 0 ? mask_rule_one(tensor->dtype) : 0;
    if (target < 0)
        return (uint64_t)tensor->pad;
    return cell_convert(tensor->element, tensor->dtype,
                        (const uint8_t *)batch + cell_run(batch, tensor->input, at.row).at +
                            (uint64_t)target * tensor->element_bytes);
}

MASK_SHARED uint64_t cell_bits(const CellPlan *plan, const CellBatch *batch,
                               const CellTensor *tensor, CellPlace at) {
    const CellRow *row = cell_row(batch, at.row);
    int keep;

    switch (tensor->source) {
    case TENSOR_LENGTHS:
        return row->real;
    case TENSOR_MASK_LENGTHS:
        keep = mask_rule_keeps(plan->side, batch->length, row->real, at.place);
        return mask_rule_bits(tensor->dtype, tensor->polarity, (uint64_t)tensor->pad, keep);
    case TENSOR_MASK:
    case TENSOR_MASK_DENSE:
        keep = cell_keeps(plan, batch, tensor, at);
        return mask_rule_bits(tensor->dtype, tensor->polarity, (uint64_t)tensor->pad, keep);
    case TENSOR_APPLY: {
        uint64_t bits = cell_column(plan, batch, tensor, at);

        keep = cell_keeps(plan, batch, tensor, at);
        return tensor->multiply ? mask_rule_times(tensor->dtype, bits, keep) : keep ? bits : 0;
    }
    case TENSOR_POSITIONS:
    case TENSOR_TYPES:
        if (!mask_rule_keeps(plan->side, batch->length, row->real, at.place) &&
            !(tensor->counts_on &&
              at.place >= mask_rule_begin(plan->side, batch->length, row->real)))
            return (uint64_t)tensor->pad;
        return tensor->source == TENSOR_TYPES
                   ? 0
                   : at.place - mask_rule_begin(plan->side, batch->length, row->real);
    case TENSOR_LABELS:
    case TENSOR_LOSS_MASK:
        return cell_learned(plan, batch, tensor, at);
    case TENSOR_SPECIAL:
        keep = mask_rule_keeps(plan->side, batch->length, row->real, at.place) &&
               !cell_lists(plan, tensor->first_value, tensor->value_count,
                           cell_token(plan, batch, at.row, at.place));
        return keep ? 0 : mask_rule_one(tensor->dtype);
    default:
        return cell_column(plan, batch, tensor, at);
    }
}

/* Bit t: tensor t is a dense mask. */
MASK_SHARED uint32_t cell_dense_tensors(const CellPlan *plan) {
    uint32_t dense = 0;

    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++)
        if (t < plan->tensor_count && plan->tensors[t].source == TENSOR_MASK_DENSE)
            dense |= 1u << t;
    return dense;
}

/* Where element `element` of a tensor stands. */
MASK_SHARED CellPlace cell_place(const CellPlan *plan, const CellBatch *batch,
                                 const CellTensor *tensor, uint64_t element) {
    CellPlace at = {0, 0, 0, 0};

    if (tensor->source == TENSOR_MASK_DENSE) {
        uint64_t line = element / batch->dense_stride;

        at.place = (uint32_t)(element % batch->dense_stride);
        at.row = (uint32_t)(line / batch->length);
        at.query = (uint32_t)(line % batch->length);
        return at;
    }
    at.lane = (uint32_t)(element % tensor->width);
    element /= tensor->width;
    if (tensor->source == TENSOR_LENGTHS || tensor->source == TENSOR_SEQUENCE_COLUMN) {
        at.row = (uint32_t)element;
    } else if (plan->time_first) {
        at.row = (uint32_t)(element % batch->rows);
        at.place = (uint32_t)(element / batch->rows);
    } else {
        at.row = (uint32_t)(element / batch->length);
        at.place = (uint32_t)(element % batch->length);
    }
    return at;
}

/* Chunks of CELL_CHUNK_BYTES in a tensor; the last may be shorter. */
MASK_SHARED uint64_t cell_chunks(const CellBatch *batch, uint32_t tensor) {
    return (batch->size_bytes[tensor] + CELL_CHUNK_BYTES - 1) / CELL_CHUNK_BYTES;
}

/* The bytes of one chunk as four words. Returns how many of them are the tensor's. */
MASK_SHARED uint32_t mask_cell_chunk(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                                     uint64_t chunk, uint32_t ret_words[4]) {
    const CellTensor *tensor = &plan->tensors[t];
    uint64_t left = batch->size_bytes[t] - chunk * CELL_CHUNK_BYTES;
    uint32_t bytes = cell_least(left, CELL_CHUNK_BYTES);
    uint64_t element = chunk * CELL_CHUNK_BYTES / tensor->value_bytes;

    ret_words[0] = ret_words[1] = ret_words[2] = ret_words[3] = 0;
    for (uint32_t b = 0; b < bytes; b += tensor->value_bytes, element++) {
        CellPlace at = cell_place(plan, batch, tensor, element);
        uint64_t bits = tensor->source == TENSOR_MASK_DENSE && at.place >= batch->length
                            ? 0
                            : cell_bits(plan, batch, tensor, at);

        if (tensor->value_bytes < 4)
            bits &= (1u << 8 * tensor->value_bytes) - 1;
        ret_words[b / 4] |= (uint32_t)bits << 8 * (b % 4);
        if (tensor->value_bytes == 8)
            ret_words[b / 4 + 1] = (uint32_t)(bits >> 32);
    }
    return bytes;
}
