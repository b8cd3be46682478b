/* SPDX-License-Identifier: MIT */
/* What a feed can do but hardly is meant to: found when it is opened, said by whoever opened it. */
#include "feed/feed_internal.h"

#include <inttypes.h>
#include <math.h>

#define SHARE_OFF 0.2 /* of a dataset's weight: more deserves a word */

/* The sentence of an error that is none. */
static void warn(Feed *feed, const Error *error) {
    if (feed->warning_count < FEED_WARNINGS_MAX)
        feed->warnings[feed->warning_count++] = *error;
}

static bool is_used(const Feed *feed, uint32_t column) {
    for (uint32_t t = 0; t < feed->tensors.count; t++) {
        const TensorSpec *tensor = &feed->tensors.tensors[t];

        if ((tensor->source == TENSOR_TOKEN_COLUMN || tensor->source == TENSOR_SEQUENCE_COLUMN) &&
            tensor->column == column)
            return true;
    }
    return false;
}

static bool makes_labels(SettingsPreset preset) {
    return preset == SETTINGS_PRESET_HF_CAUSAL_LM || preset == SETTINGS_PRESET_MEGATRON ||
           preset == SETTINGS_PRESET_HF_PACKED_LM;
}

/* Who brought labels for each token does not want the tokens learned, prompts included. */
static void warn_of_labels(Feed *feed, const FeedSource *source) {
    static const char *const names[] = {[SETTINGS_PRESET_SEED] = "seed",
                                        [SETTINGS_PRESET_HF_CLASSIFICATION] = "hf_classification",
                                        [SETTINGS_PRESET_HF_CAUSAL_LM] = "hf_causal_lm",
                                        [SETTINGS_PRESET_MEGATRON] = "megatron",
                                        [SETTINGS_PRESET_HF_PACKED_LM] = "hf_packed_lm"};
    const SettingsFeed *settings = source->feed;
    int column = catalog_find_column(feed->catalog, "labels");
    Error error = {0};
    uint32_t kind;

    if (!settings->tensors_preset || column < 0 || is_used(feed, (uint32_t)column))
        return;
    kind = feed->catalog->columns[column].kind;
    if (kind == SHARD_KIND_SEQUENCE && makes_labels(settings->preset))
        return; /* a class, which language models have no use for */
    (void)feed_error(
        source, &error, settings->tensors_place, "tensors",
        "the dataset has a %s column 'labels', which %s does not use%s: %s",
        kind == SHARD_KIND_RAGGED  ? "ragged"
        : kind == SHARD_KIND_TOKEN ? "per-token"
                                   : "per-sequence",
        names[settings->preset],
        makes_labels(settings->preset) ? ", whose labels are the tokens themselves" : "",
        kind == SHARD_KIND_RAGGED
            ? "tensors are made of columns with one value for each token or sequence"
            : "to train on it write tensors as a mapping, with labels: {from: labels}");
    warn(feed, &error);
}

static uint64_t taken(const PlanSourceSpan *span, bool tokens) {
    return tokens ? span->tokens : span->sequences;
}

/* The source whose part of the epoch is the farthest from its weight, with both; how far is
 * returned, in parts of the weight. */
static double find_farthest(const Feed *feed, const PlanEpoch *plan, bool tokens,
                            uint32_t *ret_source, double *ret_part, double *ret_wanted) {
    double farthest = 0, weights = 0, all = 0;

    for (uint32_t s = 0; s < feed->mix.source_count; s++) {
        weights += (double)feed->mix.sources[s].weight;
        all += (double)taken(&plan->sources[s], tokens);
    }
    for (uint32_t s = 0; s < feed->mix.source_count && all > 0; s++) {
        double wanted = (double)feed->mix.sources[s].weight / weights;
        double part = (double)taken(&plan->sources[s], tokens) / all;

        if (fabs(part - wanted) / wanted <= farthest)
            continue;
        farthest = fabs(part - wanted) / wanted;
        *ret_source = s;
        *ret_part = part;
        *ret_wanted = wanted;
    }
    return farthest;
}

/* Weights are kept by whole blocks, dealt by chance: in an epoch of a few they are not kept. Epoch
 * 0 has been counted already, and later ones have about as many blocks. */
static void warn_of_shares(Feed *feed, const FeedSource *source) {
    bool tokens = source->feed->unit == SETTINGS_UNIT_TOKENS;
    const char *unit = tokens ? "tokens" : "sequences";
    double part = 0, wanted = 0, farthest;
    uint32_t blocks = 0, own, s = 0;
    Error error = {0};
    FeedEpoch *epoch;

    if (feed->mix.source_count < 2 ||
        feed_epoch_get(feed, feed->plan.seed, 0, NULL, &epoch, NULL) < 0)
        return;
    farthest = find_farthest(feed, epoch->plan, tokens, &s, &part, &wanted);
    for (uint32_t i = 0; i < feed->mix.source_count; i++)
        blocks += epoch->plan->sources[i].blocks;
    own = epoch->plan->sources[s].blocks;
    feed_epoch_unref(feed, epoch);
    if (farthest <= SHARE_OFF)
        return;
    (void)feed_error(
        source, &error, source->feed->datasets_place, "mix",
        "epoch 0 takes %.3g %% of its %s from '%s', whose weight says %.3g %%: weights "
        "are kept by whole blocks, and %" PRIu32 " of this epoch's %" PRIu32
        " %s from there; pack small datasets into more blocks (seqfeed pack --block "
        "4KiB), or set mix.until to as many %s as take many blocks",
        100 * part, unit, feed->source_names[s], 100 * wanted, own, blocks,
        own == 1 ? "comes" : "come", unit);
    warn(feed, &error);
}

void feed_find_warnings(Feed *feed, const FeedSource *source) {
    warn_of_labels(feed, source);
    warn_of_shares(feed, source);
}
