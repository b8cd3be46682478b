/* SPDX-License-Identifier: MIT */
/* What a stream may need at worst. Blocks come in any order, so a window's worst case is the
 * largest blocks of the dataset together, however unlikely: a reservation that holds for every
 * epoch and seed is what lets the pipeline promise that it never waits for memory in the middle of
 * an epoch.
 *
 * Decoded blocks have buffers of one size, which are kept and used again; a block that is larger
 * has memory of its own beside them. The size is the largest block's, unless a few outliers would
 * make all buffers much larger than most blocks need. */
#include <errno.h>
#include <stdlib.h>

#include "base/arithmetic.h"
#include "feed/feed_internal.h"
#include "feed/spread.h"
#include "mask/fill.h"
#include "mask/slate.h"
#include "ring/ring_writer.h"

enum {
    PAGE = 4096,
    MOST_BLOCKS = 63,        /* of 64 fit an ordinary buffer */
    WINDOW_BLOCK_BYTES = 256 /* what a window notes about each of its blocks */
};

static void free_spread(Spread **spread) {
    free(*spread);
}

static uint64_t block_memory(const CatalogBlock *block) {
    return align_up(block->raw_bytes, PAGE);
}

/* The most blocks that an epoch can have. */
static uint64_t blocks_max(const Feed *feed) {
    return feed->plan.mix ? feed->mix.blocks_max : feed->blocks.count;
}

/* How often a window can have this block. */
static uint64_t block_times(const Feed *feed, uint32_t block) {
    const CatalogPart *part = catalog_find_part(feed->catalog, block);

    return part ? feed->source_times[part - feed->catalog->parts] : 1;
}

/* Of several datasets a block may come more than once in a window, but then all others of its
 * dataset lie between, whole epochs of it for each time above two, in this strand or another. What
 * all strands get while one fills a window is bounded, because they are kept level. */
static int bound_times(Feed *feed) {
    const PlanSpec *plan = &feed->plan;
    bool by_tokens = plan_weighs_tokens(plan);
    const uint32_t *weights = by_tokens ? feed->blocks.tokens : feed->blocks.sequences;
    uint64_t most = 0, window;

    if (!plan->mix)
        return 0;
    feed->source_times = calloc(feed->mix.source_count, sizeof *feed->source_times);
    if (!feed->source_times)
        return -ENOMEM;
    for (uint32_t b = 0; b < feed->blocks.count; b++)
        most = MAX(most, (uint64_t)weights[b]);
    window = MAX(plan_window_enough(plan) + most, plan->window * most);
    for (uint32_t s = 0; s < feed->mix.source_count; s++) {
        const Catalog *part = feed->catalog->parts[s].catalog;
        uint64_t weight = by_tokens ? part->tokens : part->sequences;

        feed->source_times[s] = plan_mix_times_max(&feed->mix, s);
        if (weight > 0)
            feed->source_times[s] = MIN(feed->source_times[s],
                                        plan->strands * (window + 2 * most) / weight + 2);
    }
    return 0;
}

static uint64_t choose_buffer_bytes(const Catalog *catalog, Spread *spread) {
    uint64_t largest = align_up(MAX(catalog->block_raw_max, 1u), PAGE), most;

    spread_init(spread, largest);
    for (uint32_t b = 0; b < catalog->block_count; b++)
        spread_add(spread, block_memory(&catalog->blocks[b]), 1);
    most = align_up(spread_bound(spread, MOST_BLOCKS), PAGE);
    return largest <= most + most / 4 ? largest : most;
}

/* The most blocks that a window can have: `window`, or as many as still weigh less than a window
 * must, and one more. */
static uint64_t bound_blocks(const Feed *feed, const Spread *weights) {
    uint64_t few = spread_count_max(weights, plan_window_enough(&feed->plan));

    return MIN(blocks_max(feed), MAX((uint64_t)feed->plan.window, few + 1));
}

/* A window of at most `window` blocks has what the largest of them have; one that went on beyond
 * had too few before its last block, or, where tokens were too few, only a bound on its blocks. */
