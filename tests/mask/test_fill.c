/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include <stdio.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "base/random.h"
#include "mask/convert.h"
#include "mask/fill.h"

enum { ROUNDS = 600, GUARD = 4096, COLUMNS = 5, SEQUENCES = 40, LENGTH = 160 };

/* One random feed and one random block of a dataset, every column in memory of its exact size. */
typedef struct Case {
    TensorSet set;
    TensorLayout layout;
    uint8_t *columns[COLUMNS];
    uint8_t element[COLUMNS];
    uint32_t width[COLUMNS];
    uint32_t start[SEQUENCES], lengths[SEQUENCES];
    FillRow rows[SEQUENCES];
    uint32_t row_count, length;
    uint64_t slot_bytes;
} Case;

static uint32_t draw_seed, draw_count;

static uint32_t draw(uint32_t bound) {
    RandomBlock block = random_philox(draw_seed, draw_count++, 0, 0, 0);

    return random_below(block.word[0], bound);
}

static uint32_t draw_dtype(uint8_t element) {
    uint32_t dtype;

    do
        dtype = 1 + draw(SEQFEED_DTYPE_COUNT - 1);
    while (!tensor_dtype_allows(element, dtype));
    return dtype;
}

/* Column 0 and 1 and 2 are per token, 3 and 4 per sequence. */
static void case_make_columns(Case *test, uint32_t tokens) {
    for (uint32_t c = 0; c < COLUMNS; c++) {
        uint32_t values = c < 3 ? tokens : SEQUENCES;
        size_t bytes;

        test->element[c] = (uint8_t)(1 + draw(ELEMENT_TYPE_COUNT - 1));
        test->width[c] = draw(2) ? 1 : 1 + draw(20);
        bytes = (size_t)values * test->width[c] * element_bytes(test->element[c]);
        test->columns[c] = malloc(bytes ? bytes : 1);
        for (size_t i = 0; i < bytes; i += 16) {
            RandomBlock block = random_philox(draw_seed, draw_count++, 1, 0, 0);
            memcpy(test->columns[c] + i, &block, MIN(bytes - i, sizeof block));
        }
    }
}

static void case_make_tensors(Case *test) {
    TensorSet *set = &test->set;

    set->count = 1 + draw(10);
    set->time_first = draw(2);
    set->side = draw(2) ? SEQFEED_SIDE_LEFT : SEQFEED_SIDE_RIGHT;
    for (uint32_t t = 0; t < set->count; t++) {
        TensorSpec *spec = &set->tensors[t];

        spec->source = (TensorSource)draw(5);
        spec->column = spec->source == TENSOR_TOKENS            ? 0
                       : spec->source == TENSOR_TOKEN_COLUMN    ? 1 + draw(2)
                       : spec->source == TENSOR_SEQUENCE_COLUMN ? 3 + draw(2)
                                                                : 0;
        spec->element = test->element[spec->column];
        spec->width = test->width[spec->column];
        spec->pad = draw(2) ? 0 : (int64_t)((uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX));
        spec->dtype = draw_dtype(spec->element);
        if (spec->source == TENSOR_LENGTHS)
            spec->dtype = draw(2) ? SEQFEED_INT32 : SEQFEED_INT64;
        if (spec->source == TENSOR_MASK_LENGTHS) {
            spec->dtype = 1 + draw(SEQFEED_DTYPE_COUNT - 1);
            spec->polarity = SEQFEED_POLARITY_KEEP;
        }
    }
}

static Case case_new(uint32_t seed) {
    Case test = {0};
    uint32_t tokens = 0, bound = draw_seed = seed;

    draw_count = 0;
    bound = 1 + draw(LENGTH);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        test.start[s] = tokens;
        test.lengths[s] = draw(4) ? draw(bound) : 0;
        tokens += test.lengths[s];
    }
    case_make_columns(&test, tokens);
    case_make_tensors(&test);
    test.row_count = 1 + draw(SEQUENCES);
    for (uint32_t r = 0; r < test.row_count; r++) {
        uint32_t sequence = draw(SEQUENCES), cut = draw(test.lengths[sequence] + 1);

        test.rows[r] = (FillRow){.sequence = sequence,
                                 .start = test.start[sequence] + cut,
                                 .length = test.lengths[sequence] - cut};
        test.length = MAX(test.length, test.rows[r].length);
    }
    test.length += draw(3) ? draw(70) : 0;
    test.set.rows_max = test.row_count;
    test.set.length_max = test.length;
    ck_assert_int_eq(tensor_slot_bytes(&test.set, &test.slot_bytes, NULL), 0);
    tensor_layout(&test.set, test.row_count, test.length, &test.layout);
    return test;
}

static void case_free(Case *test) {
    for (uint32_t c = 0; c < COLUMNS; c++)
        free(test->columns[c]);
}

