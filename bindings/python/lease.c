/* SPDX-License-Identifier: MIT */
#include "lease.h"

#include <assert.h>
#include <stdlib.h>

Attachment *attachment_new(Seqfeed *feed) {
    Attachment *attachment = malloc(sizeof *attachment);

    if (!attachment)
        return NULL;
    attachment->feed = feed;
    attachment->references = 1;
    return attachment;
}

void attachment_unref(Attachment *attachment) {
    if (!attachment || __atomic_sub_fetch(&attachment->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    seqfeed_detach(attachment->feed);
    free(attachment);
}

Lease *lease_new(Attachment *attachment, const SeqfeedBatch *batch) {
    Lease *lease = malloc(sizeof *lease);

    if (!lease)
        return NULL;
    *lease = (Lease){.attachment = attachment, .batch = *batch, .references = 1};
    __atomic_add_fetch(&attachment->references, 1, __ATOMIC_RELAXED);
    return lease;
}

Lease *lease_ref(Lease *lease) {
    __atomic_add_fetch(&lease->references, 1, __ATOMIC_RELAXED);
    return lease;
}

void lease_unref(Lease *lease) {
    if (!lease || __atomic_sub_fetch(&lease->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    lease_release(lease);
    attachment_unref(lease->attachment);
    free(lease);
}

void lease_export(Lease *lease) {
    __atomic_add_fetch(&lease->exports, 1, __ATOMIC_RELAXED);
}

void lease_unexport(Lease *lease) {
    __atomic_sub_fetch(&lease->exports, 1, __ATOMIC_ACQ_REL);
}

uint32_t lease_exports(const Lease *lease) {
    return __atomic_load_n(&lease->exports, __ATOMIC_ACQUIRE);
}

void lease_release(Lease *lease) {
    assert(lease_exports(lease) == 0);
    if (lease->released)
        return;
    lease->released = true;
    (void)seqfeed_release(lease->attachment->feed, &lease->batch); /* a forked child has no say */
}
