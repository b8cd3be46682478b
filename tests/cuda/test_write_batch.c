/* SPDX-License-Identifier: MIT */
/* The kernels' launch geometry, run on the host over random feeds, against the CPU backend. */
#include "support/check_main.h"

#include <string.h>

#include "cuda/launch.h"
#include "mask/mask_case.h"

enum { ROUNDS = 1500, GUARD = 256 };

static void explain(const MaskCase *test, uint32_t seed, uint64_t byte) {
    for (uint32_t t = 0; t < test->set.count; t++)
        if (byte - GUARD - test->layout.offset[t] < test->layout.size_bytes[t])
            ck_abort_msg("seed %u: tensor %u of source %u, dtype %u: byte %lu", seed, t,
                         test->set.tensors[t].source, test->set.tensors[t].dtype,
                         (unsigned long)(byte - GUARD - test->layout.offset[t]));
    ck_abort_msg("seed %u: byte %lu is no tensor's", seed, (unsigned long)byte);
}

static void check_case(MaskCase *test, uint32_t seed) {
    static CellPlan plan;
    uint64_t capacity, bytes;
    uint8_t *want, *got;
    CellBatch *batch;

    ck_assert_int_eq(cell_plan_make(&test->set, &plan), 0);
    capacity = cell_pack_bytes(&test->set, &plan, test->row_count, test->length, CASE_LIST_VALUES);
    batch = aligned_alloc(GUARD, align_up(capacity, GUARD));
    ck_assert_uint_gt(cell_pack(&test->set, &plan, &test->layout, test->row_count, test->length,
                                test->rows, test->count, batch, capacity),
                      0);
    bytes = align_up(test->layout.bytes, GUARD) + 2 * GUARD;
    want = aligned_alloc(GUARD, bytes);
    got = aligned_alloc(GUARD, bytes);
    /* What a slot held before must not matter. */
    memset(want, (int)seed, bytes);
    memset(got, (int)seed, bytes);
    mask_case_fill(test, want + GUARD);
    /* So few blocks that most tensors take them several times. */
    launch_write_batch(&plan, batch, cell_dense_tensors(&plan), 1 + mask_case_draw(3), got + GUARD);
    for (uint64_t i = 0; i < bytes; i++)
        if (want[i] != got[i])
            explain(test, seed, i);
    free(batch);
    free(want);
    free(got);
}

START_TEST(launches_write_what_the_cpu_backend_writes)
{
    static MaskCase test;

    for (uint32_t seed = 0; seed < ROUNDS; seed++) {
        mask_case_init(&test, seed);
        check_case(&test, seed);
    }
}
END_TEST

/* A dense line of more chunks than a block has threads, and steps with as many answers pending as
 * may be. */
START_TEST(long_lines_and_deep_steps)
{
    static MaskCase test;
    TensorSet *set = &test.set;

    for (uint32_t seed = 0; seed < 2; seed++) {
        mask_case_init(&test, seed);
        *set = (TensorSet){.token_element = set->token_element,
                           .token_pad = set->token_pad,
                           .column_count = set->column_count,
                           .side = seed};
        set->step_count = TENSOR_DEPTH_MAX + TENSOR_DEPTH_MAX - 1;
        for (uint32_t s = 0; s < set->step_count; s++) {
            MaskStep *step = &set->steps[s];

            if (s >= TENSOR_DEPTH_MAX) {
                step->op = mask_case_draw(2) ? MASK_AND : MASK_OR;
                continue;
            }
            *step = (MaskStep){
                .op = s == 3 ? MASK_CAUSAL : MASK_INDICES, .first = s * 8, .count = 8};
            for (uint32_t i = 0; i < step->count; i++)
                set->values[s * 8 + i] = mask_case_draw(40);
        }
        set->count = 3;
        for (uint32_t t = 0; t < set->count; t++)
            set->tensors[t] = (TensorSpec){.source = t ? TENSOR_MASK_DENSE : TENSOR_MASK,
                                           .dtype = SEQFEED_INT64,
                                           .width = 1,
                                           .polarity = 1 + t,
                                           .pad = 7,
                                           .step_count = set->step_count};
        set->tensors[2].first_step = 3; /* causal alone */
        set->tensors[2].step_count = 1;
        test.row_count = 1;
        test.count = MIN(test.count, 1u);
        test.length = 600;
        set->rows_max = 1;
        set->length_max = test.length;
        tensor_layout(set, test.row_count, test.length, &test.layout);
        check_case(&test, seed);
    }
}
END_TEST

CHECK_MAIN("write_batch", launches_write_what_the_cpu_backend_writes, long_lines_and_deep_steps)
