/* SPDX-License-Identifier: MIT */
/* settings.h: the configuration file as values, each with its place in the file. Pure data: whether
 * a dataset exists or a batch fits is for feed/ to say, with the places kept here.
 * Owner: who called settings_load(). Immutable afterwards. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Where a value stands in the file, counted from 1. Line 0: not in the file; then column 0 means
 * that the default holds, column 1 that --set gave it. */
typedef struct SettingsPlace {
    uint32_t line, column;
} SettingsPlace;

typedef enum SettingsPolicy {
    SETTINGS_POLICY_FIXED,
    SETTINGS_POLICY_BUCKET,
    SETTINGS_POLICY_TOKENS,
    SETTINGS_POLICY_PACK
} SettingsPolicy;
typedef enum SettingsBoundaryKind {
    SETTINGS_BOUNDARIES_GEOMETRIC, /* each `boundary_factor` thousandths of the one before */
    SETTINGS_BOUNDARIES_QUANTILES, /* `boundary_count` buckets of about equally many sequences */
    SETTINGS_BOUNDARIES_LISTED     /* `boundaries` */
} SettingsBoundaryKind;
typedef enum SettingsLast {
    SETTINGS_LAST_KEEP,
    SETTINGS_LAST_DROP,
    SETTINGS_LAST_PAD
} SettingsLast;
typedef enum SettingsTail { SETTINGS_TAIL_REPEAT, SETTINGS_TAIL_DROP } SettingsTail;
typedef enum SettingsOverflow {
    SETTINGS_OVERFLOW_ERROR,
    SETTINGS_OVERFLOW_TRUNCATE_RIGHT,
    SETTINGS_OVERFLOW_TRUNCATE_LEFT,
    SETTINGS_OVERFLOW_SPLIT,
    SETTINGS_OVERFLOW_DROP
} SettingsOverflow;
typedef enum SettingsEmpty { SETTINGS_EMPTY_KEEP, SETTINGS_EMPTY_DROP } SettingsEmpty;
typedef enum SettingsBackend { SETTINGS_BACKEND_AUTO, SETTINGS_BACKEND_CPU } SettingsBackend;
typedef enum SettingsTensorKind {
    SETTINGS_TENSOR_FROM,
    SETTINGS_TENSOR_MASK_LENGTHS
} SettingsTensorKind;

enum {
    SETTINGS_FILE_MAX = 256 << 10,
    SETTINGS_DEPTH_MAX = 16,
    SETTINGS_FEEDS_MAX = 64,
    SETTINGS_TENSORS_MAX = 24,
    SETTINGS_ALLOW_MAX = 256,
    SETTINGS_BOUNDARIES_MAX = 256,
    SETTINGS_BOUNDARIES_AUTO = 1100, /* thousandths */
    SETTINGS_NAME = 64 /* of a feed, with the NUL: [A-Za-z0-9._-]+ */
};

/* One entry of a `tensors` mapping. */
typedef struct SettingsTensor {
    char name[32];
    SettingsTensorKind kind;
    char from[32];  /* FROM: "tokens", "lengths" or a column's name */
    char dtype[12]; /* as written, checked to be one of the seven words; "" when left out */
    bool has_pad;
    double pad_float;    /* the value as a number … */
    int64_t pad_integer; /* … and as an integer, when it is one (pad_is_integer) */
    bool pad_is_integer;
    SettingsPlace place, from_place, dtype_place, pad_place;
} SettingsTensor;

typedef struct SettingsFeed {
    char name[SETTINGS_NAME];
    char *dataset; /* made absolute: relative paths count from the file's directory */
    bool shuffle;
    uint64_t seed;
    uint32_t window; /* blocks; 0: auto */
    uint32_t strands;
    SettingsPolicy policy;
    uint32_t size;
    SettingsBoundaryKind boundary_kind;
    uint32_t boundary_factor;
    uint32_t *boundaries; /* ascending; NULL unless LISTED */
    uint32_t boundary_count;
    bool shape_bucket;
    uint32_t tokens, multiple_of;
    uint32_t length, pool, group;
    SettingsLast last;
    SettingsTail tail;
    uint32_t length_max; /* 0: the default of design §2.2 */
    SettingsOverflow overflow;
    SettingsEmpty empty;
    uint32_t pad_to; /* 0: longest */
    uint32_t pad_multiple_of;
    bool pad_left;
    bool has_pad_value;
    int64_t pad_value;
    bool time_first;
    SettingsBackend backend;
    bool tensors_preset; /* the preset `seed`; else the mapping below */
    SettingsTensor tensors[SETTINGS_TENSORS_MAX];
    uint32_t tensor_count;
    uint32_t slots;
    uint32_t *allow_users, *allow_groups; /* numeric ids */
    uint32_t allow_user_count, allow_group_count;
    /* Places, for errors that only the dataset can show. */
    SettingsPlace place, dataset_place, window_place, strands_place, policy_place, size_place,
        boundaries_place, shape_place, tokens_place, multiple_of_place, length_place, pool_place,
        group_place, length_max_place, overflow_place, pad_to_place, pad_value_place, tensors_place, slots_place;
} SettingsFeed;

typedef struct Settings {
    char *path;      /* of the file, for messages */
    uint64_t memory; /* bytes; the default is settled here (cgroup) */
    bool cache_auto;
    uint64_t cache;   /* bytes, unless cache_auto */
    uint32_t threads; /* 0: auto */
    bool direct;
    char *socket;        /* NULL: not given */
    SettingsFeed *feeds; /* in the file's order */
    uint32_t feed_count;
    SettingsPlace memory_place;
} Settings;

/* Read, parse and check the file. `overrides` are KEY.PATH=VALUE strings (--set), applied as if the
 * file said so. On failure -EINVAL (or the errno of reading) and "file:line:column: key: what is
 * wrong, what is allowed". Blocks. */
MUST_CHECK int settings_load(const char *path, char *const *overrides, uint32_t override_count,
                             Settings **ret_settings, Error *error);
void settings_free(Settings *settings); /* accepts NULL */

/* Store "path:line:column: key: sentence", "--set key: sentence" for a value from there, or "path:
 * key: sentence" for a default; `key` may be NULL. Returns -EINVAL. For feed/, which finds what
 * only the dataset can tell. */
int settings_error(Error *error, const char *path, SettingsPlace place, const char *key,
                   const char *format, ...) PRINTF_FORMAT(5, 6);
