/* SPDX-License-Identifier: MIT */
/* A device is open until the first error; then it is closed and stays so. Between the two lies a
 * time in which copies may still land in slots, and all that is hard here comes from it:
 *
 *   OPENING ──> OPEN ──error──> LOST ──nobody inside──> close() ──> GONE
 *      └──────────────────────── refused ──────────────────────────> GONE
 *
 * Whoever starts a batch is counted while he is inside, and the flight is listed before he leaves,
 * so when the last has left in state LOST the list holds every slot that may still be written to.
 * They are handed back after close(), not before.
 *
 * The thread marks, under the lock, the time at which it goes into the device. When control sees
 * that it has been there for too long, a worker answers all who wait (the thread cannot): flights
 * are abandoned and lanes kept. The thread learns that under the lock when it comes back, and from
 * then on touches nothing that was taken from it. */
#include "pipeline/accelerator.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/clock.h"
#include "base/worker.h"

enum { NAME_BYTES = 256, WAIT_PATIENCE = 3 };

typedef enum AcceleratorState {
    STATE_OPENING,
    STATE_OPEN,
    STATE_LOST,
    STATE_GONE
} AcceleratorState;

struct Accelerator {
    AcceleratorOptions options;
    char name[NAME_BYTES], device_name[NAME_BYTES];
    const MaskBackend *backend;
    MaskDevice *device;
    Worker worker;
    Bell bell;
    _Atomic uint32_t state, users;
    _Atomic uint64_t kept_bytes;
    _Atomic bool abandoning;
    Task abandon;
    pthread_mutex_t lock;  /* of all below */
    int64_t call_since_ns; /* 0: not in the device */
    bool closing, hung;
    bool stuck; /* closed, but the driver did not let go */
    Flight *first_flight, *last_flight;
    LaneSet *to_make, *to_free, *graves;
    LaneSet *current; /* being made or freed */
    Error error;      /* written once, before state LOST or GONE */
    bool has_error;
};

/* ---- the thread's calls into the device ---- */

static void call_begin(Accelerator *accelerator, bool closing) {
    pthread_mutex_lock(&accelerator->lock);
    accelerator->closing = closing;
    accelerator->call_since_ns = clock_now_ns();
    pthread_mutex_unlock(&accelerator->lock);
}

/* False: it took so long that flights and lanes have been taken away meanwhile. */
static bool call_end(Accelerator *accelerator) {
    bool is_hung;

    pthread_mutex_lock(&accelerator->lock);
    accelerator->call_since_ns = 0;
    is_hung = accelerator->hung;
    pthread_mutex_unlock(&accelerator->lock);
    return !is_hung;
}

/* The first error is the one that is told. */
static void tell(Accelerator *accelerator, const char *what, const Error *error) {
    char sentence[sizeof accelerator->error.text];
    bool is_first;

    pthread_mutex_lock(&accelerator->lock);
    is_first = !accelerator->has_error;
    if (is_first)
        error_set(&accelerator->error, error->code, "%s: %.600s", what, error->text);
    accelerator->has_error = true;
    pthread_mutex_unlock(&accelerator->lock);
    if (!is_first)
        return;
    snprintf(sentence, sizeof sentence, "%.200s is %.700s; the processors write the batches now",
             accelerator->name, accelerator->error.text);
    accelerator->options.tell(accelerator->options.argument, sentence);
}

static void lose(Accelerator *accelerator, const Error *error) {
    uint32_t open = STATE_OPEN;

    tell(accelerator, "lost", error);
    (void)atomic_compare_exchange_strong(&accelerator->state, &open, STATE_LOST);
    bell_ring(&accelerator->bell, 1);
}

static int step_open(Accelerator *accelerator) {
    const char *device = accelerator->device_name[0] ? accelerator->device_name : NULL;
    Error error = {0};
    int r;

    pthread_mutex_lock(accelerator->options.open_lock);
    r = accelerator->backend->open(device, &accelerator->device, &error);
    pthread_mutex_unlock(accelerator->options.open_lock);
    if (r == 0) {
        atomic_store(&accelerator->state, STATE_OPEN);
        return 1;
    }
    tell(accelerator, "not usable", &error);
    atomic_store(&accelerator->state, STATE_GONE);
    return 1;
}

