/* SPDX-License-Identifier: MIT */
/* The key batch.boundaries: auto, a list, {geometric: 1.25} or {quantiles: 16}. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "settings/settings_value.h"

enum {
    FACTOR_MIN = 1010, /* thousandths */
    FACTOR_MAX = 10000,
    BOUNDARY_MAX = 1 << 30
};

static const char allowed[] = "auto, a list of lengths such as [64, 128, 512], "
                              "{geometric: 1.01 to 10}, {quantiles: 2 to 256}";

static int read_list(const SettingsReader *reader, const DocumentNode *node, SettingsFeed *feed) {
    uint32_t *boundaries = calloc(node->child_count + 1, sizeof *boundaries), count = 0;

    if (!boundaries)
        return error_set(reader->error, -ENOMEM, "%s: out of memory", reader->name);
    free(feed->boundaries);
    feed->boundaries = boundaries;
    if (node->child_count == 0 || node->child_count > SETTINGS_BOUNDARIES_MAX)
        return settings_value_error(reader, node, "has %u boundaries, allowed: 1 to %d",
                                    node->child_count, SETTINGS_BOUNDARIES_MAX);
    for (const DocumentNode *child = node->first; child; child = child->next) {
        const char *text = settings_value_text(reader, child, "a length");
        uint64_t length;

        if (!text)
            return -EINVAL;
        if (!text_parse_u64(text, 1, BOUNDARY_MAX, &length))
            return settings_value_error(reader, child, "'%.60s' is no length, allowed: 1 to %d",
                                        text, BOUNDARY_MAX);
        if (count > 0 && length <= boundaries[count - 1])
            return settings_value_error(reader, child, "%.60s comes after %u: boundaries rise",
                                        text, boundaries[count - 1]);
        boundaries[count++] = (uint32_t)length;
    }
    feed->boundary_kind = SETTINGS_BOUNDARIES_LISTED;
    feed->boundary_count = count;
    return 0;
}

/* "1.25" as 1250; at most three decimals. */
static bool parse_factor(const char *text, uint32_t *ret_factor) {
    uint64_t whole = 0, thousandths = 0, place = 100;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 2 || (text[digits] && text[digits] != '.'))
        return false;
    for (size_t i = 0; i < digits; i++)
        whole = whole * 10 + (uint64_t)(text[i] - '0');
    for (const char *at = text + digits + (text[digits] == '.'); *at; at++, place /= 10) {
        if (*at < '0' || *at > '9' || place == 0)
            return false;
        thousandths += place * (uint64_t)(*at - '0');
    }
    *ret_factor = (uint32_t)(whole * 1000 + thousandths);
    return *ret_factor >= FACTOR_MIN && *ret_factor <= FACTOR_MAX;
}

static int read_rule(const SettingsReader *reader, const DocumentNode *node, SettingsFeed *feed) {
    const DocumentNode *child = node->first;
    const char *text;
    uint64_t count;

    if (node->child_count != 1)
        return settings_value_error(reader, node, "must be one of: %s", allowed);
    text = settings_value_text(reader, child, allowed);
    if (!text)
        return -EINVAL;
    if (strcmp(child->key, "geometric") == 0) {
        if (!parse_factor(text, &feed->boundary_factor))
            return settings_value_error(reader, child,
                                        "'%.60s' is no factor, allowed: 1.01 to 10, with at most "
                                        "three decimals",
                                        text);
        feed->boundary_kind = SETTINGS_BOUNDARIES_GEOMETRIC;
        return 0;
    }
    if (strcmp(child->key, "quantiles") != 0)
        return settings_error(reader->error, reader->name, child->key_place, child->key,
                              "unknown key, allowed: geometric, quantiles");
    if (!text_parse_u64(text, 2, SETTINGS_BOUNDARIES_MAX, &count))
        return settings_value_error(reader, child,
                                    "'%.60s' is no number of buckets, allowed: 2 to "
                                    "%d",
                                    text, SETTINGS_BOUNDARIES_MAX);
    feed->boundary_kind = SETTINGS_BOUNDARIES_QUANTILES;
    feed->boundary_count = (uint32_t)count;
    return 0;
}

int settings_boundaries_read(const SettingsReader *reader, const DocumentNode *node,
                             SettingsFeed *feed) {
    if (node->kind == DOCUMENT_SEQUENCE)
        return read_list(reader, node, feed);
    if (node->kind == DOCUMENT_MAPPING)
        return read_rule(reader, node, feed);
    if (strcmp(node->text, "auto") != 0)
        return settings_value_error(reader, node, "'%.60s' is not known, allowed: %s", node->text,
                                    allowed);
    feed->boundary_kind = SETTINGS_BOUNDARIES_GEOMETRIC;
    feed->boundary_factor = SETTINGS_BOUNDARIES_AUTO;
    return 0;
}
