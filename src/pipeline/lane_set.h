/* SPDX-License-Identifier: MIT */
/* lane_set.h: the lanes of all slots of one stream: made and freed by the thread of an accelerator,
 * used by workers once they are there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "mask/mask_backend.h"

typedef enum LaneStage {
    LANES_QUEUED, /* to be made */
    LANES_MAKING,
    LANES_READY,
    LANES_REFUSED, /* `error` says why */
    LANES_FREEING,
    LANES_FREED,
    LANES_KEPT /* the device hangs: what they write to has to stay */
} LaneStage;
typedef struct LaneSet LaneSet;
struct LaneSet {
    _Atomic uint32_t stage, references;
    CellPlan plan;
    void **slots; /* [count] */
    MaskLane **lanes;
    uint32_t count;
    uint64_t slot_bytes, input_bytes;
    Error error;
    void *owner; /* the caller's, as are all above but stage, lanes and error */
    /* After accelerator_release(): once, with the stage FREED or KEPT. On the accelerator's thread,
     * the caller's, or a worker. */
    void (*released)(LaneSet *set);
    /* What goes when a kept set can go: mappings, and their part of the budget. */
    struct LaneMemory {
        void *memory;
        uint64_t bytes;
    } * memories; /* malloc'ed */
    uint32_t memory_count;
    uint64_t kept_bytes;
    /* Private to the accelerator. */
    LaneSet *next;
    uint32_t made; /* lanes */
    bool release_asked;
};

/* `count` lanes; the caller fills in plan, slots, sizes and `released`. NULL: no memory. */
LaneSet *lane_set_new(uint32_t count);
void lane_set_ref(LaneSet *set);
void lane_set_unref(LaneSet *set); /* accepts NULL; its lanes are freed before the last one */

/* Free the lanes that are there. */
void lane_set_free_lanes(LaneSet *set, const MaskBackend *backend);

/* Lists of sets, first in, first out. */
void lane_set_push(LaneSet **list, LaneSet *set);
LaneSet *lane_set_pop(LaneSet **list);                    /* NULL: empty */
bool lane_set_remove(LaneSet **list, const LaneSet *set); /* false: it is not there */
