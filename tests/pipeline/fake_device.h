/* SPDX-License-Identifier: MIT */
/* fake_device.h: a device without a GPU. It writes real batches, from the packed block through
 * mask_cell.h, but as late, as disorderly and as badly as a script says, and it aborts the test
 * when it is used against the rules of mask_backend.h.
 *
 * Until a batch is complete its slot holds garbage. After an error garbage keeps landing in the
 * slots in flight until close() has returned. */
#pragma once

#include <stdint.h>

#include "mask/mask_backend.h"

typedef struct FakeScript {
    bool threads;      /* batches are finished by a thread; else each poll is a step */
    uint32_t slowness; /* polls, or units of 20 us, that a batch takes at most */
    uint32_t seed;
    uint32_t fail_at; /* this call, from 1 on, fails: open, lane_new, start, poll or wait */
    bool close_hangs; /* until fake_device_let_go() … */
    bool wait_hangs;  /* … and so with the first wait or poll of a batch */
    bool close_fails; /* the driver does not let go */
} FakeScript;

extern const MaskBackend fake_device;

void fake_device_reset(const FakeScript *script);
void fake_device_let_go(void);

/* How often something was called since the reset. */
typedef struct FakeCounts {
    uint32_t calls; /* those that may fail */
    uint32_t opens, closes, lanes_made, lanes_freed, starts, completed;
    bool failed;
    bool was_lost; /* an error that sticks */
} FakeCounts;
FakeCounts fake_device_counts(void);
