/* SPDX-License-Identifier: MIT */
#include "mask/mask_case.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"

enum { COLUMN_WEIGHTS = 1, COLUMN_LABEL, COLUMN_HOLES, COLUMN_SPANS };

static uint32_t draw_seed, draw_count;

uint32_t mask_case_draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

static const uint8_t integers[] = {ELEMENT_U8,  ELEMENT_U16, ELEMENT_U24,
                                   ELEMENT_U32, ELEMENT_I32, ELEMENT_I64};

/* A number of a list, cut to its type: a negative one may become a large one. */
static void put_number(const MaskCase *test, uint8_t *list, uint32_t index, int64_t number) {
    uint32_t bytes = element_bytes(test->list_element);

    memcpy(list + (size_t)index * bytes, &number, bytes);
}

static void make_data(MaskCase *test) {
    uint32_t holes = 0, spans = 0, tokens = 0;

    test->list_element = integers[mask_case_draw(ARRAY_COUNT(integers))];
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
            put_number(test, test->holes, holes++, (int64_t)mask_case_draw(60) - 30);
        for (uint32_t i = 0; i < test->span_counts[s]; i++) {
            put_number(test, test->spans, spans++, (int64_t)mask_case_draw(CASE_LENGTH) - 4);
            put_number(test, test->spans, spans++, mask_case_draw(CASE_LENGTH + 9));
        }
        test->hole_ends[s] = holes;
        test->span_ends[s] = spans / 2;
        test->ends[s] = tokens += test->lengths[s];
    }
}

/* Often what block lists know too: one range of places for each query. */
static void make_ranges(MaskCase *test, TensorSpec *spec) {
    static const uint32_t ops[] = {MASK_SEGMENTS, MASK_CAUSAL, MASK_WINDOW, MASK_LENGTHS};
    uint32_t wanted = 1 + mask_case_draw((1u << ARRAY_COUNT(ops)) - 1), count = 0;
    TensorSet *set = &test->set;

    spec->first_step = set->step_count;
    for (uint32_t i = 0; i < ARRAY_COUNT(ops); i++) {
        if (!(wanted >> i & 1))
            continue;
        set->steps[set->step_count++] = (MaskStep){
            .op = ops[i], .count = ops[i] == MASK_WINDOW ? 1 + mask_case_draw(CASE_LENGTH) : 0};
        if (count++ > 0)
            set->steps[set->step_count++] = (MaskStep){.op = MASK_AND};
    }
    spec->step_count = set->step_count - spec->first_step;
}

