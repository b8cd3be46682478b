/* SPDX-License-Identifier: MIT */
/* mask_chunk.h: the same bytes as mask_cell_chunk(), with less work where a chunk's elements are
 * alike: neighbouring places are found without a division each, a mask's steps are taken once for
 * all of a chunk's places, which are the bits of a word, and tokens and labels are copied without
 * asking what kind of tensor they are of for each. Integers only, plain C that nvcc reads too. */
#pragma once

#include "mask/mask_cell.h"

enum { KEEP_PLACES = 16 }; /* bits of a word of answers: one for each byte of a chunk */

/* The pending answers of a mask's steps, TENSOR_DEPTH_MAX words of KEEP_PLACES bits. Only shifted,
 * never indexed, so that it stays in registers. */
typedef struct KeepStack {
    uint64_t top, second, third, last;
} KeepStack;

MASK_SHARED void keep_push(KeepStack *stack, uint32_t word) {
    stack->last = stack->last << KEEP_PLACES | stack->third >> (64 - KEEP_PLACES);
    stack->third = stack->third << KEEP_PLACES | stack->second >> (64 - KEEP_PLACES);
    stack->second = stack->second << KEEP_PLACES | stack->top >> (64 - KEEP_PLACES);
    stack->top = stack->top << KEEP_PLACES | word;
}

MASK_SHARED uint32_t keep_pop(KeepStack *stack) {
    uint32_t word = (uint32_t)stack->top & 0xffffu;

    stack->top = stack->top >> KEEP_PLACES | stack->second << (64 - KEEP_PLACES);
    stack->second = stack->second >> KEEP_PLACES | stack->third << (64 - KEEP_PLACES);
    stack->third = stack->third >> KEEP_PLACES | stack->last << (64 - KEEP_PLACES);
    stack->last >>= KEEP_PLACES;
    return word;
}

/* Which of the places from `place` on are in [first, end). */
MASK_SHARED uint32_t keep_between(uint32_t place, uint32_t first, uint32_t end) {
    uint32_t from = first > place ? cell_least(first - place, KEEP_PLACES) : 0;
    uint32_t to = end > place ? cell_least(end - place, KEEP_PLACES) : 0;

    return ((1u << to) - 1) & ~((1u << from) - 1);
}

/* Which of the places from `at` on an index does not name. */
MASK_SHARED uint32_t keep_unlike(const CellBatch *batch, uint32_t from, int64_t index) {
    uint32_t place;

    if (!mask_rule_index(index, batch->length, &place) || place - from >= KEEP_PLACES)
        return 0xffffu;
    return 0xffffu & ~(1u << (place - from));
}

MASK_SHARED uint32_t keep_unlisted(const CellPlan *plan, const CellBatch *batch,
                                   const MaskStep *step, CellPlace at, uint32_t count) {
    uint32_t keep = 0xffffu, bytes;
    CellRun run;

    if (step->op == MASK_INDICES) {
        for (uint32_t i = 0; i < step->count; i++)
            keep &= keep_unlike(batch, at.place, plan->values[step->first + i]);
        return keep;
    }
    if (step->op == MASK_TOKEN_IDS) {
        for (uint32_t i = 0; i < count; i++)
            if (cell_lists(plan, step->first, step->count,
                           cell_token(plan, batch, at.row, at.place + i)))
                keep &= ~(1u << i);
        return keep;
    }
    run = cell_run(batch, step->first, at.row);
    bytes = cell_element_bytes(step->count);
    for (uint64_t i = 0; i < run.count; i++)
        keep &= keep_unlike(batch, at.place,
                            cell_integer(step->count, (const uint8_t *)batch + run.at + i * bytes));
    return keep;
}

/* The places [first, end) that a step which knows only lengths and queries keeps. False: it knows
 * more. */
MASK_SHARED int keep_range(const CellPlan *plan, const CellBatch *batch, const MaskStep *step,
                           CellPlace at, uint32_t *ret_first, uint32_t *ret_end) {
    uint32_t real;

    *ret_first = 0;
    *ret_end = batch->length;
    if (step->op == MASK_LENGTHS) {
        real = cell_row(batch, at.row)->real;
        *ret_first = mask_rule_begin(plan->side, batch->length, real);
        *ret_end = *ret_first + real;
    } else if (step->op == MASK_CAUSAL) {
        *ret_end = at.query + 1;
    } else if (step->op == MASK_WINDOW) {
        *ret_first = at.query >= step->count ? at.query - step->count + 1 : 0;
    } else if (step->op == MASK_FALSE) {
        *ret_end = 0;
    } else {
        return step->op == MASK_TRUE;
    }
    return 1;
}

MASK_SHARED uint32_t keep_leaf(const CellPlan *plan, const CellBatch *batch, const MaskStep *step,
                               CellPlace at, uint32_t count) {
    uint32_t first, end;

    if (keep_range(plan, batch, step, at, &first, &end))
        return keep_between(at.place, first, end);
    return keep_unlisted(plan, batch, step, at, count);
}

