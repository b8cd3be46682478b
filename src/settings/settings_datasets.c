/* SPDX-License-Identifier: MIT */
/* The keys datasets (a mapping of names to {path, weight}) and mix.until (first, all or a number).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "settings/settings_value.h"

enum { DIGITS_BEHIND = 6 };
#define WEIGHT_LIMIT (UINT64_C(1000000) * SETTINGS_WEIGHT_ONE)

static const SettingsKey path_key = {.path = "path",
                                     .type = SETTINGS_KEY_PATH,
                                     .min = 1,
                                     .max = 4095,
                                     .offset = offsetof(SettingsDataset, path),
                                     .bytes = sizeof(char *),
                                     .place = offsetof(SettingsDataset, path_place)};

/* A decimal number, exactly, in millionths. */
static bool parse_weight(const char *text, uint64_t *ret_weight) {
    uint64_t whole, behind = 0;
    const char *point = strchr(text, '.');
    size_t length = point ? (size_t)(point - text) : strlen(text);
    char number[24];

    if (length == 0 || length >= sizeof number || (length > 1 && text[0] == '0'))
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    if (!text_parse_u64(number, 0, WEIGHT_LIMIT / SETTINGS_WEIGHT_ONE, &whole))
        return false;
    if (point) {
        size_t digits = strlen(point + 1);

        if (digits == 0 || digits > DIGITS_BEHIND ||
            !text_parse_u64(point + 1, 0, UINT64_MAX, &behind))
            return false;
        for (; digits < DIGITS_BEHIND; digits++)
            behind *= 10;
    }
    *ret_weight = whole * SETTINGS_WEIGHT_ONE + behind;
    return *ret_weight > 0 && *ret_weight <= WEIGHT_LIMIT;
}

static int read_weight(const SettingsReader *reader, const DocumentNode *node,
                       SettingsDataset *dataset) {
    static const char allowed[] = "a number above 0 and up to 1000000, with at most 6 digits "
                                  "behind the point, such as 0.25";
    const char *text = settings_value_text(reader, node, allowed);

    if (!text)
        return -EINVAL;
    if (!parse_weight(text, &dataset->weight))
        return settings_value_error(reader, node, "'%.60s' is no weight, allowed: %s", text,
                                    allowed);
    return 0;
}

static int read_dataset(const SettingsReader *reader, const DocumentNode *node,
                        SettingsDataset *dataset) {
    int r = 0;

    if (!settings_value_is_name(node->key, sizeof dataset->name))
        return settings_value_error(reader, node->parent,
                                    "'%.80s' is no name for a dataset, allowed: 1 to %zu of the "
                                    "characters A-Z a-z 0-9 . _ -",
                                    node->key, sizeof dataset->name - 1);
    strcpy(dataset->name, node->key);
    dataset->place = node->key_place;
    dataset->weight = SETTINGS_WEIGHT_ONE;
    if (node->kind != DOCUMENT_MAPPING)
        return settings_value_error(reader, node,
                                    "must be a mapping such as {path: %.40s, "
                                    "weight: 1}",
                                    node->kind == DOCUMENT_SCALAR && *node->text ? node->text
                                                                                 : "corpus");
    for (const DocumentNode *child = node->first; child && r == 0; child = child->next) {
        char path[DOCUMENT_PATH_BYTES];

        if (strcmp(child->key, "path") == 0)
            r = settings_value_read(reader, &path_key, child, dataset);
        else if (strcmp(child->key, "weight") == 0)
            r = read_weight(reader, child, dataset);
        else
            r = settings_error(reader->error, reader->name, child->key_place,
                               document_path(child, path), "unknown key, allowed: path, weight");
    }
    if (r == 0 && !dataset->path)
        return settings_value_error(reader, node, "has no path: a directory with dataset.json");
    return r;
}

void settings_datasets_free(SettingsFeed *feed) {
    for (uint32_t d = 0; d < feed->dataset_count; d++)
        free(feed->datasets[d].path);
    free(feed->datasets);
    feed->datasets = NULL;
    feed->dataset_count = 0;
}

int settings_datasets_read(const SettingsReader *reader, const DocumentNode *node,
                           SettingsFeed *feed) {
    int r = 0;

    if (node->kind != DOCUMENT_MAPPING || node->child_count == 0)
        return settings_value_error(reader, node,
                                    "must be a mapping of names to datasets, such as "
                                    "{web: {path: web, weight: 1}}");
    if (node->child_count > SETTINGS_DATASETS_MAX)
        return settings_value_error(reader, node, "has %" PRIu32 " datasets, allowed: at most %d",
                                    node->child_count, SETTINGS_DATASETS_MAX);
    settings_datasets_free(feed);
    feed->datasets = calloc(node->child_count, sizeof *feed->datasets);
    if (!feed->datasets)
        return error_set(reader->error, -ENOMEM, "%s: out of memory", reader->name);
    for (const DocumentNode *child = node->first; child && r == 0; child = child->next)
        r = read_dataset(reader, child, &feed->datasets[feed->dataset_count++]);
    return r;
}

int settings_until_read(const SettingsReader *reader, const DocumentNode *node,
                        SettingsFeed *feed) {
    static const char allowed[] =
        "first, all, or a number of sequences or tokens from 1 to 2^62 - 1";
    const char *text = settings_value_text(reader, node, allowed);

    if (!text)
        return -EINVAL;
    feed->until = strcmp(text, "first") == 0 ? SETTINGS_UNTIL_FIRST
                  : strcmp(text, "all") == 0 ? SETTINGS_UNTIL_ALL
                                             : SETTINGS_UNTIL_COUNT;
    feed->until_count = 0;
    if (feed->until == SETTINGS_UNTIL_COUNT &&
        (text[0] == '0' || !text_parse_u64(text, 1, (UINT64_C(1) << 62) - 1, &feed->until_count)))
        return settings_value_error(reader, node, "'%.60s' is not known, allowed: %s", text,
                                    allowed);
    return 0;
}