static void make_steps(MaskCase *test, TensorSpec *spec) {
    TensorSet *set = &test->set;
    uint32_t pending = 0, leaves = 1 + mask_case_draw(4);
    bool is_dense = spec->source == TENSOR_MASK_DENSE;

    spec->first_step = set->step_count;
    while (leaves > 0 || pending > 1) {
        MaskStep step = {.op = mask_case_draw(MASK_TOKEN_IDS + 1 + is_dense)};

        if (step.op > MASK_TOKEN_IDS)
            step.op = MASK_SEGMENTS;

        if (pending > 1 && (leaves == 0 || mask_case_draw(2))) {
            step.op = mask_case_draw(3) ? MASK_AND : MASK_OR;
            pending--;
        } else {
            bool is_list = step.op == MASK_INDICES || step.op == MASK_TOKEN_IDS;

            step.count = step.op == MASK_WINDOW ? 1 + mask_case_draw(CASE_LENGTH)
                                                : test->list_element;
            step.first = COLUMN_HOLES;
            if (is_list) {
                step.first = set->value_count;
                step.count = mask_case_draw(10);
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
        TENSOR_SPECIAL,      TENSOR_BLOCKS_COUNT, TENSOR_BLOCKS,          TENSOR_BLOCKS_FULL_COUNT,
        TENSOR_BLOCKS_FULL,  TENSOR_MASK_DENSE};
    static const TensorSource packed[] = {TENSOR_PACK_SEGMENTS, TENSOR_PACK_CU_SEQLENS,
                                          TENSOR_PACK_CU_PADDED, TENSOR_PACK_MAX_SEQLEN};

    *spec = (TensorSpec){.source = sources[mask_case_draw(ARRAY_COUNT(sources))], .width = 1};
    if (test->set.packed && mask_case_draw(4) == 0)
        spec->source = packed[mask_case_draw(ARRAY_COUNT(packed))];
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
        spec->source == TENSOR_TYPES || spec->source == TENSOR_LABELS ||
        spec->source >= TENSOR_PACK_SEGMENTS)
        spec->dtype = spec->source == TENSOR_LABELS ? SEQFEED_INT64
                      : mask_case_draw(2)           ? SEQFEED_INT32
                                                    : SEQFEED_INT64;
    if (spec->source == TENSOR_LABELS || spec->source == TENSOR_LOSS_MASK) {
        spec->has_spans = mask_case_draw(2);
        spec->spans = COLUMN_SPANS;
        spec->spans_element = test->list_element;
        spec->spans_width = 2;
    }
    if (spec->source == TENSOR_SPECIAL) {
        spec->first_value = test->set.value_count;
        spec->value_count = mask_case_draw(10);
        for (uint32_t i = 0; i < spec->value_count; i++)
            test->set.values[test->set.value_count++] = mask_case_draw(6);
    }
    if (spec->source == TENSOR_MASK || spec->source == TENSOR_MASK_DENSE ||
        spec->source == TENSOR_MASK_LENGTHS)
        spec->polarity = 1 + mask_case_draw(3);
    if (spec->source >= TENSOR_BLOCKS_COUNT && spec->source <= TENSOR_BLOCKS_FULL) {
        spec->dtype = SEQFEED_INT32;
        spec->block = 1 + mask_case_draw(20);
        make_ranges(test, spec);
    } else if (spec->source == TENSOR_MASK_DENSE && mask_case_draw(2)) {
        make_ranges(test, spec);
    } else if (spec->source == TENSOR_MASK || spec->source == TENSOR_MASK_DENSE ||
               spec->source == TENSOR_APPLY) {
        make_steps(test, spec);
    }
}

/* A sequence, or a piece of one, of at most `most` tokens. */
static FillRow draw_piece(const MaskCase *test, uint32_t most) {
    uint32_t sequence = mask_case_draw(CASE_SEQUENCES), start = 0, cut;

    for (uint32_t s = 0; s < sequence; s++)
        start += test->lengths[s];
    cut = mask_case_draw(3) ? 0 : mask_case_draw(test->lengths[sequence] + 1);
    return (FillRow){.columns = test->columns,
                     .sequence = sequence,
                     .start = start + cut,
                     .length = MIN(test->lengths[sequence] - cut, most)};
}

static void draw_rows(MaskCase *test) {
    test->count = mask_case_draw(3) ? test->row_count : mask_case_draw(test->row_count + 1);
    for (uint32_t r = 0; r < test->count; r++)
        test->rows[r] = draw_piece(test, test->length);
}

/* The sequences of one packed row: none, some, or a great many short ones; now and then they fill
 * it.
 */
static void draw_packed_row(MaskCase *test, bool some) {
    uint32_t left = test->length, most = mask_case_draw(5) ? CASE_LENGTH : 1 + mask_case_draw(3);
    uint32_t count = most < CASE_LENGTH || mask_case_draw(5) == 0 ? 60 : mask_case_draw(8);

    for (uint32_t i = 0; i < MAX(count, (uint32_t)some); i++) {
        test->rows[test->count] = draw_piece(test, MIN(left, most));
        left -= test->rows[test->count++].length;
    }
}

static void draw_packed(MaskCase *test) {
    uint32_t base = mask_case_draw(100), split;
    uint32_t rows = mask_case_draw(3) ? test->row_count : 1 + mask_case_draw(test->row_count);

    test->count = 0;
    test->firsts[0] = base;
    for (uint32_t r = 0; r < rows; r++) {
        draw_packed_row(test, test->set.tail_segment);
        test->firsts[r + 1] = base + test->count;
    }
    split = mask_case_draw(2) ? mask_case_draw(rows) : 0;
    test->part_count = split ? 2 : 1;
    for (uint32_t p = 0; p < test->part_count; p++) {
        uint32_t first = p ? split : 0, end = p || !split ? rows : split, at;
        FillPacked *part = &test->parts[p];

        at = test->firsts[first] - base;
        *part = (FillPacked){.first_row = first,
                             .row_count = end - first,
                             .first_sequence = at,
                             .sequence_count = test->firsts[end] - base - at,
                             .sources = test->rows + at,
                             .firsts = test->firsts + first};
        for (uint32_t s = 0; s < at; s++)
            part->first_token += test->rows[s].length;
    }
}

void mask_case_turn(MaskCase *test) {
    uint32_t longest = 0;
    uint64_t tokens = 0;

    if (test->set.packed)
        draw_packed(test);
    else
        draw_rows(test);
    for (uint32_t s = 0; s < test->count; s++) {
        tokens += test->rows[s].length;
        longest = MAX(longest, test->rows[s].length);
    }
    if (test->set.packed)
        tensor_layout_packed(&test->set, test->row_count, test->length, test->count, tokens,
                             &test->layout);
    else
        tensor_layout(&test->set, test->row_count, test->length, &test->layout);
    test->layout.longest = longest;
}

/* Sometimes more than one tile of the CPU backend. */
static void draw_shape(MaskCase *test) {
    TensorSet *set = &test->set;
    bool has_dense = false;

    for (uint32_t t = 0; t < set->count; t++)
        has_dense |= set->tensors[t].source == TENSOR_MASK_DENSE;
    test->row_count = 1 + (mask_case_draw(4) ? mask_case_draw(CASE_SEQUENCES) : 0);
    test->length = 1 + mask_case_draw(CASE_LENGTH);
    if (mask_case_draw(3))
        test->length += mask_case_draw(20);
    else if (!has_dense)
        test->length += mask_case_draw(8) ? 300 : 1100;
    if (mask_case_draw(8) == 0)
        test->length = CASE_LENGTH + 16 * mask_case_draw(4);
    set->tail_segment = set->packed && set->side == SEQFEED_SIDE_RIGHT && test->row_count == 1 &&
                        mask_case_draw(2);
    set->rows_max = test->row_count;
    set->length_max = test->length;
    set->sequences_max = CASE_PIECES;
}

void mask_case_init(MaskCase *test, uint32_t seed) {
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
                                test->holes,
                                test->spans,
                                (const uint8_t *)test->ends,
                                NULL,
                                NULL,
                                NULL,
                                (const uint8_t *)test->hole_ends,
                                (const uint8_t *)test->span_ends};
    memcpy(test->columns, columns, sizeof columns);
    test->set.token_element = integers[mask_case_draw(ARRAY_COUNT(integers))];
    test->set.token_pad = mask_case_draw(6);
    test->set.column_count = CASE_COLUMNS;
    test->set.side = mask_case_draw(2);
    test->set.packed = seed % 2;
    test->set.time_first = !test->set.packed && mask_case_draw(4) == 0;
    test->set.count = 1 + mask_case_draw(8);
    weight = weights[mask_case_draw(ARRAY_COUNT(weights))];
    for (uint32_t t = 0; t < test->set.count; t++)
        make_tensor(test, &test->set.tensors[t], weight);
    draw_shape(test);
    mask_case_turn(test);
}

