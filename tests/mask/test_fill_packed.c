/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "mask/fill_packed.h"
#include "support/check_main.h"

enum { LENGTH = 12, SEQUENCES = 6 };

/* Sequences of a block with these lengths and tokens 1, 2, 3 …; two rows and an empty one. */
static const uint32_t lengths[SEQUENCES] = {3, 0, 5, 4, 7, 1};
static const uint32_t firsts[] = {10, 13, 16}; /* as they stand in the middle of a window */
static uint16_t tokens[20];
static uint8_t labels[SEQUENCES];
static const uint8_t *columns[2];
static FillRow sources[SEQUENCES];

static void make_sources(void) {
    uint32_t start = 0;

    columns[0] = (const uint8_t *)tokens;
    columns[1] = labels;
    for (uint32_t i = 0; i < ARRAY_COUNT(tokens); i++)
        tokens[i] = (uint16_t)(i + 1);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        labels[s] = (uint8_t)(100 + s);
        sources[s] = (FillRow){
            .columns = columns, .sequence = s, .start = start, .length = lengths[s]};
        start += lengths[s];
    }
}

static TensorSet make_set(uint32_t side) {
    const TensorSpec specs[] = {
        {.name = "tokens",
         .source = TENSOR_TOKENS,
         .element = ELEMENT_U16,
         .width = 1,
         .dtype = SEQFEED_INT64,
         .pad = -7},
        {.name = "mask",
         .source = TENSOR_MASK_LENGTHS,
         .width = 1,
         .dtype = SEQFEED_BOOL,
         .polarity = SEQFEED_POLARITY_KEEP},
        {.name = "segments", .source = TENSOR_PACK_SEGMENTS, .width = 1, .dtype = SEQFEED_INT32},
        {.name = "positions", .source = TENSOR_POSITIONS, .width = 1, .dtype = SEQFEED_INT64},
        {.name = "targets",
         .source = TENSOR_LABELS,
         .element = ELEMENT_U16,
         .width = 1,
         .dtype = SEQFEED_INT64,
         .pad = -100},
        {.name = "lengths", .source = TENSOR_LENGTHS, .width = 1, .dtype = SEQFEED_INT64},
        {.name = "labels",
         .source = TENSOR_SEQUENCE_COLUMN,
         .column = 1,
         .element = ELEMENT_U8,
         .width = 1,
         .dtype = SEQFEED_INT64},
        {.name = "sums", .source = TENSOR_PACK_CU_SEQLENS, .width = 1, .dtype = SEQFEED_INT32},
    };
    TensorSet set = {.count = ARRAY_COUNT(specs),
                     .side = side,
                     .rows_max = 3,
                     .length_max = LENGTH,
                     .packed = true,
                     .token_element = ELEMENT_U16,
                     .sequences_max = 3 * LENGTH};

    memcpy(set.tensors, specs, sizeof specs);
    return set;
}

/* Rows 0 and 1 with three sequences each in two parts, as two windows give them, and an empty row.
 */
static void fill_all(const TensorSet *set, const TensorLayout *layout, uint8_t *slot) {
    FillPacked first = {.row_count = 1, .sequence_count = 3, .sources = sources, .firsts = firsts};
    FillPacked second = {.first_row = 1,
                         .row_count = 1,
                         .first_sequence = 3,
                         .sequence_count = 3,
                         .first_token = 8,
                         .sources = sources + 3,
                         .firsts = firsts + 1};
    FillPacked empty = {
        .first_row = 2, .row_count = 1, .first_sequence = SEQUENCES, .first_token = 20};

    fill_packed(set, layout, slot, LENGTH, &empty);
    fill_packed(set, layout, slot, LENGTH, &second);
    fill_packed(set, layout, slot, LENGTH, &first);
}

