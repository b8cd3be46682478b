/* SPDX-License-Identifier: MIT */
#include "pipeline/fake_device.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arithmetic.h"
#include "base/random.h"

enum { STEP_US = 20, LANES_MAX = 256 };

struct MaskLane {
    MaskDevice *device; /* NULL: closed */
    CellPlan plan;
    uint8_t *slot, *input;
    uint64_t slot_bytes, input_bytes;
    bool in_flight, is_done;
    uint32_t left; /* steps */
};

struct MaskDevice {
    bool is_lost, is_ending;
    pthread_t thread;
};

static struct {
    FakeScript script;
    FakeCounts counts;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool let_go, is_closing;
    uint32_t draws;
    MaskLane *lanes[LANES_MAX];
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void fake_device_reset(const FakeScript *script) {
    fake.script = *script;
    fake.counts = (FakeCounts){0};
    fake.let_go = fake.is_closing = false;
    fake.draws = 0;
    memset(fake.lanes, 0, sizeof fake.lanes);
}

static void enter(void) {
    pthread_mutex_lock(&fake.lock);
    if (fake.is_closing)
        ck_abort_msg("a call while the device is closed");
}

static void leave(void) {
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void fake_device_let_go(void) {
    pthread_mutex_lock(&fake.lock);
    fake.let_go = true;
    leave();
}

FakeCounts fake_device_counts(void) {
    FakeCounts counts;

    pthread_mutex_lock(&fake.lock);
    counts = fake.counts;
    pthread_mutex_unlock(&fake.lock);
    return counts;
}

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(fake.script.seed, fake.draws++, 0, 0, 0).word[0], bound);
}

static bool fails_now(void) {
    if (++fake.counts.calls != fake.script.fail_at)
        return false;
    fake.counts.failed = true;
    return true;
}

/* ---- bytes ---- */

static void spoil(MaskLane *lane, int byte) {
    const CellBatch *batch = (const void *)lane->input;

    for (uint32_t t = 0; t < lane->plan.tensor_count; t++)
        memset(lane->slot + batch->offset[t], byte, batch->size_bytes[t]);
}

static void compute(MaskLane *lane) {
    const CellBatch *batch = (const void *)lane->input;

    for (uint32_t t = 0; t < lane->plan.tensor_count; t++)
        for (uint64_t c = 0; c < cell_chunks(batch, t); c++) {
            uint32_t words[4];
            uint32_t bytes = mask_cell_chunk(&lane->plan, batch, t, c, words);
            memcpy(lane->slot + batch->offset[t] + c * CELL_CHUNK_BYTES, words, bytes);
        }
    lane->is_done = true;
    fake.counts.completed++;
}

static void scribble_all(void) {
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (fake.lanes[i] && fake.lanes[i]->in_flight)
            memset(fake.lanes[i]->slot, (int)draw(256), fake.lanes[i]->slot_bytes);
}

static int lose(MaskDevice *device, Error *error) {
    device->is_lost = true;
    fake.counts.was_lost = true;
    scribble_all();
    return error_set(error, -EIO, "the script says so");
}

/* ---- the device's own thread ---- */

static void *run(void *argument) {
    MaskDevice *device = argument;

    for (;;) {
        pthread_mutex_lock(&fake.lock);
        if (device->is_ending)
            break;
        if (device->is_lost)
            scribble_all();
        for (uint32_t i = 0; i < LANES_MAX && !device->is_lost; i++) {
            MaskLane *lane = fake.lanes[i];
            if (lane && lane->in_flight && !lane->is_done && lane->left-- == 0)
                compute(lane);
        }
        leave();
        usleep(STEP_US);
    }
    leave();
    return NULL;
}

/* ---- the backend ---- */

static int fake_find(const char *device, char ret_reason[MASK_REASON_BYTES]) {
    strcpy(ret_reason, "Fake GPU, device 0");
    return 0;
}

static int fake_open(const char *name, MaskDevice **ret_device, Error *error) {
    MaskDevice *device;

    pthread_mutex_lock(&fake.lock);
    fake.counts.opens++;
    if (fails_now()) {
        leave();
        return error_set(error, -EIO, "the script says so");
    }
    device = calloc(1, sizeof *device);
    ck_assert_ptr_nonnull(device);
    if (fake.script.threads && pthread_create(&device->thread, NULL, run, device) != 0)
        ck_abort_msg("no thread");
    leave();
    *ret_device = device;
    return 0;
}

