/* SPDX-License-Identifier: MIT */
/* Who hands a batch on is overtaken: the batch is written, its trainer leaves, and the stream is
 * closed and freed before the call returns that handed it on. A worker hands it to the device, and
 * the device's thread hands it back after an error. The program is linked with --wrap, so that all
 * of it happens inside the call. */
#include <malloc.h>

#include "pipeline/fake_device.h"
#include "pipeline/stream.h"
#include "pipeline/stream_trace.h"

enum { FREED = 0xa5 }; /* what freed memory is filled with: a pointer in it is none */

static const uint32_t ranks[] = {0};
static Bench bench;
static bool launch_is_slow, push_is_slow;

void __real_accelerator_launch(Accelerator *accelerator, Flight *flight);
void __wrap_accelerator_launch(Accelerator *accelerator, Flight *flight);
void __real_pipeline_push(Pipeline *pipeline, Task *task, bool urgent);
void __wrap_pipeline_push(Pipeline *pipeline, Task *task, bool urgent);

static void end_stream(void) {
    launch_is_slow = push_is_slow = false;
    stream_leave(bench.stream, 0, 0);
    while (bench_wait_event(&bench).kind != PIPELINE_EVENT_CLOSED)
        ;
    stream_free(bench.stream);
    bench.stream = NULL;
    bench_run(&bench); /* its last step */
}

void __wrap_accelerator_launch(Accelerator *accelerator, Flight *flight) {
    __real_accelerator_launch(accelerator, flight);
    if (launch_is_slow)
        end_stream();
}

/* The last of those that are handed back: the others wait for the call. */
static bool is_handed_back(Task *task) {
    const SlotJob *job = CONTAINER_OF(task, SlotJob, batch);

    return task->run == assemble_batch_run && job->refill && !job->flight.next;
}

void __wrap_pipeline_push(Pipeline *pipeline, Task *task, bool urgent) {
    bool now = push_is_slow && is_handed_back(task);

    __real_pipeline_push(pipeline, task, urgent);
    if (now)
        end_stream();
}

static void overtake(const char *feed, const FakeScript *script) {
    const BenchOptions options = {.sequences = 600,
                                  .block_target = 4096,
                                  .window = 2,
                                  .strands = 1,
                                  .world = 1,
                                  .ring_count = 1,
                                  .members = 1,
                                  .ranks = ranks,
                                  .masks = &fake_device,
                                  .extra = feed};

    (void)mallopt(M_PERTURB, FREED); /* a sanitizer's own malloc does better */
    fake_device_reset(script);
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    launch_is_slow = script->fail_at == 0;
    push_is_slow = !launch_is_slow;
    for (uint32_t i = 0; i < 400 && bench.stream; i++) {
        bench_run(&bench);
        if (!bench.stream)
            break;
        stream_poke(bench.stream);
        __atomic_store_n(&bench.rings[0].ack[0]->released, bench.rings[0].header->head,
                         __ATOMIC_RELEASE);
    }
    ck_assert_ptr_null(bench.stream);
    for (uint32_t i = 0; i < 20; i++)
        bench_run(&bench);
    bench_end(&bench);
    ck_assert_uint_eq(fake_device_counts().lanes_freed, fake_device_counts().lanes_made);
}

static const char *const feeds[] = {"    batch: {size: 16}\n",
                                    "    batch: {policy: pack, size: 2, length: 120}\n"};

START_TEST(a_stream_may_be_gone_before_its_launch_returns)
{
    for (size_t i = 0; i < ARRAY_COUNT(feeds); i++)
        overtake(feeds[i], &(FakeScript){.slowness = 2});
}
END_TEST

START_TEST(a_stream_may_be_gone_before_its_batch_is_handed_back)
{
    for (size_t i = 0; i < ARRAY_COUNT(feeds); i++)
        overtake(feeds[i], &(FakeScript){.slowness = 2, .fail_at = 20});
}
END_TEST

CHECK_MAIN("launch", a_stream_may_be_gone_before_its_launch_returns,
           a_stream_may_be_gone_before_its_batch_is_handed_back)
