/* SPDX-License-Identifier: MIT */
/* block_rule.h: which blocks of places a block of queries sees. Integers only and plain C that nvcc
 * reads too, as mask_rule.h.
 *
 * With nothing but segments, causal, window and lengths a query sees one run of places, and from
 * one query to the next both ends of that run only move on. So a block of queries is told by its
 * first and its last one: from where the first begins to see to where the last ends, it sees
 * something of every block of places (each query's run touches the next one's); and it sees a block
 * whole when the last query still sees its first place and the first query already sees its last.
 * No mask is worked out: the work is two look-ups a block of queries. */
#pragma once

#include <stdint.h>

#include "mask/mask_rule.h"

/* The steps of the mask, and what of the row they need. */
typedef struct BlockSight {
    uint32_t segments, causal, lengths; /* 0 or 1 */
    uint32_t window;                    /* UINT32_MAX: none */
    uint32_t length;                    /* of the row */
    uint32_t begin, end;                /* its real places */
    uint32_t first, last;               /* queries that see anything: first .. last */
} BlockSight;

/* Of a block of queries those that see anything; all of them, and as many as a block has? */
typedef struct BlockQueries {
    uint32_t first, last, whole;
} BlockQueries;

/* The places low .. high that a query sees. */
typedef struct BlockRun {
    uint32_t low, high;
} BlockRun;

/* Blocks of places: some of low .. high, whole full_low .. full_high, within them. */
typedef struct BlockSeen {
    uint32_t low, high, full_low, full_high;
} BlockSeen;

MASK_SHARED uint32_t block_most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

MASK_SHARED uint32_t block_least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Of a row of `length` places of which begin .. end are real. */
MASK_SHARED BlockSight block_sight(const MaskStep *steps, uint32_t count, uint32_t length,
                                   uint32_t begin, uint32_t end) {
    BlockSight sight = {0, 0, 0, UINT32_MAX, length, begin, end, 0, 0};

    for (uint32_t s = 0; s < count; s++) {
        sight.segments |= steps[s].op == MASK_SEGMENTS;
        sight.causal |= steps[s].op == MASK_CAUSAL;
        sight.lengths |= steps[s].op == MASK_LENGTHS;
        if (steps[s].op == MASK_WINDOW)
            sight.window = block_least(sight.window, steps[s].count);
    }
    if (sight.segments) {
        sight.first = begin;
        sight.last = end;
    } else if (!sight.lengths) {
        sight.last = length;
    } else if (begin < end) {
        uint64_t beyond = (uint64_t)end + sight.window - 1;

        sight.first = sight.causal ? begin : 0;
        sight.last = beyond < length ? (uint32_t)beyond : length;
    }
    return sight;
}

/* What `query` sees, which is something; own_begin .. own_end is its sequence (segments). */
MASK_SHARED BlockRun block_run(const BlockSight *sight, uint32_t query, uint32_t own_begin,
                               uint32_t own_end) {
    BlockRun run = {query >= sight->window ? query - sight->window + 1 : 0,
                    sight->causal ? query + 1 : sight->length};

    if (sight->segments || sight->lengths) {
        run.low = block_most(run.low, sight->segments ? own_begin : sight->begin);
        run.high = block_least(run.high, sight->segments ? own_end : sight->end);
    }
    return run;
}

/* The queries of block `number` of `block`. */
MASK_SHARED BlockQueries block_queries(const BlockSight *sight, uint32_t block, uint32_t number) {
    uint32_t first = number * block;
    uint32_t last = first + block_least(sight->length - first, block);
    BlockQueries queries = {block_most(first, sight->first), block_least(last, sight->last), 0};

    queries.whole = queries.last - queries.first == block;
    return queries;
}

MASK_SHARED BlockSeen block_unseen(void) {
    BlockSeen seen = {0, 0, 0, 0};

    return seen;
}

/* What these queries see, of which there are some; `a` is the first one's run, `b` the last's. */
MASK_SHARED BlockSeen block_seen(const BlockQueries *queries, uint32_t block, BlockRun a,
                                 BlockRun b) {
    BlockSeen seen = {a.low / block, (b.high - 1) / block + 1, 0, 0};
    uint32_t full_low = b.low / block + (b.low % block > 0);

    seen.full_low = seen.full_high = seen.high;
    if (queries->whole && full_low < a.high / block) {
        seen.full_low = full_low;
        seen.full_high = a.high / block;
    }
    return seen;
}

/* How many it sees whole, or only some of. */
MASK_SHARED uint32_t block_count(const BlockSeen *seen, int full) {
    uint32_t whole = seen->full_high - seen->full_low;

    return full ? whole : seen->high - seen->low - whole;
}

/* The `number`-th of all blocks: first those that are meant, then the others, as a stable sort puts
 * them. */
MASK_SHARED uint32_t block_listed(const BlockSeen *seen, int full, uint32_t number) {
    uint32_t whole = seen->full_high - seen->full_low;
    uint32_t before = seen->full_low - seen->low, behind = seen->high - seen->full_high;

    if (full) {
        if (number < whole)
            return seen->full_low + number;
        return number < seen->full_high ? number - whole : number;
    }
    if (number < before)
        return seen->low + number;
    if (number < before + behind)
        return seen->full_high + (number - before);
    if (number < before + behind + seen->low)
        return number - before - behind;
    return number < seen->high ? seen->full_low + (number - before - behind - seen->low) : number;
}
