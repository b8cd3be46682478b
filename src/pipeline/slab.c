/* SPDX-License-Identifier: MIT */
#include "pipeline/slab.h"

#include <stdlib.h>

#include "base/memory.h"

Slab *slab_new(size_t size, bool huge) {
    Slab *slab = calloc(1, sizeof *slab);

    if (!slab)
        return NULL;
    slab->memory = huge ? memory_map_many(size) : memory_map(size);
    if (!slab->memory) {
        free(slab);
        return NULL;
    }
    slab->size = size;
    atomic_init(&slab->holders, 1);
    return slab;
}

void slab_unref(Slab *slab) {
    if (!slab || atomic_fetch_sub(&slab->holders, 1) != 1)
        return;
    memory_unmap(slab->memory, slab->size);
    free(slab);
}

bool slab_take(Slab *slab, size_t size, SlabPiece *ret_piece) {
    if (size > slab->size - slab->taken)
        return false;
    *ret_piece = (SlabPiece){.slab = slab, .memory = slab->memory + slab->taken, .size = size};
    slab->taken += size;
    atomic_fetch_add(&slab->holders, 1);
    return true;
}

bool slab_take_whole(size_t size, SlabPiece *ret_piece) {
    Slab *slab = slab_new(size, false);
    bool taken = slab && slab_take(slab, size, ret_piece);

    slab_unref(slab);
    return taken;
}

/* Pages first: as long as we hold the slab, its addresses cannot become somebody else's. */
void slab_give(const SlabPiece *piece) {
    if (atomic_load(&piece->slab->holders) > 1)
        memory_discard(piece->memory, piece->size);
    slab_unref(piece->slab);
}
