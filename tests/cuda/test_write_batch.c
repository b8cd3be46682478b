/* SPDX-License-Identifier: MIT */
/* The kernels' launch geometry, run on the host over random feeds, against the CPU backend. */
#include "support/check_main.h"

#include <errno.h>

#include "cuda/batch_case.h"
#include "mask/mask_case.h"

enum { ROUNDS = 1500 };

START_TEST(launches_write_what_the_cpu_backend_writes)
{ batch_case_check_random(ROUNDS, launch_run); }
END_TEST

START_TEST(long_lines_and_deep_steps)
{ batch_case_check_deep(launch_run); }
END_TEST

START_TEST(tensors_of_more_than_4_gib)
{ batch_case_check_far(launch_run); }
END_TEST

/* What kernels count in 32 bits. */
START_TEST(sets_that_are_too_large_are_refused)
{
    static MaskCase test;
    static CellPlan plan;

    for (uint32_t i = 0; i < 4; i++) {
        bool is_column = i < 2;

        mask_case_init(&test, 1);
        test.set = (TensorSet){.count = 1, .packed = true, .sequences_max = 10, .rows_max = 1};
        test.set.tensors[0] = (TensorSpec){.source = is_column ? TENSOR_TOKEN_COLUMN
                                                               : TENSOR_BLOCKS,
                                           .element = ELEMENT_U8,
                                           .dtype = is_column ? SEQFEED_UINT8 : SEQFEED_INT32,
                                           .width = is_column ? 4 : 1,
                                           .block = 16};
        test.set.length_max = is_column ? (1u << 30) - 2 * i : i == 2 ? 1 << 20 : 1 << 19;
        ck_assert_int_eq(cell_plan_make(&test.set, &plan), i % 2 ? 0 : -E2BIG);
    }
}
END_TEST

CHECK_MAIN("write_batch", launches_write_what_the_cpu_backend_writes, long_lines_and_deep_steps,
           tensors_of_more_than_4_gib, sets_that_are_too_large_are_refused)
