/* SPDX-License-Identifier: MIT */
/* heartbeat.h: how long work shows that it goes on, and learns that nobody wants the rest. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Heartbeat {
    _Atomic uint64_t *beats; /* what a watchdog looks at */
    const _Atomic bool *stop;
} Heartbeat;

/* One more bounded part is done; any thread. False: give up (-ECANCELED). NULL: nobody looks. */
MUST_CHECK static inline bool heartbeat_goes_on(const Heartbeat *heartbeat) {
    if (!heartbeat)
        return true;
    atomic_fetch_add_explicit(heartbeat->beats, 1, memory_order_relaxed);
    return !atomic_load_explicit((_Atomic bool *)heartbeat->stop, memory_order_relaxed);
}
