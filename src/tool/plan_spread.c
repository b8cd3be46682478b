/* SPDX-License-Identifier: MIT */
#include "tool/plan_spread.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int plan_spread_init(PlanSpread *spread, const PlanBlocks *blocks, const uint32_t *source_first,
                     uint32_t source_count, const PlanEpoch *epoch) {
    *spread = (PlanSpread){.blocks = blocks,
                           .strands = epoch->strand_count,
                           .batches = epoch->batch_count,
                           .source_count = source_count};
    spread->block_first = calloc(blocks->count + (size_t)1, sizeof *spread->block_first);
    spread->sources = calloc((size_t)source_count * SPREAD_PARTS, sizeof *spread->sources);
    spread->source_of = calloc(blocks->count + (size_t)1, sizeof *spread->source_of);
    if (!spread->block_first || !spread->sources || !spread->source_of)
        return -ENOMEM;
    for (uint32_t b = 0, source = 0; b < blocks->count; b++) {
        spread->block_first[b + 1] = spread->block_first[b] + blocks->sequences[b];
        while (source + 1 < source_count && b >= source_first[source + 1])
            source++;
        spread->source_of[b] = source;
    }
    for (uint32_t s = 0; s < epoch->strand_count; s++)
        for (uint32_t w = 0; w < epoch->strands[s].window_count; w++)
            spread->sequences += epoch->strands[s].windows[w].sequences;
    return 0;
}

void plan_spread_deinit(PlanSpread *spread) {
    free(spread->block_first);
    free(spread->sources);
    free(spread->source_of);
}

void plan_spread_strand(PlanSpread *spread) {
    spread->place = 0;
}

/* Strands take turns, so the place in the epoch is about the place in the strand times their
 * number. */
static void note_travel(PlanSpread *spread, uint64_t sequence) {
    double all = (double)MAX(spread->block_first[spread->blocks->count], UINT64_C(1));
    double epoch = (double)MAX(spread->sequences, UINT64_C(1));
    double to = MIN((double)(spread->place * spread->strands) / epoch, 1.0);
    double distance = fabs(to - (double)sequence / all);

    spread->travel += distance;
    spread->travels[MIN((uint32_t)(distance * SPREAD_BINS), (uint32_t)SPREAD_BINS - 1)]++;
}

static void end_batch(PlanSpread *spread) {
    double pieces = (double)spread->batch_pieces, tokens = (double)spread->batch_tokens;

    spread->token_squares += tokens * tokens;
    spread->token_pieces += tokens * pieces;
    spread->piece_squares += pieces * pieces;
    spread->batch_pieces = spread->batch_tokens = 0;
}

void plan_spread_piece(PlanSpread *spread, uint32_t block, uint32_t sequence, uint32_t length,
                       uint64_t index) {
    uint64_t number = spread->block_first[block] + sequence;
    uint64_t part = MIN(index, spread->batches - 1) * SPREAD_PARTS / spread->batches;

    if (index != spread->batch)
        end_batch(spread);
    spread->batch = index;
    spread->batch_pieces++;
    spread->batch_tokens += length;
    note_travel(spread, number);
    if (spread->place > 0) {
        spread->pairs++;
        spread->same_block += spread->last_block == block;
        spread->side_by_side += number + 1 == spread->last_sequence ||
                                number == spread->last_sequence + 1;
    }
    spread->last_block = block;
    spread->last_sequence = number;
    spread->place++;
    spread->pieces++;
    spread->part_pieces[part]++;
    spread->part_tokens[part] += length;
    spread->sources[spread->source_of[block] * SPREAD_PARTS + part] += length;
}

void plan_spread_end(PlanSpread *spread) {
    end_batch(spread);
    spread->travel /= (double)MAX(spread->pieces, UINT64_C(1));
    spread->same_block /= (double)MAX(spread->pairs, UINT64_C(1));
    spread->side_by_side /= (double)MAX(spread->pairs, UINT64_C(1));
}

SpreadLengths plan_spread_lengths(const PlanSpread *spread) {
    SpreadLengths lengths = {.least = INFINITY};
    double pieces = (double)MAX(spread->pieces, UINT64_C(1)), tokens = 0, away;

    for (uint32_t part = 0; part < SPREAD_PARTS; part++) {
        double mean;

        tokens += (double)spread->part_tokens[part];
        if (spread->part_pieces[part] == 0)
            continue;
        mean = (double)spread->part_tokens[part] / (double)spread->part_pieces[part];
        lengths.least = MIN(lengths.least, mean);
        lengths.most = MAX(lengths.most, mean);
    }
    lengths.least = MIN(lengths.least, lengths.most);
    lengths.mean = tokens / pieces;
    /* Squares of (tokens - mean x pieces), summed over the batches; a part has a sixteenth. */
    away = spread->token_squares - 2 * lengths.mean * spread->token_pieces +
           lengths.mean * lengths.mean * spread->piece_squares;
    lengths.chance = sqrt(MAX(away, 0.0) / SPREAD_PARTS) / (pieces / SPREAD_PARTS);
    return lengths;
}

SpreadShare plan_spread_source(const PlanSpread *spread, uint32_t source) {
    const uint64_t *parts = spread->sources + (size_t)source * SPREAD_PARTS;
    SpreadShare share = {.least = 1};
    double all = 0, own = 0;

    for (uint32_t part = 0; part < SPREAD_PARTS; part++) {
        double tokens = (double)spread->part_tokens[part], here = (double)parts[part];

        all += tokens;
        own += here;
        if (tokens == 0)
            continue;
        share.least = MIN(share.least, here / tokens);
        share.most = MAX(share.most, here / tokens);
    }
    share.share = all > 0 ? own / all : 0;
    return share;
}