/* What a mask's steps say of `count` places of one row from `at` on; bits beyond mean nothing. */
MASK_SHARED uint32_t keep_places(const CellPlan *plan, const CellBatch *batch,
                                 const CellTensor *tensor, CellPlace at, uint32_t count) {
    KeepStack stack = {0, 0, 0, 0};
    uint32_t top = 0;

    for (uint32_t s = 0; s < tensor->step_count; s++) {
        const MaskStep *step = &plan->steps[tensor->first_step + s];

        if (step->op == MASK_AND)
            top &= keep_pop(&stack);
        else if (step->op == MASK_OR)
            top |= keep_pop(&stack);
        else if (step->op == MASK_NOT)
            top ^= 0xffffu;
        else {
            keep_push(&stack, top);
            top = keep_leaf(plan, batch, step, at, count);
        }
    }
    return top;
}

/* The same where a chunk runs on into the next rows. */
MASK_SHARED uint32_t keep_elements(const CellPlan *plan, const CellBatch *batch,
                                   const CellTensor *tensor, CellPlace at, uint32_t count) {
    uint32_t keep = 0;

    for (uint32_t done = 0; done < count; at.row++, at.place = 0) {
        uint32_t some = cell_least(batch->length - at.place, count - done);
        uint32_t real = cell_row(batch, at.row)->real;
        uint32_t begin = mask_rule_begin(plan->side, batch->length, real);
        uint32_t word = tensor->source == TENSOR_MASK_LENGTHS
                            ? keep_between(at.place, begin, begin + real)
                            : keep_places(plan, batch, tensor, at, some);

        keep |= (word & ((1u << some) - 1)) << done;
        done += some;
    }
    return keep;
}

/* The bits that a word of answers has at word `w` of a chunk, all ones for each element that it
 * keeps. */
MASK_SHARED uint32_t keep_spread(uint32_t keep, uint32_t value_bytes, uint32_t w) {
    switch (value_bytes) {
    case 1:
        return ((keep >> 4 * w & 15) * 0x00204081u & 0x01010101u) * 0xffu;
    case 2:
        return (keep >> 2 * w & 1) * 0xffffu | (keep >> (2 * w + 1) & 1) * 0xffff0000u;
    case 4:
        return 0u - (keep >> w & 1);
    default:
        return 0u - (keep >> w / 2 & 1);
    }
}

/* A chunk of a mask: the first `count` elements as `keep` says, 0 behind them. Most chunks are kept
 * or dropped whole. */
MASK_SHARED void keep_write(const CellTensor *tensor, uint32_t keep, uint32_t count,
                            uint32_t ret_words[4]) {
    uint32_t all = (1u << (CELL_CHUNK_BYTES >> tensor->value_shift)) - 1;
    uint32_t valid = (1u << count) - 1;
    uint64_t whole = (keep & all) == 0 ? tensor->drops : tensor->keeps;

    if (valid == all && ((keep & all) == 0 || (keep & all) == all)) {
        ret_words[0] = ret_words[2] = (uint32_t)whole;
        ret_words[1] = ret_words[3] = (uint32_t)(whole >> 32);
        return;
    }
    for (uint32_t w = 0; w < 4; w++) {
        uint32_t bits = (uint32_t)(tensor->drops >> 32 * (w & 1));
        uint32_t other = bits ^ (uint32_t)(tensor->keeps >> 32 * (w & 1));

        bits ^= other & keep_spread(keep, tensor->value_bytes, w);
        ret_words[w] = bits & keep_spread(valid, tensor->value_bytes, w);
    }
}

/* One query of a dense mask. Where its steps are of lengths and queries only, and all of them must
 * hold, what they keep is one range. */
typedef struct MaskLine {
    CellPlace at;
    uint32_t is_range, first, end;
} MaskLine;

MASK_SHARED MaskLine mask_line(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                               uint32_t line) {
    const CellTensor *tensor = &plan->tensors[t];
    MaskLine ret = {{line / batch->length, line % batch->length, 0, 0}, 1, 0, batch->length};

    for (uint32_t s = 0; s < tensor->step_count && ret.is_range; s++) {
        const MaskStep *step = &plan->steps[tensor->first_step + s];
        uint32_t first, end;

        if (step->op == MASK_AND)
            continue;
        ret.is_range = (uint32_t)keep_range(plan, batch, step, ret.at, &first, &end);
        ret.first = first > ret.first ? first : ret.first;
        ret.end = end < ret.end ? end : ret.end;
    }
    return ret;
}

/* The chunk that begins with `place`. */
MASK_SHARED void mask_line_chunk(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                                 const MaskLine *line, uint32_t place, uint32_t ret_words[4]) {
    const CellTensor *tensor = &plan->tensors[t];
    uint32_t count = CELL_CHUNK_BYTES >> tensor->value_shift, keep;
    CellPlace at = line->at;

    at.place = place;
    count = place < batch->length ? cell_least(batch->length - place, count) : 0;
    keep = line->is_range ? keep_between(place, line->first, line->end)
                          : keep_places(plan, batch, tensor, at, count);
    keep_write(tensor, keep, count, ret_words);
}

/* Sixteen bytes that fill up from the lowest on. Shifted and never indexed, as above. */
typedef struct ChunkBytes {
    uint64_t low, high;
} ChunkBytes;

