/* SPDX-License-Identifier: MIT */
/* mask_cell.h: the bits of any element of any tensor, from the packed form of a batch. Integers
 * only and plain C that nvcc reads too: kernels are thin shells around functions of mask_chunk.h,
 * and tests run these and those on the host against the CPU backend. */
#pragma once

#include <stdint.h>

#include "mask/block_rule.h"
#include "mask/cell_batch.h"
#include "mask/mask_rule.h"
#include "mask/tensor.h"

/* Where an element stands. */
typedef struct CellPlace {
    uint32_t row, query, place, lane;
} CellPlace;

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
    case ELEMENT_U24:
        return mask_rule_integer(ELEMENT_U24, at);
    default: /* the compiler does not see that of mask_rule_integer() only one byte is left */
        return *at;
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

MASK_SHARED int64_t cell_token(const CellPlan *plan, const CellBatch *batch, const CellView *view,
                               uint32_t place) {
    if (!cell_is_real(view, place))
        return plan->token_pad;
    return cell_integer(plan->token_element,
                        cell_value(batch, plan->token_input,
                                   (uint64_t)view->token + (place - view->begin),
                                   plan->token_element_bytes));
}

MASK_SHARED int cell_lists(const CellPlan *plan, uint32_t first, uint32_t count, int64_t value) {
    for (uint32_t i = 0; i < count; i++)
        if (plan->values[first + i] == value)
            return 1;
    return 0;
}

/* The place of the row that an index in the sequence's own list names. It counts on the row, in a
 * packed row in the whole sequence, of which a piece may stand there. False: none. */
MASK_SHARED int cell_index(const CellPlan *plan, const CellBatch *batch, const CellView *view,
                           int64_t index, uint32_t *ret_place) {
    const CellPart *part;

    if (!plan->packed)
        return mask_rule_index(index, batch->length, ret_place);
    part = cell_part(batch, view->sequence);
    if (!mask_rule_index(index, part->whole, ret_place) ||
        *ret_place - part->skipped >= view->real) /* before the piece it wraps: large */
        return 0;
    *ret_place = view->begin + (*ret_place - part->skipped);
    return 1;
}

MASK_SHARED int cell_index_listed(const CellPlan *plan, const CellBatch *batch,
                                  const CellView *view, const MaskStep *step, uint32_t place) {
    uint32_t listed, bytes = cell_element_bytes(step->count);
    CellList list;

    if (step->op == MASK_INDICES) {
        for (uint32_t i = 0; i < step->count; i++)
            if (mask_rule_index(plan->values[step->first + i], batch->length, &listed) &&
                listed == place)
                return 1;
        return 0;
    }
    list = cell_list(batch, step->first, view->sequence);
    for (uint32_t i = list.first; i < list.end; i++)
        if (cell_index(plan, batch, view,
                       cell_integer(step->count, cell_value(batch, step->first, i, bytes)),
                       &listed) &&
            listed == place)
            return 1;
    return 0;
}

MASK_SHARED int cell_leaf(const CellPlan *plan, const CellBatch *batch, const CellView *view,
                          const MaskStep *step, CellPlace at) {
    switch (step->op) {
    case MASK_LENGTHS:
        return cell_is_real(view, at.place);
    case MASK_CAUSAL:
        return mask_rule_causal(at.query, at.place);
    case MASK_WINDOW:
        return mask_rule_window(step->count, at.query, at.place);
    case MASK_SEGMENTS:
        return cell_is_real(view, at.place) && cell_is_real(view, at.query);
    case MASK_TOKEN_IDS:
        return !cell_lists(plan, step->first, step->count, cell_token(plan, batch, view, at.place));
    case MASK_INDICES:
    case MASK_INDEX_COLUMN:
        return !cell_index_listed(plan, batch, view, step, at.place);
    default:
        return step->op == MASK_TRUE;
    }
}

/* The pending answers are the low bits of one word. */
MASK_SHARED int cell_keeps(const CellPlan *plan, const CellBatch *batch, const CellTensor *tensor,
                           const CellView *view, CellPlace at) {
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
            stack = stack << 1 | (uint32_t)cell_leaf(plan, batch, view, step, at);
    }
    return (int)(stack & 1);
}

