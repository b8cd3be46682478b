/* SPDX-License-Identifier: MIT */
/* mask_backend.h: a device that writes whole batches (cuda/). The pipeline packs a batch with
 * cell_pack() into a lane's input and starts the lane: one copy in, one kernel over mask_cell.h,
 * one copy out to the slot. Every byte of every tensor is then what fill.h would have written.
 *
 * A lane belongs to one slot and has one batch in flight at most. After any error a lane's slot may
 * still be written to until close() has returned; nothing else may use it before. */
#pragma once

#include <stdint.h>

#include "base/attributes.h"
#include "base/error.h"
#include "mask/mask_cell.h"

typedef struct MaskDevice MaskDevice; /* one GPU as this process uses it */
typedef struct MaskLane MaskLane;

enum { MASK_E_BUSY = 1, MASK_REASON_BYTES = 256 };

typedef struct MaskBackend {
    const char *name; /* "cuda" */
    /* Which device `device` names (an index or GPU-UUID; NULL: the first): 0 and what it is, or
     * -ENODEV and why there is none. Makes no context. Any thread. */
    int (*find)(const char *device, char ret_reason[MASK_REASON_BYTES]);
    /* Take it into use: makes the context, which takes long. -EBUSY: this process has it open. */
    int (*open)(const char *device, MaskDevice **ret_device, Error *error);
    /* Ends every lane's work, the hard way after an error, and the context. 0: no copy can land any
     * more. Negative: the driver did not let go, so the lanes' slots must stay mapped and unused.
     * May hang for as long as the driver does. Meanwhile no other call; lanes are freed before or
     * after, without work. */
    int (*close)(MaskDevice *device);
    /* A lane for the slot of `slot_bytes` at `slot`, which is registered with the device, with a
     * pinned input of `input_bytes`. Not on the data path. */
    int (*lane_new)(MaskDevice *device, const CellPlan *plan, void *slot, uint64_t slot_bytes,
                    uint64_t input_bytes, MaskLane **ret_lane, Error *error);
    /* Only when nothing is in flight or the device is closed. Accepts NULL. */
    void (*lane_free)(MaskLane *lane);
    /* Where cell_pack() puts the lane's next batch: `input_bytes`, aligned to 256. */
    void *(*lane_input)(MaskLane *lane);
    /* Start writing that batch. Does not block. 0 or negative: the device is lost. */
    int (*lane_start)(MaskLane *lane, Error *error);
    /* 0: the slot is complete and visible to every thread; MASK_E_BUSY; negative: the device is
     * lost. Any one thread at a time. */
    int (*lane_poll)(MaskLane *lane, Error *error);
    /* The same, but sleeps until the lane is done. */
    int (*lane_wait)(MaskLane *lane, Error *error);
} MaskBackend;

/* The backend that this build has, or NULL. */
const MaskBackend *mask_backend_cuda(void);
