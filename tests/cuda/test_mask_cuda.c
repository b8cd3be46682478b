/* SPDX-License-Identifier: MIT */
/* The CUDA backend over a runtime that is late, fails, and copies on after it failed. */
#include "support/check_main.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/random.h"
#include "cuda/scripted_runtime.h"
#include "mask/mask_backend.h"
#include "mask/mask_case.h"

enum { LANES = 3, BATCHES = 24, FEW = 9, ROUNDS = 40 };

/* A lane with the batch that it has in flight, and its slot as it must become. */
typedef struct Way {
    MaskLane *lane;
    MaskCase test;
    CellPlan plan;
    uint8_t *slot, *want, *before;
    uint64_t slot_bytes, input_bytes;
    uint32_t spoiled; /* bit t: tensor t is not what it should be */
    bool in_flight;
} Way;

static Way ways[LANES];
static uint32_t draws, draw_seed;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draws++, 2, 0, 0).word[0], bound);
}

static Script plain(uint32_t seed) {
    return (Script){.seed = seed,
                    .driver = 13000,
                    .runtime = 13000,
                    .devices = {{.name = "Test A", .major = 9, .uuid_byte = 0xa0},
                                {.name = "Test B", .major = 12, .uuid_byte = 0xb1}},
                    .device_count = 2,
                    .error = cudaErrorLaunchFailure};
}

/* Any two of a way's slots side by side: what lies in no tensor is nobody's business. */
static void check_slot(const Way *way, const char *when) {
    for (uint32_t t = 0; t < way->test.set.count; t++) {
        uint64_t at = way->test.layout.offset[t], size = way->test.layout.size_bytes[t];

        for (uint64_t i = at; i < at + size; i++)
            if (way->slot[i] != way->want[i])
                ck_abort_msg("%s: tensor %u of source %u, byte %lu of %lu", when, t,
                             way->test.set.tensors[t].source, (unsigned long)(i - at),
                             (unsigned long)size);
    }
}

/* Tensors that the slot keeps are there from the batch before, of which everything else is gone.
 * Now and then somebody writes to them, to see that nobody else does; the next batch may not keep
 * those. */
static void way_keep(Way *way) {
    TensorLayout *layout = &way->test.layout;

    layout->kept = tensor_constant(&way->test.set) & ~way->spoiled &
                   draw(1u << SEQFEED_TENSORS_MAX);
    way->spoiled = 0;
    for (uint32_t t = 0; t < way->test.set.count; t++) {
        uint64_t at = layout->offset[t], size = layout->size_bytes[t];

        if (!(layout->kept >> t & 1))
            continue;
        memcpy(way->slot + at, way->before + at, size);
        if (draw(4) > 0)
            continue;
        way->spoiled |= 1u << t;
        memset(way->slot + at, 0x55, size);
        memset(way->want + at, 0x55, size);
    }
}

/* The feed of a lane stays; its next batch has other rows. */
static void way_prepare(Way *way, uint32_t batch) {
    MaskCase *test = &way->test;

    mask_case_turn(test);
    ck_assert_uint_le(test->layout.bytes, way->slot_bytes);
    memset(way->want, (int)draw(256), way->slot_bytes);
    mask_case_fill(test, way->want);
    memcpy(way->before, way->slot, way->slot_bytes);
    memset(way->slot, (int)draw(256), way->slot_bytes);
    if (batch >= LANES && draw(2))
        way_keep(way);
    else
        way->spoiled = 0;
    ck_assert_uint_gt(mask_case_pack(test, &way->plan, mask_backend_cuda()->lane_input(way->lane),
                                     way->input_bytes),
                      0);
}

static int ways_open(MaskDevice *device, uint32_t seed, Error *error) {
    draw_seed = seed;
    draws = 0;
    for (uint32_t w = 0; w < LANES; w++) {
        Way *way = &ways[w];
        int r;

        *way = (Way){0};
        mask_case_init(&way->test, seed * LANES + w);
        way->slot_bytes = mask_case_slot_bytes(&way->test);
        way->slot = aligned_alloc(4096, way->slot_bytes);
        way->want = aligned_alloc(4096, way->slot_bytes);
        way->before = aligned_alloc(4096, way->slot_bytes);
        ck_assert_int_eq(cell_plan_make(&way->test.set, &way->plan), 0);
        way->input_bytes = mask_case_pack_bytes(&way->test, &way->plan);
        r = mask_backend_cuda()->lane_new(device, &way->plan, way->slot, way->slot_bytes,
                                          way->input_bytes, &way->lane, error);
        memset(&way->plan, 0x77, sizeof way->plan); /* it is the caller's again */
        ck_assert_int_eq(cell_plan_make(&way->test.set, &way->plan), 0);
        if (r < 0) {
            way->lane = NULL;
            return r;
        }
    }
    return 0;
}