/* Number `lane` of the `index`-th token or sequence in the tensor's column. */
MASK_SHARED uint64_t cell_converted(const CellBatch *batch, const CellTensor *tensor,
                                    uint64_t index, uint32_t lane) {
    return cell_convert(
        tensor->element, tensor->dtype,
        cell_value(batch, tensor->input, index * tensor->width + lane, tensor->element_bytes));
}

/* The element of a column of tokens, padded. */
MASK_SHARED uint64_t cell_column(const CellBatch *batch, const CellTensor *tensor,
                                 const CellView *view, CellPlace at) {
    if (!cell_is_real(view, at.place))
        return (uint64_t)tensor->pad;
    return cell_converted(batch, tensor, (uint64_t)view->token + (at.place - view->begin), at.lane);
}

MASK_SHARED int cell_in_spans(const CellBatch *batch, const CellTensor *tensor, uint32_t sequence,
                              int64_t token) {
    CellList list = cell_list(batch, tensor->spans_input, sequence);
    const uint8_t *values = cell_value(batch, tensor->spans_input, list.first,
                                       tensor->spans_element_bytes);

    for (uint32_t i = list.first; i + 2 <= list.end; i += 2) {
        if (mask_rule_in_span(
                cell_integer(tensor->spans_element, values),
                cell_integer(tensor->spans_element, values + tensor->spans_element_bytes), token))
            return 1;
        values += 2 * (uint64_t)tensor->spans_element_bytes;
    }
    return 0;
}

/* The token of its sequence that a label at the place is about. In packed rows the first token is
 * none: nothing before it predicts it. False: none. */
MASK_SHARED int cell_target(const CellPlan *plan, const CellBatch *batch, const CellTensor *tensor,
                            const CellView *view, uint32_t place, uint32_t *ret_token) {
    uint32_t token = place - view->begin + tensor->shift;

    *ret_token = token;
    if (!cell_is_real(view, place) || token >= view->real || (plan->packed && token == 0))
        return 0;
    return !tensor->has_spans ||
           cell_in_spans(batch, tensor, view->sequence,
                         (int64_t)token + cell_part(batch, view->sequence)->skipped);
}

MASK_SHARED uint64_t cell_learned(const CellPlan *plan, const CellBatch *batch,
                                  const CellTensor *tensor, const CellView *view, uint32_t place) {
    uint32_t token;
    int is_learned = cell_target(plan, batch, tensor, view, place, &token);

    if (tensor->source == TENSOR_LOSS_MASK)
        return is_learned ? mask_rule_one(tensor->dtype) : 0;
    if (!is_learned)
        return (uint64_t)tensor->pad;
    return cell_converted(batch, tensor, (uint64_t)view->token + token, 0);
}

/* Positions of padding on the right of a packed row may go on from its last sequence, or count as
 * one of its own. */
MASK_SHARED uint64_t cell_tail_position(const CellPlan *plan, const CellBatch *batch,
                                        const CellTensor *tensor, CellPlace at) {
    const CellRow *row = cell_row(batch, at.row);
    uint32_t begin = row->begin + row->real;

    if (plan->side != SEQFEED_SIDE_RIGHT || !(tensor->counts_on || plan->tail_segment))
        return (uint64_t)tensor->pad;
    if (tensor->counts_on && row->count > 0)
        begin = row->begin + (cell_sums(batch)[row->first + row->count - 1] - row->token);
    return at.place - begin;
}

MASK_SHARED uint64_t cell_position(const CellPlan *plan, const CellBatch *batch,
                                   const CellTensor *tensor, const CellView *view, CellPlace at) {
    if (plan->packed && tensor->source == TENSOR_POSITIONS && !cell_is_real(view, at.place))
        return cell_tail_position(plan, batch, tensor, at);
    if (!cell_is_real(view, at.place) && !(tensor->counts_on && at.place >= view->begin))
        return (uint64_t)tensor->pad;
    return tensor->source == TENSOR_TYPES ? 0 : at.place - view->begin;
}

/* The bits of a tensor of places; `view` is right for the place, of the row if that is enough for
 * the tensor. */
