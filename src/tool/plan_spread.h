/* SPDX-License-Identifier: MIT */
/* plan_spread.h: how well an epoch's order is mixed, beside a full permutation: how far sequences
 * travel, how often neighbours stay together, how evenly lengths and sources lie. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "feed/feed.h"

enum { SPREAD_PARTS = 16, SPREAD_BINS = 40 };

typedef struct PlanSpread {
    const PlanBlocks *blocks;
    uint64_t *block_first; /* [blocks + 1]: number of the block's first sequence in the dataset */
    uint32_t strands;
    uint64_t batches;   /* of the epoch */
    uint64_t sequences; /* of the epoch */
    /* A sequence travels from its place in the dataset to its place in the epoch, both counted in
     * parts of the whole: a third on average in a full permutation. Neighbours in a strand come
     * from the same block, or stood side by side in the dataset. */
    double travel, same_block, side_by_side; /* sums, and shares once ended */
    uint64_t travels[SPREAD_BINS];           /* by distance */
    uint64_t pieces, pairs;
    uint64_t place, last_sequence, last_block; /* within the strand; of the piece before */
    /* Parts of the epoch, by batch index. */
    uint64_t part_pieces[SPREAD_PARTS], part_tokens[SPREAD_PARTS];
    /* The batch that comes by, and of those before, by their number of pieces, how far their tokens
     * lie from what so many pieces hold on average. */
    uint64_t batch, batch_pieces, batch_tokens;
    double token_squares, token_pieces, piece_squares;
    uint64_t *sources;   /* [source_count][SPREAD_PARTS]: tokens */
    uint32_t *source_of; /* [blocks] */
    uint32_t source_count;
} PlanSpread;

/* 0 or -ENOMEM. `source_first[k]` is the first block of source k. */
MUST_CHECK int plan_spread_init(PlanSpread *spread, const PlanBlocks *blocks,
                                const uint32_t *source_first, uint32_t source_count,
                                const PlanEpoch *epoch);
void plan_spread_deinit(PlanSpread *spread);

void plan_spread_strand(PlanSpread *spread); /* a strand begins */
/* A piece of the block and its sequence, in batch `index` of the epoch. */
void plan_spread_piece(PlanSpread *spread, uint32_t block, uint32_t sequence, uint32_t length,
                       uint64_t index);
void plan_spread_end(PlanSpread *spread);

/* Mean lengths of the parts: the smallest, the largest, and their standard deviation if the same
 * batches came in any order. */
typedef struct SpreadLengths {
    double mean, least, most, chance;
} SpreadLengths;
SpreadLengths plan_spread_lengths(const PlanSpread *spread);
/* A source's share of the tokens: of all, and the smallest and largest of a part. */
typedef struct SpreadShare {
    double share, least, most;
} SpreadShare;
SpreadShare plan_spread_source(const PlanSpread *spread, uint32_t source);
