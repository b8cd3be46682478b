/* SPDX-License-Identifier: MIT */
/* Masks are worked out for a tile of neighbouring places at a time: each step of the mask is one
 * loop over bytes that are 0 or 1, which compilers turn into vector code, and the steps' answers
 * stay in the first-level cache. What is right for one place is said in mask_rule.h. */
#include "mask/answer.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/mask_rule.h"
#include "mask/token_lists.h"

void answer_range(uint8_t *answers, uint32_t first, uint32_t last, uint64_t from, uint64_t to) {
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

void answer_tokens(const RowView *row, uint32_t first_id, uint32_t count, int padding,
                   uint32_t first, uint32_t last, uint8_t *answers) {
    uint32_t low = MIN(MAX(row->begin, first), last);
    uint32_t high = MIN(MAX(row->begin + row->real, low), last);

    memset(answers, padding, low - first);
    memset(answers + (high - first), padding, last - high);
    if (low < high)
        token_lists_answer(row->set, first_id, count,
                           row->tokens +
                               (size_t)(low - row->begin) * element_bytes(row->set->token_element),
                           high - low, answers + (low - first));
}

/* A list of the sequence's own: in a packed row its indices count in the whole sequence. */
static void clear_listed(const RowView *row, const MaskStep *step, uint32_t first, uint32_t last,
                         uint8_t *answers) {
    RowList list = row_list(row, step->first, step->count, 1);
    uint64_t offset = row->set->packed && row->source ? row_offset(row) : 0;
    uint32_t index;

    for (uint32_t i = 0; i < list.count; i++) {
        if (!row->set->packed)
            clear_index(row, answers, first, last, row_list_value(&list, i));
        else if (mask_rule_index(row_list_value(&list, i), row_sequence_length(row), &index) &&
                 index >= offset && index - offset < row->real &&
                 row->begin + (index - offset) >= first && row->begin + (index - offset) < last)
            answers[row->begin + (index - offset) - first] = 0;
    }
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
    case MASK_SEGMENTS:
        answer_range(answers, first, last, row->begin,
                     row->begin + (query - row->begin < row->real ? (uint64_t)row->real : 0));
        return;
    case MASK_TOKEN_IDS:
        answer_tokens(row, step->first, step->count,
                      !token_lists_pad(row->set, step->first, step->count), first, last, answers);
        return;
    case MASK_INDICES:
        memset(answers, 1, last - first);
        for (uint32_t i = 0; i < step->count; i++)
            clear_index(row, answers, first, last, values[i]);
        return;
    case MASK_INDEX_COLUMN:
        memset(answers, 1, last - first);
        clear_listed(row, step, first, last, answers);
        return;
    default:
        memset(answers, step->op == MASK_TRUE, last - first);
    }
}

void answer_steps(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                  uint32_t first, uint32_t last, uint8_t *ret_answers) {
    uint8_t stack[TENSOR_DEPTH_MAX][ANSWER_TILE];
    uint32_t top = 0, places = last - first;

    if (count == 1) {
        answer_leaf(row, steps, query, first, last, ret_answers);
        return;
    }
    assert(places <= ANSWER_TILE);
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

void answer_bits(const TensorSpec *spec, uint64_t ret_bits[2]) {
    for (int keep = 0; keep < 2; keep++)
        ret_bits[keep] = mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, keep);
}