/* In any order. */
static void fill_parts(const MaskCase *test, void *slot) {
    const FillPacked *last = &test->parts[test->part_count - 1];
    const FillPacked empty = {.first_row = last->first_row + last->row_count,
                              .row_count = test->row_count - last->first_row - last->row_count,
                              .first_sequence = test->count};

    fill_packed(&test->set, &test->layout, slot, test->length, &empty);
    for (uint32_t p = test->part_count; p-- > 0;)
        fill_packed(&test->set, &test->layout, slot, test->length, &test->parts[p]);
}

void mask_case_fill(const MaskCase *test, void *slot) {
    if (test->set.packed) {
        fill_parts(test, slot);
        return;
    }
    fill_rows(&test->set, &test->layout, slot, test->row_count, test->length, 0, test->rows,
              test->count);
    fill_empty_rows(&test->set, &test->layout, slot, test->row_count, test->length, test->count,
                    test->row_count - test->count);
}

uint64_t mask_case_slot_bytes(const MaskCase *test) {
    uint64_t bytes = 0;
    Error error;

    if (tensor_slot_bytes(&test->set, &bytes, &error) < 0)
        abort();
    return bytes;
}

uint64_t mask_case_pack(const MaskCase *test, const CellPlan *plan, void *block,
                        uint64_t capacity) {
    const CellSource source = {.rows = test->rows,
                               .count = test->count,
                               .parts = test->parts,
                               .part_count = test->part_count};

    return cell_pack(&test->set, plan, &test->layout, test->length, &source, block, capacity);
}

uint64_t mask_case_pack_bytes(const MaskCase *test, const CellPlan *plan) {
    uint32_t sequences = test->set.packed ? CASE_PIECES : test->row_count;
    const CellExtent extent = {.rows = test->row_count,
                               .sequences = sequences,
                               .tokens = (uint64_t)test->row_count * test->length,
                               .list_entries = (uint64_t)sequences * CASE_LIST_VALUES};

    return cell_pack_bytes(&test->set, plan, &extent);
}

uint64_t mask_case_bound(const MaskCase *test, const CellPlan *plan) {
    CellExtent extent = {.rows = test->row_count, .sequences = test->count};
    uint64_t holes = 0, spans = 0;

    for (uint32_t s = 0; s < test->count; s++) {
        extent.tokens += test->rows[s].length;
        holes += test->hole_counts[test->rows[s].sequence];
        spans += test->span_counts[test->rows[s].sequence];
    }
    extent.list_entries = MAX(holes, spans);
    return cell_pack_bytes(&test->set, plan, &extent);
}
