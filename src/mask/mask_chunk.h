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

/* What steps see: places of a row from `place` on, as a query does that stands in one of its
 * sequences (segments: own_first .. own_end). `row` is all of it. */
typedef struct KeepSight {
    CellView row;
    uint32_t number, query, place; /* the row's number */
    uint32_t own_first, own_end;
} KeepSight;

/* `keep` without a place of the row, if it is one of those from `from` on. */
MASK_SHARED uint32_t keep_clear(uint32_t keep, uint32_t from, uint32_t place) {
    return place - from < KEEP_PLACES ? keep & ~(1u << (place - from)) : keep;
}

MASK_SHARED uint32_t keep_clear_list(const CellPlan *plan, const CellBatch *batch,
                                     const MaskStep *step, const CellView *view, uint32_t from,
                                     uint32_t keep) {
    uint32_t bytes = cell_element_bytes(step->count), place;
    CellList list = cell_list(batch, step->first, view->sequence);

    for (uint32_t i = list.first; i < list.end; i++)
        if (cell_index(plan, batch, view,
                       cell_integer(step->count, cell_value(batch, step->first, i, bytes)), &place))
            keep = keep_clear(keep, from, place);
    return keep;
}

/* The view of the places behind another one's in its row: mostly of the next sequence. */
MASK_SHARED CellView chunk_next_view(const CellPlan *plan, const CellBatch *batch, uint32_t row,
                                     const CellView *view) {
    const CellRow *at = cell_row(batch, row);
    uint32_t next = view->sequence + 1;

    if (view->sequence != CELL_NONE && next < at->first + at->count &&
        cell_sums(batch)[next + 1] > cell_sums(batch)[next])
        return cell_sequence_view(batch, at, next);
    return cell_view(plan, batch, row, view->end);
}

MASK_SHARED uint32_t keep_unlisted(const CellPlan *plan, const CellBatch *batch,
                                   const MaskStep *step, const KeepSight *sight, uint32_t count) {
    uint32_t keep = 0xffffu, place;
    CellView view;

    if (step->op == MASK_INDICES) {
        for (uint32_t i = 0; i < step->count; i++)
            if (mask_rule_index(plan->values[step->first + i], batch->length, &place))
                keep = keep_clear(keep, sight->place, place);
        return keep;
    }
    if (step->op == MASK_TOKEN_IDS) {
        for (uint32_t i = 0; i < count; i++)
            if (cell_lists(plan, step->first, step->count,
                           cell_token(plan, batch, &sight->row, sight->place + i)))
                keep &= ~(1u << i);
        return keep;
    }
    if (count == 0)
        return keep;
    view = cell_view(plan, batch, sight->number, sight->place);
    for (;;) {
        keep = keep_clear_list(plan, batch, step, &view, sight->place, keep);
        if (view.end >= sight->place + count)
            return keep;
        view = chunk_next_view(plan, batch, sight->number, &view);
    }
}

/* The places [first, end) that a step which knows only lengths and queries keeps. False: it knows
 * more. */
MASK_SHARED int keep_range(const CellBatch *batch, const MaskStep *step, const KeepSight *sight,
                           uint32_t *ret_first, uint32_t *ret_end) {
    *ret_first = 0;
    *ret_end = batch->length;
    if (step->op == MASK_LENGTHS) {
        *ret_first = sight->row.begin;
        *ret_end = sight->row.begin + sight->row.real;
    } else if (step->op == MASK_CAUSAL) {
        *ret_end = sight->query + 1;
    } else if (step->op == MASK_WINDOW) {
        *ret_first = sight->query >= step->count ? sight->query - step->count + 1 : 0;
    } else if (step->op == MASK_SEGMENTS) {
        *ret_first = sight->own_first;
        *ret_end = sight->own_end;
    } else if (step->op == MASK_FALSE) {
        *ret_end = 0;
    } else {
        return step->op == MASK_TRUE;
    }
    return 1;
}

/* What a mask's steps say of `count` places; bits beyond mean nothing. */
MASK_SHARED uint32_t keep_places(const CellPlan *plan, const CellBatch *batch,
                                 const CellTensor *tensor, const KeepSight *sight, uint32_t count) {
    KeepStack stack = {0, 0, 0, 0};
    uint32_t top = 0;

    for (uint32_t s = 0; s < tensor->step_count; s++) {
        const MaskStep *step = &plan->steps[tensor->first_step + s];
        uint32_t first, end;

        if (step->op == MASK_AND)
            top &= keep_pop(&stack);
        else if (step->op == MASK_OR)
            top |= keep_pop(&stack);
        else if (step->op == MASK_NOT)
            top ^= 0xffffu;
        else {
            keep_push(&stack, top);
            top = keep_range(batch, step, sight, &first, &end)
                      ? keep_between(sight->place, first, end)
                      : keep_unlisted(plan, batch, step, sight, count);
        }
    }
    return top;
}