/* Flights and lanes stay with the device for ever when the driver does not let go of them. */
static bool close_device(Accelerator *accelerator) {
    int r;

    if (!accelerator->device)
        return true;
    call_begin(accelerator, true);
    r = accelerator->backend->close(accelerator->device);
    (void)call_end(accelerator);
    accelerator->device = NULL;
    pthread_mutex_lock(&accelerator->lock);
    accelerator->hung = false;
    accelerator->stuck = r < 0;
    pthread_mutex_unlock(&accelerator->lock);
    return r == 0;
}

/* ---- flights ---- */

static Flight *take_flights(Accelerator *accelerator) {
    Flight *first;

    pthread_mutex_lock(&accelerator->lock);
    first = accelerator->first_flight;
    accelerator->first_flight = accelerator->last_flight = NULL;
    pthread_mutex_unlock(&accelerator->lock);
    return first;
}

static void land_all(Accelerator *accelerator, FlightEnd end) {
    for (Flight *flight = take_flights(accelerator), *next; flight; flight = next) {
        next = flight->next;
        flight->landed(flight, end);
    }
}

static void take_flight(Accelerator *accelerator, const Flight *flight) {
    Flight **link, *before = NULL;

    pthread_mutex_lock(&accelerator->lock);
    for (link = &accelerator->first_flight; *link != flight; link = &(*link)->next)
        before = *link;
    *link = flight->next;
    if (accelerator->last_flight == flight)
        accelerator->last_flight = before;
    pthread_mutex_unlock(&accelerator->lock);
}

/* The oldest flight, or the one after `flight`, which the caller knows to be listed. */
static Flight *flight_after(Accelerator *accelerator, const Flight *flight) {
    Flight *found;

    pthread_mutex_lock(&accelerator->lock);
    found = flight ? flight->next : accelerator->first_flight;
    pthread_mutex_unlock(&accelerator->lock);
    return found;
}

/* Ask the lane, or wait for it. 0: the flight has landed; MASK_E_BUSY; negative: the device is
 * lost, or the flight has been taken away. */
static int ask_flight(Accelerator *accelerator, Flight *flight, bool wait) {
    const MaskBackend *backend = accelerator->backend;
    MaskLane *lane = flight->lane; /* once in the device the flight may be taken away */
    Error error = {0};
    int r;

    call_begin(accelerator, false);
    r = wait ? backend->lane_wait(lane, &error) : backend->lane_poll(lane, &error);
    if (!call_end(accelerator))
        return -ETIMEDOUT;
    if (r < 0)
        lose(accelerator, &error);
    if (r == 0) {
        take_flight(accelerator, flight);
        flight->landed(flight, FLIGHT_COMPLETE);
    }
    return r;
}

/* All that are ready, in whatever order the device finishes them; else wait for the oldest. */
static int step_flights(Accelerator *accelerator, bool may_wait) {
    Flight *oldest = NULL, *next;
    int landed = 0;

    for (Flight *flight = flight_after(accelerator, NULL); flight; flight = next) {
        int r;

        next = flight_after(accelerator, flight);
        r = ask_flight(accelerator, flight, false);
        if (r < 0)
            return 1;
        landed += r == 0;
        if (r != 0 && !oldest)
            oldest = flight;
    }
    if (landed > 0 || !oldest || !may_wait)
        return landed;
    (void)ask_flight(accelerator, oldest, true);
    return 1;
}

/* ---- lanes ---- */

/* One more lane. False: there is nothing more to make. */
static bool make_lane(Accelerator *accelerator, LaneSet *set) {
    bool is_asked;
    int r;

    pthread_mutex_lock(&accelerator->lock);
    is_asked = set->release_asked;
    pthread_mutex_unlock(&accelerator->lock);
    if (is_asked || set->made == set->count)
        return false;
    if (atomic_load(&accelerator->state) != STATE_OPEN) {
        error_set(&set->error, -ENODEV, "%s", accelerator->error.text);
        return false;
    }
    call_begin(accelerator, false);
    r = accelerator->backend->lane_new(accelerator->device, &set->plan, set->slots[set->made],
                                       set->slot_bytes, set->input_bytes, &set->lanes[set->made],
                                       &set->error);
    if (!call_end(accelerator))
        r = error_set(&set->error, -ETIMEDOUT, "%s", accelerator->error.text);
    set->made += r == 0;
    return r == 0;
}

