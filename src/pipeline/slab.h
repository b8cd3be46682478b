/* SPDX-License-Identifier: MIT */
/* slab.h: one mapping that decoded blocks lie in side by side.
 *
 * Blocks leave one by one and in any order. Were each unmapped by itself, what is left would be as
 * many mappings as there are blocks, and the kernel allows 65530 for a process; at that number
 * munmap() fails. So the pages of a piece go back at once, the mapping as a whole when nobody holds
 * a piece of it any more. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Slab {
    uint8_t *memory;
    size_t size, taken;
    _Atomic uint32_t holders; /* pieces, and who takes them */
    uint32_t cached;          /* pieces in the block cache; under its lock */
} Slab;

typedef struct SlabPiece {
    Slab *slab; /* NULL: no piece */
    uint8_t *memory;
    size_t size;
} SlabPiece;

/* `size` bytes, whole pages, on huge pages where `huge`. The caller is its first holder and the one
 * that takes pieces. NULL: no memory. */
Slab *slab_new(size_t size, bool huge);
void slab_unref(Slab *slab); /* accepts NULL */

/* The next `size` bytes, whole pages, which nobody has had before. False: not so many are left. */
MUST_CHECK bool slab_take(Slab *slab, size_t size, SlabPiece *ret_piece);
/* A piece that is a whole mapping. False: no memory. */
MUST_CHECK bool slab_take_whole(size_t size, SlabPiece *ret_piece);
/* Its pages go back to the kernel before this returns. Any thread. */
void slab_give(const SlabPiece *piece);
