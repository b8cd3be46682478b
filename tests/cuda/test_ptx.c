/* SPDX-License-Identifier: MIT */
/* What nvcc makes of kernels.cu, for one kind of GPU, as ptx_to_c.py translated it: the launches of
 * random feeds against the CPU backend. */
#include "support/check_main.h"

#include "cuda/batch_case.h"
#include "cuda/ptx_machine.h"

enum { ROUNDS = 1500 };

/* As cudaMalloc() aligns, and no better; 32 bits do not count through any of them. */
static const uint64_t plan_there = UINT64_C(0x2ffffff00), batch_there = UINT64_C(0x3ffffff00),
                      slot_there = UINT64_C(0x4ffffff00);

extern const PtxModule ptx_module;

static uint64_t tensors_end(const CellBatch *batch) {
    uint64_t end = 0;

    for (uint32_t t = 0; t < SEQFEED_TENSORS_MAX; t++)
        if (batch->size_bytes[t] > 0 && batch->offset[t] + batch->size_bytes[t] > end)
            end = batch->offset[t] + batch->size_bytes[t];
    return end;
}

/* As kernels_write_batch() launches. */
static void run_ptx(const Launch *launch) {
    const PtxKernel *kernel = ptx_kernel(&ptx_module, launch->is_dense ? "write_dense_kernel"
                                                                       : "write_rows_kernel");
    const PtxLaunch ptx = {
        .grid = write_grid_blocks(&launch->grid),
        .block = WRITE_THREADS,
        .blocks = {launch->blocks.first, launch->blocks.end},
        .threads = {launch->threads.first, launch->threads.end},
        .arguments = {&plan_there, &batch_there, &slot_there, &launch->grid},
        .reads = {{"the plan", plan_there, sizeof *launch->plan, (void *)launch->plan},
                  {"the batch", batch_there, launch->batch->bytes, (void *)launch->batch}},
        .stores = {"the slot", slot_there, tensors_end(launch->batch), launch->slot}};
    char fault[PTX_FAULT_BYTES];

    ck_assert_ptr_nonnull(kernel);
    ck_assert_uint_eq(kernel->param_count, 4);
    ck_assert_uint_eq(kernel->params[3].size, sizeof launch->grid);
    if (ptx.grid > 0 && ptx_launch(kernel, &ptx, fault) < 0)
        ck_abort_msg("%s: %s: %s", ptx_module.target, kernel->name, fault);
}

START_TEST(every_instruction_is_known)
{
    if (ptx_module.refusal)
        ck_abort_msg("%s", ptx_module.refusal);
    ck_assert_uint_eq(ptx_module.count, 2);
}
END_TEST

START_TEST(launches_write_what_the_cpu_backend_writes)
{ batch_case_check_random(ROUNDS, run_ptx); }
END_TEST

START_TEST(long_lines_and_deep_steps)
{ batch_case_check_deep(run_ptx); }
END_TEST

START_TEST(tensors_of_more_than_4_gib)
{ batch_case_check_far(run_ptx); }
END_TEST

CHECK_MAIN("ptx", every_instruction_is_known, launches_write_what_the_cpu_backend_writes,
           long_lines_and_deep_steps, tensors_of_more_than_4_gib)
