/* SPDX-License-Identifier: MIT */
/* Steps 4 and 5 for policy fixed: one window's sequences become units. What a sequence becomes is
 * decided in one place, plan_cut(), by which counting and making must agree. */
#include "plan/plan.h"

#include <errno.h>

#include "plan/plan_cut.h"
#include "plan/plan_draws.h"

/* Fills units as far as there is room; false when there is not. */
typedef struct Filling {
    PlanUnit *units;
    uint64_t count, room;
} Filling;

static bool add_pieces(Filling *filling, PlanUnit unit, PlanCut cut, uint32_t length_max) {
    if (cut.pieces > filling->room - filling->count)
        return false;
    unit.start += cut.skip;
    for (uint32_t piece = 0; piece < cut.pieces; piece++) {
        unit.length = MIN(cut.length, length_max);
        filling->units[filling->count++] = unit;
        unit.start += unit.length;
        cut.length -= unit.length;
    }
    return true;
}

static int add_block(const PlanSpec *spec, uint32_t block, const uint32_t *lengths, uint32_t count,
                     Filling *filling) {
    uint64_t start = 0;

    for (uint32_t i = 0; i < count; i++) {
        PlanUnit unit = {.block = block, .sequence = i, .start = (uint32_t)start};

        start += lengths[i];
        if (start > UINT32_MAX)
            return -EBADMSG;
        if (lengths[i] > spec->length_max && spec->overflow == PLAN_OVERFLOW_ERROR)
            return -EBADMSG;
        if (!add_pieces(filling, unit, plan_cut(spec, lengths[i]), spec->length_max))
            return -EBADMSG;
    }
    return 0;
}

int plan_window_units_make(const PlanSpec *spec, const PlanEpoch *epoch, uint32_t strand,
                           uint32_t window, const uint32_t *lengths,
                           const uint32_t *block_sequences, PlanUnit *ret_units) {
    const PlanStrand *of = &epoch->strands[strand];
    const PlanDraws draws = {.seed = spec->seed,
                             .epoch = epoch->epoch,
                             .purpose = PLAN_PURPOSE_SEQUENCES,
                             .strand = strand,
                             .window = window};
    Filling filling = {.units = ret_units, .room = plan_window_units(of, window)};

    assert(epoch->counted);
    assert(filling.room <= UINT32_MAX);

    for (uint32_t block = 0; block < of->windows[window].block_count; block++) {
        int r = add_block(spec, block, lengths, block_sequences[block], &filling);

        if (r < 0)
            return r;
        lengths += block_sequences[block];
    }
    if (filling.count != filling.room)
        return -EBADMSG;
    if (spec->shuffle)
        plan_shuffle_units(&draws, ret_units, (uint32_t)filling.count);
    return 0;
}