static uint64_t bound_sequences(const Feed *feed, const Spread *sequences) {
    uint64_t beyond = plan_window_enough(&feed->plan) - 1 + feed->catalog->block_sequences_max;
    uint64_t within = spread_sum_max(sequences, feed->plan.window);

    if (plan_weighs_tokens(&feed->plan))
        beyond = spread_sum_max(sequences, feed->window_blocks_max);
    return MIN(MAX(within, beyond), spread_sum_max(sequences, UINT64_MAX));
}

static uint64_t bound_pieces(const Feed *feed, Spread *spread) {
    uint32_t most = 0;

    if (!feed->block_pieces)
        return feed->window_sequences_max;
    for (uint32_t b = 0; b < feed->blocks.count; b++)
        most = MAX(most, feed->block_pieces[b]);
    spread_init(spread, most);
    for (uint32_t b = 0; b < feed->blocks.count; b++)
        spread_add(spread, feed->block_pieces[b], block_times(feed, b));
    return spread_sum_max(spread, feed->window_blocks_max);
}

/* Every batch of a window but two has at least so many pieces (with pack it has more). */
static uint64_t bound_batches(const Feed *feed) {
    const PlanSpec *plan = &feed->plan;
    uint64_t rows = plan->size;

    if (plan->policy == PLAN_POLICY_TOKENS)
        rows = align_down(plan->tokens / plan_row_places(plan, feed_longest_piece(feed)),
                          plan->multiple_of);
    return feed->window_pieces_max / rows + 2;
}

/* Own memory of the largest blocks, those that no buffer holds. */
static uint64_t bound_oversize(const Feed *feed, Spread *spread) {
    const Catalog *catalog = feed->catalog;

    spread_init(spread, align_up(catalog->block_raw_max, PAGE));
    for (uint32_t b = 0; b < catalog->block_count; b++)
        if (block_memory(&catalog->blocks[b]) > feed->block_buffer_bytes)
            spread_add(spread, block_memory(&catalog->blocks[b]), block_times(feed, b));
    return spread_sum_max(spread, feed->window_blocks_max);
}

static void spread_blocks(const Feed *feed, const uint32_t *numbers, Spread *ret_spread) {
    uint32_t most = 0;

    for (uint32_t b = 0; b < feed->blocks.count; b++)
        most = MAX(most, numbers[b]);
    spread_init(ret_spread, most);
    for (uint32_t b = 0; b < feed->blocks.count; b++)
        spread_add(ret_spread, numbers[b], block_times(feed, b));
}

/* The most bytes that one length takes in the index. */
static uint32_t widest_lengths(const Feed *feed) {
    uint32_t widest = 1;

    for (uint32_t b = 0; b < feed->blocks.count; b++)
        widest = MAX(widest, (uint32_t)feed->catalog->blocks[b].lengths_width);
    return widest;
}

int feed_bound_windows(Feed *feed) {
    CLEANUP(free_spread) Spread *spread = malloc(sizeof *spread);

    if (!spread)
        return -ENOMEM;
    if (bound_times(feed) < 0)
        return -ENOMEM;
    feed->block_buffer_bytes = choose_buffer_bytes(feed->catalog, spread);

    spread_blocks(feed,
                  plan_weighs_tokens(&feed->plan) ? feed->blocks.tokens : feed->blocks.sequences,
                  spread);
    feed->window_blocks_max = (uint32_t)bound_blocks(feed, spread);
    spread_blocks(feed, feed->blocks.sequences, spread);
    feed->window_sequences_max = bound_sequences(feed, spread);
    feed->window_pieces_max = bound_pieces(feed, spread);
    if (feed->window_sequences_max > UINT32_MAX || feed->window_pieces_max > UINT32_MAX)
        return -EOVERFLOW;
    feed->window_batches_max = bound_batches(feed);
    feed->length_bytes_max = widest_lengths(feed);
    feed->window_bytes_max = feed->window_blocks_max * feed->block_buffer_bytes +
                             bound_oversize(feed, spread);
    return 0;
}

/* What an open window keeps: lengths as the index has them, units, where they begin, and notes
 * about blocks. */
