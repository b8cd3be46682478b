/* SPDX-License-Identifier: MIT */
/* A system that grants fewer threads than there are CPUs. The program is linked with --wrap. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "pipeline/pipeline.h"
#include "support/check_main.h"

enum { OTHERS = 2 }; /* the fetch thread and one for set-up */

static uint32_t granted; /* threads; then no more */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument) {
    if (granted == 0)
        return EAGAIN;
    granted--;
    return __real_pthread_create(thread, attributes, start, argument);
}

/* Start eight workers. Returns how many there are, or a negative errno. */
static int start(bool fewer, Error *error) {
    const PipelineOptions options = {
        .workers = 8, .fewer_workers = fewer, .memory = 1 << 20, .force_pread = true};
    PipelineStatus status;
    Pipeline *pipeline;
    int r;

    ck_assert_int_eq(pipeline_new(&options, &pipeline, error), 0);
    r = pipeline_start(pipeline, error);
    pipeline_status(pipeline, &status);
    pipeline_free(pipeline);
    return r < 0 ? r : (int)status.workers;
}

START_TEST(a_number_that_nobody_asked_for_is_what_the_system_grants)
{
    Error error = {0};

    granted = OTHERS + 3;
    ck_assert_int_eq(start(true, &error), 3);
    granted = 100;
    ck_assert_int_eq(start(true, &error), 8);
}
END_TEST

START_TEST(a_number_that_was_asked_for_is_kept_or_refused_with_what_to_change)
{
    Error error = {0};

    granted = OTHERS + 3;
    ck_assert_int_eq(start(false, &error), -EAGAIN);
    ck_assert_msg(strstr(error.text, "worker thread 4 of 8") != NULL, "%s", error.text);
    ck_assert_msg(strstr(error.text, "lower threads, or raise the limit (TasksMax=") != NULL, "%s",
                  error.text);
}
END_TEST

START_TEST(without_any_worker_there_is_no_pipeline)
{
    Error error = {0};

    granted = OTHERS;
    ck_assert_int_eq(start(true, &error), -EAGAIN);
    granted = 0;
    ck_assert_int_eq(start(true, &error), -EAGAIN);
    ck_assert_msg(strstr(error.text, "beside the workers") != NULL, "%s", error.text);
}
END_TEST

CHECK_MAIN("threads", a_number_that_nobody_asked_for_is_what_the_system_grants,
           a_number_that_was_asked_for_is_kept_or_refused_with_what_to_change,
           without_any_worker_there_is_no_pipeline)
