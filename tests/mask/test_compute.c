/* SPDX-License-Identifier: MIT */
/* Every tensor of random feeds, written by the CPU backend in its tiles and runs, against the
 * element-by-element definition that devices run: mask_cell_chunk() over the launch geometry. */
#include "support/check_main.h"

#include <string.h>

#include "mask/compute.h"
#include "mask/convert.h"
#include "mask/mask_case.h"

enum { ROUNDS = 5000, GUARD = 256, THREADS = 64 };

/* As kernels do it: a grid of blocks of threads over each tensor's chunks. */
static void run_cells(const CellPlan *plan, const CellBatch *batch, uint8_t *slot) {
    for (uint32_t t = 0; t < plan->tensor_count; t++) {
        uint64_t chunks = cell_chunks(batch, t), blocks = (chunks + THREADS - 1) / THREADS;

        for (uint64_t block = 0; block < blocks; block++) {
            for (uint64_t thread = 0; thread < THREADS; thread++) {
                uint64_t chunk = block * THREADS + thread;
                uint32_t words[4], bytes;

                if (chunk >= chunks)
                    continue;
                bytes = mask_cell_chunk(plan, batch, t, chunk, words);
                memcpy(slot + batch->offset[t] + chunk * CELL_CHUNK_BYTES, words, bytes);
            }
        }
    }
}

static void check_case(uint32_t seed) {
    static MaskCase test;
    static CellPlan plan;
    uint64_t bytes, capacity;
    uint8_t *want, *got;
    CellBatch *batch;

    mask_case_init(&test, seed);
    ck_assert_int_eq(cell_plan_make(&test.set, &plan), 0);
    capacity = mask_case_pack_bytes(&test, &plan);
    batch = aligned_alloc(16, align_up(capacity, 16));
    bytes = mask_case_pack(&test, &plan, batch, capacity);
    ck_assert_uint_gt(bytes, 0);
    want = aligned_alloc(GUARD, align_up(test.layout.bytes, GUARD) + 2 * GUARD);
    got = aligned_alloc(GUARD, align_up(test.layout.bytes, GUARD) + 2 * GUARD);
    memset(want, 0xa5, test.layout.bytes + 2 * GUARD);
    memset(got, 0xa5, test.layout.bytes + 2 * GUARD);
    run_cells(&plan, batch, want + GUARD);
    mask_case_fill(&test, got + GUARD);
    for (uint64_t i = 0; i < test.layout.bytes + 2 * GUARD; i++) {
        for (uint32_t t = 0; want[i] != got[i] && t < test.set.count; t++)
            if (i - GUARD - test.layout.offset[t] < test.layout.size_bytes[t])
                ck_abort_msg("seed %u: tensor %u of source %u, dtype %u: byte %lu", seed, t,
                             test.set.tensors[t].source, test.set.tensors[t].dtype,
                             (unsigned long)(i - GUARD - test.layout.offset[t]));
        if (want[i] != got[i]) /* between tensors */
            ck_abort_msg("seed %u: byte %lu", seed, (unsigned long)i);
    }
    free(batch);
    free(want);
    free(got);
}

START_TEST(the_cpu_backend_writes_what_each_element_is_defined_to_be)
{
    for (uint32_t seed = 0; seed < ROUNDS; seed++) {
        (void)convert_set_level((int)(seed % 3));
        check_case(seed);
    }
}
END_TEST

START_TEST(products_of_floats_have_the_bits_of_pytorch)
{
    static const struct {
        uint32_t dtype;
        uint64_t value, times_one, times_zero;
    } cases[] = {
        {SEQFEED_FLOAT32, 0x3fc00000, 0x3fc00000, 0},
        {SEQFEED_FLOAT32, 0xbfc00000, 0xbfc00000, 0x80000000},
        {SEQFEED_FLOAT32, 0x7f800000, 0x7f800000, 0xffc00000},
        {SEQFEED_FLOAT32, 0xff800000, 0xff800000, 0xffc00000},
        {SEQFEED_FLOAT32, 0x7f800001, 0x7fc00001, 0x7fc00001},
        {SEQFEED_FLOAT16, 0x7c00, 0x7c00, 0xfe00},
        {SEQFEED_FLOAT16, 0xfd01, 0xff01, 0xff01},
        {SEQFEED_FLOAT16, 0x8001, 0x8001, 0x8000},
        {SEQFEED_BFLOAT16, 0x7f80, 0x7f80, 0x7fc0},
        {SEQFEED_BFLOAT16, 0xff81, 0x7fc0, 0x7fc0},
        {SEQFEED_INT64, 0x8000000000000001, 0x8000000000000001, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        ck_assert_uint_eq(mask_rule_times(cases[i].dtype, cases[i].value, 1), cases[i].times_one);
        ck_assert_uint_eq(mask_rule_times(cases[i].dtype, cases[i].value, 0), cases[i].times_zero);
    }
}
END_TEST

CHECK_MAIN("compute", the_cpu_backend_writes_what_each_element_is_defined_to_be,
           products_of_floats_have_the_bits_of_pytorch)