static uint64_t window_planner_bytes(const Feed *feed) {
    uint64_t block_bytes = WINDOW_BLOCK_BYTES +
                           (2 * feed->catalog->column_count + 1) * (uint64_t)sizeof(void *);
    uint64_t firsts = 0;

    if (plan_units_are_batches(&feed->plan))
        firsts = (feed->window_batches_max + 1) * sizeof(uint32_t);
    else if (feed->plan.policy == PLAN_POLICY_PACK)
        firsts = (feed->window_pieces_max + 1) * sizeof(uint32_t);
    return feed->window_sequences_max * feed->length_bytes_max +
           feed->window_pieces_max * sizeof(PlanUnit) + firsts +
           feed->window_blocks_max * block_bytes;
}

uint32_t feed_planners(const Feed *feed, uint32_t served_strands) {
    uint64_t windows = (uint64_t)served_strands * (FEED_WINDOWS_DECODED + FEED_WINDOWS_PLANNED);
    uint32_t threads = MAX(feed->threads, 1u);

    threads = MIN(threads, (uint32_t)FEED_PLANNERS);
    return (uint32_t)MIN(windows, (uint64_t)threads);
}

/* What planning or counting one window takes for the time being: its lengths as numbers, and what
 * the policy needs. */
static uint64_t room_bytes(const Feed *feed) {
    return (feed->window_sequences_max + feed->window_blocks_max) * sizeof(uint32_t) +
           plan_scratch_bytes(&feed->plan, feed->window_pieces_max);
}

static uint64_t scratch_bytes(const Feed *feed, uint32_t served_strands) {
    uint64_t counting = feed->plan.policy == PLAN_POLICY_FIXED ? 0 : feed_count_threads(feed);

    return (counting + feed_planners(feed, served_strands)) * room_bytes(feed);
}

/* A counted epoch: its block numbers, and its windows with their sums. */
static uint64_t epoch_bytes(const Feed *feed) {
    uint64_t blocks = blocks_max(feed);
    uint64_t windows = blocks / feed->plan.window + 2 * (uint64_t)feed->plan.strands;

    return blocks * sizeof(uint32_t) + feed->mix.source_count * sizeof(PlanSourceSpan) +
           windows * (sizeof(PlanWindow) + sizeof(uint64_t)) +
           feed->plan.strands * (uint64_t)sizeof(PlanStrand);
}

uint64_t feed_index_bytes(const Feed *feed) {
    uint64_t pieces = feed->block_pieces ? feed->blocks.count * (uint64_t)sizeof(uint32_t) : 0;

    return catalog_bytes(feed->catalog) + pieces + FEED_EPOCHS_KEPT * epoch_bytes(feed);
}

/* What is kept of each slot beside it: how long its rows are, and which bytes are not zero. */
static uint64_t slot_notes_bytes(const Feed *feed) {
    return feed->tensors.rows_max * (uint64_t)sizeof(uint32_t) + slate_bytes(&feed->tensors);
}

/* Where the sequences lie that a worker copies into a batch: those of one window, or, for a device,
 * of all windows of the batch. */
static uint64_t worker_rows_bytes(const Feed *feed) {
    const TensorSet *set = &feed->tensors;
    uint64_t windows = feed->on_device ? FEED_WINDOWS_DECODED : 1;
    uint64_t batch = set->packed ? set->sequences_max : set->rows_max;

    return MAX(feed->threads, 1u) * MIN(batch, windows * feed->window_pieces_max) * sizeof(FillRow);
}

FeedMemory feed_memory(const Feed *feed, uint32_t rings, uint32_t served_strands) {
    /* Room for any alignment of the file offset that O_DIRECT may want. */
    uint64_t read_bytes = align_up(feed->catalog->block_compressed_max, PAGE) + 2 * PAGE;
    FeedMemory memory = {
        .rings = rings *
                 (ring_bytes(feed->slots, feed->slot_bytes) + feed->slots * slot_notes_bytes(feed)),
        .windows = (uint64_t)served_strands *
                   (FEED_WINDOWS_DECODED * feed->window_bytes_max +
                    (FEED_WINDOWS_DECODED + FEED_WINDOWS_PLANNED) * window_planner_bytes(feed)),
        .buffers = FEED_READS_IN_FLIGHT * read_bytes + 2 * epoch_bytes(feed) +
                   scratch_bytes(feed, served_strands) + worker_rows_bytes(feed),
    };

    if (feed->on_device)
        memory.inputs = (uint64_t)rings * feed->slots * feed->device_input_bytes;
    memory.total = memory.rings + memory.windows + memory.buffers + memory.inputs;
    return memory;
}
