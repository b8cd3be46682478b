/* SPDX-License-Identifier: MIT */
/* What the settings of order, batch and length mean for this dataset. */
#include "feed/feed_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/processors.h"
#include "base/text.h"

/* window: auto takes all blocks of a dataset of at most this size, else so many blocks. */
#define WINDOW_AUTO_BYTES (UINT64_C(64) << 20)
enum { WINDOW_AUTO_BLOCKS = 64 };

static void free_memory(void *pointer) {
    free(*(void **)pointer);
}

static uint32_t settle_window(const Catalog *catalog, uint32_t configured) {
    if (configured)
        return configured;
    return catalog->raw_bytes <= WINDOW_AUTO_BYTES ? MAX(catalog->block_count, 1u)
                                                   : WINDOW_AUTO_BLOCKS;
}

static uint32_t settle_length_max(const Catalog *catalog, const SettingsFeed *settings) {
    if (settings->length_max)
        return settings->length_max;
    if (settings->policy == SETTINGS_POLICY_PACK)
        return settings->length;
    return settings->pad_to ? settings->pad_to : MAX(catalog->length_max, 1u);
}

/* The two enums have the same words in the same order. */
static_assert((int)SETTINGS_LAST_PAD == PLAN_LAST_PAD, "converted by value");
static_assert((int)SETTINGS_TAIL_DROP == PLAN_TAIL_DROP, "converted by value");
static_assert((int)SETTINGS_OVERFLOW_DROP == PLAN_OVERFLOW_DROP, "converted by value");
static_assert((int)SETTINGS_EMPTY_DROP == PLAN_EMPTY_DROP, "converted by value");
static_assert((int)SETTINGS_POLICY_PACK == PLAN_POLICY_PACK, "converted by value");
static_assert((int)SETTINGS_BOUNDARIES_MAX <= PLAN_BOUNDARIES_MAX, "all that are listed fit");

/* How many sequences are longer than length.max; only blocks that have one are read. */
static int count_longer(const Feed *feed, uint64_t *ret_count, Error *error) {
    const Catalog *catalog = feed->catalog;
    CLEANUP(free_memory)
    uint32_t *lengths = malloc((catalog->block_sequences_max + (size_t)1) * sizeof *lengths);
    uint64_t count = 0;

    if (!lengths)
        return error_set(error, -ENOMEM, "no memory for the lengths of a block");
    for (uint32_t b = 0; b < catalog->block_count; b++) {
        int r;

        if (catalog->blocks[b].length_max <= feed->plan.length_max)
            continue;
        r = catalog_read_lengths(catalog, b, lengths, error);
        if (r < 0)
            return r;
        for (uint32_t i = 0; i < catalog->block_sequences[b]; i++)
            count += lengths[i] > feed->plan.length_max;
    }
    *ret_count = count;
    return 0;
}

/* The key that length.max comes from, and where it stands. */
static const char *length_key(const SettingsFeed *settings, SettingsPlace *ret_place) {
    bool is_packed = settings->policy == SETTINGS_POLICY_PACK;

    *ret_place = settings->length_max ? settings->length_max_place
                 : is_packed          ? settings->length_place
                                      : settings->pad_to_place;
    return settings->length_max ? "length.max" : is_packed ? "batch.length" : "pad.to";
}

static int check_overflow(const Feed *feed, const FeedSource *source, Error *error) {
    SettingsPlace place;
    const char *key = length_key(source->feed, &place);
    uint64_t longer = 0;
    int r;

    if (feed->plan.overflow != PLAN_OVERFLOW_ERROR ||
        feed->catalog->length_max <= feed->plan.length_max)
        return 0;
    r = count_longer(feed, &longer, error);
    if (r < 0)
        return r;
    return feed_error(
        source, error, place, key,
        "%" PRIu64 " of %" PRIu64 " sequences are longer than %" PRIu32 " (longest %" PRIu32
        "): set length.overflow to truncate_right, truncate_left, split or drop, or raise %s",
        longer, feed->catalog->sequences, feed->plan.length_max, feed->catalog->length_max, key);
}

/* A batch of tokens must hold `multiple_of` of the longest rows: else no batch could. */
static int check_tokens(const Feed *feed, const FeedSource *source, Error *error) {
    const PlanSpec *plan = &feed->plan;
    uint64_t places = plan_row_places(plan, feed_longest_piece(feed)) * plan->multiple_of;

    if (plan->policy != PLAN_POLICY_TOKENS || places <= plan->tokens)
        return 0;
    return feed_error(source, error, source->feed->tokens_place, "batch.tokens",
                      "is %" PRIu32 ", but %" PRIu32 " row%s of %" PRIu64 " places %s %" PRIu64
                      ": raise it, or lower length.max%s",
                      plan->tokens, plan->multiple_of, plan->multiple_of == 1 ? "" : "s",
                      places / plan->multiple_of, plan->multiple_of == 1 ? "has" : "have", places,
                      plan->multiple_of == 1 ? "" : " or batch.multiple_of");
}

