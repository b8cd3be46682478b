/* SPDX-License-Identifier: MIT */
#include "mask/slate.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "mask/fill.h"
#include "support/check_main.h"

enum { ROWS_MAX = 9, LENGTH_MAX = 40, BATCHES = 300, GUARD = 64 };

static uint32_t draws;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(99, draws++, 0, 0, 0).word[0], bound);
}

static TensorSet make_set(uint32_t side, int64_t pad) {
    TensorSet set = {.count = 5, .side = side, .rows_max = ROWS_MAX, .length_max = LENGTH_MAX};

    set.tensors[0] = (TensorSpec){.name = "tokens",
                                  .source = TENSOR_TOKENS,
                                  .element = ELEMENT_U16,
                                  .width = 1,
                                  .dtype = SEQFEED_INT64,
                                  .pad = pad};
    set.tensors[1] = (TensorSpec){.name = "mask",
                                  .source = TENSOR_MASK_LENGTHS,
                                  .dtype = SEQFEED_BOOL,
                                  .polarity = SEQFEED_POLARITY_KEEP,
                                  .width = 1};
    set.tensors[2] = (TensorSpec){
        .name = "lengths", .source = TENSOR_LENGTHS, .dtype = SEQFEED_INT64, .width = 1};
    set.tensors[3] = (TensorSpec){.name = "again",
                                  .source = TENSOR_TOKENS,
                                  .element = ELEMENT_U16,
                                  .width = 1,
                                  .dtype = SEQFEED_INT32,
                                  .pad = 0};
    set.tensors[4] = (TensorSpec){.name = "weights",
                                  .source = TENSOR_MASK_LENGTHS,
                                  .dtype = SEQFEED_FLOAT32,
                                  .polarity = SEQFEED_POLARITY_KEEP,
                                  .width = 1};
    return set;
}

/* The same slot through hundreds of batches of all shapes must each time look like a fresh one. */
static void check_turns(uint32_t side, int64_t pad) {
    TensorSet set = make_set(side, pad);
    static uint16_t tokens[4096];
    const uint8_t *columns[1] = {(const uint8_t *)tokens};
    uint64_t slot_bytes;
    Slate slate;

    for (uint32_t i = 0; i < 4096; i++)
        tokens[i] = (uint16_t)(1 + draw(65535));
    ck_assert_int_eq(tensor_slot_bytes(&set, &slot_bytes, NULL), 0);
    uint8_t *slot = calloc(1, slot_bytes + GUARD), *fresh = malloc(slot_bytes);
    memset(slot + slot_bytes, 0xa5, GUARD);
    ck_assert_int_eq(slate_init(&slate, &set), 0);
    ck_assert_uint_eq(slate_tensors(&set), pad == 0 ? 0x1bu : 0x1au);

    for (int batch = 0; batch < BATCHES; batch++) {
        uint32_t rows = 1 + draw(ROWS_MAX), real_rows = 1 + draw(rows), length = 1,
                 lengths[ROWS_MAX] = {0};
        FillRow sources[ROWS_MAX];
        TensorLayout full, sparse;

        for (uint32_t r = 0; r < real_rows; r++) {
            lengths[r] = draw(4) ? draw(LENGTH_MAX + 1) : 0;
            sources[r] = (FillRow){.columns = columns, .start = draw(4000), .length = lengths[r]};
            length = lengths[r] > length ? lengths[r] : length;
        }
        tensor_layout(&set, rows, length, &full);
        sparse = full;
        sparse.zeroed = slate_tensors(&set);
        memset(fresh, 0xee, slot_bytes);
        fill_rows(&set, &full, fresh, rows, length, 0, sources, real_rows);
        fill_empty_rows(&set, &full, fresh, rows, length, real_rows, rows - real_rows);
        slate_turn(&slate, &set, &sparse, slot, rows, length, lengths);
        fill_rows(&set, &sparse, slot, rows, length, 0, sources, real_rows);
        fill_empty_rows(&set, &sparse, slot, rows, length, real_rows, rows - real_rows);
        for (uint32_t t = 0; t < set.count; t++)
            if (memcmp(fresh + full.offset[t], slot + full.offset[t], full.size_bytes[t]) != 0)
                ck_abort_msg("batch %d: tensor %s differs", batch, set.tensors[t].name);
    }
    for (int i = 0; i < GUARD; i++)
        ck_assert_uint_eq(slot[slot_bytes + (size_t)i], 0xa5);
    slate_deinit(&slate);
    free(slot);
    free(fresh);
}

START_TEST(a_used_slot_looks_like_a_fresh_one)
{
    check_turns(SEQFEED_SIDE_RIGHT, 0);
    check_turns(SEQFEED_SIDE_LEFT, 0);
}
END_TEST

START_TEST(padding_that_is_not_zero_is_written_by_fill)
{
    check_turns(SEQFEED_SIDE_RIGHT, 77);
    check_turns(SEQFEED_SIDE_LEFT, -1);
}
END_TEST

CHECK_MAIN("slate", a_used_slot_looks_like_a_fresh_one, padding_that_is_not_zero_is_written_by_fill)