/* One element at a time, straight from the definition of each tensor. */
static void reference_element(const Case *test, const TensorSpec *spec, uint32_t row,
                              uint32_t place, uint32_t lane, bool empty, uint8_t *to) {
    const FillRow *source = &test->rows[row];
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), real = empty ? 0 : source->length;
    uint32_t begin = test->set.side == SEQFEED_SIDE_LEFT ? test->length - real : 0;
    bool inside = place >= begin && place < begin + real;
    uint64_t bits = (uint64_t)spec->pad;

    if (spec->source == TENSOR_LENGTHS) {
        bits = real;
    } else if (spec->source == TENSOR_MASK_LENGTHS) {
        bits = !inside                           ? 0
               : spec->dtype == SEQFEED_FLOAT32  ? 0x3f800000
               : spec->dtype == SEQFEED_FLOAT16  ? 0x3c00
               : spec->dtype == SEQFEED_BFLOAT16 ? 0x3f80
                                                 : 1;
    } else if (spec->source == TENSOR_SEQUENCE_COLUMN ? !empty : inside) {
        uint64_t value = spec->source == TENSOR_SEQUENCE_COLUMN
                             ? source->sequence
                             : source->start + (uint64_t)(place - begin);
        convert_find(spec->element,
                     spec->dtype)(to,
                                  test->columns[spec->column] +
                                      (value * spec->width + lane) * element_bytes(spec->element),
                                  1);
        return;
    }
    memcpy(to, &bits, bytes);
}

static void reference_fill(const Case *test, uint8_t *slot, const bool *empty) {
    for (uint32_t t = 0; t < test->set.count; t++) {
        const TensorSpec *spec = &test->set.tensors[t];
        uint32_t bytes = tensor_dtype_bytes(spec->dtype);
        bool per_row = spec->source == TENSOR_LENGTHS || spec->source == TENSOR_SEQUENCE_COLUMN;
        bool one = spec->source == TENSOR_LENGTHS || spec->source == TENSOR_MASK_LENGTHS;
        uint32_t width = one ? 1 : spec->width, places = per_row ? 1 : test->length;

        for (uint32_t r = 0; r < test->row_count; r++) {
            for (uint32_t p = 0; p < places; p++) {
                size_t at = per_row                ? r
                            : test->set.time_first ? (size_t)p * test->row_count + r
                                                   : (size_t)r * places + p;
                for (uint32_t lane = 0; lane < width; lane++)
                    reference_element(test, spec, r, p, lane, empty[r],
                                      slot + test->layout.offset[t] + (at * width + lane) * bytes);
            }
        }
    }
}

/* Fill rows first .. last by the kind that `empty` says. */
static void fill_piece(const Case *test, uint8_t *slot, const bool *empty, uint32_t first,
                       uint32_t last) {
    while (first < last) {
        uint32_t end = first + 1;

        while (end < last && empty[end] == empty[first])
            end++;
        if (empty[first])
            fill_empty_rows(&test->set, &test->layout, slot, test->row_count, test->length, first,
                            end - first);
        else
            fill_rows(&test->set, &test->layout, slot, test->row_count, test->length, first,
                      &test->rows[first], end - first);
        first = end;
    }
}

/* Pieces of random size, those in the middle first. */
static void fill_in_pieces(const Case *test, uint8_t *slot, const bool *empty) {
    uint32_t a = draw(test->row_count + 1), b = draw(test->row_count + 1);

    fill_piece(test, slot, empty, MIN(a, b), MAX(a, b));
    fill_piece(test, slot, empty, MAX(a, b), test->row_count);
    fill_piece(test, slot, empty, 0, MIN(a, b));
}

static void check_case(uint32_t seed, int level) {
    Case test = case_new(seed);
    size_t bytes = test.slot_bytes + 2 * GUARD;
    uint8_t *want = aligned_alloc(GUARD, bytes), *got = aligned_alloc(GUARD, bytes);
    const uint8_t *columns[COLUMNS];
    bool empty[SEQUENCES];

    for (uint32_t c = 0; c < COLUMNS; c++)
        columns[c] = test.columns[c];
    for (uint32_t r = 0; r < test.row_count; r++) {
        test.rows[r].columns = columns;
        empty[r] = draw(5) == 0;
    }
    memset(want, 0xa5, bytes);
    memset(got, 0xa5, bytes);
    reference_fill(&test, want + GUARD, empty);
    fill_in_pieces(&test, got + GUARD, empty);
    for (size_t i = 0; i < bytes; i++)
        if (want[i] != got[i])
            ck_abort_msg("seed %u, level %d: byte %zd of the slot", seed, level,
                         (ssize_t)i - GUARD);

    /* The poison of a byte that nobody wrote would differ between two poisons. */
    memset(got, 0x5a, bytes);
    fill_in_pieces(&test, got + GUARD, empty);
    for (uint32_t t = 0; t < test.set.count; t++)
        ck_assert_mem_eq(want + GUARD + test.layout.offset[t], got + GUARD + test.layout.offset[t],
                         test.layout.size_bytes[t]);
    free(want);
    free(got);
    case_free(&test);
}

