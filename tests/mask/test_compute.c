/* SPDX-License-Identifier: MIT */
/* Every tensor of random feeds, written by the CPU backend in its tiles and runs, against the
 * element-by-element definition that devices run: mask_cell_chunk() over the launch geometry. */
#include "support/check_main.h"

#include <string.h>
#include <sys/mman.h>

#include "mask/compute.h"
#include "mask/convert.h"
#include "mask/mask_case.h"

enum { ROUNDS = 5000, GUARD = 256, THREADS = 64, FAR = 1 << 20 };

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

/* The ends behind those of FAR sequences that nobody may look at, but for the last. */
static uint32_t *move_ends(const uint32_t *ends) {
    uint8_t *memory = mmap(NULL, (FAR + CASE_SEQUENCES) * sizeof *ends, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t hidden = FAR * sizeof *ends - 4096;

    ck_assert_ptr_ne(memory, MAP_FAILED);
    ck_assert_int_eq(
        mprotect(memory + hidden, 4096 + CASE_SEQUENCES * sizeof *ends, PROT_READ | PROT_WRITE), 0);
    memcpy(memory + FAR * sizeof *ends, ends, CASE_SEQUENCES * sizeof *ends);
    return (uint32_t *)(void *)memory;
}

/* The same rows as the last sequences of a block of a million. */
static void move_rows(MaskCase *test) {
    const uint8_t **ends = &test->columns[CASE_COLUMNS];

    for (uint32_t c = 0; c <= CASE_COLUMNS; c++)
        if (ends[c])
            ends[c] = (const uint8_t *)move_ends((const uint32_t *)(const void *)ends[c]);
    test->columns[2] -= (size_t)FAR * 8; /* one label for each sequence */
    for (uint32_t s = 0; s < test->count; s++)
        test->rows[s].sequence += FAR;
}

static void free_moved(MaskCase *test) {
    for (uint32_t c = CASE_COLUMNS; c <= 2 * CASE_COLUMNS; c++)
        if (test->columns[c])
            munmap((void *)(uintptr_t)test->columns[c], (FAR + CASE_SEQUENCES) * sizeof(uint32_t));
}

/* Nothing of a row is found by adding up what stands before it. */
START_TEST(a_row_costs_the_same_at_the_end_of_a_large_block)
{
    static MaskCase test;
    static CellPlan plan;

    for (uint32_t seed = 0; seed < ROUNDS / 10; seed++) {
        uint64_t capacity, sizes[2];
        uint8_t *slots[2];
        void *packs[2];

        mask_case_init(&test, seed);
        ck_assert_int_eq(cell_plan_make(&test.set, &plan), 0);
        capacity = mask_case_pack_bytes(&test, &plan);
        for (int far = 0; far < 2; far++) {
            slots[far] = aligned_alloc(GUARD, align_up(test.layout.bytes, GUARD) + GUARD);
            memset(slots[far], 0xa5, test.layout.bytes);
            packs[far] = calloc(1, align_up(capacity, 16));
            if (far)
                move_rows(&test);
            mask_case_fill(&test, slots[far]);
            sizes[far] = mask_case_pack(&test, &plan, packs[far], capacity);
        }
        ck_assert_mem_eq(slots[0], slots[1], test.layout.bytes);
        ck_assert_uint_gt(sizes[0], 0);
        ck_assert_uint_eq(sizes[0], sizes[1]);
        ck_assert_mem_eq(packs[0], packs[1], sizes[0]);
        free_moved(&test);
        for (int far = 0; far < 2; far++) {
            free(slots[far]);
            free(packs[far]);
        }
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
           a_row_costs_the_same_at_the_end_of_a_large_block,
           products_of_floats_have_the_bits_of_pytorch)
