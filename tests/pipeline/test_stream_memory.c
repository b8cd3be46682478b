/* SPDX-License-Identifier: MIT */
/* A stream that gets no memory, at each place where it asks for some: it says so, gives back what
 * it has, and another stream goes on as if nothing had been. */
#include <errno.h>

#include "base/bytes.h"
#include "pipeline/stream_bench.h"

enum { BATCHES_MAX = 400, SETTLED = 60 };

static Bench bench;
static uint64_t asked, refused_at; /* allocations since it was set; which of them fails, 0: none */
static uint32_t expected[BATCHES_MAX];

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_memory_map(size_t size);
void *__wrap_memory_map(size_t size);
void *__real_memory_map_many(size_t size);
void *__wrap_memory_map_many(size_t size);
void __real_pipeline_post(Pipeline *pipeline, const PipelineEvent *event);
void __wrap_pipeline_post(Pipeline *pipeline, const PipelineEvent *event);

static bool refuse(void) {
    return refused_at > 0 && ++asked == refused_at;
}

void *__wrap_calloc(size_t count, size_t size) {
    return refuse() ? NULL : __real_calloc(count, size);
}

void *__wrap_malloc(size_t size) {
    return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_memory_map(size_t size) {
    return refuse() ? NULL : __real_memory_map(size);
}

void *__wrap_memory_map_many(size_t size) {
    return refuse() ? NULL : __real_memory_map_many(size);
}

/* Without memory for an event the daemon ends on purpose. */
void __wrap_pipeline_post(Pipeline *pipeline, const PipelineEvent *event) {
    uint64_t at = refused_at;

    refused_at = 0;
    __real_pipeline_post(pipeline, event);
    refused_at = at;
}

static void settle(void) {
    for (int i = 0; i < SETTLED; i++)
        bench_run(&bench);
}

/* The tokens of the next batch, in one number. */
static uint32_t take(void) {
    SeqfeedTensorRecord record;
    const SeqfeedDescriptor *descriptor = bench_next(&bench, 0);
    const uint8_t *tokens = bench_tensor(&bench, 0, descriptor, "tokens", &record);
    uint32_t crc = bytes_crc32c(0, tokens, record.size_bytes);

    bench_release(&bench, 0);
    return crc;
}

/* Make a stream, let it fill its ring, and end it. Returns its code, 0 when it lacked nothing. */
static int run_another(const BenchOptions *options, uint64_t refuse_at) {
    StreamRequest request = {.feed = bench.feed,
                             .seed = 1000 + refuse_at, /* an epoch that was counted is kept */
                             .world = 1,
                             .ring_count = 1,
                             .ranks = options->ranks,
                             .members = 1};
    PipelineEvent event = {0};
    Stream *stream;
    uint64_t reserved;
    Error error = {0};
    int code = 0;

    ck_assert_int_eq(pipeline_reserve(bench.pipeline, bench.feed, 1, 1, &reserved, &error), 0);
    ck_assert_int_eq(stream_new(bench.pipeline, &request, reserved, &stream, &error), 0);
    asked = 0;
    refused_at = refuse_at;
    settle();
    refused_at = 0;
    while (bench_event(&bench, &event))
        if (event.kind == PIPELINE_EVENT_FAILED)
            code = event.code;
    if (code == 0) {
        stream_leave(stream, 0, 0);
        while (bench_wait_event(&bench).kind != PIPELINE_EVENT_CLOSED)
            ;
    }
    stream_free(stream);
    settle();
    while (bench_event(&bench, &event))
        ck_assert_int_eq(event.kind, PIPELINE_EVENT_CLOSED);
    return code;
}

static void refuse_each(const BenchOptions *options) {
    PipelineStatus alone, after;
    uint64_t place = 0, failures = 0;
    int code;

    bench_make(&bench, options);
    bench_start(&bench, options);
    for (int i = 0; i < BATCHES_MAX; i++)
        expected[i] = take();
    bench_end(&bench);

    bench_make(&bench, options);
    bench_start(&bench, options);
    ck_assert_uint_eq(take(), expected[0]);
    settle();
    pipeline_status(bench.pipeline, &alone);
    do {
        code = run_another(options, ++place);
        ck_assert(code == 0 || code == -ENOMEM);
        failures += code != 0;
        pipeline_status(bench.pipeline, &after);
        ck_assert_uint_eq(after.memory_reserved, alone.memory_reserved);
        ck_assert_uint_eq(take(), expected[place]);
        settle();
    } while (asked >= place && place + 1 < BATCHES_MAX);
    ck_assert_uint_lt(place + 1, BATCHES_MAX);
    ck_assert_uint_gt(failures, 20);
    bench_end(&bench);
}

START_TEST(whatever_a_stream_is_refused_the_other_goes_on)
{
    BenchOptions options = bench_usual(3000, 1);

    refuse_each(&options);
}
END_TEST

START_TEST(nor_with_pread_and_packed_rows)
{
    BenchOptions options = bench_usual(3000, 1);

    options.pread = true;
    options.strands = 2;
    options.extra =
        "    batch: {policy: pack, size: 4, length: 64}\n    length: {max: 64, overflow: split}\n";
    refuse_each(&options);
}
END_TEST

CHECK_MAIN("stream_memory", whatever_a_stream_is_refused_the_other_goes_on,
           nor_with_pread_and_packed_rows)
