/* SPDX-License-Identifier: MIT */
/* Step 1 with several sources (docs/formats/plan.md section 11).
 *
 * One endless list of blocks is cut into the feed's epochs. Which source entry n of it comes from
 * stands in a table of PLAN_MIX_PERIOD places that repeats for ever, so how many entries of each
 * source lie before n follows from n alone, and with it in which of its own epochs a source is and
 * how far. No epoch has to be walked through to find where a later one begins. */
#include "plan/plan_mix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "plan/plan_draws.h"

enum {
    POINT = 32,     /* bits behind the point of a weight in blocks */
    MEAN_POINT = 20 /* and of what a period holds */
};

/* Entries of the endless list are counted beyond 64 bits: an epoch has up to 2^32, and there are
 * 2^64 epochs. */
__extension__ typedef unsigned __int128 Wide;

/* The source of each place of the period. */
typedef struct MixTable {
    uint32_t place[PLAN_MIX_PERIOD];
} MixTable;

static void free_memory(void *pointer) {
    free(*(void **)pointer);
}

static Wide weight_in_blocks(const PlanSource *source) {
    Wide weight = ((Wide)source->weight * source->block_count << POINT) / source->total;

    return weight ? weight : 1;
}

/* A source that the rounding left without a place takes one from who has most. */
static void share_at_least_one(PlanMix *mix) {
    for (uint32_t i = 0; i < mix->source_count; i++) {
        uint32_t most = 0;

        if (mix->sources[i].share > 0)
            continue;
        for (uint32_t j = 1; j < mix->source_count; j++)
            if (mix->sources[j].share > mix->sources[most].share)
                most = j;
        mix->sources[most].share--;
        mix->sources[i].share = 1;
    }
}

static void share_period(PlanMix *mix) {
    Wide sum = 0, rest[PLAN_SOURCES_MAX];
    uint32_t given = 0;

    for (uint32_t i = 0; i < mix->source_count; i++)
        sum += weight_in_blocks(&mix->sources[i]);
    for (uint32_t i = 0; i < mix->source_count; i++) {
        Wide scaled = weight_in_blocks(&mix->sources[i]) * PLAN_MIX_PERIOD;

        mix->sources[i].share = (uint32_t)(scaled / sum);
        rest[i] = scaled % sum;
        given += mix->sources[i].share;
    }
    /* Fewer are missing than there are sources, so none gets two. */
    for (; given < PLAN_MIX_PERIOD; given++) {
        uint32_t next = 0;

        for (uint32_t i = 1; i < mix->source_count; i++)
            if (rest[i] > rest[next])
                next = i;
        rest[next] = 0;
        mix->sources[next].share++;
    }
    share_at_least_one(mix);
}

/* Blocks that hold `count` of the unit on average. */
static uint64_t blocks_of_count(const PlanMix *mix) {
    Wide held = 0, blocks;

    for (uint32_t i = 0; i < mix->source_count; i++)
        held += ((Wide)mix->sources[i].total * mix->sources[i].share << MEAN_POINT) /
                mix->sources[i].block_count;
    held = held ? held : 1;
    /* (count / (held / 2^MEAN_POINT / PLAN_MIX_PERIOD)), rounded up */
    blocks = (((Wide)mix->count << MEAN_POINT) * PLAN_MIX_PERIOD + held - 1) / held;
    return blocks > UINT64_MAX ? UINT64_MAX : MAX((uint64_t)blocks, UINT64_C(1));
}