static void drop_lanes(Accelerator *accelerator, LaneSet *set) {
    call_begin(accelerator, false);
    lane_set_free_lanes(set, accelerator->backend);
    (void)call_end(accelerator);
}

/* The set that is being worked on, or the next one. */
static LaneSet *take_set(Accelerator *accelerator) {
    LaneSet *set;

    pthread_mutex_lock(&accelerator->lock);
    set = accelerator->current;
    if (!set && (set = lane_set_pop(&accelerator->to_make)))
        atomic_store(&set->stage, LANES_MAKING);
    if (!set)
        set = lane_set_pop(&accelerator->to_free);
    accelerator->current = set;
    pthread_mutex_unlock(&accelerator->lock);
    return set;
}

static void tell_refused(Accelerator *accelerator, const LaneSet *set) {
    char sentence[sizeof set->error.text];

    if (atomic_load(&accelerator->state) != STATE_OPEN)
        return; /* that it is lost has been told */
    snprintf(sentence, sizeof sentence, "a stream stays with the processors: %.700s",
             set->error.text);
    accelerator->options.tell(accelerator->options.argument, sentence);
}

/* Made or freed, unless it was taken away meanwhile. */
static void put_set(Accelerator *accelerator, LaneSet *set) {
    LaneStage stage;

    pthread_mutex_lock(&accelerator->lock);
    accelerator->current = NULL;
    stage = atomic_load(&set->stage);
    if (stage == LANES_MAKING && set->release_asked) {
        atomic_store(&set->stage, LANES_FREEING);
        lane_set_push(&accelerator->to_free, set);
    } else if (stage == LANES_MAKING) {
        if (set->made < set->count)
            tell_refused(accelerator, set);
        atomic_store(&set->stage, set->made == set->count ? LANES_READY : LANES_REFUSED);
    } else if (stage == LANES_FREEING) {
        atomic_store(&set->stage, LANES_FREED);
    }
    pthread_mutex_unlock(&accelerator->lock);
    if (stage == LANES_FREEING)
        set->released(set);
}

/* One lane at a time: batches in flight must not wait for a whole ring to be registered. */
static int step_sets(Accelerator *accelerator) {
    LaneSet *set = take_set(accelerator);
    bool making;

    if (!set)
        return 0;
    making = atomic_load(&set->stage) == LANES_MAKING;
    if (making && make_lane(accelerator, set))
        return 1;
    if (!making || set->made < set->count)
        drop_lanes(accelerator, set);
    put_set(accelerator, set);
    return 1;
}

/* The device is closed: nothing writes to kept memory any more, if all went well. */
static int step_graves(Accelerator *accelerator) {
    LaneSet *set;

    pthread_mutex_lock(&accelerator->lock);
    set = lane_set_pop(&accelerator->graves);
    pthread_mutex_unlock(&accelerator->lock);
    if (!set)
        return 0;
    lane_set_free_lanes(set, accelerator->backend);
    if (!accelerator->stuck) {
        for (uint32_t i = 0; i < set->memory_count; i++)
            memory_unmap(set->memories[i].memory, set->memories[i].bytes);
        memory_budget_release(accelerator->options.budget, set->kept_bytes);
        atomic_fetch_sub(&accelerator->kept_bytes, set->kept_bytes);
    }
    lane_set_unref(set);
    return 1;
}

/* ---- the step ---- */

