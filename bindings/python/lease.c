/* SPDX-License-Identifier: MIT */
#include "lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

Attachment *attachment_new(Seqfeed *feed) {
    Attachment *attachment = malloc(sizeof *attachment);

    if (!attachment)
        return NULL;
    attachment->feed = feed;
    attachment->references = 1;
    return attachment;
}

Attachment *attachment_ref(Attachment *attachment) {
    __atomic_add_fetch(&attachment->references, 1, __ATOMIC_RELAXED);
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
    *lease = (Lease){.attachment = attachment_ref(attachment), .batch = *batch, .references = 1};
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
    pool_chunk_unref(lease->chunk);
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
    if (lease->attachment) /* a forked child has no say */
        (void)seqfeed_release(lease->attachment->feed, &lease->batch);
}

/* ---- copies ---- */

/* Damage could make the elements overlap, and then there would be more of them than bytes. */
static int tensor_measure(const SeqfeedTensor *tensor, size_t *ret_size) {
    uint64_t size = seqfeed_dtype_bytes(tensor->dtype);

    for (uint32_t i = 0; i < tensor->ndim; i++)
        if (__builtin_mul_overflow(size, (uint64_t)tensor->shape[i], &size))
            return -EPROTO;
    if (size > tensor->size_bytes)
        return -EPROTO;
    *ret_size = (size_t)size;
    return 0;
}

static size_t tensor_room(size_t size) {
    return (size + SEQFEED_TENSOR_ALIGN - 1) / SEQFEED_TENSOR_ALIGN * SEQFEED_TENSOR_ALIGN;
}

int lease_measure(const Lease *lease, size_t *ret_size) {
    size_t total = 0, size = 0;

    for (uint32_t i = 0; i < lease->batch.private_tensor_count; i++) {
        SeqfeedTensor tensor;
        int r = seqfeed_tensor_at(&lease->batch, i, &tensor);

        if (r == 0)
            r = tensor_measure(&tensor, &size);
        if (r < 0 || __builtin_add_overflow(total, tensor_room(size), &total))
            return r < 0 ? r : -EPROTO;
    }
    *ret_size = total;
    return 0;
}

static bool tensor_is_dense(const SeqfeedTensor *tensor) {
    int64_t step = 1;

    for (uint32_t i = tensor->ndim; i-- > 0;) {
        if (tensor->shape[i] != 1 && tensor->stride[i] != step)
            return false;
        step *= tensor->shape[i];
    }
    return true;
}

/* In elements from the start of the tensor, the run with this number; runs are what the first
 * `ndim` axes count. */
static int64_t tensor_place(const SeqfeedTensor *tensor, uint32_t ndim, int64_t number) {
    int64_t place = 0;

    for (uint32_t i = ndim; i-- > 0;) {
        place += number % tensor->shape[i] * tensor->stride[i];
        number /= tensor->shape[i];
    }
    return place;
}

void lease_copy_tensor(const SeqfeedTensor *from, char *to) {
    size_t item = seqfeed_dtype_bytes(from->dtype), size, run = item;
    uint32_t outer = from->ndim;

    if (tensor_measure(from, &size) < 0 || size == 0)
        return;
    if (tensor_is_dense(from)) {
        memcpy(to, from->data, size);
        return;
    }
    if (from->stride[outer - 1] == 1) /* whole rows, as in all that daemons make */
        run *= (size_t)from->shape[--outer];
    for (size_t number = 0; number < size / run; number++)
        memcpy(to + number * run,
               (const char *)from->data + (size_t)tensor_place(from, outer, (int64_t)number) * item,
               run);
}

/* The tensors of a copy are described as those of a slot are, in memory of its own. */
static int copy_tensor(const SeqfeedTensor *from, PoolChunk *chunk, size_t *offset,
                       SeqfeedTensorRecord *ret_record) {
    int64_t step = 1;
    size_t size;
    int r = tensor_measure(from, &size);

    if (r < 0 || *offset > chunk->size || size > chunk->size - *offset)
        return -EPROTO;
    lease_copy_tensor(from, (char *)chunk->bytes + *offset);
    *ret_record = (SeqfeedTensorRecord){.dtype = from->dtype,
                                        .ndim = from->ndim,
                                        .polarity = from->polarity,
                                        .side = from->side,
                                        .fill = from->fill,
                                        .ignore = from->ignore,
                                        .offset = *offset,
                                        .size_bytes = size};
    memcpy(ret_record->name, from->name, sizeof ret_record->name - 1);
    for (uint32_t i = from->ndim; i-- > 0; step *= from->shape[i]) {
        ret_record->shape[i] = from->shape[i];
        ret_record->stride[i] = step;
    }
    *offset += tensor_room(size);
    return 0;
}

int lease_copy(const Lease *lease, PoolChunk *chunk, Lease **ret_copy) {
    Lease *copy = malloc(sizeof *copy + sizeof copy->description[0]);
    size_t offset = 0;
    int r;

    if (!copy)
        return -ENOMEM;
    *copy = (Lease){.batch = lease->batch, .references = 1, .has_ledger = true};
    memcpy(copy->description, lease->batch.private_descriptor,
           offsetof(SeqfeedDescriptor, tensors));
    r = seqfeed_ledger(&lease->batch, &copy->ledger);
    for (uint32_t i = 0; r == 0 && i < lease->batch.private_tensor_count; i++) {
        SeqfeedTensor tensor;

        r = seqfeed_tensor_at(&lease->batch, i, &tensor);
        if (r == 0)
            r = copy_tensor(&tensor, chunk, &offset, &copy->description->tensors[i]);
    }
    if (r < 0) {
        free(copy);
        return r;
    }
    copy->batch.private_descriptor = copy->description;
    copy->batch.private_slot = chunk->bytes;
    copy->batch.private_slot_bytes = chunk->size;
    copy->chunk = pool_chunk_ref(chunk);
    *ret_copy = copy;
    return 0;
}

Lease *lease_facts(const Lease *lease) {
    Lease *facts = malloc(sizeof *facts);

    if (!facts)
        return NULL;
    *facts = (Lease){.batch = lease->batch,
                     .references = 1,
                     .released = true,
                     .has_ledger = true,
                     .ledger = lease->ledger};
    facts->batch.private_slot = NULL;
    facts->batch.private_descriptor = NULL;
    facts->batch.private_tensor_count = 0;
    if (!lease->has_ledger && seqfeed_ledger(&lease->batch, &facts->ledger) < 0)
        facts->has_ledger = false;
    return facts;
}
