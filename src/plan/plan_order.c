/* SPDX-License-Identifier: MIT */
/* Steps 1 to 3: the blocks of an epoch in their order, dealt into strands, cut into windows. All of
 * it follows from block counts; no length is read here. */
#include "plan/plan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "plan/plan_draws.h"
#include "plan/plan_mix.h"

/* Strands by what they hold so far: a binary heap of strand numbers whose first has the fewest
 * (of what the policy weighs blocks by), and among equals the lowest number. */
typedef struct Dealer {
    uint64_t held[PLAN_STRANDS_MAX];
    uint16_t heap[PLAN_STRANDS_MAX];
    uint32_t count;
} Dealer;

/* Batches of tokens and pack are about as many as there are tokens, those of others as there are
 * sequences: what strands are balanced by, and windows filled by. */
static const uint32_t *block_weights(const PlanSpec *spec, const PlanBlocks *blocks) {
    return plan_weighs_tokens(spec) ? blocks->tokens : blocks->sequences;
}

static void free_memory(void *pointer) {
    free(*(void **)pointer);
}

static void dealer_init(Dealer *dealer, uint32_t strands) {
    dealer->count = strands;
    for (uint32_t i = 0; i < strands; i++) {
        dealer->held[i] = 0;
        dealer->heap[i] = (uint16_t)i;
    }
}

static bool dealer_before(const Dealer *dealer, uint16_t a, uint16_t b) {
    return dealer->held[a] < dealer->held[b] || (dealer->held[a] == dealer->held[b] && a < b);
}

/* The strand that gets a block of this weight. */
static uint16_t dealer_take(Dealer *dealer, uint32_t weight) {
    uint16_t strand = dealer->heap[0];
    uint32_t place = 0;

    dealer->held[strand] += weight;
    for (uint32_t child = 1; child < dealer->count; child = 2 * place + 1) {
        if (child + 1 < dealer->count &&
            dealer_before(dealer, dealer->heap[child + 1], dealer->heap[child]))
            child++;
        if (!dealer_before(dealer, dealer->heap[child], strand))
            break;
        dealer->heap[place] = dealer->heap[child];
        place = child;
    }
    dealer->heap[place] = strand;
    return strand;
}

/* The list of step 1. */
typedef struct Order {
    uint32_t *blocks;
    uint32_t count;
} Order;

static void free_order(Order *order) {
    free(order->blocks);
}

static void order_blocks(const PlanSpec *spec, uint64_t epoch, uint32_t *ret_order,
                         uint32_t count) {
    const PlanDraws draws = {
        .seed = spec->seed, .epoch = epoch, .purpose = PLAN_PURPOSE_BLOCKS, .strand = 0};

    for (uint32_t i = 0; i < count; i++)
        ret_order[i] = i;
    if (spec->shuffle)
        plan_shuffle_numbers(&draws, ret_order, count);
}

static int order_sources(const PlanSpec *spec, const PlanBlocks *blocks, PlanEpoch *plan,
                         Order *ret_order) {
    PlanMixList list;
    int r = plan_mix_list(spec, blocks, plan->epoch, &list);

    if (r < 0)
        return r;
    plan->sources = list.spans;
    *ret_order = (Order){.blocks = list.blocks, .count = list.count};
    for (uint32_t i = 0; i < spec->mix->source_count; i++) {
        plan->tally.sequences_in += list.spans[i].sequences;
        plan->tally.tokens_in += list.spans[i].tokens;
    }
    return 0;
}

/* Step 1, and what comes in with it. */
static int make_order(const PlanSpec *spec, const PlanBlocks *blocks, PlanEpoch *plan,
                      Order *ret_order) {
    if (spec->mix)
        return order_sources(spec, blocks, plan, ret_order);
    ret_order->blocks = malloc((blocks->count + (size_t)1) * sizeof *ret_order->blocks);
    if (!ret_order->blocks)
        return -ENOMEM;
    ret_order->count = blocks->count;
    order_blocks(spec, plan->epoch, ret_order->blocks, blocks->count);
    for (uint32_t i = 0; i < blocks->count; i++) {
        plan->tally.sequences_in += blocks->sequences[i];
        plan->tally.tokens_in += blocks->tokens[i];
    }
    return 0;
}