/* Answer all who wait for the device, for it will not. */
static void abandon(Accelerator *accelerator) {
    LaneSet *kept, *current;

    pthread_mutex_lock(&accelerator->lock);
    current = accelerator->current;
    if (current && (current->release_asked || atomic_load(&current->stage) == LANES_FREEING))
        lane_set_push(&accelerator->to_free, current);
    kept = accelerator->to_free;
    accelerator->to_free = NULL;
    for (LaneSet *set = kept; set; set = set->next)
        atomic_store(&set->stage, LANES_KEPT);
    pthread_mutex_unlock(&accelerator->lock);
    land_all(accelerator, FLIGHT_ABANDONED);
    for (LaneSet *next; kept; kept = next) {
        next = kept->next;
        kept->released(kept);
    }
}

static int step_lost(Accelerator *accelerator) {
    bool is_closed;

    if (atomic_load(&accelerator->users) > 0)
        return 0; /* the last one to leave rings */
    is_closed = close_device(accelerator);
    atomic_store(&accelerator->state, STATE_GONE);
    if (is_closed)
        land_all(accelerator, FLIGHT_LOST);
    else
        abandon(accelerator);
    return 1;
}

int accelerator_step(Accelerator *accelerator, bool may_wait) {
    int done;

    switch (atomic_load(&accelerator->state)) {
    case STATE_OPENING:
        return step_open(accelerator);
    case STATE_OPEN:
        done = step_flights(accelerator, false);
        done += step_sets(accelerator);
        return done ? done : step_flights(accelerator, may_wait);
    case STATE_LOST:
        return step_lost(accelerator);
    default:
        done = step_sets(accelerator);
        return done ? done : step_graves(accelerator);
    }
}

static int thread_step(void *argument) {
    return accelerator_step(argument, true);
}

/* ---- workers ---- */

bool accelerator_enter(Accelerator *accelerator) {
    atomic_fetch_add(&accelerator->users, 1);
    if (atomic_load(&accelerator->state) == STATE_OPEN)
        return true;
    accelerator_leave(accelerator);
    return false;
}

void accelerator_leave(Accelerator *accelerator) {
    if (atomic_fetch_sub(&accelerator->users, 1) == 1 &&
        atomic_load(&accelerator->state) != STATE_OPEN)
        bell_ring(&accelerator->bell, 1);
}

/* Listed whatever the device says: its slot is a matter for close() from here on. A hung device
 * takes no more, but who was inside already may still come here. */
void accelerator_launch(Accelerator *accelerator, Flight *flight) {
    MaskLane *lane = flight->lane;
    bool is_hung;
    Error error = {0};
    int r;

    r = accelerator->backend->lane_start(lane, &error);
    if (r < 0)
        lose(accelerator, &error);
    flight->next = NULL;
    pthread_mutex_lock(&accelerator->lock);
    is_hung = accelerator->hung;
    if (!is_hung) {
        if (accelerator->last_flight)
            accelerator->last_flight->next = flight;
        else
            accelerator->first_flight = flight;
        accelerator->last_flight = flight;
    }
    pthread_mutex_unlock(&accelerator->lock);
    if (is_hung)
        flight->landed(flight, FLIGHT_ABANDONED);
    else
        bell_ring(&accelerator->bell, 1);
}

/* ---- streams ---- */

void accelerator_prepare(Accelerator *accelerator, LaneSet *set) {
    pthread_mutex_lock(&accelerator->lock);
    atomic_store(&set->stage, LANES_QUEUED);
    lane_set_push(&accelerator->to_make, set);
    pthread_mutex_unlock(&accelerator->lock);
    bell_ring(&accelerator->bell, 1);
}

void accelerator_release(Accelerator *accelerator, LaneSet *set) {
    bool is_over = false;

    pthread_mutex_lock(&accelerator->lock);
    if (lane_set_remove(&accelerator->to_make, set) || atomic_load(&set->stage) == LANES_REFUSED) {
        atomic_store(&set->stage, LANES_FREED);
        is_over = true;
    } else if (accelerator->hung || accelerator->stuck) {
        atomic_store(&set->stage, LANES_KEPT);
        is_over = true;
    } else if (atomic_load(&set->stage) == LANES_MAKING) {
        set->release_asked = true;
    } else {
        atomic_store(&set->stage, LANES_FREEING);
        lane_set_push(&accelerator->to_free, set);
    }
    pthread_mutex_unlock(&accelerator->lock);
    if (is_over)
        set->released(set);
    else
        bell_ring(&accelerator->bell, 1);
}