/* The same where a chunk runs on into the next rows. */
MASK_SHARED uint32_t keep_elements(const CellPlan *plan, const CellBatch *batch,
                                   const CellTensor *tensor, CellPlace at, uint32_t count) {
    uint32_t keep = 0;

    for (uint32_t done = 0; done < count; at.row++, at.place = 0) {
        KeepSight sight = {cell_row_view(plan, batch, at.row), at.row, 0, at.place, 0, 0};
        uint32_t some = cell_least(batch->length - at.place, count - done);
        uint32_t word = tensor->source == TENSOR_MASK_LENGTHS
                            ? keep_between(at.place, sight.row.begin,
                                           sight.row.begin + sight.row.real)
                            : keep_places(plan, batch, tensor, &sight, some);

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

/* One query of a dense mask. Where all of its steps must hold, what those keep that are of lengths
 * and queries only is one range, and the others need be asked only inside of it. */
typedef struct MaskLine {
    uint32_t row, query;
    uint32_t own_first, own_end;   /* segments: the query's sequence */
    uint32_t is_range, first, end; /* is_range: there are no others */
} MaskLine;

/* As the line sees places from `place` on. */
MASK_SHARED KeepSight mask_line_sight(const CellPlan *plan, const CellBatch *batch,
                                      const MaskLine *line, uint32_t place) {
    KeepSight sight = {cell_row_view(plan, batch, line->row),
                       line->row,
                       line->query,
                       place,
                       line->own_first,
                       line->own_end};

    return sight;
}

MASK_SHARED void mask_line_find_own(const CellPlan *plan, const CellBatch *batch, MaskLine *line) {
    CellView own = cell_view(plan, batch, line->row, line->query);

    if (cell_is_real(&own, line->query)) {
        line->own_first = own.begin;
        line->own_end = own.begin + own.real;
    }
}

MASK_SHARED MaskLine mask_line(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                               uint32_t line) {
    const CellTensor *tensor = &plan->tensors[t];
    MaskLine ret = {line / batch->length, line % batch->length, 0, 0, 1, 0, batch->length};
    KeepSight sight;

    if (tensor->has_segments)
        mask_line_find_own(plan, batch, &ret);
    sight = mask_line_sight(plan, batch, &ret, 0);
    for (uint32_t s = 0; s < tensor->step_count; s++) {
        const MaskStep *step = &plan->steps[tensor->first_step + s];
        uint32_t first, end;

        if (step->op == MASK_AND)
            continue;
        if (step->op == MASK_OR || step->op == MASK_NOT) {
            ret.is_range = 0;
            ret.first = 0;
            ret.end = batch->length;
            break;
        }
        ret.is_range &= (uint32_t)keep_range(batch, step, &sight, &first, &end);
        ret.first = first > ret.first ? first : ret.first;
        ret.end = end < ret.end ? end : ret.end;
    }
    return ret;
}

/* The chunk that begins with `place`. */
MASK_SHARED void mask_line_chunk(const CellPlan *plan, const CellBatch *batch, uint32_t t,
                                 const MaskLine *line, uint32_t place, uint32_t ret_words[4]) {
    const CellTensor *tensor = &plan->tensors[t];
    uint32_t count = CELL_CHUNK_BYTES >> tensor->value_shift;
    uint32_t keep = keep_between(place, line->first, line->end);

    count = place < batch->length ? cell_least(batch->length - place, count) : 0;
    if (!line->is_range && keep != 0) {
        KeepSight sight = mask_line_sight(plan, batch, line, place);

        keep &= keep_places(plan, batch, tensor, &sight, count);
    }
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

/* Element `element` of a tensor of places that is no dense mask, as cell_place(). */
MASK_SHARED CellPlace chunk_place(const CellPlan *plan, const CellBatch *batch,
                                  const CellTensor *tensor, uint32_t element) {
    CellPlace at = {0, 0, 0, 0};
    uint32_t across = plan->time_first ? batch->rows : batch->length;

    if (tensor->width != 1) {
        at.lane = element % tensor->width;
        element /= tensor->width;
    }
    at.row = plan->time_first ? element % across : element / across;
    at.place = plan->time_first ? element / across : element % across;
    return at;
}

/* The first view of a chunk, or of a row: what the tensor needs. */
MASK_SHARED CellView chunk_view(const CellPlan *plan, const CellBatch *batch,
                                const CellTensor *tensor, uint32_t row, uint32_t place) {
    return tensor->by_sequence ? cell_view(plan, batch, row, place)
                               : cell_row_view(plan, batch, row);
}

/* On to the next element, with a view that is right for it. */
MASK_SHARED void chunk_advance(const CellPlan *plan, const CellBatch *batch,
                               const CellTensor *tensor, CellPlace *at, CellView *view) {
    if (++at->lane < tensor->width)
        return;
    at->lane = 0;
    if (plan->time_first) {
        if (++at->row == batch->rows) {
            at->row = 0;
            at->place++;
        }
        *view = cell_row_view(plan, batch, at->row);
        return;
    }
    if (++at->place < view->end)
        return;
    if (at->place < batch->length) {
        *view = chunk_next_view(plan, batch, at->row, view);
    } else if (++at->row < batch->rows) {
        at->place = 0;
        *view = chunk_view(plan, batch, tensor, at->row, 0);
    }
}

/* Any tensor of places, element by element. */
MASK_SHARED ChunkBytes chunk_of_cells(const CellPlan *plan, const CellBatch *batch,
                                      const CellTensor *tensor, uint32_t element, uint32_t count) {
    CellPlace at = chunk_place(plan, batch, tensor, element);
    CellView view = chunk_view(plan, batch, tensor, at.row, at.place);
    ChunkBytes chunk = {0, 0};

    for (uint32_t i = 0;;) {
        chunk_put(&chunk, tensor, i, cell_bits(plan, batch, tensor, &view, at));
        if (++i == count)
            return chunk;
        chunk_advance(plan, batch, tensor, &at, &view);
    }
}

/* Tensors of sequences. */
MASK_SHARED ChunkBytes chunk_of_entries(const CellPlan *plan, const CellBatch *batch,
                                        const CellTensor *tensor, uint32_t element,
                                        uint32_t count) {
    uint32_t entry = element / tensor->width, lane = element % tensor->width;
    ChunkBytes chunk = {0, 0};

    for (uint32_t i = 0; i < count; i++) {
        chunk_put(&chunk, tensor, i, cell_entry(plan, batch, tensor, entry, lane));
        if (++lane == tensor->width) {
            lane = 0;
            entry++;
        }
    }
    return chunk;
}

/* Block lists. What a block of queries sees is looked up again for each chunk: neighbouring threads
 * look at the same few words, and there is nothing to hand from one to the other. */
MASK_SHARED ChunkBytes chunk_of_blocks(const CellPlan *plan, const CellBatch *batch,
                                       const CellTensor *tensor, uint32_t element, uint32_t count) {
    uint32_t blocks = cell_blocks(batch, tensor);
    uint32_t numbers = cell_counts_blocks(tensor) ? 1 : blocks;
    uint32_t line = element / numbers, number = element % numbers;
    BlockSeen seen = block_unseen();
    ChunkBytes chunk = {0, 0};

    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || number == numbers) {
            line += number == numbers;
            number = number == numbers ? 0 : number;
            seen = cell_seen(plan, batch, tensor, line / blocks, line % blocks);
        }
        chunk_put(&chunk, tensor, i, cell_block(tensor, &seen, number++));
    }
    return chunk;
}

/* Plain tensors: where the values are is found when a chunk comes to a row, or to a sequence. */
MASK_SHARED ChunkBytes chunk_of_integers(const CellPlan *plan, const CellBatch *batch,
                                         const CellTensor *tensor, uint32_t element,
                                         uint32_t count) {
    uint32_t row = element / batch->length, place = element % batch->length;
    uint32_t shift = tensor->source == TENSOR_LABELS ? tensor->shift : 0;
    uint32_t least = tensor->source == TENSOR_LABELS && plan->packed; /* first one: no label */
    const uint8_t *values = cell_value(batch, tensor->input, 0, 1);
    CellView view = chunk_view(plan, batch, tensor, row, place);
    ChunkBytes chunk = {0, 0};

    for (uint32_t i = 0;; place++) {
        int64_t value = tensor->pad;
        uint32_t at;

        if (place == batch->length) {
            place = 0;
            view = chunk_view(plan, batch, tensor, ++row, 0);
        } else if (place == view.end) {
            view = chunk_next_view(plan, batch, row, &view);
        }
        at = place - view.begin; /* before the first: large */
        if (at < view.real && at + shift < view.real && at + shift >= least)
            value = cell_integer(tensor->element, values + ((uint64_t)view.token + at + shift) *
                                                               tensor->element_bytes);
        chunk_put(&chunk, tensor, i, (uint64_t)value);
        if (++i == count)
            return chunk;
    }
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
    full = tensor->is_plain           ? chunk_of_integers(plan, batch, tensor, element, count)
           : cell_has_entries(tensor) ? chunk_of_entries(plan, batch, tensor, element, count)
           : cell_has_blocks(tensor)  ? chunk_of_blocks(plan, batch, tensor, element, count)
                                      : chunk_of_cells(plan, batch, tensor, element, count);
    ret_words[0] = (uint32_t)full.low;
    ret_words[1] = (uint32_t)(full.low >> 32);
    ret_words[2] = (uint32_t)full.high;
    ret_words[3] = (uint32_t)(full.high >> 32);
    return bytes;
}