/* The cursor's field `batch` (docs/formats/plan.md section 8), in full. */
static int write_batch_text(Feed *feed, const FeedSource *source) {
    static const char *const last[] = {"keep", "drop", "pad"};
    static const char *const tail[] = {"repeat", "drop"};
    const PlanSpec *plan = &feed->plan;
    CLEANUP(free_memory) char *boundaries = feed_boundary_text(source);
    CLEANUP(text_deinit) Text text = {0};

    if (!boundaries)
        return -ENOMEM;
    if (plan->policy == PLAN_POLICY_FIXED)
        text_add(&text, "fixed/%" PRIu32, plan->size);
    else if (plan->policy == PLAN_POLICY_BUCKET)
        text_add(&text, "bucket/%" PRIu32 "/%s/%s", plan->size, boundaries,
                 plan->shape_bucket ? "bucket" : "longest");
    else if (plan->policy == PLAN_POLICY_TOKENS)
        text_add(&text, "tokens/%" PRIu32 "/%" PRIu32, plan->tokens, plan->multiple_of);
    else
        text_add(&text, "pack/%" PRIu32 "/%" PRIu32 "/%" PRIu32 "/%" PRIu32, plan->size,
                 plan->length, plan->pool, plan->group);
    text_add(&text, "/%s/%s", last[plan->last], tail[plan->tail]);
    feed->batch_text = text.failed ? NULL : strdup(text.bytes);
    return feed->batch_text ? 0 : -ENOMEM;
}

/* What belongs to one policy. */
static int check_policy(Feed *feed, const FeedSource *source, Error *error) {
    int r = 0;

    if (feed->plan.policy == PLAN_POLICY_BUCKET)
        r = feed_settle_boundaries(feed, source, error);
    if (r == 0)
        r = check_tokens(feed, source, error);
    if (r < 0)
        return r;
    return write_batch_text(feed, source) < 0
               ? error_set(error, -ENOMEM, "no memory to open feed %s", feed->name)
               : 0;
}

int feed_check_plan(Feed *feed, const FeedSource *source, Error *error) {
    const SettingsFeed *settings = source->feed;
    int r;

    feed->plan = (PlanSpec){
        .mix = feed->mix.source_count ? &feed->mix : NULL,
        .shuffle = settings->shuffle,
        .seed = settings->seed,
        .window = settle_window(feed->catalog, settings->window),
        .strands = settings->strands,
        .policy = (PlanPolicy)settings->policy,
        .size = settings->size,
        .shape_bucket = settings->shape_bucket,
        .tokens = settings->tokens,
        .multiple_of = settings->multiple_of,
        .length = settings->length,
        .pool = settings->pool,
        .group = settings->group,
        .last = (PlanLast)settings->last,
        .tail = (PlanTail)settings->tail,
        .length_max = settle_length_max(feed->catalog, settings),
        .overflow = (PlanOverflow)settings->overflow,
        .empty = (PlanEmpty)settings->empty,
        .pad_to = settings->pad_to,
        .pad_multiple_of = settings->pad_multiple_of,
    };
    feed->threads = source->settings->threads ? source->settings->threads : processors_count();
    feed->pad_to = settings->pad_to;
    feed->pad_multiple_of = settings->pad_multiple_of;
    feed->pad_value = settings->has_pad_value ? settings->pad_value : feed_pad_id(feed);
    /* settings/ has refused it: such rows would be written beyond their slot. */
    assert(!settings->pad_to || feed->plan.length_max <= settings->pad_to);
    r = check_overflow(feed, source, error);
    return r < 0 ? r : check_policy(feed, source, error);
}

/* A sequence's pieces do not depend on its neighbours, so a block's number of them is the same in
 * every epoch: lengths are read for counting once, here, and never again. */
