/* SPDX-License-Identifier: MIT */
/* batch_case.h: batches written by the launches of kernels.cu, however those are run, against the
 * CPU backend. Check's assertions fail where a byte differs. */
#pragma once

#include "cuda/launch.h"

typedef void BatchRun(const Launch *launch);

/* Random feeds, so many of them. */
void batch_case_check_random(uint32_t rounds, BatchRun *run);
/* A dense line of more chunks than a block has threads, and steps with as many answers pending as
 * may be. */
void batch_case_check_deep(BatchRun *run);
/* Tensors of more bytes than 32 bits can count, of which single threads write their part. */
void batch_case_check_far(BatchRun *run);
