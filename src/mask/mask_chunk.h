/* SPDX-License-Identifier: MIT */
/* mask_chunk.h: the same bytes as mask_cell_chunk(), with less work where a chunk's elements are
 * alike: neighbouring places of a row are found without a division each, and a mask's steps are
 * taken once for all of a chunk's places, which are the bits of a word. Integers only, plain C that
 * nvcc reads too. */
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
MASK_SHARED uint32_t keep_between(uint32_t place, uint64_t first, uint64_t end) {
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

MASK_SHARED uint32_t keep_leaf(const CellPlan *plan, const CellBatch *batch, const MaskStep *step,
                               CellPlace at, uint32_t count) {
    uint32_t real, begin;

    switch (step->op) {
    case MASK_LENGTHS:
        real = cell_row(batch, at.row)->real;
        begin = mask_rule_begin(plan->side, batch->length, real);
        return keep_between(at.place, begin, (uint64_t)begin + real);
    case MASK_CAUSAL:
        return keep_between(at.place, 0, (uint64_t)at.query + 1);
    case MASK_WINDOW:
        return keep_between(at.place,
                            at.query >= step->count ? (uint64_t)at.query - step->count + 1 : 0,
                            UINT64_MAX);
    case MASK_TOKEN_IDS:
    case MASK_INDICES:
    case MASK_INDEX_COLUMN:
        return keep_unlisted(plan, batch, step, at, count);
    default:
        return step->op == MASK_TRUE ? 0xffffu : 0;
    }
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
    const MaskStep lengths = {MASK_LENGTHS, 0, 0};
    uint32_t keep = 0;

    for (uint32_t done = 0; done < count; at.row++, at.place = 0) {
        uint32_t some = cell_least(batch->length - at.place, count - done);
        uint32_t word = tensor->source == TENSOR_MASK_LENGTHS
                            ? keep_leaf(plan, batch, &lengths, at, some)
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

/* A chunk of a mask: elements of `valid` that `keep` keeps and does not; 0 for all others. */
MASK_SHARED void keep_write(const CellTensor *tensor, uint32_t keep, uint32_t valid,
                            uint32_t ret_words[4]) {
    uint64_t pad = (uint64_t)tensor->pad;
    uint64_t on = mask_rule_bits(tensor->dtype, tensor->polarity, pad, 1);
    uint64_t off = mask_rule_bits(tensor->dtype, tensor->polarity, pad, 0);

    if (tensor->value_bytes < 4) {
        on &= (1u << 8 * tensor->value_bytes) - 1;
        off &= (1u << 8 * tensor->value_bytes) - 1;
        on |= on << 16;
        off |= off << 16;
    }
    if (tensor->value_bytes == 1) {
        on |= on << 8;
        off |= off << 8;
    }
    for (uint32_t w = 0; w < 4; w++) {
        uint32_t shift = tensor->value_bytes == 8 && (w & 1) ? 32 : 0;
        uint32_t bits = (uint32_t)(off >> shift);

        bits ^= (bits ^ (uint32_t)(on >> shift)) & keep_spread(keep, tensor->value_bytes, w);
        ret_words[w] = bits & keep_spread(valid, tensor->value_bytes, w);
    }
}

/* One query of a dense mask. */
typedef struct MaskLine {
    CellPlace at;
} MaskLine;

MASK_SHARED MaskLine mask_line(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                               uint64_t line) {
    MaskLine ret = {{0, 0, 0, 0}};

    (void)plan;
    (void)t;
    ret.at.row = (uint32_t)(line / batch->length);
    ret.at.query = (uint32_t)(line % batch->length);
    return ret;
}

/* The chunk that begins with `place`. */
MASK_SHARED void mask_line_chunk(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                                 const MaskLine *line, uint32_t place, uint32_t ret_words[4]) {
    const CellTensor *tensor = &plan->tensors[t];
    CellPlace at = line->at;
    uint32_t count = CELL_CHUNK_BYTES / tensor->value_bytes;

    at.place = place;
    if (place >= batch->length)
        count = 0;
    else if (batch->length - place < count)
        count = batch->length - place;
    keep_write(tensor, keep_places(plan, batch, tensor, at, count), (1u << count) - 1, ret_words);
}

/* As mask_cell_chunk(). */
MASK_SHARED uint32_t mask_chunk(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                                uint64_t chunk, uint32_t ret_words[4]) {
    const CellTensor *tensor = &plan->tensors[t];
    uint64_t left = batch->size_bytes[t] - chunk * CELL_CHUNK_BYTES;
    uint32_t bytes = cell_least(left, CELL_CHUNK_BYTES);
    uint32_t count = bytes / tensor->value_bytes;
    CellPlace at;

    if ((tensor->source != TENSOR_MASK && tensor->source != TENSOR_MASK_LENGTHS) ||
        plan->time_first)
        return mask_cell_chunk(plan, batch, t, chunk, ret_words);
    at = cell_place(plan, batch, tensor, chunk * CELL_CHUNK_BYTES / tensor->value_bytes);
    keep_write(tensor, keep_elements(plan, batch, tensor, at, count), (1u << count) - 1, ret_words);
    return bytes;
}