int feed_count_pieces(Feed *feed, Error *error) {
    const Catalog *catalog = feed->catalog;
    CLEANUP(free_memory) uint32_t *lengths = NULL;

    if (!plan_needs_lengths(&feed->plan, catalog->length_min, catalog->length_max))
        return 0;
    lengths = malloc((catalog->block_sequences_max + (size_t)1) * sizeof *lengths);
    feed->block_pieces = malloc((catalog->block_count + (size_t)1) * sizeof *feed->block_pieces);
    if (!lengths || !feed->block_pieces)
        return error_set(error, -ENOMEM, "no memory to count feed %s", feed->name);
    for (uint32_t b = 0; b < catalog->block_count; b++) {
        PlanTally tally;
        int r = catalog_read_lengths(catalog, b, lengths, error);

        if (r < 0)
            return r;
        plan_count_pieces(&feed->plan, lengths, catalog->block_sequences[b], &tally);
        if (tally.pieces > UINT32_MAX)
            return catalog_block_error(catalog, b, CATALOG_CONTENT, -EOVERFLOW, error,
                                       "splits into 2^32 rows or more");
        feed->block_pieces[b] = (uint32_t)tally.pieces;
        plan_tally_add(&feed->tally, &tally);
    }
    return 0;
}

/* What to change where a strand has no batch: one of several may want fewer beside it, else it is
 * what leaves out its rows. */
static const char *strands_key(const Feed *feed, const SettingsFeed *settings,
                               SettingsPlace *ret_place) {
    uint64_t pieces = feed->block_pieces ? feed->tally.pieces : feed->catalog->sequences;

    bool is_short = feed->plan.last == PLAN_LAST_DROP && pieces < feed->plan.size;

    *ret_place = settings->strands_place;
    if (feed->plan.strands > 1 && pieces && !is_short)
        return "order.strands";
    *ret_place = pieces ? settings->size_place : settings->overflow_place;
    if (pieces)
        return feed->plan.policy == PLAN_POLICY_TOKENS ? "batch.last" : "batch.size";
    return feed->plan.overflow == PLAN_OVERFLOW_DROP ? "length.overflow" : "length.empty";
}

int feed_check_strands(Feed *feed, const FeedSource *source, Error *error) {
    SettingsPlace place;
    const char *key = strands_key(feed, source->feed, &place);
    FeedEpoch *epoch;
    Error reason = {0};
    int r = feed_epoch_get(feed, feed->plan.seed, 0, NULL, &epoch, &reason);

    if (place.line == 0 && place.column == 0)
        place = source->feed->place;
    if (r == -ENODATA)
        return feed_error(source, error, place, key, "%s", reason.text);
    if (r < 0)
        return error_set(error, r, "%s", reason.text);
    feed_epoch_unref(feed, epoch);
    return 0;
}

int feed_check_memory(const Feed *feed, const FeedSource *source, Error *error) {
    const FeedMemory memory = feed_memory(feed, 1, feed->plan.strands);
    const Settings *settings = source->settings;
    SettingsPlace place = settings->memory_place;
    uint64_t need = memory.total + feed->index_bytes;
    char total[32], rings[32], windows[32], buffers[32], index[32], limit[32];
    bool in_gib = need >> 34 > 0; /* few digits to type, and not much more than needed */

    if (need <= settings->memory)
        return 0;
    if (place.line == 0 && place.column == 0)
        place = source->feed->place;
    return settings_error(
        error, settings->path, place, "memory",
        "feed %s needs %s with one ring (rings %s, windows %s, buffers %s, index %s), memory is "
        "%s: raise memory to at least %" PRIu64
        "%s, or lower threads, batch.size, order.window, ring.slots or length.max",
        feed->name, text_format_size(total, need), text_format_size(rings, memory.rings),
        text_format_size(windows, memory.windows), text_format_size(buffers, memory.buffers),
        text_format_size(index, feed->index_bytes), text_format_size(limit, settings->memory),
        divide_up(need, UINT64_C(1) << (in_gib ? 30 : 20)), in_gib ? "GiB" : "MiB");
}

int feed_check_together(Feed *const *feeds, uint32_t count, const Settings *settings,
                        Error *error) {
    const Feed *largest = NULL;
    uint64_t index_bytes = 0, most = 0, need;
    char index[32], own[32], limit[32];

    for (uint32_t i = 0; i < count; i++) {
        FeedMemory memory = feed_memory(feeds[i], 1, feeds[i]->plan.strands);

        index_bytes += feeds[i]->index_bytes;
        if (memory.total > most) {
            most = memory.total;
            largest = feeds[i];
        }
    }
    need = index_bytes + most;
    if (!largest || need <= settings->memory)
        return 0;
    return settings_error(
        error, settings->path, settings->memory_place, "memory",
        "the indexes of all %u feeds take %s, and feed %s needs %s beside them with one ring, "
        "memory is %s: raise memory to at least %" PRIu64
        "MiB, or give some feeds a daemon of their own",
        count, text_format_size(index, index_bytes), largest->name, text_format_size(own, most),
        text_format_size(limit, settings->memory), divide_up(need, UINT64_C(1) << 20));
}
