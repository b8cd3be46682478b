/* SPDX-License-Identifier: MIT */
/* ahead.h: a thread that takes the next batch and copies it while the trainer works. It never takes
 * Python's lock and sleeps unless it was asked for something. One batch ahead, never more. */
#pragma once

#include <stdbool.h>

#include "lease.h"

typedef struct Ahead Ahead;

/* For this attachment, with a reference to it. The thread starts with the first request. NULL: no
 * memory. */
Ahead *ahead_new(Attachment *attachment);

/* Waits for a copy that is being made; what nobody has taken goes back. Accepts NULL.
 * In a forked child it only forgets. */
void ahead_free(Ahead *ahead);

/* Copy the next batch, as soon as there is one, into `chunk`, which gets a reference. The
 * attachment is the thread's from now on, until ahead_settle(). Never after an epoch's last batch:
 * the epoch's end is told to the trainer itself. If it cannot be done, as while what was made
 * before is not taken, nothing happens. */
void ahead_ask(Ahead *ahead, PoolChunk *chunk);

/* Take the attachment back, and the batch that is being copied, if one is. True, unless the thread
 * is just looking for a batch, or has just made its copy; then ahead_wait() waits for that moment.
 */
bool ahead_settle(Ahead *ahead);
void ahead_wait(Ahead *ahead);

/* Would ahead_take() give something now? Asks for nothing, changes nothing. */
bool ahead_is_ready(const Ahead *ahead);

/* After it was settled: take what was made, a copy, or a batch in its slot that did not fit into
 * the chunk. NULL: nothing was made. */
Lease *ahead_take(Ahead *ahead);