static void ways_free(void) {
    for (uint32_t w = 0; w < LANES; w++) {
        mask_backend_cuda()->lane_free(ways[w].lane);
        free(ways[w].slot);
        free(ways[w].want);
        free(ways[w].before);
        ways[w] = (Way){0};
    }
}

/* Batches on all lanes, in any order. 0, or the first error. */
static int run_batches(uint32_t batches, Error *error) {
    const MaskBackend *backend = mask_backend_cuda();
    uint32_t started = 0, done = 0;

    while (done < batches) {
        Way *way = &ways[started < LANES ? started : draw(LANES)];
        int r;

        if (!way->in_flight && started == batches)
            continue;
        if (!way->in_flight) {
            way_prepare(way, started++);
            way->in_flight = true;
            r = backend->lane_start(way->lane, error);
            if (r < 0)
                return r;
            continue;
        }
        r = draw(4) ? backend->lane_poll(way->lane, error) : backend->lane_wait(way->lane, error);
        if (r < 0)
            return r;
        if (r == MASK_E_BUSY)
            continue;
        check_slot(way, "a batch that is done");
        way->in_flight = false;
        done++;
    }
    return 0;
}

START_TEST(every_batch_is_whole_when_it_is_done)
{
    const MaskBackend *backend = mask_backend_cuda();

    for (uint32_t seed = 0; seed < ROUNDS; seed++) {
        Script script = plain(seed);
        MaskDevice *device = NULL;
        Error error = {0};

        scripted_begin(&script);
        ck_assert_int_eq(backend->open(seed % 2 ? "1" : NULL, &device, &error), 0);
        ck_assert_int_eq(ways_open(device, seed, &error), 0);
        ck_assert_msg(run_batches(BATCHES, &error) == 0, "seed %u: %s", seed, error.text);
        if (seed % 2 == 0)
            ways_free();
        ck_assert_uint_eq(scripted_things(), seed % 2 ? LANES * 7 : 0);
        ck_assert_int_eq(backend->close(device), 0);
        ck_assert_uint_eq(scripted_things(), 0);
        ck_assert_uint_eq(scripted_contexts(), 0);
        ways_free();
    }
}
END_TEST

/* After an error: all lanes say so, nothing is whole that is not, and once the device is closed
 * nothing moves in the slots. Returns how many operations the runtime did before that. */
static uint32_t end_badly(MaskDevice *device) {
    const MaskBackend *backend = mask_backend_cuda();
    uint32_t late = scripted_pass(draw(12));

    for (uint32_t w = 0; w < LANES; w++) {
        Error error = {0};

        if (ways[w].in_flight) {
            ck_assert_int_lt(backend->lane_poll(ways[w].lane, &error), 0);
            ck_assert_int_lt(backend->lane_wait(ways[w].lane, &error), 0);
        } else {
            way_prepare(&ways[w], 0);
            ck_assert_int_lt(backend->lane_start(ways[w].lane, &error), 0);
        }
        ck_assert_ptr_nonnull(strstr(error.text, "Test A"));
    }
    ck_assert_int_eq(backend->close(device), 0);
    for (uint32_t w = 0; w < LANES; w++)
        memcpy(ways[w].before, ways[w].slot, ways[w].slot_bytes);
    ck_assert_uint_eq(scripted_pass(UINT32_MAX), 0);
    ck_assert_uint_eq(scripted_things(), 0);
    for (uint32_t w = 0; w < LANES; w++)
        ck_assert_int_eq(memcmp(ways[w].before, ways[w].slot, ways[w].slot_bytes), 0);
    return late;
}

