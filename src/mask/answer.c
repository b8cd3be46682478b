/* SPDX-License-Identifier: MIT */
/* Masks are worked out for a tile of neighbouring places at a time: each step of the mask is one
 * loop over bytes that are 0 or 1, which compilers turn into vector code, and the steps' answers
 * stay in the first-level cache. Steps that have one answer for a whole tile, as most have for most
 * tiles, are not written down. What is right for one place is said in mask_rule.h. */
#include "mask/answer.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/mask_rule.h"
#include "mask/token_lists.h"

/* Places first .. last: 1 for from .. to. */
static void answer_range(uint8_t *answers, uint32_t first, uint32_t last, uint64_t from,
                         uint64_t to) {
    uint32_t low = (uint32_t)MIN(MAX(from, first), last), high = (uint32_t)MIN(MAX(to, low), last);

    memset(answers, 0, low - first);
    memset(answers + (low - first), 1, high - low);
    memset(answers + (high - first), 0, last - high);
}

/* The same where one answer may be all. */
static int answer_run(uint8_t *answers, uint32_t first, uint32_t last, uint64_t from, uint64_t to) {
    if (from <= first && to >= last)
        return 1;
    if (from >= last || to <= first || from >= to)
        return 0;
    answer_range(answers, first, last, from, to);
    return ANSWER_MIXED;
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

static int answer_ids(const RowView *row, const MaskStep *step, uint32_t first, uint32_t last,
                      uint8_t *answers) {
    int padding = !token_lists_pad(row->set, step->first, step->count);

    if (row->begin >= last || row->begin + row->real <= first)
        return padding;
    answer_tokens(row, step->first, step->count, padding, first, last, answers);
    return ANSWER_MIXED;
}

/* The answer of a step that combines nothing, or ANSWER_MIXED. */
static int answer_leaf(const RowView *row, const MaskStep *step, uint32_t query, uint32_t first,
                       uint32_t last, uint8_t *answers) {
    const int64_t *values = row->set->values + step->first;
    uint32_t window_first = query >= step->count ? query - step->count + 1 : 0;

    switch (step->op) {
    case MASK_LENGTHS:
        return answer_run(answers, first, last, row->begin, (uint64_t)row->begin + row->real);
    case MASK_CAUSAL:
        return answer_run(answers, first, last, 0, (uint64_t)query + 1);
    case MASK_WINDOW:
        return answer_run(answers, first, last, window_first, UINT64_MAX);
    case MASK_SEGMENTS:
        return answer_run(answers, first, last, row->begin,
                          row->begin + (query - row->begin < row->real ? (uint64_t)row->real : 0));
    case MASK_TOKEN_IDS:
        return answer_ids(row, step, first, last, answers);
    case MASK_INDICES:
        memset(answers, 1, last - first);
        for (uint32_t i = 0; i < step->count; i++)
            clear_index(row, answers, first, last, values[i]);
        return ANSWER_MIXED;
    case MASK_INDEX_COLUMN:
        memset(answers, 1, last - first);
        clear_listed(row, step, first, last, answers);
        return ANSWER_MIXED;
    default:
        return step->op == MASK_TRUE;
    }
}

/* The first of two answers becomes what the step makes of both. */
static void answer_join(uint32_t op, int *answers, uint8_t **bytes, uint32_t places) {
    int decisive = op == MASK_OR; /* whatever the other one is */
    uint8_t *a = bytes[0], *b = bytes[1];

    if (answers[0] == decisive || answers[1] == decisive) {
        answers[0] = decisive;
    } else if (answers[0] != ANSWER_MIXED) {
        answers[0] = answers[1];
        bytes[0] = b;
        bytes[1] = a;
    } else if (answers[1] == ANSWER_MIXED && op == MASK_AND) {
        for (uint32_t i = 0; i < places; i++)
            a[i] &= b[i];
    } else if (answers[1] == ANSWER_MIXED) {
        for (uint32_t i = 0; i < places; i++)
            a[i] |= b[i];
    }
}

static void answer_not(int *answer, uint8_t *bytes, uint32_t places) {
    if (*answer != ANSWER_MIXED)
        *answer ^= 1;
    else
        for (uint32_t i = 0; i < places; i++)
            bytes[i] ^= 1;
}

/* Several steps; other than ANSWER_MIXED: the answer for all places, whatever ret_answers holds. */
static int answer_all(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                      uint32_t first, uint32_t last, uint8_t *ret_answers) {
    uint8_t memory[TENSOR_DEPTH_MAX][ANSWER_TILE], *bytes[TENSOR_DEPTH_MAX] = {ret_answers};
    uint32_t top = 0, places = last - first;
    int answers[TENSOR_DEPTH_MAX];

    assert(places <= ANSWER_TILE);
    for (uint32_t depth = 1; depth < TENSOR_DEPTH_MAX; depth++)
        bytes[depth] = memory[depth];
    for (uint32_t s = 0; s < count; s++) {
        if (steps[s].op == MASK_AND || steps[s].op == MASK_OR) {
            assert(top > 1);
            top--;
            answer_join(steps[s].op, &answers[top - 1], &bytes[top - 1], places);
        } else if (steps[s].op == MASK_NOT) {
            assert(top > 0);
            answer_not(&answers[top - 1], bytes[top - 1], places);
        } else {
            assert(top < TENSOR_DEPTH_MAX);
            answers[top] = answer_leaf(row, &steps[s], query, first, last, bytes[top]);
            top++;
        }
    }
    assert(top == 1);
    if (answers[0] == ANSWER_MIXED && bytes[0] != ret_answers)
        memcpy(ret_answers, bytes[0], places);
    return answers[0];
}

int answer_whole(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                 uint32_t first, uint32_t last, uint8_t *ret_answers) {
    return count == 1 ? answer_leaf(row, steps, query, first, last, ret_answers)
                      : answer_all(row, steps, count, query, first, last, ret_answers);
}

void answer_steps(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                  uint32_t first, uint32_t last, uint8_t *ret_answers) {
    int answer = answer_whole(row, steps, count, query, first, last, ret_answers);

    if (answer != ANSWER_MIXED)
        memset(ret_answers, answer, last - first);
}

void answer_bits(const TensorSpec *spec, uint64_t ret_bits[2]) {
    for (int keep = 0; keep < 2; keep++)
        ret_bits[keep] = mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, keep);
}
