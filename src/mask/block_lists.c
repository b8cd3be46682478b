/* SPDX-License-Identifier: MIT */
/* Block after block of queries, and with them along the row's sequences; what a block sees says
 * block_rule.h. */
#include "mask/block_lists.h"

#include <assert.h>

#include "base/arithmetic.h"
#include "mask/block_rule.h"
#include "mask/row_view.h"

bool block_lists_knows(const TensorSpec *spec) {
    return spec->source == TENSOR_BLOCKS_COUNT || spec->source == TENSOR_BLOCKS ||
           spec->source == TENSOR_BLOCKS_FULL_COUNT || spec->source == TENSOR_BLOCKS_FULL;
}

/* The run of `query`; `walk` and `run` move on to its sequence. */
static BlockRun find_run(const BlockSight *sight, RowWalk *walk, RowRun *run, uint32_t query) {
    BlockRun seen;

    while (sight->segments && query >= run->last)
        (void)row_walk_next(walk, run);
    seen = block_run(sight, query, run->view.begin, run->view.begin + run->view.real);
    assert(seen.low < seen.high);
    return seen;
}

static BlockSeen find_seen(const BlockSight *sight, RowWalk *walk, RowRun *run, uint32_t block,
                           uint32_t number) {
    BlockQueries queries = block_queries(sight, block, number);
    BlockRun first, last;

    if (queries.first >= queries.last)
        return block_unseen();
    first = find_run(sight, walk, run, queries.first);
    last = find_run(sight, walk, run, queries.last - 1);
    return block_seen(&queries, block, first, last);
}

static int32_t *list_blocks(int32_t *to, uint32_t first, uint32_t end) {
    for (uint32_t block = first; block < end; block++)
        *to++ = (int32_t)block;
    return to;
}

/* All blocks: first those that are meant, then the others, as a stable sort puts them. */
static void list_all(const BlockSeen *seen, bool full, uint32_t blocks, int32_t *to) {
    if (full) {
        to = list_blocks(to, seen->full_low, seen->full_high);
        to = list_blocks(to, 0, seen->full_low);
        (void)list_blocks(to, seen->full_high, blocks);
        return;
    }
    to = list_blocks(to, seen->low, seen->full_low);
    to = list_blocks(to, seen->full_high, seen->high);
    to = list_blocks(to, 0, seen->low);
    to = list_blocks(to, seen->full_low, seen->full_high);
    (void)list_blocks(to, seen->high, blocks);
}

void block_lists_fill(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                      uint32_t count, uint32_t length, void *to) {
    uint32_t blocks = tensor_blocks(spec, length);
    bool full = spec->source == TENSOR_BLOCKS_FULL_COUNT || spec->source == TENSOR_BLOCKS_FULL;
    bool counts = spec->source == TENSOR_BLOCKS_COUNT || spec->source == TENSOR_BLOCKS_FULL_COUNT;
    RowWalk walk = row_walk(set, sources, count, length);
    BlockSight sight = block_sight(steps_of(set, spec), spec->step_count, length, walk.begin,
                                   walk.begin + row_tokens(sources, count));
    RowRun run = {0};

    for (uint32_t b = 0; b < blocks; b++) {
        BlockSeen seen = find_seen(&sight, &walk, &run, spec->block, b);

        if (counts)
            ((int32_t *)to)[b] = (int32_t)block_count(&seen, full);
        else
            list_all(&seen, full, blocks, (int32_t *)to + (size_t)b * blocks);
    }
}
