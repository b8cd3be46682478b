/* SPDX-License-Identifier: MIT */
#include "settings/settings_key.h"

#include <string.h>

#include "base/attributes.h"
#include "settings/settings.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE_LIMIT (UINT64_C(1) << 62)
#define LENGTH_LIMIT (UINT64_C(1) << 30)

#define GLOBAL(field) .offset = offsetof(Settings, field), .bytes = sizeof((Settings *)0)->field
#define FEED(field) \
    .offset = offsetof(SettingsFeed, field), .bytes = sizeof((SettingsFeed *)0)->field
#define RANGE(low, high) .min = (low), .max = (high)
#define GLOBAL_FLAG(field) .flag = offsetof(Settings, field)
#define FEED_FLAG(field) .flag = offsetof(SettingsFeed, field)
#define GLOBAL_PLACE(field) .place = offsetof(Settings, field)
#define FEED_PLACE(field) .place = offsetof(SettingsFeed, field)

#define IN_FEED "feeds.*."

/* In the order of config/seqfeedd.yaml. The default of `memory` is a ceiling: settings.c takes a
 * quarter of the cgroup's limit where that is less. */
const SettingsKey settings_keys[] = {
    {"memory", SETTINGS_KEY_SIZE, "2GiB", NULL, RANGE(MIB, SIZE_LIMIT), GLOBAL(memory),
     GLOBAL_PLACE(memory_place)},
    {"cache", SETTINGS_KEY_SIZE, "auto", "auto", RANGE(0, SIZE_LIMIT), GLOBAL(cache),
     GLOBAL_FLAG(cache_auto)},
    {"threads", SETTINGS_KEY_NUMBER, "auto", "auto", RANGE(1, 1024), GLOBAL(threads)},
    {"socket", SETTINGS_KEY_PATH, NULL, NULL, RANGE(1, 107), GLOBAL(socket)},
    {"direct", SETTINGS_KEY_BOOL, "false", NULL, RANGE(0, 1), GLOBAL(direct)},

    {IN_FEED "dataset", SETTINGS_KEY_PATH, NULL, NULL, RANGE(1, 4095), FEED(dataset),
     FEED_PLACE(dataset_place)},
    {IN_FEED "datasets", SETTINGS_KEY_DATASETS, NULL, NULL, RANGE(0, 0), FEED(datasets),
     FEED_PLACE(datasets_place)},
    {IN_FEED "mix.unit", SETTINGS_KEY_CHOICE, "sequences", "sequences|tokens", RANGE(0, 0),
     FEED(unit), FEED_PLACE(unit_place)},
    {IN_FEED "mix.until", SETTINGS_KEY_UNTIL, "first", NULL, RANGE(0, 0), FEED(until),
     FEED_PLACE(until_place)},
    {IN_FEED "order.shuffle", SETTINGS_KEY_BOOL, "true", NULL, RANGE(0, 1), FEED(shuffle)},
    {IN_FEED "order.seed", SETTINGS_KEY_NUMBER, "0", NULL, RANGE(0, UINT64_MAX), FEED(seed)},
    {IN_FEED "order.window", SETTINGS_KEY_NUMBER, "auto", "auto", RANGE(1, 1 << 24), FEED(window),
     FEED_PLACE(window_place)},
    {IN_FEED "order.strands", SETTINGS_KEY_NUMBER, "1", NULL, RANGE(1, 1024), FEED(strands),
     FEED_PLACE(strands_place)},
    {IN_FEED "batch.policy", SETTINGS_KEY_CHOICE, "fixed", "fixed|bucket|tokens|pack", RANGE(0, 0),
     FEED(policy), FEED_PLACE(policy_place)},
    {IN_FEED "batch.size", SETTINGS_KEY_NUMBER, "64", NULL, RANGE(1, 1 << 20), FEED(size),
     FEED_PLACE(size_place)},
    {IN_FEED "batch.boundaries", SETTINGS_KEY_BOUNDARIES, "auto", NULL, RANGE(0, 0),
     FEED(boundary_kind), FEED_PLACE(boundaries_place)},
    {IN_FEED "batch.shape", SETTINGS_KEY_CHOICE, "longest", "longest|bucket", RANGE(0, 0),
     FEED(shape_bucket), FEED_PLACE(shape_place)},
    {IN_FEED "batch.tokens", SETTINGS_KEY_NUMBER, NULL, NULL, RANGE(1, LENGTH_LIMIT), FEED(tokens),
     FEED_PLACE(tokens_place)},
    {IN_FEED "batch.multiple_of", SETTINGS_KEY_NUMBER, "1", NULL, RANGE(1, 1 << 16),
     FEED(multiple_of), FEED_PLACE(multiple_of_place)},
    {IN_FEED "batch.length", SETTINGS_KEY_NUMBER, NULL, NULL, RANGE(1, 1 << 22), FEED(length),
     FEED_PLACE(length_place)},
    {IN_FEED "batch.pool", SETTINGS_KEY_NUMBER, "256", NULL, RANGE(1, 1 << 20), FEED(pool),
     FEED_PLACE(pool_place)},
    {IN_FEED "batch.group", SETTINGS_KEY_NUMBER, "0", NULL, RANGE(0, 1024), FEED(group),
     FEED_PLACE(group_place)},
    {IN_FEED "batch.last", SETTINGS_KEY_CHOICE, "keep", "keep|drop|pad", RANGE(0, 0), FEED(last)},
    {IN_FEED "batch.tail", SETTINGS_KEY_CHOICE, "repeat", "repeat|drop", RANGE(0, 0), FEED(tail)},
    {IN_FEED "length.max", SETTINGS_KEY_NUMBER, NULL, NULL, RANGE(1, LENGTH_LIMIT),
     FEED(length_max), FEED_PLACE(length_max_place)},
    {IN_FEED "length.overflow", SETTINGS_KEY_CHOICE, "error",
     "error|truncate_right|truncate_left|split|drop", RANGE(0, 0), FEED(overflow),
     FEED_PLACE(overflow_place)},
    {IN_FEED "length.empty", SETTINGS_KEY_CHOICE, "keep", "keep|drop", RANGE(0, 0), FEED(empty)},
    {IN_FEED "pad.to", SETTINGS_KEY_NUMBER, "longest", "longest", RANGE(1, LENGTH_LIMIT),
     FEED(pad_to), FEED_PLACE(pad_to_place)},
    {IN_FEED "pad.multiple_of", SETTINGS_KEY_NUMBER, "1", NULL, RANGE(1, 1 << 16),
     FEED(pad_multiple_of)},
    {IN_FEED "pad.side", SETTINGS_KEY_CHOICE, "right", "right|left", RANGE(0, 0), FEED(pad_left)},
    {IN_FEED "pad.value", SETTINGS_KEY_INTEGER, NULL, NULL, RANGE(0, 0), FEED(pad_value),
     FEED_FLAG(has_pad_value), FEED_PLACE(pad_value_place)},
    {IN_FEED "layout", SETTINGS_KEY_CHOICE, "batch_first", "batch_first|time_first", RANGE(0, 0),
     FEED(time_first)},
    {IN_FEED "backend", SETTINGS_KEY_CHOICE, "auto", "auto|cpu|cuda", RANGE(0, 0), FEED(backend),
     FEED_PLACE(backend_place)},
    {IN_FEED "device", SETTINGS_KEY_DEVICE, NULL, NULL, RANGE(0, 0), FEED(device),
     FEED_PLACE(device_place)},
    {IN_FEED "tensors", SETTINGS_KEY_TENSORS, "seed", "seed", RANGE(0, 0), FEED(tensors),
     FEED_FLAG(tensors_preset), FEED_PLACE(tensors_place)},
    {IN_FEED "values", SETTINGS_KEY_CHOICE, "strict", "strict|parity", RANGE(0, 0), FEED(values)},
    {IN_FEED "ring.slots", SETTINGS_KEY_NUMBER, "8", NULL, RANGE(1, 64), FEED(slots),
     FEED_PLACE(slots_place)},
    {IN_FEED "allow.users", SETTINGS_KEY_USERS, "[]", NULL, RANGE(0, 0), FEED(allow_users)},
    {IN_FEED "allow.groups", SETTINGS_KEY_GROUPS, "[]", NULL, RANGE(0, 0), FEED(allow_groups)},
};
const size_t settings_key_count = ARRAY_COUNT(settings_keys);

const SettingsKey *settings_key_find(const char *path) {
    for (size_t k = 0; k < settings_key_count; k++)
        if (strcmp(settings_keys[k].path, path) == 0)
            return &settings_keys[k];
    return NULL;
}

int settings_key_is_section(const char *path) {
    size_t length = strlen(path);

    for (size_t k = 0; k < settings_key_count; k++)
        if (strncmp(settings_keys[k].path, path, length) == 0 &&
            settings_keys[k].path[length] == '.')
            return 1;
    return 0;
}

int settings_key_word(const char *words, const char *word) {
    size_t length = strlen(word);

    for (int position = 0; words; position++) {
        size_t here = strcspn(words, "|");
        if (here == length && strncmp(words, word, length) == 0)
            return position;
        words = words[here] ? words + here + 1 : NULL;
    }
    return -1;
}
