/* SPDX-License-Identifier: MIT */
/* With nothing but segments, causal, window and lengths a query sees one run of places, and from
 * one query to the next both ends of that run only move on. So a block of queries is told by its
 * first and its last one: from where the first begins to see to where the last ends, it sees
 * something of every block of places (each query's run touches the next one's); and it sees a block
 * whole when the last query still sees its first place and the first query already sees its last.
 * No mask is worked out: the work is two look-ups a block of queries. */
#include "mask/block_lists.h"

#include <assert.h>

#include "base/arithmetic.h"
#include "mask/row_view.h"

/* The steps of the mask, and what of the row they need. */
typedef struct Sight {
    bool segments, causal, lengths;
    uint32_t window;      /* UINT32_MAX: none */
    uint32_t length;      /* of the row */
    uint32_t begin, end;  /* its real places */
    uint32_t first, last; /* queries that see anything: first .. last */
} Sight;

/* Blocks of places: some of low .. high, whole full_low .. full_high, within them. */
typedef struct Seen {
    uint32_t low, high, full_low, full_high;
} Seen;

typedef struct Run {
    uint32_t low, high;
} Run;

bool block_lists_knows(const TensorSpec *spec) {
    return spec->source == TENSOR_BLOCKS_COUNT || spec->source == TENSOR_BLOCKS ||
           spec->source == TENSOR_BLOCKS_FULL_COUNT || spec->source == TENSOR_BLOCKS_FULL;
}

static Sight sight_new(const TensorSet *set, const TensorSpec *spec, const RowWalk *row) {
    Sight sight = {.window = UINT32_MAX, .length = row->length, .begin = row->begin};

    sight.end = row->begin + row_tokens(row->sources, row->count);
    for (uint32_t s = 0; s < spec->step_count; s++) {
        const MaskStep *step = &steps_of(set, spec)[s];

        sight.segments |= step->op == MASK_SEGMENTS;
        sight.causal |= step->op == MASK_CAUSAL;
        sight.lengths |= step->op == MASK_LENGTHS;
        if (step->op == MASK_WINDOW)
            sight.window = MIN(sight.window, step->count);
    }
    if (sight.segments) {
        sight.first = sight.begin;
        sight.last = sight.end;
    } else if (!sight.lengths) {
        sight.last = row->length;
    } else if (sight.begin < sight.end) {
        sight.first = sight.causal ? sight.begin : 0;
        sight.last = (uint32_t)MIN((uint64_t)row->length, (uint64_t)sight.end + sight.window - 1);
    }
    return sight;
}

/* What `query` sees, which is something. `walk` and `run` move on to its sequence. */
static Run sight_run(const Sight *sight, RowWalk *walk, RowRun *run, uint32_t query) {
    Run seen = {query >= sight->window ? query - sight->window + 1 : 0,
                sight->causal ? query + 1 : sight->length};
    uint32_t begin = sight->begin, end = sight->end;

    while (sight->segments && query >= run->last)
        (void)row_walk_next(walk, run);
    if (sight->segments) {
        begin = run->view.begin;
        end = begin + run->view.real;
    }
    if (sight->segments || sight->lengths) {
        seen.low = MAX(seen.low, begin);
        seen.high = MIN(seen.high, end);
    }
    assert(seen.low < seen.high);
    return seen;
}

/* What the queries first .. last see, at most one block of them. */
static Seen sight_blocks(const Sight *sight, RowWalk *walk, RowRun *run, uint32_t block,
                         uint32_t first, uint32_t last) {
    bool whole = last - first == block && first >= sight->first && last <= sight->last;
    Seen seen = {0};
    Run a, b;

    first = MAX(first, sight->first);
    last = MIN(last, sight->last);
    if (first >= last)
        return seen;
    a = sight_run(sight, walk, run, first);
    b = sight_run(sight, walk, run, last - 1);
    seen.low = a.low / block;
    seen.high = (b.high - 1) / block + 1;
    seen.full_low = seen.full_high = seen.high;
    if (whole && divide_up(b.low, block) < a.high / block) {
        seen.full_low = (uint32_t)divide_up(b.low, block);
        seen.full_high = a.high / block;
    }
    return seen;
}

static int32_t *list_blocks(int32_t *to, uint32_t first, uint32_t end) {
    for (uint32_t block = first; block < end; block++)
        *to++ = (int32_t)block;
    return to;
}

/* All blocks: first those that are meant, then the others, as a stable sort puts them. */
static void list_all(const Seen *seen, bool full, uint32_t blocks, int32_t *to) {
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
    Sight sight = sight_new(set, spec, &walk);
    RowRun run = {0};

    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t first = b * spec->block, last = MIN(length - first, spec->block) + first;
        Seen seen = sight_blocks(&sight, &walk, &run, spec->block, first, last);
        uint32_t whole = seen.full_high - seen.full_low;

        if (counts)
            ((int32_t *)to)[b] = (int32_t)(full ? whole : seen.high - seen.low - whole);
        else
            list_all(&seen, full, blocks, (int32_t *)to + (size_t)b * blocks);
    }
}
