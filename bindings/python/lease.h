/* SPDX-License-Identifier: MIT */
/* lease.h: who keeps a batch's slot, and through it the attachment. Plain counted structs that no
 * lock of Python's guards: a consumer of DLPack may give a tensor back from any thread, without the
 * interpreter, after the interpreter has ended, or in a forked child. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "seqfeed/seqfeed.h"

/* One attachment; left when the last batch and the last Python object have let go. */
typedef struct Attachment {
    Seqfeed *feed;
    uint32_t references;
} Attachment;

/* One batch in hand; its slot goes back when the last reference dies, or earlier. */
typedef struct Lease {
    Attachment *attachment;
    SeqfeedBatch batch;
    uint32_t references;
    uint32_t exports; /* views of its memory that others hold */
    bool released;    /* changed with the interpreter's lock held, or by the last owner */
} Lease;

/* NULL: no memory, and `feed` is still the caller's. */
Attachment *attachment_new(Seqfeed *feed);
void attachment_unref(Attachment *attachment); /* accepts NULL */

/* A lease on `batch`, which was just taken. NULL: no memory, and the batch is still the caller's.
 */
Lease *lease_new(Attachment *attachment, const SeqfeedBatch *batch);
Lease *lease_ref(Lease *lease);
void lease_unref(Lease *lease); /* accepts NULL */

/* A view more, a view less. Who exports also holds a reference. */
void lease_export(Lease *lease);
void lease_unexport(Lease *lease);
uint32_t lease_exports(const Lease *lease);

/* Give the slot back now; there are no exports. Again is harmless. */
void lease_release(Lease *lease);
