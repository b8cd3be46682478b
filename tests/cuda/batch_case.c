/* SPDX-License-Identifier: MIT */
#include "cuda/batch_case.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mask/mask_case.h"

enum { GUARD = 256 };

static void explain(const MaskCase *test, uint32_t seed, uint64_t byte) {
    for (uint32_t t = 0; t < test->set.count; t++)
        if (byte - GUARD - test->layout.offset[t] < test->layout.size_bytes[t])
            ck_abort_msg("seed %u: tensor %u of source %u, dtype %u: byte %lu", seed, t,
                         test->set.tensors[t].source, test->set.tensors[t].dtype,
                         (unsigned long)(byte - GUARD - test->layout.offset[t]));
    ck_abort_msg("seed %u: byte %lu is no tensor's", seed, (unsigned long)byte);
}

/* The block, in no more memory than it takes: whoever reads beyond it is seen. */
static CellBatch *pack(const MaskCase *test, const CellPlan *plan) {
    uint64_t most = mask_case_pack_bytes(test, plan), bytes;
    void *block = aligned_alloc(GUARD, align_up(most, GUARD)), *exact;

    bytes = mask_case_pack(test, plan, block, most);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_le(bytes, most);
    ck_assert_uint_le(bytes, mask_case_bound(test, plan));
    exact = malloc(bytes);
    memset(exact, 0xa5, bytes);
    ck_assert_uint_eq(mask_case_pack(test, plan, exact, bytes - 1), 0);
    ck_assert_uint_eq(mask_case_pack(test, plan, exact, bytes / 2), 0);
    ck_assert_uint_eq(mask_case_pack(test, plan, exact, bytes), bytes);
    free(block);
    return exact;
}

static void check_case(MaskCase *test, uint32_t seed, BatchRun *run) {
    static CellPlan plan;
    uint32_t blocks_max;
    uint64_t bytes;
    uint8_t *want, *got;
    CellBatch *batch;

    ck_assert_int_eq(cell_plan_make(&test->set, &plan), 0);
    batch = pack(test, &plan);
    bytes = align_up(test->layout.bytes, GUARD) + 2 * GUARD;
    want = aligned_alloc(GUARD, bytes);
    got = aligned_alloc(GUARD, bytes);
    /* What a slot held before must not matter. */
    memset(want, (int)seed, bytes);
    memset(got, (int)seed, bytes);
    mask_case_fill(test, want + GUARD);
    /* So few blocks that most tensors take them several times. */
    blocks_max = 1 + mask_case_draw(3);
    for (int is_dense = 0; is_dense < 2; is_dense++) {
        Launch launch = launch_make(&plan, batch, cell_dense_tensors(&plan), is_dense, blocks_max,
                                    got + GUARD);

        run(&launch);
    }
    for (uint64_t i = 0; i < bytes; i++)
        if (want[i] != got[i])
            explain(test, seed, i);
    free(batch);
    free(want);
    free(got);
}

void batch_case_check_random(uint32_t rounds, BatchRun *run) {
    static MaskCase test;

    for (uint32_t seed = 0; seed < rounds; seed++) {
        mask_case_init(&test, seed);
        check_case(&test, seed, run);
    }
}

void batch_case_check_deep(BatchRun *run) {
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
        check_case(&test, seed, run);
    }
}

/* The chunks of tensor 0 that a thread writes, by their number. */
static uint64_t chunk_of_thread(const CellPlan *plan, const CellBatch *batch, const WriteGrid *grid,
                                uint32_t block, uint32_t thread, uint64_t number) {
    uint64_t blocks = write_grid_blocks(grid);
    uint64_t line_chunks = (batch->dense_stride << plan->tensors[0].value_shift) / CELL_CHUNK_BYTES;

    if (!cell_dense_tensors(plan))
        return (blocks * number + block) * WRITE_THREADS + thread;
    ck_assert_uint_eq(1u << grid->lane_bits, WRITE_THREADS); /* a block has one line at a time */
    return (blocks * number + block) * line_chunks + thread;
}

/* A tensor of more bytes than 32 bits can count, of which one thread writes its part: memory is
 * there for the pages that it touches. */
static void check_far(MaskCase *test, uint32_t block, uint32_t thread, BatchRun *run) {
    static CellPlan plan;
    uint64_t bytes = align_up(test->layout.bytes, GUARD), chunk = 0, seen = 0;
    CellBatch *batch;
    Launch launch;
    uint8_t *slot;
    uint32_t dense;

    ck_assert_int_eq(cell_plan_make(&test->set, &plan), 0);
    dense = cell_dense_tensors(&plan);
    batch = pack(test, &plan);
    slot = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    ck_assert_ptr_ne(slot, MAP_FAILED);
    launch = launch_make(&plan, batch, dense, dense != 0, WRITE_BLOCKS_MAX, slot);
    launch.blocks = (LaunchRange){block, block + 1};
    launch.threads = (LaunchRange){thread, thread + 1};
    run(&launch);
    for (uint64_t number = 0;; number++) {
        uint32_t want[4];

        chunk = chunk_of_thread(&plan, batch, &launch.grid, block, thread, number);
        if (chunk >= cell_chunks(batch, 0))
            break;
        (void)mask_cell_chunk(&plan, batch, 0, chunk, want);
        ck_assert_mem_eq(slot + chunk * CELL_CHUNK_BYTES, want, CELL_CHUNK_BYTES);
        seen += chunk * CELL_CHUNK_BYTES > UINT32_MAX && want[3] != 0;
    }
    ck_assert_uint_gt(seen, 20);
    ck_assert_int_eq(munmap(slot, bytes), 0);
    free(batch);
}

void batch_case_check_far(BatchRun *run) {
    static MaskCase test;

    for (uint32_t dense = 0; dense < 2; dense++) {
        mask_case_init(&test, 1);
        test.set = (TensorSet){.count = 1,
                               .packed = true,
                               .token_element = ELEMENT_U16,
                               .column_count = CASE_COLUMNS,
                               .sequences_max = CASE_PIECES,
                               .step_count = 1};
        test.set.steps[0].op = MASK_SEGMENTS;
        test.set.tensors[0] = (TensorSpec){.source = dense ? TENSOR_MASK_DENSE : TENSOR_TOKENS,
                                           .element = ELEMENT_U16,
                                           .dtype = dense ? SEQFEED_BOOL : SEQFEED_INT64,
                                           .polarity = SEQFEED_POLARITY_MASKED,
                                           .width = 1,
                                           .pad = dense ? 0 : -1,
                                           .step_count = dense};
        test.row_count = dense ? 2 : 12;
        test.length = dense ? 70000 : 70000000;
        test.set.rows_max = test.row_count;
        test.set.length_max = test.length;
        mask_case_turn(&test);
        ck_assert_uint_gt(test.layout.bytes, UINT64_C(5) << 30);
        check_far(&test, WRITE_BLOCKS_MAX - 1, WRITE_THREADS - 1, run);
        check_far(&test, 7, 0, run);
    }
}