/* The whole life with a failure at call `fail_at`. False: it did not come to that call. */
static bool live_with_failure(Script script, uint32_t fail_at, uint32_t *late) {
    const MaskBackend *backend = mask_backend_cuda();
    MaskDevice *device = NULL;
    Error error = {0};
    int r;

    script.fail_at = fail_at;
    scripted_begin(&script);
    r = backend->open("0", &device, &error);
    if (r < 0) {
        ck_assert(scripted_failed());
        ck_assert_uint_gt(strlen(error.text), 8);
        ck_assert_uint_eq(scripted_contexts(), 0);
        return true;
    }
    r = ways_open(device, script.seed, &error);
    if (r < 0) {
        ck_assert_int_eq(r, script.error == cudaErrorMemoryAllocation ? -ENOMEM : -EIO);
        ck_assert(scripted_failed());
        ck_assert_int_eq(backend->close(device), 0);
        ck_assert_uint_eq(scripted_things(), 0);
        ways_free();
        return true;
    }
    r = run_batches(FEW, &error);
    if (r < 0) {
        ck_assert_msg(scripted_failed(), "%s", error.text);
        *late += end_badly(device);
        ways_free();
        return true;
    }
    /* A call whose failure changes nothing may have failed. */
    if (draw(2))
        ways_free();
    ck_assert_int_eq(backend->close(device), 0);
    ck_assert_uint_eq(scripted_things(), 0);
    ways_free();
    return scripted_failed();
}

static void fail_everywhere(Script script) {
    uint32_t late = 0, call = 1;

    while (live_with_failure(script, call, &late))
        call++;
    ck_assert_uint_gt(call, 100);
    if (!script.stops_at_fail)
        ck_assert_uint_gt(late, 50);
}

START_TEST(no_failure_at_any_call_does_harm)
{
    Script script = plain(100);

    fail_everywhere(script);
    script.seed++;
    script.error = cudaErrorMemoryAllocation;
    fail_everywhere(script);
    script.seed++;
    script.error = cudaErrorIllegalAddress;
    script.is_sticky = true;
    fail_everywhere(script);
    script.seed++;
    script.error = cudaErrorDevicesUnavailable; /* fell off the bus */
    script.stops_at_fail = true;
    fail_everywhere(script);
}
END_TEST

START_TEST(a_lane_that_cannot_be_had_leaves_the_others_at_work)
{
    const MaskBackend *backend = mask_backend_cuda();
    Script script = plain(7);
    MaskDevice *device = NULL;
    MaskLane *more = NULL;
    Error error = {0};

    scripted_begin(&script);
    ck_assert_int_eq(backend->open(NULL, &device, &error), 0);
    ck_assert_int_eq(ways_open(device, 7, &error), 0);
    /* That slot is registered already. */
    ck_assert_int_eq(backend->lane_new(device, &ways[0].plan, ways[0].slot, ways[0].slot_bytes,
                                       ways[0].input_bytes, &more, &error),
                     -EIO);
    ck_assert_ptr_null(more);
    ck_assert_ptr_nonnull(strstr(error.text, "registering a slot"));
    ck_assert_uint_eq(scripted_things(), LANES * 7);
    ck_assert_int_eq(run_batches(BATCHES, &error), 0);
    ways_free();
    ck_assert_int_eq(backend->close(device), 0);
}
END_TEST

START_TEST(a_batch_that_hangs_is_busy_and_never_lands_after_the_close)
{
    const MaskBackend *backend = mask_backend_cuda();
    Script script = plain(8);
    MaskDevice *device = NULL;
    Error error = {0};

    scripted_begin(&script);
    ck_assert_int_eq(backend->open(NULL, &device, &error), 0);
    ck_assert_int_eq(ways_open(device, 8, &error), 0);
    for (uint32_t w = 0; w < LANES; w++) {
        way_prepare(&ways[w], 0);
        ck_assert_int_eq(backend->lane_start(ways[w].lane, &error), 0);
    }
    scripted_hang();
    for (uint32_t i = 0; i < 100; i++)
        ck_assert_int_eq(backend->lane_poll(ways[i % LANES].lane, &error), MASK_E_BUSY);
    ck_assert_int_eq(backend->close(device), 0);
    memset(ways[0].slot, 0x33, ways[0].slot_bytes);
    ck_assert_uint_eq(scripted_pass(UINT32_MAX), 0);
    for (uint32_t i = 0; i < ways[0].slot_bytes; i++)
        ck_assert_uint_eq(ways[0].slot[i], 0x33);
    ways_free();
}
END_TEST

