/* SPDX-License-Identifier: MIT */
/* accelerator.h: one device that writes batches, and the thread that waits for it. The thread opens
 * the device, makes and frees lanes, waits for the batches in flight, oldest first, and closes the
 * device after an error. Workers start batches; between accelerator_enter() and accelerator_leave()
 * the device is not closed under them.
 *
 * A call into the device that does not come back makes the accelerator *hung*: who waits for it is
 * answered, and memory that the device may still write to is kept until it does come back, or for
 * ever when the driver does not let go of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/task.h"
#include "mask/mask_backend.h"
#include "pipeline/lane_set.h"

typedef struct Accelerator Accelerator;

/* A batch on the device. Lies in its job. */
typedef enum FlightEnd {
    FLIGHT_COMPLETE,  /* every byte of the slot is there */
    FLIGHT_LOST,      /* the device is closed: fill the slot anew */
    FLIGHT_ABANDONED, /* the device hangs: the slot must never be used again */
} FlightEnd;
typedef struct Flight Flight;
struct Flight {
    Flight *next; /* private */
    MaskLane *lane;
    /* On the accelerator's thread, or, abandoned, on a worker. */
    void (*landed)(Flight *flight, FlightEnd end);
};

typedef struct AcceleratorOptions {
    const MaskBackend *backend;
    const char *device; /* for the backend; NULL: the first */
    const char *name;   /* for people, and what tells devices apart */
    MemoryBudget *budget;
    /* A line for the log, from any thread: the device is lost, or could not be opened (once), or a
     * stream gets no lanes. */
    void (*tell)(void *argument, const char *sentence);
    /* Push the task to some worker. */
    void (*push)(void *argument, Task *task);
    void *argument;
    pthread_mutex_t *open_lock; /* devices are opened one at a time */
    int64_t patience_ns;        /* for closing; other calls have three times as much */
} AcceleratorOptions;

/* NULL: no memory. */
Accelerator *accelerator_new(const AcceleratorOptions *options);
/* Run the thread; without it call accelerator_step(). 0 or negative errno. */
MUST_CHECK int accelerator_start(Accelerator *accelerator);
/* End the thread and close the device; waits for it however long that takes. Then lane sets may be
 * freed with accelerator_dispose(). */
void accelerator_stop(Accelerator *accelerator);
void accelerator_free(Accelerator *accelerator); /* after accelerator_stop(); accepts NULL */
/* One step. Without `may_wait` it only looks whether batches have landed. How much was done. */
int accelerator_step(Accelerator *accelerator, bool may_wait);

bool accelerator_is(const Accelerator *accelerator, const char *name);
/* Is it open, as far as anybody knows? */
bool accelerator_is_open(const Accelerator *accelerator);
/* "it is being opened", "lost: …": why not. */
const char *accelerator_reason(const Accelerator *accelerator);

/* Have the set's lanes made once the device is open. The set stays the caller's. */
void accelerator_prepare(Accelerator *accelerator, LaneSet *set);
/* Nothing of the set is in flight: free its lanes, or say that they have to stay. */
void accelerator_release(Accelerator *accelerator, LaneSet *set);
/* A kept set, of which it takes a reference, with its memories and their part of the budget. */
void accelerator_bury(Accelerator *accelerator, LaneSet *set);
/* Free the set's lanes here and now: after accelerator_stop(). False: it is kept. */
MUST_CHECK bool accelerator_dispose(Accelerator *accelerator, LaneSet *set);
/* Memory of buried sets. */
uint64_t accelerator_kept_bytes(const Accelerator *accelerator);

/* Workers. False: the device is not usable (any more). */
MUST_CHECK bool accelerator_enter(Accelerator *accelerator);
void accelerator_leave(Accelerator *accelerator);
/* Start the lane, between the two. Whatever comes of it, `landed` is called, maybe before this
 * returns. */
void accelerator_launch(Accelerator *accelerator, Flight *flight);

/* [control] Look whether the device hangs. */
void accelerator_watch(Accelerator *accelerator, int64_t now_ns);