MASK_SHARED uint64_t cell_bits(const CellPlan *plan, const CellBatch *batch,
                               const CellTensor *tensor, const CellView *view, CellPlace at) {
    int keep;

    switch (tensor->source) {
    case TENSOR_MASK_LENGTHS:
        return mask_rule_bits(tensor->dtype, tensor->polarity, (uint64_t)tensor->pad,
                              cell_is_real(view, at.place));
    case TENSOR_MASK:
    case TENSOR_MASK_DENSE:
        keep = cell_keeps(plan, batch, tensor, view, at);
        return mask_rule_bits(tensor->dtype, tensor->polarity, (uint64_t)tensor->pad, keep);
    case TENSOR_APPLY: {
        uint64_t bits = cell_column(batch, tensor, view, at);

        keep = cell_keeps(plan, batch, tensor, view, at);
        return tensor->multiply ? mask_rule_times(tensor->dtype, bits, keep) : keep ? bits : 0;
    }
    case TENSOR_POSITIONS:
    case TENSOR_TYPES:
        return cell_position(plan, batch, tensor, view, at);
    case TENSOR_LABELS:
    case TENSOR_LOSS_MASK:
        return cell_learned(plan, batch, tensor, view, at.place);
    case TENSOR_SPECIAL:
        keep = cell_is_real(view, at.place) &&
               !cell_lists(plan, tensor->first_value, tensor->value_count,
                           cell_token(plan, batch, view, at.place));
        return keep ? 0 : mask_rule_one(tensor->dtype);
    case TENSOR_PACK_SEGMENTS:
        return cell_is_real(view, at.place) ? view->sequence - cell_row(batch, at.row)->first + 1
                                            : 0;
    default:
        return cell_column(batch, tensor, view, at);
    }
}

/* ---- tensors of sequences ---- */

MASK_SHARED int cell_has_entries(const CellTensor *tensor) {
    switch (tensor->source) {
    case TENSOR_LENGTHS:
    case TENSOR_SEQUENCE_COLUMN:
    case TENSOR_PACK_CU_SEQLENS:
    case TENSOR_PACK_CU_PADDED:
    case TENSOR_PACK_MAX_SEQLEN:
        return 1;
    default:
        return 0;
    }
}

/* Where a sequence begins in rows x length; the whole behind the last. */
MASK_SHARED uint64_t cell_padded_begin(const CellBatch *batch, uint32_t sequence) {
    uint32_t low = 0, high = batch->rows;
    const CellRow *row;

    if (sequence >= batch->sequences)
        return (uint64_t)batch->rows * batch->length;
    while (high - low > 1) { /* of rows without sequences and the next with some: the last */
        uint32_t middle = low + (high - low) / 2;

        if (cell_row(batch, middle)->first <= sequence)
            low = middle;
        else
            high = middle;
    }
    row = cell_row(batch, low);
    return (uint64_t)low * batch->length + row->begin + (cell_sums(batch)[sequence] - row->token);
}

/* Number `lane` of entry `entry` of a tensor that has one for each sequence. Without packing rows
 * and sequences are the same, and rows of last: pad are behind them. */
MASK_SHARED uint64_t cell_entry(const CellPlan *plan, const CellBatch *batch,
                                const CellTensor *tensor, uint32_t entry, uint32_t lane) {
    const uint32_t *sums = cell_sums(batch);
    uint32_t tail;

    switch (tensor->source) {
    case TENSOR_LENGTHS:
        return entry < batch->sequences ? sums[entry + 1] - sums[entry] : 0;
    case TENSOR_PACK_CU_SEQLENS:
        return entry <= batch->sequences ? sums[entry] : batch->length;
    case TENSOR_PACK_CU_PADDED:
        return cell_padded_begin(batch, entry);
    case TENSOR_PACK_MAX_SEQLEN:
        tail = plan->tail_segment ? batch->length - sums[batch->sequences] : 0;
        return tail > batch->longest ? tail : batch->longest;
    default:
        return entry < batch->sequences ? cell_converted(batch, tensor, entry, lane)
                                        : (uint64_t)tensor->pad;
    }
}

/* ---- block lists ---- */

MASK_SHARED int cell_has_blocks(const CellTensor *tensor) {
    switch (tensor->source) {
    case TENSOR_BLOCKS_COUNT:
    case TENSOR_BLOCKS:
    case TENSOR_BLOCKS_FULL_COUNT:
    case TENSOR_BLOCKS_FULL:
        return 1;
    default:
        return 0;
    }
}