static void check_place(const int64_t *got, const uint8_t *mask, const int32_t *segments,
                        const int64_t *positions, const int64_t *targets, uint32_t side,
                        uint32_t row) {
    uint32_t first = row * 3, count = row < 2 ? 3 : 0, real = 0, at, place = row * LENGTH;

    for (uint32_t s = first; s < first + count; s++)
        real += lengths[s];
    at = side == SEQFEED_SIDE_LEFT ? LENGTH - real : 0;
    for (uint32_t i = 0; i < LENGTH; i++) {
        uint32_t s = first, skip = i - at;

        if (i < at || i >= at + real) {
            ck_assert_int_eq(got[place + i], -7);
            ck_assert_int_eq(mask[place + i] + segments[place + i] + positions[place + i], 0);
            ck_assert_int_eq(targets[place + i], -100);
            continue;
        }
        for (; skip >= lengths[s]; s++)
            skip -= lengths[s];
        ck_assert_int_eq(got[place + i], tokens[sources[s].start + skip]);
        ck_assert_int_eq(mask[place + i], 1);
        ck_assert_int_eq(segments[place + i], s - first + 1);
        ck_assert_int_eq(positions[place + i], skip);
        ck_assert_int_eq(targets[place + i], skip == 0 ? -100 : got[place + i]);
    }
}

START_TEST(every_tensor_is_what_it_says)
{
    make_sources();
    for (uint32_t side = SEQFEED_SIDE_RIGHT; side <= SEQFEED_SIDE_LEFT; side++) {
        TensorSet set = make_set(side);
        uint64_t bytes;
        TensorLayout at;
        uint8_t *slot;
        Error error;

        ck_assert_int_eq(tensor_slot_bytes(&set, &bytes, &error), 0);
        tensor_layout_packed(&set, 3, LENGTH, SEQUENCES, 20, &at);
        ck_assert_uint_le(at.bytes, bytes);
        slot = malloc(bytes);
        memset(slot, 0xee, bytes);
        fill_all(&set, &at, slot);
        for (uint32_t row = 0; row < 3; row++)
            check_place((int64_t *)(void *)(slot + at.offset[0]), slot + at.offset[1],
                        (int32_t *)(void *)(slot + at.offset[2]),
                        (int64_t *)(void *)(slot + at.offset[3]),
                        (int64_t *)(void *)(slot + at.offset[4]), side, row);
        for (uint32_t s = 0, sum = 0; s < SEQUENCES; s++) {
            ck_assert_int_eq(((int64_t *)(void *)(slot + at.offset[5]))[s], lengths[s]);
            ck_assert_int_eq(((int64_t *)(void *)(slot + at.offset[6]))[s], 100 + s);
            ck_assert_int_eq(((int32_t *)(void *)(slot + at.offset[7]))[s], sum);
            sum += lengths[s];
            ck_assert_int_eq(((int32_t *)(void *)(slot + at.offset[7]))[s + 1], sum);
        }
        ck_assert_uint_eq(at.size_bytes[5], SEQUENCES * sizeof(int64_t));
        ck_assert_uint_eq(at.size_bytes[7], (SEQUENCES + 1) * sizeof(int32_t));
        free(slot);
    }
}
END_TEST

/* One row whose tail is a sequence of its own: the sums end with the row. */
START_TEST(the_tail_may_count_as_a_sequence)
{
    TensorSet set = make_set(SEQFEED_SIDE_RIGHT);
    FillPacked row = {.row_count = 1, .sequence_count = 3, .sources = sources, .firsts = firsts};
    _Alignas(8) uint8_t slot[16384];
    const int32_t sums[] = {0, 3, 3, 8, 12};
    TensorLayout at;

    make_sources();
    set.tail_segment = true;
    set.tensors[set.count++] = (TensorSpec){
        .name = "longest", .source = TENSOR_PACK_MAX_SEQLEN, .dtype = SEQFEED_INT32, .width = 1};
    tensor_layout_packed(&set, 1, LENGTH, 3, 8, &at);
    ck_assert_uint_eq(at.size_bytes[7], sizeof sums);
    at.longest = 5;
    fill_packed(&set, &at, slot, LENGTH, &row);
    ck_assert_mem_eq(slot + at.offset[7], sums, sizeof sums);
    for (int64_t i = 0; i < 4; i++)
        ck_assert_int_eq(((int64_t *)(void *)(slot + at.offset[3]))[8 + i], i);
    ck_assert_int_eq(*(int32_t *)(void *)(slot + at.offset[8]), 5);

    /* A full row has no tail. */
    tensor_layout_packed(&set, 1, LENGTH, 3, LENGTH, &at);
    ck_assert_uint_eq(at.size_bytes[7], 4 * sizeof(int32_t));
}
END_TEST

CHECK_MAIN("fill_packed", every_tensor_is_what_it_says, the_tail_may_count_as_a_sequence)
