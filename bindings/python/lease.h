/* SPDX-License-Identifier: MIT */
/* lease.h: who keeps a batch's slot, and through it the attachment. Plain counted structs that no
 * lock of Python's guards: a consumer of DLPack may give a tensor back from any thread, without the
 * interpreter, after the interpreter has ended, or in a forked child. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"
#include "seqfeed/seqfeed.h"

/* One attachment; left when the last batch and the last Python object have let go. */
typedef struct Attachment {
    Seqfeed *feed;
    uint32_t references;
} Attachment;

/* One batch in hand; its slot goes back when the last reference dies, or earlier. Or a copy of one,
 * which needs neither slot nor attachment: all functions of the client that look into a batch look
 * into a copy just so. */
typedef struct Lease {
    Attachment *attachment; /* NULL: a copy */
    PoolChunk *chunk;       /* where a copy's tensors are; NULL: in the slot, or nowhere any more */
    SeqfeedBatch batch;
    uint32_t references;
    uint32_t exports; /* views of its memory that others hold */
    bool released;    /* changed with the interpreter's lock held, or by the last owner */
    bool has_ledger;  /* `ledger` outlives the release */
    SeqfeedLedger ledger;
    SeqfeedDescriptor description[]; /* of a copy: one */
} Lease;

/* NULL: no memory, and `feed` is still the caller's. */
Attachment *attachment_new(Seqfeed *feed);
Attachment *attachment_ref(Attachment *attachment);
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

/* Bytes that the tensors take in a copy: contiguous, each from a multiple of 256 bytes on. 0 or
 * -EPROTO: their description is damaged. Any thread. */
int lease_measure(const Lease *lease, size_t *ret_size);

/* A copy whose tensors lie in `chunk`, which has at least the bytes that were measured; it gets a
 * reference. 0 or a negative errno. Any thread. */
int lease_copy(const Lease *lease, PoolChunk *chunk, Lease **ret_copy);

/* What the batch says of itself, without tensors. NULL: no memory. */
Lease *lease_facts(const Lease *lease);

/* One tensor's elements, one after the other. */
void lease_copy_tensor(const SeqfeedTensor *from, char *to);