MASK_SHARED void chunk_put(ChunkBytes *chunk, const CellTensor *tensor, uint32_t index,
                           uint64_t bits) {
    uint32_t at = index << (tensor->value_shift + 3);

    if (tensor->value_bytes < 8)
        bits &= (UINT64_C(1) << 8 * tensor->value_bytes) - 1;
    if (at < 64)
        chunk->low |= bits << at;
    else
        chunk->high |= bits << (at - 64);
}

/* Element `element` of a tensor that is no dense mask, as cell_place(). */
MASK_SHARED CellPlace chunk_place(const CellPlan *plan, const CellBatch *batch,
                                  const CellTensor *tensor, uint32_t element) {
    CellPlace at = {0, 0, 0, 0};
    uint32_t across = plan->time_first ? batch->rows : batch->length;

    if (tensor->width != 1) {
        at.lane = element % tensor->width;
        element /= tensor->width;
    }
    if (tensor->source == TENSOR_LENGTHS || tensor->source == TENSOR_SEQUENCE_COLUMN) {
        at.row = element;
        return at;
    }
    at.row = plan->time_first ? element % across : element / across;
    at.place = plan->time_first ? element / across : element % across;
    return at;
}

MASK_SHARED void chunk_advance(const CellPlan *plan, const CellBatch *batch,
                               const CellTensor *tensor, CellPlace *at) {
    if (++at->lane < tensor->width)
        return;
    at->lane = 0;
    if (tensor->source == TENSOR_LENGTHS || tensor->source == TENSOR_SEQUENCE_COLUMN) {
        at->row++;
    } else if (plan->time_first) {
        if (++at->row == batch->rows) {
            at->row = 0;
            at->place++;
        }
    } else if (++at->place == batch->length) {
        at->place = 0;
        at->row++;
    }
}

/* Any tensor, element by element. */
MASK_SHARED ChunkBytes chunk_of_cells(const CellPlan *plan, const CellBatch *batch,
                                      const CellTensor *tensor, uint32_t element, uint32_t count) {
    CellPlace at = chunk_place(plan, batch, tensor, element);
    ChunkBytes chunk = {0, 0};

    for (uint32_t i = 0; i < count; i++) {
        chunk_put(&chunk, tensor, i, cell_bits(plan, batch, tensor, at));
        chunk_advance(plan, batch, tensor, &at);
    }
    return chunk;
}

/* Plain tensors: where a row's values are is found when a chunk comes to it. */
MASK_SHARED ChunkBytes chunk_of_integers(const CellPlan *plan, const CellBatch *batch,
                                         const CellTensor *tensor, uint32_t element,
                                         uint32_t count) {
    uint32_t row = element / batch->length, place = element % batch->length;
    uint32_t shift = tensor->source == TENSOR_LABELS ? tensor->shift : 0;
    uint32_t real = 0, begin = 0;
    const uint8_t *values = (const uint8_t *)batch;
    ChunkBytes chunk = {0, 0};

    for (uint32_t i = 0; i < count; i++, place++) {
        int64_t value = tensor->pad;
        uint32_t at;

        if (i == 0 || place == batch->length) {
            row += place == batch->length;
            place = place == batch->length ? 0 : place;
            real = cell_row(batch, row)->real;
            begin = mask_rule_begin(plan->side, batch->length, real);
            values = (const uint8_t *)batch + cell_run(batch, tensor->input, row).at;
        }
        at = place - begin; /* before the first: large */
        if (at < real && at + shift < real)
            value = cell_integer(tensor->element,
                                 values + (uint64_t)(at + shift) * tensor->element_bytes);
        chunk_put(&chunk, tensor, i, (uint64_t)value);
    }
    return chunk;
}

/* As mask_cell_chunk(), of any tensor but dense masks. */
MASK_SHARED uint32_t mask_chunk(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                                uint32_t chunk, uint32_t ret_words[4]) {
    const CellTensor *tensor = &plan->tensors[t];
    uint32_t bytes = cell_least(batch->size_bytes[t] - (uint64_t)chunk * CELL_CHUNK_BYTES,
                                CELL_CHUNK_BYTES);
    uint32_t count = bytes >> tensor->value_shift;
    uint32_t element = chunk * ((uint32_t)CELL_CHUNK_BYTES >> tensor->value_shift);
    ChunkBytes full;

    if (!plan->time_first &&
        (tensor->source == TENSOR_MASK || tensor->source == TENSOR_MASK_LENGTHS)) {
        CellPlace at = chunk_place(plan, batch, tensor, element);

        keep_write(tensor, keep_elements(plan, batch, tensor, at, count), count, ret_words);
        return bytes;
    }
    full = tensor->is_plain ? chunk_of_integers(plan, batch, tensor, element, count)
                            : chunk_of_cells(plan, batch, tensor, element, count);
    ret_words[0] = (uint32_t)full.low;
    ret_words[1] = (uint32_t)(full.low >> 32);
    ret_words[2] = (uint32_t)full.high;
    ret_words[3] = (uint32_t)(full.high >> 32);
    return bytes;
}
