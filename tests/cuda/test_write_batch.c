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

static void check_case(uint32_t seed) {
    static MaskCase test;
    static CellPlan plan;
    uint64_t capacity, bytes;
    uint8_t *want, *got;
    CellBatch *batch;

    mask_case_init(&test, seed);
    ck_assert_int_eq(cell_plan_make(&test.set, &plan), 0);
    capacity = cell_pack_bytes(&test.set, &plan, test.row_count, test.length, CASE_LIST_VALUES);
    batch = aligned_alloc(GUARD, align_up(capacity, GUARD));
    ck_assert_uint_gt(cell_pack(&test.set, &plan, &test.layout, test.row_count, test.length,
                                test.rows, test.count, batch, capacity),
                      0);
    bytes = align_up(test.layout.bytes, GUARD) + 2 * GUARD;
    want = aligned_alloc(GUARD, bytes);
    got = aligned_alloc(GUARD, bytes);
    /* What a slot held before must not matter. */
    memset(want, (int)seed, bytes);
    memset(got, (int)seed, bytes);
    mask_case_fill(&test, want + GUARD);
    launch_write_batch(&plan, batch, cell_dense_tensors(&plan), got + GUARD);
    for (uint64_t i = 0; i < bytes; i++)
        if (want[i] != got[i])
            explain(&test, seed, i);
    free(batch);
    free(want);
    free(got);
}

START_TEST(launches_write_what_the_cpu_backend_writes)
{
    for (uint32_t seed = 0; seed < ROUNDS; seed++)
        check_case(seed);
}
END_TEST

CHECK_MAIN("write_batch", launches_write_what_the_cpu_backend_writes)