void accelerator_bury(Accelerator *accelerator, LaneSet *set) {
    lane_set_ref(set);
    atomic_fetch_add(&accelerator->kept_bytes, set->kept_bytes);
    pthread_mutex_lock(&accelerator->lock);
    lane_set_push(&accelerator->graves, set);
    pthread_mutex_unlock(&accelerator->lock);
    bell_ring(&accelerator->bell, 1);
}

bool accelerator_dispose(Accelerator *accelerator, LaneSet *set) {
    if (accelerator->stuck)
        atomic_store(&set->stage, LANES_KEPT);
    else
        lane_set_free_lanes(set, accelerator->backend);
    return !accelerator->stuck;
}

uint64_t accelerator_kept_bytes(const Accelerator *accelerator) {
    return atomic_load(&((Accelerator *)accelerator)->kept_bytes);
}

/* ---- a device that hangs ---- */

/* Worker task. */
static void abandon_run(Task *task, void *worker) {
    Accelerator *accelerator = CONTAINER_OF(task, Accelerator, abandon);

    atomic_store(&accelerator->abandoning, false);
    abandon(accelerator);
}

void accelerator_watch(Accelerator *accelerator, int64_t now_ns) {
    int64_t patience = accelerator->options.patience_ns;
    bool is_hung = false;
    Error error;

    pthread_mutex_lock(&accelerator->lock);
    if (!accelerator->closing)
        patience *= WAIT_PATIENCE;
    if (accelerator->call_since_ns && now_ns - accelerator->call_since_ns >= patience)
        is_hung = !accelerator->hung;
    accelerator->hung |= is_hung;
    pthread_mutex_unlock(&accelerator->lock);
    if (!is_hung)
        return;
    error_set(&error, -ETIMEDOUT, "the device does not answer");
    lose(accelerator, &error);
    if (!atomic_exchange(&accelerator->abandoning, true))
        accelerator->options.push(accelerator->options.argument, &accelerator->abandon);
}

/* ---- life ---- */

Accelerator *accelerator_new(const AcceleratorOptions *options) {
    Accelerator *accelerator = calloc(1, sizeof *accelerator);

    if (!accelerator)
        return NULL;
    accelerator->options = *options;
    accelerator->backend = options->backend;
    snprintf(accelerator->name, sizeof accelerator->name, "%s", options->name);
    snprintf(accelerator->device_name, sizeof accelerator->device_name, "%s",
             options->device ? options->device : "");
    accelerator->abandon.run = abandon_run;
    accelerator->worker = (Worker){.name = "seqfeed-device",
                                   .bell = &accelerator->bell,
                                   .step = thread_step,
                                   .argument = accelerator};
    pthread_mutex_init(&accelerator->lock, NULL);
    return accelerator;
}

int accelerator_start(Accelerator *accelerator) {
    return worker_start(&accelerator->worker);
}

void accelerator_stop(Accelerator *accelerator) {
    worker_stop(&accelerator->worker);
    (void)close_device(accelerator);
    atomic_store(&accelerator->state, STATE_GONE);
}

void accelerator_free(Accelerator *accelerator) {
    if (!accelerator)
        return;
    while (step_graves(accelerator))
        ;
    pthread_mutex_destroy(&accelerator->lock);
    free(accelerator);
}

bool accelerator_is(const Accelerator *accelerator, const char *name) {
    return strncmp(accelerator->name, name, sizeof accelerator->name - 1) == 0;
}

bool accelerator_is_open(const Accelerator *accelerator) {
    return atomic_load(&((Accelerator *)accelerator)->state) == STATE_OPEN;
}

const char *accelerator_reason(const Accelerator *accelerator) {
    switch (atomic_load(&((Accelerator *)accelerator)->state)) {
    case STATE_OPENING:
        return "the device is being opened";
    case STATE_OPEN:
        return accelerator->name;
    default:
        return accelerator->error.text;
    }
}