void plan_mix_settle(PlanMix *mix) {
    uint64_t periods = mix->until == PLAN_UNTIL_FIRST ? UINT64_MAX : 0;

    assert(mix->source_count >= 1 && mix->source_count <= PLAN_SOURCES_MAX);
    for (uint32_t i = 0; i < mix->source_count; i++) {
        assert(mix->sources[i].block_count > 0 && mix->sources[i].total > 0);
        assert(mix->sources[i].weight > 0 && mix->sources[i].weight <= PLAN_WEIGHT_MAX);
    }
    share_period(mix);
    if (mix->until == PLAN_UNTIL_COUNT) {
        mix->blocks_max = blocks_of_count(mix);
        return;
    }
    /* Whichever source the seed's table makes the first (or last) to be exhausted, it is so within
     * as many whole periods as the first (or last) of all needs, wherever in one it begins. */
    for (uint32_t i = 0; i < mix->source_count; i++) {
        uint64_t own = divide_up(mix->sources[i].block_count, mix->sources[i].share);

        periods = mix->until == PLAN_UNTIL_FIRST ? MIN(periods, own) : MAX(periods, own);
    }
    mix->blocks_max = periods * PLAN_MIX_PERIOD;
}

uint64_t plan_mix_times_max(const PlanMix *mix, uint32_t source) {
    const PlanSource *of = &mix->sources[source];
    uint64_t most = divide_up(mix->blocks_max, PLAN_MIX_PERIOD) * of->share;

    /* So many entries in a row touch at most so many of the source's epochs. */
    return divide_up(MIN(most, mix->blocks_max) - 1, of->block_count) + 1;
}

/* Every source as evenly as its share allows, then permuted. */
static void make_table(const PlanSpec *spec, MixTable *table) {
    const PlanMix *mix = spec->mix;
    const PlanDraws draws = {.seed = spec->seed, .purpose = PLAN_PURPOSE_MIX};
    int64_t behind[PLAN_SOURCES_MAX] = {0};

    for (uint32_t k = 0; k < PLAN_MIX_PERIOD; k++) {
        uint32_t next = 0;

        for (uint32_t i = 0; i < mix->source_count; i++) {
            behind[i] += mix->sources[i].share;
            if (behind[i] > behind[next])
                next = i;
        }
        behind[next] -= PLAN_MIX_PERIOD;
        table->place[k] = next;
    }
    if (spec->shuffle)
        plan_shuffle_numbers(&draws, table->place, PLAN_MIX_PERIOD);
}

/* Entries of the list up to and with the source's `number`-th (> 0). */
static Wide entries_until(const PlanMix *mix, const MixTable *table, uint32_t source, Wide number) {
    uint32_t share = mix->sources[source].share;
    uint32_t left = (uint32_t)((number - 1) % share), k = 0;

    for (;; k++)
        if (table->place[k] == source && left-- == 0)
            break;
    return (number - 1) / share * PLAN_MIX_PERIOD + k + 1;
}

/* The source that is exhausted first, or last: its epochs are the feed's. */
static uint32_t find_ruler(const PlanMix *mix, const MixTable *table) {
    uint32_t ruler = 0;
    Wide best = 0;

    for (uint32_t i = 0; i < mix->source_count; i++) {
        Wide end = entries_until(mix, table, i, mix->sources[i].block_count);

        if (i > 0 && (mix->until == PLAN_UNTIL_FIRST ? end > best : end < best))
            continue;
        ruler = i;
        best = end;
    }
    return ruler;
}

/* The entry with which the epoch begins. */
static Wide epoch_begin(const PlanMix *mix, const MixTable *table, Wide epoch) {
    uint32_t ruler;

    if (mix->until == PLAN_UNTIL_COUNT)
        return epoch * mix->blocks_max;
    if (epoch == 0)
        return 0;
    ruler = find_ruler(mix, table);
    return entries_until(mix, table, ruler, epoch * mix->sources[ruler].block_count);
}

/* How far each source is before entry `begin`. */
static void place_sources(const PlanMix *mix, const MixTable *table, Wide begin,
                          PlanSourceSpan *ret_spans) {
    uint32_t here[PLAN_SOURCES_MAX] = {0};

    for (uint32_t k = 0; k < begin % PLAN_MIX_PERIOD; k++)
        here[table->place[k]]++;
    for (uint32_t i = 0; i < mix->source_count; i++) {
        Wide before = begin / PLAN_MIX_PERIOD * mix->sources[i].share + here[i];

        ret_spans[i].epoch = (uint64_t)(before / mix->sources[i].block_count);
        ret_spans[i].place = (uint32_t)(before % mix->sources[i].block_count);
    }
}

