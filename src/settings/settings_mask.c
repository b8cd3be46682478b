/* SPDX-License-Identifier: MIT */
/* Mask expressions: a word, or a mapping of one key. They are stored in postfix order, so that who
 * works them out needs neither a tree nor recursion. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/attributes.h"
#include "settings/settings_value.h"
#include "settings/suggest.h"

static const char expressions[] = "lengths, causal, segments, {window: N}, {indices: [..]|COLUMN}, "
                                  "{token_ids: [..]}, {all: [..]}, "
                                  "{any: [..]}, {not: EXPR}";

typedef struct MaskReader {
    const SettingsReader *reader;
    SettingsFeed *feed;
    uint32_t pending;
} MaskReader;

static int no_memory(const SettingsReader *reader) {
    return error_set(reader->error, -ENOMEM, "%s: out of memory", reader->name);
}

static int add_step(MaskReader *mask, const DocumentNode *node, SettingsMaskStep step) {
    SettingsFeed *feed = mask->feed;

    if (!feed->steps)
        feed->steps = calloc(SETTINGS_MASK_STEPS_MAX, sizeof *feed->steps);
    if (!feed->steps)
        return no_memory(mask->reader);
    if (step.op == SETTINGS_MASK_AND || step.op == SETTINGS_MASK_OR)
        mask->pending--;
    else if (step.op != SETTINGS_MASK_NOT)
        mask->pending++;
    if (feed->step_count == SETTINGS_MASK_STEPS_MAX || mask->pending > SETTINGS_MASK_PENDING_MAX)
        return settings_value_error(mask->reader, node,
                                    "the masks of this feed have too many parts, allowed: %d in "
                                    "all, %d within each other",
                                    SETTINGS_MASK_STEPS_MAX, SETTINGS_MASK_PENDING_MAX);
    step.place = node->place;
    feed->steps[feed->step_count++] = step;
    return 0;
}

int settings_mask_numbers(const SettingsReader *reader, const DocumentNode *node,
                          SettingsFeed *feed, uint32_t *ret_first, uint32_t *ret_count) {
    if (node->kind != DOCUMENT_SEQUENCE)
        return settings_value_error(reader, node, "must be a list of whole numbers such as [0, 2]");
    if (!feed->mask_values)
        feed->mask_values = calloc(SETTINGS_MASK_VALUES_MAX, sizeof *feed->mask_values);
    if (!feed->mask_values)
        return no_memory(reader);
    if (node->child_count > SETTINGS_MASK_VALUES_MAX - feed->mask_value_count)
        return settings_value_error(reader, node,
                                    "the masks of this feed list more than %d numbers",
                                    SETTINGS_MASK_VALUES_MAX);
    *ret_first = feed->mask_value_count;
    *ret_count = node->child_count;
    for (const DocumentNode *child = node->first; child; child = child->next) {
        const char *text = settings_value_text(reader, child, "a whole number");

        if (!text)
            return -EINVAL;
        if (!settings_value_parse_integer(text, &feed->mask_values[feed->mask_value_count++]))
            return settings_value_error(reader, child, "'%.60s' is no whole number", text);
    }
    return 0;
}

static int read_expression(MaskReader *mask, const DocumentNode *node);

static int read_window(MaskReader *mask, const DocumentNode *node) {
    const char *text = settings_value_text(mask->reader, node, "1 to 2147483647");
    int64_t places;

    if (!text)
        return -EINVAL;
    if (!settings_value_parse_integer(text, &places) || places < 1 || places > INT32_MAX)
        return settings_value_error(
            mask->reader, node, "'%.60s' is no number of places, allowed: 1 to 2147483647", text);
    return add_step(mask, node,
                    (SettingsMaskStep){.op = SETTINGS_MASK_WINDOW, .count = (uint32_t)places});
}

static int read_indices(MaskReader *mask, const DocumentNode *node) {
    SettingsMaskStep step = {.op = SETTINGS_MASK_INDEX_COLUMN};
    int r;

    if (node->kind == DOCUMENT_SCALAR) {
        const char *text = settings_value_text(mask->reader, node,
                                               "a list of indices, a ragged column");

        if (!text)
            return -EINVAL;
        if (strlen(text) >= sizeof step.column)
            return settings_value_error(mask->reader, node,
                                        "'%.60s' is longer than any column's name", text);
        strcpy(step.column, text);
        return add_step(mask, node, step);
    }
    step.op = SETTINGS_MASK_INDICES;
    r = settings_mask_numbers(mask->reader, node, mask->feed, &step.first, &step.count);
    return r < 0 ? r : add_step(mask, node, step);
}

static int read_token_ids(MaskReader *mask, const DocumentNode *node) {
    SettingsMaskStep step = {.op = SETTINGS_MASK_TOKEN_IDS};
    int r = settings_mask_numbers(mask->reader, node, mask->feed, &step.first, &step.count);

    return r < 0 ? r : add_step(mask, node, step);
}

static int read_list(MaskReader *mask, const DocumentNode *node, SettingsMaskOp op,
                     SettingsMaskOp of_nothing) {
    int r = 0;

    if (node->kind != DOCUMENT_SEQUENCE)
        return settings_value_error(mask->reader, node, "must be a list of %s", expressions);
    if (node->child_count == 0)
        return add_step(mask, node, (SettingsMaskStep){.op = of_nothing});
    for (const DocumentNode *child = node->first; child && r == 0; child = child->next) {
        r = read_expression(mask, child);
        if (r == 0 && child != node->first)
            r = add_step(mask, node, (SettingsMaskStep){.op = op});
    }
    return r;
}

static int read_all(MaskReader *mask, const DocumentNode *node) {
    return read_list(mask, node, SETTINGS_MASK_AND, SETTINGS_MASK_TRUE);
}

static int read_any(MaskReader *mask, const DocumentNode *node) {
    return read_list(mask, node, SETTINGS_MASK_OR, SETTINGS_MASK_FALSE);
}

static int read_not(MaskReader *mask, const DocumentNode *node) {
    int r = read_expression(mask, node);

    return r < 0 ? r : add_step(mask, node, (SettingsMaskStep){.op = SETTINGS_MASK_NOT});
}

static int read_word(MaskReader *mask, const DocumentNode *node) {
    const char *text = settings_value_text(mask->reader, node, expressions);
    char hint[64];

    if (!text)
        return -EINVAL;
    if (strcmp(text, "lengths") == 0)
        return add_step(mask, node, (SettingsMaskStep){.op = SETTINGS_MASK_LENGTHS});
    if (strcmp(text, "causal") == 0)
        return add_step(mask, node, (SettingsMaskStep){.op = SETTINGS_MASK_CAUSAL});
    if (strcmp(text, "segments") == 0)
        return add_step(mask, node, (SettingsMaskStep){.op = SETTINGS_MASK_SEGMENTS});
    return settings_value_error(mask->reader, node, "'%.60s' is not known%s, allowed: %s", text,
                                suggest_among(text, "lengths|causal|segments", hint), expressions);
}

static int read_expression(MaskReader *mask, const DocumentNode *node) {
    static const struct {
        const char *key;
        int (*read)(MaskReader *, const DocumentNode *);
    } keys[] = {{"window", read_window}, {"indices", read_indices}, {"token_ids", read_token_ids},
                {"all", read_all},       {"any", read_any},         {"not", read_not}};
    unsigned nearest = SUGGEST_FAR;
    const char *meant = NULL;

    if (node->kind == DOCUMENT_SCALAR)
        return read_word(mask, node);
    if (node->kind != DOCUMENT_MAPPING || node->child_count != 1)
        return settings_value_error(mask->reader, node, "is no mask, allowed: %s", expressions);
    for (size_t k = 0; k < ARRAY_COUNT(keys); k++) {
        if (strcmp(node->first->key, keys[k].key) == 0)
            return keys[k].read(mask, node->first);
        if (suggest_is_better(node->first->key, keys[k].key, &nearest))
            meant = keys[k].key;
    }
    return settings_value_error(mask->reader, node->first, "unknown key%s%s, allowed: %s",
                                meant ? ", did you mean " : "", meant ? meant : "", expressions);
}

int settings_mask_read(const SettingsReader *reader, const DocumentNode *node, SettingsFeed *feed,
                       SettingsTensor *tensor) {
    MaskReader mask = {.reader = reader, .feed = feed};
    int r;

    tensor->step_first = feed->step_count;
    r = read_expression(&mask, node);
    tensor->step_count = feed->step_count - tensor->step_first;
    tensor->mask_place = node->place;
    return r;
}
