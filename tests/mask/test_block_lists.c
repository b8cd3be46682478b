/* SPDX-License-Identifier: MIT */
/* Block lists of random feeds against a mask that is worked out for each query and place. */
#include "support/check_main.h"

#include <string.h>

#include "mask/mask_case.h"

enum { ROUNDS = 3000 };

/* A case, its block and its slot. */
typedef struct Sheet {
    MaskCase test;
    CellPlan plan;
    CellBatch *batch;
    uint8_t *slot;
} Sheet;

/* Pairs of a query of one block and a place of another that the mask keeps. */
static uint32_t count_kept(const Sheet *sheet, const CellTensor *tensor, uint32_t row,
                           uint32_t queries, uint32_t places) {
    uint32_t length = sheet->test.length, kept = 0;

    for (uint32_t q = 0; q < tensor->block && queries + q < length; q++) {
        for (uint32_t p = 0; p < tensor->block && places + p < length; p++) {
            CellPlace at = {row, queries + q, places + p, 0};
            CellView view = cell_view(&sheet->plan, sheet->batch, row, at.place);

            kept += (uint32_t)cell_keeps(&sheet->plan, sheet->batch, tensor, &view, at);
        }
    }
    return kept;
}

/* What the tensor must say of one block of queries: blocks that are meant, then all others. */
static uint32_t list_meant(const Sheet *sheet, const CellTensor *tensor, uint32_t row,
                           uint32_t block, uint32_t blocks, int32_t *ret_list) {
    bool full = tensor->source == TENSOR_BLOCKS_FULL_COUNT || tensor->source == TENSOR_BLOCKS_FULL;
    uint32_t meant = 0, others = 0;
    int32_t rest[CASE_LENGTH + 400];

    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t kept = count_kept(sheet, tensor, row, block * tensor->block, b * tensor->block);
        bool is_full = kept == tensor->block * tensor->block;

        if (full ? is_full : kept > 0 && !is_full)
            ret_list[meant++] = (int32_t)b;
        else
            rest[others++] = (int32_t)b;
    }
    memcpy(ret_list + meant, rest, others * sizeof *rest);
    return meant;
}

static void check_tensor(const Sheet *sheet, uint32_t t, uint32_t seed) {
    const CellTensor *tensor = &sheet->plan.tensors[t];
    uint32_t blocks = cell_blocks(sheet->batch, tensor);
    const int32_t *got = (const void *)(sheet->slot + sheet->test.layout.offset[t]);
    int32_t want[CASE_LENGTH + 400];

    for (uint32_t line = 0; line < sheet->test.row_count * blocks; line++) {
        uint32_t meant = list_meant(sheet, tensor, line / blocks, line % blocks, blocks, want);

        if (cell_counts_blocks(tensor))
            ck_assert_msg(got[line] == (int32_t)meant, "seed %u, tensor %u, line %u: %d, not %u",
                          seed, t, line, got[line], meant);
        else
            for (uint32_t b = 0; b < blocks; b++)
                ck_assert_msg(got[line * blocks + b] == want[b],
                              "seed %u, tensor %u, line %u, entry %u: %d, not %d", seed, t, line, b,
                              got[line * blocks + b], want[b]);
    }
}

static void check_case(uint32_t seed) {
    static Sheet sheet;
    uint64_t capacity;

    mask_case_init(&sheet.test, seed);
    if (sheet.test.length > 100) /* few and slow */
        return;
    ck_assert_int_eq(cell_plan_make(&sheet.test.set, &sheet.plan), 0);
    capacity = mask_case_pack_bytes(&sheet.test, &sheet.plan);
    sheet.batch = aligned_alloc(16, align_up(capacity, 16));
    sheet.slot = aligned_alloc(SEQFEED_TENSOR_ALIGN, mask_case_slot_bytes(&sheet.test));
    ck_assert_uint_gt(mask_case_pack(&sheet.test, &sheet.plan, sheet.batch, capacity), 0);
    mask_case_fill(&sheet.test, sheet.slot);
    for (uint32_t t = 0; t < sheet.test.set.count; t++)
        if (cell_has_blocks(&sheet.plan.tensors[t]))
            check_tensor(&sheet, t, seed);
    free(sheet.batch);
    free(sheet.slot);
}

START_TEST(block_lists_are_what_the_mask_counts)
{
    for (uint32_t seed = 0; seed < ROUNDS; seed++)
        check_case(seed);
}
END_TEST

CHECK_MAIN("block_lists", block_lists_are_what_the_mask_counts)