/* The source's blocks in the order of one of its epochs. */
static void order_source(const PlanSpec *spec, uint32_t source, uint64_t epoch, uint32_t *order) {
    const PlanSource *of = &spec->mix->sources[source];
    const PlanDraws draws = {
        .seed = spec->seed, .epoch = epoch, .purpose = PLAN_PURPOSE_BLOCKS, .strand = source};

    for (uint32_t b = 0; b < of->block_count; b++)
        order[b] = of->first_block + b;
    if (spec->shuffle)
        plan_shuffle_numbers(&draws, order, of->block_count);
}

/* Where a source stands while its entries are handed out. */
typedef struct MixWalk {
    const PlanSpec *spec;
    const PlanBlocks *blocks;
    uint32_t *order; /* [blocks->count] each source's blocks in the order of its present epoch */
    bool *seen;      /* [blocks->count] in this epoch of the feed */
} MixWalk;

static uint32_t take_block(MixWalk *walk, uint32_t source, PlanSourceSpan *span) {
    const PlanSource *of = &walk->spec->mix->sources[source];
    Wide entry = (Wide)span->place + span->blocks;
    uint32_t at = (uint32_t)(entry % of->block_count), block;

    if (at == 0 || span->blocks == 0)
        order_source(walk->spec, source, span->epoch + (uint64_t)(entry / of->block_count),
                     walk->order + of->first_block);
    block = walk->order[of->first_block + at];
    span->blocks++;
    span->sequences += walk->blocks->sequences[block];
    span->tokens += walk->blocks->tokens[block];
    if (walk->seen[block]) {
        span->sequences_again += walk->blocks->sequences[block];
        span->tokens_again += walk->blocks->tokens[block];
    }
    walk->seen[block] = true;
    return block;
}

static int fill_list(const PlanSpec *spec, const PlanBlocks *blocks, const MixTable *table,
                     uint32_t phase, PlanMixList *list) {
    CLEANUP(free_memory) uint32_t *order = malloc((blocks->count + (size_t)1) * sizeof *order);
    CLEANUP(free_memory) bool *seen = calloc(blocks->count + (size_t)1, sizeof *seen);
    MixWalk walk = {.spec = spec, .blocks = blocks, .order = order, .seen = seen};

    if (!order || !seen)
        return -ENOMEM;
    for (uint32_t n = 0; n < list->count; n++) {
        uint32_t source = table->place[(phase + n) % PLAN_MIX_PERIOD];

        list->blocks[n] = take_block(&walk, source, &list->spans[source]);
    }
    return 0;
}

int plan_mix_list(const PlanSpec *spec, const PlanBlocks *blocks, uint64_t epoch,
                  PlanMixList *ret_list) {
    const PlanMix *mix = spec->mix;
    CLEANUP(free_memory) MixTable *table = malloc(sizeof *table);
    CLEANUP(free_memory) PlanSourceSpan *spans = calloc(mix->source_count, sizeof *spans);
    CLEANUP(free_memory) uint32_t *list = NULL;
    Wide begin, count;
    int r;

    if (!table || !spans)
        return -ENOMEM;
    make_table(spec, table);
    begin = epoch_begin(mix, table, epoch);
    count = epoch_begin(mix, table, (Wide)epoch + 1) - begin;
    assert(count <= mix->blocks_max);
    if (count > UINT32_MAX)
        return -EOVERFLOW;
    list = malloc(((size_t)count + 1) * sizeof *list);
    if (!list)
        return -ENOMEM;
    place_sources(mix, table, begin, spans);
    *ret_list = (PlanMixList){.blocks = list, .count = (uint32_t)count, .spans = spans};
    r = fill_list(spec, blocks, table, (uint32_t)(begin % PLAN_MIX_PERIOD), ret_list);
    if (r < 0)
        return r;
    list = NULL;
    spans = NULL;
    return 0;
}