static int fake_close(MaskDevice *device) {
    enter();
    fake.is_closing = true;
    fake.counts.closes++;
    while (fake.script.close_hangs && !fake.let_go)
        pthread_cond_wait(&fake.changed, &fake.lock);
    if (!device->is_lost) /* an orderly end waits for what is in flight */
        for (uint32_t i = 0; i < LANES_MAX; i++)
            if (fake.lanes[i] && fake.lanes[i]->in_flight && !fake.lanes[i]->is_done)
                compute(fake.lanes[i]);
    if (device->is_lost)
        scribble_all();
    device->is_ending = true;
    pthread_mutex_unlock(&fake.lock);
    if (fake.script.threads)
        pthread_join(device->thread, NULL);
    pthread_mutex_lock(&fake.lock);
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (fake.lanes[i]) {
            fake.lanes[i]->in_flight = false;
            fake.lanes[i]->device = NULL;
            free(fake.lanes[i]->input); /* pinned memory goes with the context */
            fake.lanes[i]->input = NULL;
        }
    fake.is_closing = false;
    leave();
    free(device);
    return fake.script.close_fails ? -EIO : 0;
}

static int fake_lane_new(MaskDevice *device, const CellPlan *plan, void *slot, uint64_t slot_bytes,
                         uint64_t input_bytes, MaskLane **ret_lane, Error *error) {
    MaskLane *lane = calloc(1, sizeof *lane);
    uint32_t i = 0;

    enter();
    if (fails_now()) {
        leave();
        free(lane);
        return error_set(error, -ENOMEM, "no pinned memory");
    }
    ck_assert_ptr_nonnull(lane);
    *lane = (MaskLane){.device = device,
                       .plan = *plan,
                       .slot = slot,
                       .slot_bytes = slot_bytes,
                       .input = aligned_alloc(256, align_up(input_bytes, 256)),
                       .input_bytes = input_bytes};
    while (fake.lanes[i])
        i++;
    fake.lanes[i] = lane;
    fake.counts.lanes_made++;
    leave();
    *ret_lane = lane;
    return 0;
}

static void fake_lane_free(MaskLane *lane) {
    if (!lane)
        return;
    enter();
    if (lane->in_flight)
        ck_abort_msg("a lane is freed with a batch in flight");
    for (uint32_t i = 0; i < LANES_MAX; i++)
        if (fake.lanes[i] == lane)
            fake.lanes[i] = NULL;
    fake.counts.lanes_freed++;
    leave();
    free(lane->input);
    free(lane);
}

static void *fake_lane_input(MaskLane *lane) {
    enter();
    if (lane->in_flight || !lane->device)
        ck_abort_msg("the input is asked for with a batch in flight");
    leave();
    return lane->input;
}

static int fake_lane_start(MaskLane *lane, Error *error) {
    const CellBatch *batch = (const void *)lane->input;
    int r = 0;

    enter();
    if (lane->in_flight || !lane->device || batch->bytes > lane->input_bytes)
        ck_abort_msg("a lane is started against the rules");
    fake.counts.starts++;
    lane->in_flight = true;
    lane->is_done = false;
    lane->left = draw(fake.script.slowness + 1);
    spoil(lane, 0xa5);
    if (lane->device->is_lost || fails_now())
        r = lose(lane->device, error);
    leave();
    return r;
}

/* Steps are taken by polls where no thread takes them. */
static int look(MaskLane *lane, bool wait, Error *error) {
    MaskDevice *device = lane->device;
    int r = MASK_E_BUSY;

    if (!device || !lane->in_flight)
        ck_abort_msg("a lane is asked that has nothing in flight");
    if (!device->is_lost && fails_now())
        return lose(device, error);
    while (wait && !lane->is_done && !device->is_lost)
        pthread_cond_wait(&fake.changed, &fake.lock);
    while (fake.script.wait_hangs && !fake.let_go)
        pthread_cond_wait(&fake.changed, &fake.lock);
    if (device->is_lost)
        return lose(device, error);
    if (!fake.script.threads && lane->left-- == 0)
        compute(lane);
    if (lane->is_done) {
        lane->in_flight = false;
        r = 0;
    }
    return r;
}

static int fake_lane_poll(MaskLane *lane, Error *error) {
    int r;

    enter();
    r = look(lane, false, error);
    leave();
    return r;
}

static int fake_lane_wait(MaskLane *lane, Error *error) {
    int r;

    enter();
    r = look(lane, true, error);
    leave();
    return r;
}

const MaskBackend fake_device = {
    .name = "fake",
    .find = fake_find,
    .open = fake_open,
    .close = fake_close,
    .lane_new = fake_lane_new,
    .lane_free = fake_lane_free,
    .lane_input = fake_lane_input,
    .lane_start = fake_lane_start,
    .lane_poll = fake_lane_poll,
    .lane_wait = fake_lane_wait,
};
