/* SPDX-License-Identifier: MIT */
/* The dataset of a feed, or its several datasets: opened, joined, and made the sources of a mix
 * (docs/formats/plan.md section 11). */
#include "feed/feed_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bytes.h"
#include "base/text.h"
#include "shard/column.h"

static_assert((int)SETTINGS_UNTIL_COUNT == PLAN_UNTIL_COUNT, "converted by value");
static_assert((int)SETTINGS_DATASETS_MAX <= PLAN_SOURCES_MAX, "all that are listed fit");

/* Catalogs that nobody has taken over. */
typedef struct Parts {
    Catalog *catalogs[SETTINGS_DATASETS_MAX];
    uint32_t count;
} Parts;

static void close_parts(Parts *parts) {
    for (uint32_t p = 0; p < parts->count; p++)
        catalog_free(parts->catalogs[p]);
}

static int out_of_memory(const Feed *feed, Error *error) {
    return error_set(error, -ENOMEM, "no memory for the datasets of feed %s", feed->name);
}

/* An error in datasets.NAME.path. */
static int dataset_error(const FeedSource *source, const SettingsDataset *dataset, Error *error,
                         const char *sentence) {
    char key[SETTINGS_NAME + 32];

    snprintf(key, sizeof key, "datasets.%s.path", dataset->name);
    return feed_error(source, error, dataset->path_place, key, "%s", sentence);
}

static int open_one(const FeedSource *source, Catalog **ret_catalog, Error *error) {
    Error reason = {0};
    int r = catalog_open(source->feed->dataset, ret_catalog, &reason);

    if (r < 0) {
        feed_error(source, error, source->feed->dataset_place, "dataset", "%s", reason.text);
        if (error)
            error->code = r;
        return r;
    }
    if ((*ret_catalog)->sequences == 0)
        return feed_error(source, error, source->feed->dataset_place, "dataset",
                          "%s holds no sequences", source->feed->dataset);
    return 0;
}

static int open_part(const FeedSource *source, const SettingsDataset *dataset, Parts *parts,
                     Error *error) {
    Catalog *catalog = NULL;
    Error reason = {0};
    int r = catalog_open(dataset->path, &catalog, &reason);

    if (r < 0) {
        dataset_error(source, dataset, error, reason.text);
        if (error)
            error->code = r;
        return r;
    }
    parts->catalogs[parts->count++] = catalog;
    if (catalog->sequences == 0)
        return dataset_error(source, dataset, error, "holds no sequences");
    if (source->feed->unit == SETTINGS_UNIT_TOKENS && catalog->tokens == 0)
        return dataset_error(source, dataset, error,
                             "holds no tokens, and mix.unit is tokens: set it to sequences");
    return 0;
}

static void describe_column(const CatalogColumn *column, Text *text) {
    text_add(text, "%s", element_name(column->type));
    if (column->width > 1)
        text_add(text, " x %" PRIu32, column->width);
    text_add(text, " (%s)", column_kind_name(column->kind));
}

bool feed_column_agrees(const Feed *feed, uint32_t column, Text *text) {
    const Catalog *catalog = feed->catalog;
    int part = catalog_column_differs(catalog, column);
    const CatalogPart *differing;
    uint32_t first = 0;

    if (part < 0)
        return true;
    while (catalog->parts[first].columns[column] == CATALOG_NO_COLUMN)
        first++;
    differing = &catalog->parts[part];
    text_add(text, "column '%s' is ", catalog->columns[column].name);
    describe_column(&catalog->columns[column], text);
    text_add(text, " in dataset %s, but dataset %s has ", feed->source_names[first],
             feed->source_names[part]);
    if (differing->columns[column] == CATALOG_NO_COLUMN)
        text_add(text, "none of that name");
    else
        describe_column(&differing->catalog->columns[differing->columns[column]], text);
    text_add(text, ": what a tensor is made of must be the same in all; pack one of them again, or "
                   "name tensors that do without");
    return false;
}

/* Tokens are what every feed is about. */
static int check_tokens(const Feed *feed, const FeedSource *source, Error *error) {
    CLEANUP(text_deinit) Text text = {0};
    int part;

    if (feed_column_agrees(feed, 0, &text))
        return 0;
    part = catalog_column_differs(feed->catalog, 0);
    return dataset_error(source, &source->feed->datasets[part], error,
                         text.failed ? "no memory" : text.bytes);
}

static int64_t own_pad(const Catalog *catalog) {
    return catalog->has_pad_id ? catalog->pad_id : 0;
}

int64_t feed_pad_id(const Feed *feed) {
    return own_pad(feed->catalog->parts ? feed->catalog->parts[0].catalog : feed->catalog);
}

static int check_pads(const Feed *feed, const FeedSource *source, Error *error) {
    const CatalogPart *parts = feed->catalog->parts;

    for (uint32_t p = 1; p < feed->catalog->part_count && !source->feed->has_pad_value; p++)
        if (own_pad(parts[p].catalog) != own_pad(parts[0].catalog))
            return feed_error(source, error, source->feed->datasets_place, "datasets",
                              "dataset %s is padded with %" PRId64 ", dataset %s with %" PRId64
                              ": set pad.value",
                              feed->source_names[0], own_pad(parts[0].catalog),
                              feed->source_names[p], own_pad(parts[p].catalog));
    return 0;
}

