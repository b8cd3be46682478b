/* SPDX-License-Identifier: MIT */
/* stream_parts.h: the parts of a stream's step, each in a file of its own. Only the baton holder
 * calls them; the order is stream_step.c's. */
#pragma once

#include "pipeline/stream.h"

/* What a step has given to workers, so that they are woken once. */
typedef struct Pushed {
    uint32_t urgent, ahead;
} Pushed;

/* stream_step.c */
void stream_push(Stream *stream, Task *task, bool urgent, Pushed *pushed);
void stream_fail_for_memory(Stream *stream, const char *what);

/* stream_windows.c: epochs are counted, windows opened, planned, read, decoded and closed. */
void stream_adopt_epoch(Stream *stream);
/* No further epoch is wanted. */
void stream_stop_counting(Stream *stream);
void stream_close_windows(Stream *stream);
void stream_open_windows(Stream *stream);
/* True: a window has become ready without anything under way (from the cache): claim again. */
bool stream_advance_windows(Stream *stream, Pushed *pushed);

/* stream_claims.c: batches are shaped, their slots claimed, their pieces given to workers. */
void stream_claim_all(Stream *stream, Pushed *pushed);
void stream_issue_pieces(Stream *stream, StreamRing *ring, Pushed *pushed);