START_TEST(a_context_that_does_not_end_is_told_and_not_used_again)
{
    const MaskBackend *backend = mask_backend_cuda();
    Script script = plain(9);
    MaskDevice *device = NULL;
    Error error = {0};

    /* A reset that first tells of an earlier error is asked again. */
    script.resets_refused = 1;
    scripted_begin(&script);
    ck_assert_int_eq(backend->open("1", &device, &error), 0);
    ck_assert_int_eq(backend->close(device), 0);
    ck_assert_uint_eq(scripted_contexts(), 0);
    script.resets_refused = 1000;
    scripted_begin(&script);
    ck_assert_int_eq(backend->open("1", &device, &error), 0);
    ck_assert_int_eq(ways_open(device, 9, &error), 0);
    ck_assert_int_lt(backend->close(device), 0);
    ways_free();
    ck_assert_int_eq(backend->open("1", &device, &error), -EBUSY);
    ck_assert_int_eq(backend->open("0", &device, &error), 0);
    ck_assert_int_lt(backend->close(device), 0);
}
END_TEST

START_TEST(a_gpu_is_open_once_at_a_time)
{
    const MaskBackend *backend = mask_backend_cuda();
    Script script = plain(10);
    MaskDevice *first = NULL, *second = NULL, *other = NULL;
    Error error = {0};

    scripted_begin(&script);
    ck_assert_int_eq(backend->open(NULL, &first, &error), 0);
    ck_assert_int_eq(backend->open("0", &second, &error), -EBUSY);
    ck_assert_str_eq(error.text, "Test A (GPU 0) is open already");
    ck_assert_int_eq(backend->open("GPU-b1b1b1b1-b1b1-b1b1-b1b1-b1b1b1b1b1b1", &other, &error), 0);
    ck_assert_uint_eq(scripted_contexts(), 2);
    ck_assert_int_eq(backend->close(first), 0);
    ck_assert_uint_eq(scripted_contexts(), 1);
    ck_assert_int_eq(backend->open("0", &second, &error), 0);
    ck_assert_int_eq(backend->close(other), 0);
    ck_assert_int_eq(backend->close(second), 0);
}
END_TEST

/* A device that cannot be opened does not take another one with it, which its thread may have as
 * its current one without having asked. */
START_TEST(a_gpu_that_cannot_be_opened_leaves_the_others_alone)
{
    const MaskBackend *backend = mask_backend_cuda();
    bool is_open = false;

    for (uint32_t call = 1; !is_open; call++) {
        MaskDevice *device = NULL, *other = NULL;
        Script script = plain(13);
        Error error = {0};

        scripted_begin(&script);
        ck_assert_int_eq(backend->open("0", &device, &error), 0);
        ck_assert_int_eq(ways_open(device, 13, &error), 0);
        ck_assert_uint_lt(call, 100);
        ck_assert_int_eq(cudaSetDevice(0), cudaSuccess);
        scripted_fail_after(call);
        is_open = backend->open("1", &other, &error) == 0;
        scripted_fail_after(UINT32_MAX / 2);
        ck_assert_int_eq(run_batches(BATCHES, &error), 0);
        ck_assert_uint_eq(scripted_contexts(), 1 + is_open);
        ways_free();
        if (is_open)
            ck_assert_int_eq(backend->close(other), 0);
        ck_assert_int_eq(backend->close(device), 0);
        ck_assert_uint_eq(scripted_contexts(), 0);
    }
}
END_TEST

static void *run_elsewhere(void *argument) {
    ck_assert_int_eq(run_batches(BATCHES, argument), 0);
    return NULL;
}

static void *wait_elsewhere(void *argument) {
    for (uint32_t w = 0; w < LANES; w++) {
        int r = mask_backend_cuda()->lane_poll(ways[w].lane, argument);

        ck_assert_int_ge(r, 0);
        ck_assert_int_eq(mask_backend_cuda()->lane_wait(ways[w].lane, argument), 0);
        check_slot(&ways[w], "a batch that another thread waited for");
    }
    return NULL;
}

START_TEST(any_thread_may_start_and_poll)
{
    const MaskBackend *backend = mask_backend_cuda();
    Script script = plain(11);
    MaskDevice *device = NULL;
    Error error = {0};
    pthread_t thread;

    scripted_begin(&script);
    ck_assert_int_eq(backend->open("1", &device, &error), 0);
    ck_assert_int_eq(ways_open(device, 11, &error), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, run_elsewhere, &error), 0);
    pthread_join(thread, NULL);
    for (uint32_t w = 0; w < LANES; w++) {
        way_prepare(&ways[w], 0);
        ck_assert_int_eq(backend->lane_start(ways[w].lane, &error), 0);
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_elsewhere, &error), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(scripted_contexts(), 1); /* none on a GPU that nobody asked for */
    ways_free();
    ck_assert_int_eq(backend->close(device), 0);
    ck_assert_uint_eq(scripted_things(), 0);
}
END_TEST