/* Step 2. Walks the blocks twice: to learn how many each strand gets, and to hand them out. */
static int deal_blocks(const PlanSpec *spec, const PlanBlocks *blocks, const Order *order,
                       PlanEpoch *plan) {
    CLEANUP(free_memory) Dealer *dealer = malloc(sizeof *dealer);
    const uint32_t *weights = block_weights(spec, blocks);

    if (!dealer)
        return -ENOMEM;
    assert(order->blocks || order->count == 0);
    dealer_init(dealer, spec->strands);
    for (uint32_t i = 0; i < order->count; i++)
        plan->strands[dealer_take(dealer, weights[order->blocks[i]])].block_count++;

    for (uint32_t s = 0; s < spec->strands; s++) {
        PlanStrand *strand = &plan->strands[s];

        strand->blocks = malloc((strand->block_count + (size_t)1) * sizeof *strand->blocks);
        if (!strand->blocks)
            return -ENOMEM;
        strand->block_count = 0;
    }
    dealer_init(dealer, spec->strands);
    for (uint32_t i = 0; i < order->count; i++) {
        uint32_t block = order->blocks[i];
        PlanStrand *strand = &plan->strands[dealer_take(dealer, weights[block])];

        strand->blocks[strand->block_count++] = block;
    }
    return 0;
}

bool plan_weighs_tokens(const PlanSpec *spec) {
    return spec->policy == PLAN_POLICY_TOKENS || spec->policy == PLAN_POLICY_PACK;
}

uint64_t plan_window_enough(const PlanSpec *spec) {
    uint64_t batch = spec->policy == PLAN_POLICY_TOKENS ? spec->tokens
                     : spec->policy == PLAN_POLICY_PACK ? (uint64_t)spec->size * spec->length
                                                        : spec->size;

    return PLAN_WINDOW_BATCHES * batch;
}

/* The window that begins at the strand's block `first`. */
static PlanWindow cut_window(const PlanSpec *spec, const PlanBlocks *blocks,
                             const PlanStrand *strand, uint32_t first) {
    const uint64_t enough = plan_window_enough(spec);
    PlanWindow window = {.block_first = first};
    uint64_t held = 0;

    while (first + window.block_count < strand->block_count &&
           (window.block_count < spec->window || held < enough)) {
        uint32_t block = strand->blocks[first + window.block_count++];

        window.sequences += blocks->sequences[block];
        held += block_weights(spec, blocks)[block];
    }
    return window;
}

/* Step 3. */
static int cut_strand(const PlanSpec *spec, const PlanBlocks *blocks, PlanStrand *strand) {
    uint32_t count = 0;

    for (uint32_t first = 0; first < strand->block_count; count++)
        first += cut_window(spec, blocks, strand, first).block_count;

    strand->windows = malloc((count + (size_t)1) * sizeof *strand->windows);
    strand->unit_sums = calloc(count + (size_t)1, sizeof *strand->unit_sums);
    if (!strand->windows || !strand->unit_sums)
        return -ENOMEM;

    for (uint32_t first = 0; first < strand->block_count;) {
        PlanWindow window = cut_window(spec, blocks, strand, first);

        if (window.sequences > UINT32_MAX)
            return -EOVERFLOW;
        strand->windows[strand->window_count++] = window;
        first += window.block_count;
    }
    return 0;
}

static int order_epoch(const PlanSpec *spec, const PlanBlocks *blocks, PlanEpoch *plan) {
    CLEANUP(free_order) Order order = {0};
    int r = make_order(spec, blocks, plan, &order);

    if (r == 0)
        r = deal_blocks(spec, blocks, &order, plan);
    for (uint32_t s = 0; s < spec->strands && r == 0; s++)
        r = cut_strand(spec, blocks, &plan->strands[s]);
    return r;
}

static void free_epoch(PlanEpoch **plan) {
    plan_epoch_free(*plan);
}

int plan_epoch_new(const PlanSpec *spec, const PlanBlocks *blocks, uint64_t epoch,
                   PlanEpoch **ret_epoch) {
    CLEANUP(free_epoch) PlanEpoch *plan = NULL;
    int r;

    assert(spec->window >= 1 && spec->length_max >= 1);
    assert(spec->size >= 1 || spec->policy == PLAN_POLICY_TOKENS);
    assert(spec->strands >= 1 && spec->strands <= PLAN_STRANDS_MAX);

    plan = calloc(1, sizeof *plan);
    if (!plan)
        return -ENOMEM;
    plan->strands = calloc(spec->strands, sizeof *plan->strands);
    if (!plan->strands)
        return -ENOMEM;
    plan->strand_count = spec->strands;
    plan->epoch = epoch;
    r = order_epoch(spec, blocks, plan);
    if (r < 0)
        return r;
    *ret_epoch = plan;
    plan = NULL;
    return 0;
}

void plan_epoch_free(PlanEpoch *epoch) {
    if (!epoch)
        return;
    for (uint32_t s = 0; epoch->strands && s < epoch->strand_count; s++) {
        free(epoch->strands[s].blocks);
        free(epoch->strands[s].windows);
        free(epoch->strands[s].unit_sums);
    }
    free(epoch->strands);
    free(epoch->sources);
    free(epoch);
}
