/* SPDX-License-Identifier: MIT */
/* ordered_jobs.h: a ring of jobs that threads work on in any order and the owner collects in the
 * order of submission. The owner is one thread: claim, fill, submit; collect, use, give back. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct OrderedJobs OrderedJobs;

/* Called for every job on thread 0..threads-1; must not fail but note failures in the job. */
typedef void OrderedJobsWork(void *shared, uint32_t thread, void *job);

/* `count` jobs of `job_bytes` each, zeroed. With `threads` 0 the work is done by submit itself,
 * as thread 0. 0, -ENOMEM or -EAGAIN (no more threads). */
MUST_CHECK int ordered_jobs_new(uint32_t threads, uint32_t count, size_t job_bytes,
                                OrderedJobsWork *work, void *shared, OrderedJobs **ret_jobs);
/* Waits for what is under way. The owner releases what the jobs hold: see ordered_jobs_at(). */
void ordered_jobs_free(OrderedJobs *jobs);
/* Wait until no thread works on a job any more; nothing may be submitted after it. */
void ordered_jobs_stop(OrderedJobs *jobs);

/* The next free job, or NULL when all are under way or uncollected. Until it is submitted the same
 * one is returned again. */
void *ordered_jobs_claim(OrderedJobs *jobs);
void ordered_jobs_submit(OrderedJobs *jobs);

/* The oldest submitted job once it is done, or NULL when there is none. It stays the owner's until
 * ordered_jobs_give_back(). */
void *ordered_jobs_collect(OrderedJobs *jobs);
void ordered_jobs_give_back(OrderedJobs *jobs);

uint32_t ordered_jobs_count(const OrderedJobs *jobs);
void *ordered_jobs_at(OrderedJobs *jobs, uint32_t index);
