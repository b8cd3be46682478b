/* SPDX-License-Identifier: MIT */
#include "feed/feed.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "feed/feed_internal.h"
#include "mask/token_lists.h"

int feed_error(const FeedSource *source, Error *error, SettingsPlace place, const char *key,
               const char *format, ...) {
    char path[SETTINGS_NAME + 128], sentence[sizeof error->text];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "feeds.%s.%s", source->feed->name, key);
    return settings_error(error, source->settings->path, place, path, "%s", sentence);
}

static int out_of_memory(const char *name, Error *error) {
    return error_set(error, -ENOMEM, "no memory to open feed %s", name);
}

/* A copy of `count` ids; *ret_copy may stay NULL when there are none. */
static bool copy_ids(const uint32_t *ids, uint32_t count, uint32_t **ret_copy,
                     uint32_t *ret_count) {
    if (count == 0)
        return true;
    *ret_copy = malloc(count * sizeof **ret_copy);
    if (!*ret_copy)
        return false;
    memcpy(*ret_copy, ids, count * sizeof **ret_copy);
    *ret_count = count;
    return true;
}

static Feed *feed_new(const SettingsFeed *settings) {
    Feed *feed = calloc(1, sizeof *feed);

    if (!feed)
        return NULL;
    if (pthread_mutex_init(&feed->lock, NULL) != 0) {
        free(feed);
        return NULL;
    }
    feed->references = 1;
    memcpy(feed->name, settings->name, sizeof feed->name);
    feed->slots = settings->slots;
    feed->wants_device = settings->backend != SETTINGS_BACKEND_CPU;
    memcpy(feed->device, settings->device, sizeof feed->device);
    if (!copy_ids(settings->allow_users, settings->allow_user_count, &feed->allow_users,
                  &feed->allow_user_count) ||
        !copy_ids(settings->allow_groups, settings->allow_group_count, &feed->allow_groups,
                  &feed->allow_group_count)) {
        feed_unref(feed);
        return NULL;
    }
    return feed;
}

static void unref_feed(Feed **feed) {
    feed_unref(*feed);
}

int feed_open(const Settings *settings, const SettingsFeed *feed_settings, Feed **ret_feed,
              Error *error) {
    CLEANUP(unref_feed) Feed *feed = feed_new(feed_settings);
    const FeedSource source = {.settings = settings, .feed = feed_settings};
    int r;

    if (!feed)
        return out_of_memory(feed_settings->name, error);
    r = feed_open_datasets(feed, &source, error);
    if (r == 0)
        r = feed_check_plan(feed, &source, error);
    if (r == 0)
        r = feed_check_tensors(feed, &source, error);
    if (r == 0)
        r = feed_count_pieces(feed, error);
    if (r < 0)
        return r;
    r = feed_bound_windows(feed);
    if (r == -EOVERFLOW)
        return feed_error(&source, error, feed_settings->window_place, "order.window",
                          "a window of %u blocks could hold 2^32 rows or more: lower it",
                          feed->plan.window);
    if (r < 0)
        return out_of_memory(feed_settings->name, error);
    feed->index_bytes = feed_index_bytes(feed);
    r = feed_check_memory(feed, &source, error);
    if (r == 0)
        r = feed_check_strands(feed, &source, error);
    if (r < 0)
        return r;
    feed_find_warnings(feed, &source);
    *ret_feed = feed;
    feed = NULL;
    return 0;
}

int feed_open_direct(Feed *feed, Error *error) {
    Error reason = {0};
    int r = catalog_open_direct(feed->catalog, &reason);

    return r < 0 ? error_set(error, r, "feed %s: %.400s", feed->name, reason.text) : 0;
}

Feed *feed_ref(Feed *feed) {
    __atomic_add_fetch(&feed->references, 1, __ATOMIC_RELAXED);
    return feed;
}

void feed_unref(Feed *feed) {
    if (!feed || __atomic_sub_fetch(&feed->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (uint32_t i = 0; i < FEED_EPOCHS_KEPT; i++)
        feed_epoch_unref(feed, feed->epochs[i]);
    pthread_mutex_destroy(&feed->lock);
    token_lists_free(&feed->tensors);
    catalog_free(feed->catalog);
    free(feed->mix.sources);
    free(feed->source_names);
    free(feed->source_times);
    free(feed->data_text);
    free(feed->block_pieces);
    free(feed->boundaries);
    free(feed->batch_text);
    free(feed->allow_users);
    free(feed->allow_groups);
    free(feed);
}

int feed_variant_init(const Feed *feed, const PlanSpec *plan, Feed *ret_variant) {
    int r;

    *ret_variant = *feed;
    ret_variant->plan = *plan;
    ret_variant->pad_to = plan->pad_to;
    ret_variant->pad_multiple_of = MAX(plan->pad_multiple_of, 1u);
    ret_variant->references = 1;
    for (uint32_t i = 0; i < FEED_EPOCHS_KEPT; i++)
        ret_variant->epochs[i] = NULL;
    if (pthread_mutex_init(&ret_variant->lock, NULL) != 0)
        return -ENOMEM;
    r = feed_bound_windows(ret_variant);
    if (r < 0)
        pthread_mutex_destroy(&ret_variant->lock);
    return r;
}

void feed_variant_deinit(Feed *variant) {
    for (uint32_t i = 0; i < FEED_EPOCHS_KEPT; i++)
        feed_epoch_unref(variant, variant->epochs[i]);
    pthread_mutex_destroy(&variant->lock);
}

uint32_t feed_padded_length(const Feed *feed, uint32_t longest) {
    uint32_t length = feed->pad_to ? feed->pad_to : plan_shape_length(&feed->plan, longest);

    return (uint32_t)align_up(length, feed->pad_multiple_of);
}

PlanSpec feed_plan_spec(const Feed *feed, uint64_t seed) {
    PlanSpec spec = feed->plan;

    spec.seed = seed;
    return spec;
}