MASK_SHARED BlockRun cell_block_run(const CellPlan *plan, const CellBatch *batch,
                                    const BlockSight *sight, uint32_t row, uint32_t query) {
    CellView view = {0, 0, 0, 0, CELL_NONE};

    if (sight->segments)
        view = cell_view(plan, batch, row, query);
    return block_run(sight, query, view.begin, view.begin + view.real);
}

/* What block `block` of a row's queries sees. */
MASK_SHARED BlockSeen cell_seen(const CellPlan *plan, const CellBatch *batch,
                                const CellTensor *tensor, uint32_t row, uint32_t block) {
    const CellRow *at = cell_row(batch, row);
    BlockSight sight = block_sight(plan->steps + tensor->first_step, tensor->step_count,
                                   batch->length, at->begin, at->begin + at->real);
    BlockQueries queries = block_queries(&sight, tensor->block, block);
    BlockRun first, last;

    if (queries.first >= queries.last)
        return block_unseen();
    first = cell_block_run(plan, batch, &sight, row, queries.first);
    last = cell_block_run(plan, batch, &sight, row, queries.last - 1);
    return block_seen(&queries, tensor->block, first, last);
}

MASK_SHARED int cell_counts_blocks(const CellTensor *tensor) {
    return tensor->source == TENSOR_BLOCKS_COUNT || tensor->source == TENSOR_BLOCKS_FULL_COUNT;
}

MASK_SHARED uint32_t cell_blocks(const CellBatch *batch, const CellTensor *tensor) {
    return (uint32_t)(((uint64_t)batch->length + tensor->block - 1) / tensor->block);
}

/* Number `number` of what such a tensor says of a block of queries. */
MASK_SHARED uint32_t cell_block(const CellTensor *tensor, const BlockSeen *seen, uint32_t number) {
    int full = tensor->source == TENSOR_BLOCKS_FULL_COUNT || tensor->source == TENSOR_BLOCKS_FULL;

    return cell_counts_blocks(tensor) ? block_count(seen, full) : block_listed(seen, full, number);
}

/* ---- */

/* Bit t: tensor t is a dense mask. */
MASK_SHARED uint32_t cell_dense_tensors(const CellPlan *plan) {
    uint32_t dense = 0;

    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++)
        if (t < plan->tensor_count && plan->tensors[t].source == TENSOR_MASK_DENSE)
            dense |= 1u << t;
    return dense;
}

/* Where element `element` of a tensor of places stands. */
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
    if (plan->time_first) {
        at.row = (uint32_t)(element % batch->rows);
        at.place = (uint32_t)(element / batch->rows);
    } else {
        at.row = (uint32_t)(element / batch->length);
        at.place = (uint32_t)(element % batch->length);
    }
    return at;
}

/* The bits of element `element` of any tensor. */
MASK_SHARED uint64_t cell_element(const CellPlan *plan, const CellBatch *batch,
                                  const CellTensor *tensor, uint64_t element) {
    CellPlace at;
    CellView view;

    if (cell_has_entries(tensor))
        return cell_entry(plan, batch, tensor, (uint32_t)(element / tensor->width),
                          (uint32_t)(element % tensor->width));
    if (cell_has_blocks(tensor)) {
        uint32_t blocks = cell_blocks(batch, tensor);
        uint32_t numbers = cell_counts_blocks(tensor) ? 1 : blocks;
        uint64_t line = element / numbers;
        BlockSeen seen = cell_seen(plan, batch, tensor, (uint32_t)(line / blocks),
                                   (uint32_t)(line % blocks));

        return cell_block(tensor, &seen, (uint32_t)(element % numbers));
    }
    at = cell_place(plan, batch, tensor, element);
    if (at.place >= batch->length) /* between the lines of a dense mask */
        return 0;
    view = cell_view(plan, batch, at.row, at.place);
    return cell_bits(plan, batch, tensor, &view, at);
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
        uint64_t bits = cell_element(plan, batch, tensor, element);

        if (tensor->value_bytes < 4)
            bits &= (1u << 8 * tensor->value_bytes) - 1;
        ret_words[b / 4] |= (uint32_t)bits << 8 * (b % 4);
        if (tensor->value_bytes == 8)
            ret_words[b / 4 + 1] = (uint32_t)(bits >> 32);
    }
    return bytes;
}