/* The weight as a person would write it. */
static void add_weight(Text *text, uint64_t weight) {
    uint64_t behind = weight % SETTINGS_WEIGHT_ONE;
    int digits = 6;

    text_add(text, "%" PRIu64, weight / SETTINGS_WEIGHT_ONE);
    if (behind == 0)
        return;
    for (; behind % 10 == 0; behind /= 10)
        digits--;
    text_add(text, ".%0*" PRIu64, digits, behind);
}

/* What a cursor says of the datasets: their hash, and all of it for people. */
static int name_data(Feed *feed, const FeedSource *source) {
    CLEANUP(text_deinit) Text bytes = {0}, text = {0};
    XXH128_canonical_t canonical;
    char id[33];

    for (uint32_t s = 0; s < source->feed->dataset_count; s++) {
        const SettingsDataset *dataset = &source->feed->datasets[s];
        const uint8_t *own = feed->catalog->parts[s].catalog->id;
        uint8_t weight[8];

        bytes_put_u64(weight, dataset->weight);
        text_add_bytes(&bytes, dataset->name, strlen(dataset->name) + 1);
        text_add_bytes(&bytes, own, 16);
        text_add_bytes(&bytes, weight, sizeof weight);
        text_format_hex(id, own, 16);
        text_add(&text, "%s%s %s weight ", s ? ", " : " of ", dataset->name, id);
        add_weight(&text, dataset->weight);
    }
    if (bytes.failed)
        return -ENOMEM;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.bytes, bytes.size));
    memcpy(feed->data_id, canonical.digest, sizeof feed->data_id);
    text_format_hex(id, feed->data_id, 16);
    if (asprintf(&feed->data_text, "%s%s", id, text.failed ? "" : text.bytes) < 0)
        feed->data_text = NULL;
    return feed->data_text ? 0 : -ENOMEM;
}

static int make_mix(Feed *feed, const FeedSource *source, Error *error) {
    const SettingsFeed *settings = source->feed;
    const Catalog *catalog = feed->catalog;
    bool by_tokens = settings->unit == SETTINGS_UNIT_TOKENS;
    const char *const units[] = {"sequences", "tokens"};
    PlanMix *mix = &feed->mix;

    for (uint32_t s = 0; s < settings->dataset_count; s++) {
        const Catalog *part = catalog->parts[s].catalog;

        mix->sources[s] = (PlanSource){.first_block = catalog->parts[s].first_block,
                                       .block_count = part->block_count,
                                       .total = by_tokens ? part->tokens : part->sequences,
                                       .weight = settings->datasets[s].weight};
    }
    mix->source_count = settings->dataset_count;
    mix->until = (PlanUntil)settings->until;
    mix->count = settings->until_count;
    plan_mix_settle(mix);
    if (mix->until == PLAN_UNTIL_COUNT)
        snprintf(feed->mix_text, sizeof feed->mix_text, "%s/%" PRIu64, units[settings->unit],
                 mix->count);
    else
        snprintf(feed->mix_text, sizeof feed->mix_text, "%s/%s", units[settings->unit],
                 mix->until == PLAN_UNTIL_FIRST ? "first" : "all");
    if (mix->blocks_max > UINT32_MAX)
        return feed_error(source, error, settings->until_place, "mix.until",
                          "an epoch could have %" PRIu64 " blocks, allowed: below 2^32; lower it, "
                          "or bring the weights closer together",
                          mix->blocks_max);
    return name_data(feed, source) < 0 ? out_of_memory(feed, error) : 0;
}

static int join_parts(Feed *feed, const FeedSource *source, Parts *parts, Error *error) {
    uint32_t count = source->feed->dataset_count;
    int r = catalog_join(parts->catalogs, count, &feed->catalog, error);

    assert(count > 0); /* the settings have seen to it */
    if (r < 0)
        return r;
    parts->count = 0;
    feed->source_names = calloc(count, sizeof *feed->source_names);
    feed->mix.sources = calloc(count, sizeof *feed->mix.sources);
    if (!feed->source_names || !feed->mix.sources)
        return out_of_memory(feed, error);
    for (uint32_t s = 0; s < count; s++)
        strcpy(feed->source_names[s], source->feed->datasets[s].name);
    r = check_tokens(feed, source, error);
    if (r == 0)
        r = check_pads(feed, source, error);
    return r < 0 ? r : make_mix(feed, source, error);
}

static int open_several(Feed *feed, const FeedSource *source, Error *error) {
    const SettingsFeed *settings = source->feed;
    CLEANUP(close_parts) Parts parts = {0};
    int r = 0;

    for (uint32_t d = 0; d < settings->dataset_count && r == 0; d++)
        r = open_part(source, &settings->datasets[d], &parts, error);
    if (r < 0)
        return r;
    if (settings->dataset_count > 1 || settings->until == SETTINGS_UNTIL_COUNT)
        return join_parts(feed, source, &parts, error);
    feed->catalog = parts.catalogs[0];
    parts.count = 0;
    return 0;
}

int feed_open_datasets(Feed *feed, const FeedSource *source, Error *error) {
    int r = source->feed->dataset ? open_one(source, &feed->catalog, error)
                                  : open_several(feed, source, error);

    if (r < 0)
        return r;
    assert(feed->catalog);
    feed->blocks = (PlanBlocks){.sequences = feed->catalog->block_sequences,
                                .tokens = feed->catalog->block_tokens,
                                .count = feed->catalog->block_count};
    if (!feed->data_text)
        memcpy(feed->data_id, feed->catalog->id, sizeof feed->data_id);
    return 0;
}