START_TEST(random_batches_equal_the_definition_in_any_pieces_on_every_kind_of_cpu)
{
    for (int level = 0; level < 3; level++) {
        if (convert_set_level(level) != level)
            continue;
        for (uint32_t round = 0; round < ROUNDS; round++)
            check_case(round * 3 + (uint32_t)level, level);
    }
}
END_TEST

/* The example of the README, number by number. */
START_TEST(three_sequences_become_a_batch_a_mask_labels_and_lengths)
{
    static const uint8_t tokens[] = {1, 2, 3, 4, 5, 6};
    static const int32_t labels[] = {7, 8, 9};
    static const int64_t batch[] = {1, 2, 0, 3, 4, 5, 6, 0, 0}, lengths[] = {2, 3, 1};
    static const int64_t labels_64[] = {7, 8, 9};
    static const uint8_t mask[] = {1, 1, 0, 1, 1, 1, 1, 0, 0};
    const uint8_t *columns[] = {tokens, (const uint8_t *)labels};
    FillRow rows[] = {{columns, 0, 0, 2}, {columns, 1, 2, 3}, {columns, 2, 5, 1}};
    TensorSet set = {
        .count = 4,
        .rows_max = 3,
        .length_max = 3,
        .tensors =
            {{.source = TENSOR_TOKENS, .element = ELEMENT_U8, .width = 1, .dtype = SEQFEED_INT64},
             {.source = TENSOR_MASK_LENGTHS,
              .dtype = SEQFEED_BOOL,
              .polarity = SEQFEED_POLARITY_KEEP},
             {.source = TENSOR_SEQUENCE_COLUMN,
              .column = 1,
              .element = ELEMENT_I32,
              .width = 1,
              .dtype = SEQFEED_INT64},
             {.source = TENSOR_LENGTHS, .dtype = SEQFEED_INT64}},
    };
    uint8_t *slot = aligned_alloc(SEQFEED_PAGE, SEQFEED_PAGE);
    TensorLayout layout;

    tensor_layout(&set, 3, 3, &layout);
    fill_rows(&set, &layout, slot, 3, 3, 0, rows, 3);
    ck_assert_mem_eq(slot + layout.offset[0], batch, sizeof batch);
    ck_assert_mem_eq(slot + layout.offset[1], mask, sizeof mask);
    ck_assert_mem_eq(slot + layout.offset[2], labels_64, sizeof labels_64);
    ck_assert_mem_eq(slot + layout.offset[3], lengths, sizeof lengths);
    free(slot);
}
END_TEST

/* So many tokens that they are not asked for all at once; the values are known by their place. */
START_TEST(a_batch_larger_than_a_cache_has_every_row)
{
    enum { ROWS = 300, LONGEST = 700, TOKENS = ROWS * LONGEST };
    uint16_t *tokens = malloc(TOKENS * sizeof *tokens);
    const uint8_t *columns[] = {(const uint8_t *)tokens};
    TensorSet set = {
        .count = 1,
        .rows_max = ROWS,
        .length_max = LONGEST,
        .tensors =
            {{.source = TENSOR_TOKENS, .element = ELEMENT_U16, .width = 1, .dtype = SEQFEED_INT64}},
    };
    int64_t *slot = aligned_alloc(SEQFEED_PAGE, align_up(TOKENS * sizeof *slot, SEQFEED_PAGE));
    FillRow rows[ROWS];
    TensorLayout layout;

    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (uint16_t)(1 + i % 65521);
    for (uint32_t r = 0; r < ROWS; r++)
        rows[r] = (FillRow){columns, 0, (ROWS - 1 - r) * LONGEST, LONGEST - r % 601};
    memset(slot, 0xff, TOKENS * sizeof *slot);
    tensor_layout(&set, ROWS, LONGEST, &layout);
    fill_prefetch(&set, rows, ROWS);
    fill_rows(&set, &layout, slot, ROWS, LONGEST, 0, rows, ROWS);
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t p = 0; p < LONGEST; p++)
            ck_assert_int_eq(slot[layout.offset[0] / 8 + r * LONGEST + p],
                             p < rows[r].length ? 1 + (rows[r].start + p) % 65521 : 0);
    free(tokens);
    free(slot);
}
END_TEST

CHECK_MAIN("fill", random_batches_equal_the_definition_in_any_pieces_on_every_kind_of_cpu,
           three_sequences_become_a_batch_a_mask_labels_and_lengths,
           a_batch_larger_than_a_cache_has_every_row)
