/* SPDX-License-Identifier: MIT */
/* The boundaries of policy bucket, settled as docs/formats/plan.md section 2 says. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arithmetic.h"
#include "feed/feed_internal.h"

enum { GEOMETRIC_FIRST = 8 };

static void free_memory(void *pointer) {
    free(*(void **)pointer);
}

/* Adds a boundary unless it does not rise or reaches `longest`; that one ends the list. */
static void add_boundary(Feed *feed, uint64_t boundary, uint32_t longest) {
    uint32_t *count = &feed->plan.boundary_count;

    if (boundary >= 1 && boundary < longest && *count + 1 < PLAN_BOUNDARIES_MAX &&
        (*count == 0 || boundary > feed->boundaries[*count - 1]))
        feed->boundaries[(*count)++] = (uint32_t)boundary;
}

static int compare_numbers(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* All lengths of the dataset, cut to length.max and sorted. */
static int read_sorted(const Feed *feed, uint32_t *lengths, Error *error) {
    const Catalog *catalog = feed->catalog;
    uint64_t at = 0;

    for (uint32_t b = 0; b < catalog->block_count; b++) {
        int r = catalog_read_lengths(catalog, b, lengths + at, error);

        if (r < 0)
            return r;
        at += catalog->block_sequences[b];
    }
    for (uint64_t i = 0; i < at; i++)
        lengths[i] = MIN(lengths[i], feed->plan.length_max);
    qsort(lengths, at, sizeof *lengths, compare_numbers);
    return 0;
}

static int add_quantiles(Feed *feed, uint32_t parts, uint32_t longest, Error *error) {
    uint64_t count = feed->catalog->sequences;
    CLEANUP(free_memory) uint32_t *lengths = malloc((count + 1) * sizeof *lengths);
    int r;

    if (!lengths)
        return error_set(error, -ENOMEM, "no memory for the lengths of feed %s", feed->name);
    r = read_sorted(feed, lengths, error);
    for (uint64_t k = 1; k < parts && r == 0; k++)
        add_boundary(feed, lengths[divide_up(k * count, parts) - 1], longest);
    return r;
}

uint32_t feed_geometric_boundaries(uint32_t longest, uint32_t factor,
                                   uint32_t ret_boundaries[PLAN_BOUNDARIES_MAX]) {
    uint32_t count = 0;

    for (uint64_t b = GEOMETRIC_FIRST; b < longest && count + 1 < PLAN_BOUNDARIES_MAX;
         b = MAX(b + 1, b * factor / 1000))
        ret_boundaries[count++] = (uint32_t)b;
    ret_boundaries[count++] = longest;
    return count;
}

int feed_settle_boundaries(Feed *feed, const FeedSource *source, Error *error) {
    const SettingsFeed *settings = source->feed;
    uint32_t longest = feed_longest_piece(feed);
    int r = 0;

    feed->boundaries = calloc(PLAN_BOUNDARIES_MAX, sizeof *feed->boundaries);
    if (!feed->boundaries)
        return error_set(error, -ENOMEM, "no memory for the buckets of feed %s", feed->name);
    if (settings->boundary_kind == SETTINGS_BOUNDARIES_LISTED)
        for (uint32_t i = 0; i < settings->boundary_count; i++)
            add_boundary(feed, settings->boundaries[i], longest);
    else if (settings->boundary_kind == SETTINGS_BOUNDARIES_QUANTILES)
        r = add_quantiles(feed, settings->boundary_count, longest, error);
    else
        for (uint64_t b = GEOMETRIC_FIRST; b < longest;
             b = MAX(b + 1, b * settings->boundary_factor / 1000))
            add_boundary(feed, b, longest);
    feed->boundaries[feed->plan.boundary_count++] = longest;
    feed->plan.boundaries = feed->boundaries;
    return r;
}

char *feed_boundary_text(const FeedSource *source) {
    const SettingsFeed *settings = source->feed;
    size_t room = 16 + settings->boundary_count * (size_t)11, used = 0;
    char *text = malloc(room);

    if (!text)
        return NULL;
    if (settings->boundary_kind == SETTINGS_BOUNDARIES_GEOMETRIC)
        snprintf(text, room, "g%" PRIu32, settings->boundary_factor);
    else if (settings->boundary_kind == SETTINGS_BOUNDARIES_QUANTILES)
        snprintf(text, room, "q%" PRIu32, settings->boundary_count);
    for (uint32_t i = 0; settings->boundaries && i < settings->boundary_count; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%" PRIu32, i ? "," : "",
                                 settings->boundaries[i]);
    return text;
}
