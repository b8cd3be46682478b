/* SPDX-License-Identifier: MIT */
/* slate.h: what a slot still holds of its last batch, so that zeros which are there already need
 * not be written again. Of a padded batch four fifths are often padding; most of that was padding
 * in the batch before as well, even though its rows lay elsewhere.
 *
 * A Slate belongs to one slot and is used by one thread at a time. A fresh slot is all zero. */
#pragma once

#include <stdint.h>

#include "mask/tensor.h"

/* Bytes first .. end of the slot that may be other than zero. */
typedef struct SlateRun {
    uint64_t first, end;
} SlateRun;

typedef struct Slate {
    SlateRun *runs, *spare; /* [capacity] each; runs ascending, apart from each other */
    uint32_t count, capacity;
} Slate;

/* The memory that slate_init() takes for this set. */
uint64_t slate_bytes(const TensorSet *set);
MUST_CHECK int slate_init(Slate *slate, const TensorSet *set); /* 0 or -ENOMEM */
void slate_deinit(Slate *slate);                               /* accepts a zeroed one */

/* The tensors (bit t: tensor t) whose padding is all zero bits and lies in long runs: what a slate
 * can keep clean. For TensorLayout.zeroed. */
uint32_t slate_tensors(const TensorSet *set);

/* Somebody else has written to the first `bytes` of the slot. */
void slate_spoil(Slate *slate, uint64_t bytes);

/* Make the padding of the tensors in layout->zeroed zero for a batch of `rows` x `length` whose
 * rows have `lengths` real tokens (rows of last: pad: 0), by zeroing what the last batch left
 * there. Touches no byte that fill_rows() writes with this layout, so the two may run at the same
 * time. */
void slate_turn(Slate *slate, const TensorSet *set, const TensorLayout *layout, void *slot,
                uint32_t rows, uint32_t length, const uint32_t *lengths);