static void expect(Script script, const char *device, int want, const char *words) {
    char reason[MASK_REASON_BYTES] = "";
    int r;

    scripted_begin(&script);
    r = mask_backend_cuda()->find(device, reason);
    ck_assert_msg(r == want, "%d: %s", r, reason);
    ck_assert_str_eq(reason, words);
    ck_assert_uint_eq(scripted_contexts(), 0);
    ck_assert_int_eq(cudaGetLastError(), cudaSuccess);
}

START_TEST(what_is_found_is_said_in_words)
{
    Script script = plain(12);

    expect(script, NULL, 0, "Test A (GPU 0), GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0");
    expect(script, "1", 0, "Test B (GPU 1), GPU-b1b1b1b1-b1b1-b1b1-b1b1-b1b1b1b1b1b1");
    expect(script, "gpu-B1b1b1b1-b1b1-b1b1-b1b1-b1b1b1b1b1b1", 0,
           "Test B (GPU 1), GPU-b1b1b1b1-b1b1-b1b1-b1b1-b1b1b1b1b1b1");
    expect(script, "2", -ENODEV, "there is no GPU 2, only 2");
    expect(script, "99999999999999999999", -ENODEV, "there is no GPU 99999999999999999999, only 2");
    expect(script, "GPU-0", -ENODEV, "there is no GPU GPU-0");
    script.devices[0].mode = cudaComputeModeExclusiveProcess;
    script.devices[1].mode = cudaComputeModeExclusiveProcess;
    expect(script, NULL, -ENODEV,
           "Test A (GPU 0) lets one process in: name it with device to take it");
    expect(script, "0", 0, "Test A (GPU 0), GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0");
    expect(script, "GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", 0,
           "Test A (GPU 0), GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0");
    script.devices[1].mode = cudaComputeModeDefault;
    script.devices[0].mode = cudaComputeModeProhibited;
    expect(script, NULL, 0, "Test B (GPU 1), GPU-b1b1b1b1-b1b1-b1b1-b1b1-b1b1b1b1b1b1");
    expect(script, "0", -ENODEV, "Test A (GPU 0): its compute mode forbids contexts");
    script.devices[1].major = 7;
    expect(script, "1", -ENODEV, "Test B (GPU 1) has compute capability 7.0, this build needs 7.5");
    expect(script, NULL, -ENODEV, "Test A (GPU 0): its compute mode forbids contexts");
    script.devices[1] = (ScriptedDevice){.name = "Test B", .major = 9, .cannot_register = true};
    expect(script, "1", -ENODEV, "Test B (GPU 1) cannot register memory");
    script.count_error = cudaErrorNoDevice;
    expect(script, NULL, -ENODEV, "no GPU");
    script.count_error = cudaErrorInsufficientDriver;
    script.driver = 12040;
    expect(script, NULL, -ENODEV,
           "the NVIDIA driver is too old: it knows CUDA 12.4, this build needs 13.0");
    script.driver = 0;
    expect(script, NULL, -ENODEV, "no NVIDIA driver");
    script.count_error = cudaErrorUnknown;
    expect(script, NULL, -ENODEV, "scripted error (cudaErrorScripted)");
    script = plain(12);
    script.device_count = 0;
    expect(script, NULL, -ENODEV, "no GPU");
    for (script = plain(12), script.fail_at = 1; script.fail_at < 5; script.fail_at++) {
        char reason[MASK_REASON_BYTES] = "";

        scripted_begin(&script);
        (void)mask_backend_cuda()->find("0", reason);
        ck_assert_uint_gt(strlen(reason), 8);
    }
}
END_TEST

CHECK_MAIN("mask_cuda", every_batch_is_whole_when_it_is_done, no_failure_at_any_call_does_harm,
           a_lane_that_cannot_be_had_leaves_the_others_at_work,
           a_batch_that_hangs_is_busy_and_never_lands_after_the_close,
           a_context_that_does_not_end_is_told_and_not_used_again, a_gpu_is_open_once_at_a_time,
           a_gpu_that_cannot_be_opened_leaves_the_others_alone, any_thread_may_start_and_poll,
           what_is_found_is_said_in_words)
