/* SPDX-License-Identifier: MIT */
/* Whole streams over the CUDA backend over a scripted runtime: whatever that does, trainers see the
 * batches of a stream on the CPU, each once. */
#include "cuda/scripted_runtime.h"
#include "mask/mask_backend.h"
#include "pipeline/stream_trace.h"

enum { BATCHES = 30 };

static const uint32_t ranks[] = {0};

static const char padded[] = "    batch: {size: 5, last: pad}\n"
                             "    pad: {multiple_of: 48}\n"
                             "    tensors:\n"
                             "      tokens: {from: tokens, dtype: int64}\n"
                             "      causal: {mask: causal, shape: dense, dtype: bool}\n"
                             "      low: {mask: lengths, polarity: additive, dtype: float16}\n"
                             "      next: {make: labels, shift: next}\n"
                             "      label: {from: label}\n";

static const char packed[] = "    batch: {policy: pack, size: 3, length: 120}\n"
                             "    tensors:\n"
                             "      tokens: {from: tokens, dtype: int64}\n"
                             "      segments: {make: segments}\n"
                             "      next: {make: labels, shift: next}\n"
                             "      sums: {make: cu_seqlens}\n"
                             "      label: {from: label}\n"
                             "      own: {mask: {all: [segments, causal]}, shape: dense}\n"
                             "      blocks: {make: block_lists, block: 16}\n";

static const char *const feeds[] = {padded, packed};

static Script plain(uint32_t seed) {
    return (Script){.seed = seed,
                    .driver = 13000,
                    .runtime = 13000,
                    .devices = {{.name = "Test A", .major = 9, .uuid_byte = 0xa0}},
                    .device_count = 1,
                    .error = cudaErrorLaunchFailure};
}

static void pass_time(void) {
    (void)scripted_pass(2);
}

static BenchOptions options(const char *feed) {
    return (BenchOptions){.sequences = 400,
                          .block_target = 4096,
                          .window = 2,
                          .strands = 1,
                          .world = 1,
                          .ring_count = 1,
                          .members = 1,
                          .ranks = ranks,
                          .masks = mask_backend_cuda(),
                          .extra = feed};
}

/* Returns how many batches the device wrote. */
static uint64_t run(const char *feed, const Script *script) {
    const BenchOptions own = options(feed);
    Script sound = *script;
    uint64_t count;
    Bench bench;

    sound.fail_at = 0; /* while the daemon starts it is there */
    scripted_begin(&sound);
    memset(&device, 0, sizeof device);
    bench_make(&bench, &own);
    bench.pass_time = pass_time;
    scripted_begin(script);
    bench_start(&bench, &own);
    for (uint32_t i = 0; i < BATCHES; i++)
        take_round(&bench, &device);
    count = device_batches(&bench);
    bench_end(&bench);
    compare(1);
    ck_assert_uint_eq(scripted_things(), 0);
    ck_assert_uint_eq(scripted_contexts(), 0);
    return count;
}

START_TEST(batches_are_the_cpus)
{
    for (size_t f = 0; f < ARRAY_COUNT(feeds); f++) {
        const BenchOptions own = options(feeds[f]);

        trace_cpu(&own, BATCHES);
        for (uint32_t seed = 0; seed < 6; seed++) {
            Script script = plain(seed);
            ck_assert_uint_ge(run(feeds[f], &script), BATCHES / 2);
        }
    }
}
END_TEST

/* Each call fails once, alone or with all after it. */
static void fail_any_call(const char *feed) {
    const BenchOptions own = options(feed);
    uint32_t n = 1;

    trace_cpu(&own, BATCHES);
    do {
        Script script = plain(n);
        script.fail_at = n;
        script.is_sticky = n % 2;
        script.stops_at_fail = n % 3 == 0;
        (void)run(feed, &script);
        n += n < 120 ? 1 : n / 8;
        ck_assert_uint_lt(n, 100000);
    } while (scripted_failed());
}

START_TEST(any_call_may_fail)
{
    for (size_t f = 0; f < ARRAY_COUNT(feeds); f++)
        fail_any_call(feeds[f]);
}
END_TEST

CHECK_MAIN("cuda_streams", batches_are_the_cpus, any_call_may_fail)
