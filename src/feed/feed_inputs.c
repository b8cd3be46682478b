/* SPDX-License-Identifier: MIT */
/* What a device takes beside each slot. It is in a file of its own because tools that drive no
 * device ask too. */
#include <errno.h>
#include <stdlib.h>

#include "base/arithmetic.h"
#include "feed/feed.h"
#include "mask/cell_pack.h"

/* Room for a batch's lists: so many numbers of a column for each row, and one more for each
 * sixteenth place. A batch with more is written by the CPU. */
enum { LIST_VALUES = 64, LIST_PLACES = 16 };

int feed_bound_input(const Feed *feed, uint64_t *ret_bytes) {
    const TensorSet *set = &feed->tensors;
    uint64_t places = set->places_max ? set->places_max : (uint64_t)set->rows_max * set->length_max;
    const CellExtent extent = {.rows = set->rows_max,
                               .sequences = set->packed ? set->sequences_max : set->rows_max,
                               .tokens = places,
                               .list_entries = (uint64_t)set->rows_max * LIST_VALUES +
                                               places / LIST_PLACES};
    CellPlan *plan = malloc(sizeof *plan);
    int r;

    if (!plan)
        return -ENOMEM;
    r = places > UINT32_MAX ? -E2BIG : cell_plan_make(set, plan);
    if (r == 0)
        *ret_bytes = align_up(cell_pack_bytes(set, plan, &extent), SEQFEED_PAGE);
    free(plan);
    return r;
}
