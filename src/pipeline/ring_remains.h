/* SPDX-License-Identifier: MIT */
/* ring_remains.h: rings that have no stream any more and that somebody else still has: a trainer
 * with a batch in hand, or its child. Nobody can take the memory away from them, so it stays
 * reserved until the kernel has it back. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "ring/ring_writer.h"

typedef struct RingRemains RingRemains;

/* NULL: no memory. */
RingRemains *ring_remains_new(MemoryBudget *budget);
void ring_remains_free(RingRemains *remains); /* accepts NULL */
/* Does the kernel tell when the last one lets go of a ring? Else memory is returned at once. */
bool ring_remains_are_seen(const RingRemains *remains);

/* Destroy the writer. The memory of its ring passes from the caller's reservation to the remains,
 * which return it to the budget now or later. */
void ring_remains_bury(RingRemains *remains, RingWriter *writer);
/* Return the memory of rings that nobody has any more. */
void ring_remains_collect(RingRemains *remains);
/* Bytes that are reserved for what others have, as of the last look. */
uint64_t ring_remains_bytes(RingRemains *remains);
