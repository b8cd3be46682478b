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
typedef enum SettingsBackend {
    SETTINGS_BACKEND_AUTO,
    SETTINGS_BACKEND_CPU,
    SETTINGS_BACKEND_CUDA
} SettingsBackend;
typedef enum SettingsValues { SETTINGS_VALUES_STRICT, SETTINGS_VALUES_PARITY } SettingsValues;
typedef enum SettingsPreset {
    SETTINGS_PRESET_SEED,
    SETTINGS_PRESET_HF_CLASSIFICATION,
    SETTINGS_PRESET_HF_CAUSAL_LM,
    SETTINGS_PRESET_MEGATRON,
    SETTINGS_PRESET_HF_PACKED_LM
} SettingsPreset;
typedef enum SettingsTensorKind {
    SETTINGS_TENSOR_FROM,
    SETTINGS_TENSOR_MASK,
    SETTINGS_TENSOR_APPLY, /* a column times a mask */
    SETTINGS_TENSOR_MAKE
} SettingsTensorKind;
typedef enum SettingsMake {
    SETTINGS_MAKE_POSITION_IDS,
    SETTINGS_MAKE_TOKEN_TYPE_IDS,
    SETTINGS_MAKE_LABELS,
    SETTINGS_MAKE_LOSS_MASK,
    SETTINGS_MAKE_SPECIAL_TOKENS_MASK,
    SETTINGS_MAKE_SEGMENTS, /* from here on counts: int32 unless dtype says int64 … */
    SETTINGS_MAKE_LENGTHS,
    SETTINGS_MAKE_CU_SEQLENS,
    SETTINGS_MAKE_CU_SEQLENS_PADDED,
    SETTINGS_MAKE_MAX_SEQLEN,
    SETTINGS_MAKE_BLOCK_LISTS /* … but these, which are several tensors */
} SettingsMake;
typedef enum SettingsShift {
    SETTINGS_SHIFT_NONE,
    SETTINGS_SHIFT_NEXT,
    SETTINGS_SHIFT_MEGATRON
} SettingsShift;
typedef enum SettingsPolarity {
    SETTINGS_POLARITY_KEEP,
    SETTINGS_POLARITY_MASKED,
    SETTINGS_POLARITY_ADDITIVE
} SettingsPolarity;

/* A mask expression in postfix order, as it was written. */
typedef enum SettingsMaskOp {
    SETTINGS_MASK_TRUE, /* all of nothing */
    SETTINGS_MASK_FALSE,
    SETTINGS_MASK_LENGTHS,
    SETTINGS_MASK_CAUSAL,
    SETTINGS_MASK_WINDOW,       /* count: places */
    SETTINGS_MASK_INDICES,      /* values[first .. first + count) */
    SETTINGS_MASK_INDEX_COLUMN, /* column */
    SETTINGS_MASK_TOKEN_IDS,    /* values */
    SETTINGS_MASK_SEGMENTS,
    SETTINGS_MASK_AND,
    SETTINGS_MASK_OR,
    SETTINGS_MASK_NOT
} SettingsMaskOp;

enum {
    SETTINGS_FILE_MAX = 256 << 10,
    SETTINGS_DEPTH_MAX = 16,
    SETTINGS_FEEDS_MAX = 64,
    SETTINGS_TENSORS_MAX = 24,
    SETTINGS_MASK_STEPS_MAX = 256,   /* of all tensors of a feed … */
    SETTINGS_MASK_VALUES_MAX = 4096, /* … and the numbers that they list */
    SETTINGS_BLOCK_PLACES = 128,     /* of FlexAttention's blocks, by default */
    SETTINGS_MASK_PENDING_MAX = 16,  /* answers that an expression keeps while it is worked out */
    SETTINGS_ALLOW_MAX = 256,
    SETTINGS_BOUNDARIES_MAX = 256,
    SETTINGS_BOUNDARIES_AUTO = 1100, /* thousandths */
    SETTINGS_DEVICE = 64,            /* with the NUL: an index, or GPU-UUID */
    SETTINGS_DATASETS_MAX = 256,
    SETTINGS_WEIGHT_ONE = 1000000, /* a weight of 1 */
    SETTINGS_NAME = 64             /* of a feed, with the NUL: [A-Za-z0-9._-]+ */
};

typedef struct SettingsMaskStep {
    SettingsMaskOp op;
    uint32_t first, count;
    char column[32];
    SettingsPlace place;
} SettingsMaskStep;

typedef enum SettingsUnit { SETTINGS_UNIT_SEQUENCES, SETTINGS_UNIT_TOKENS } SettingsUnit;
typedef enum SettingsUntil {
    SETTINGS_UNTIL_FIRST,
    SETTINGS_UNTIL_ALL,
    SETTINGS_UNTIL_COUNT
} SettingsUntil;

/* One entry of a `datasets` mapping. */
typedef struct SettingsDataset {
    char name[SETTINGS_NAME];
    char *path;      /* made absolute */
    uint64_t weight; /* in parts of SETTINGS_WEIGHT_ONE */
    SettingsPlace place, path_place;
} SettingsDataset;

/* One entry of a `tensors` mapping. */
typedef struct SettingsTensor {
    char name[32];
    SettingsTensorKind kind;
    char from[32]; /* FROM: "tokens", "lengths" or a column's name; APPLY: a padded column */
    uint32_t step_first, step_count;   /* MASK, APPLY, block_lists: in SettingsFeed.steps */
    uint32_t value_first, value_count; /* `ids`: in SettingsFeed.values */
    SettingsMake make;
    SettingsShift shift;
    SettingsPolarity polarity;
    bool multiply;      /* APPLY: mode mul */
    bool fill_infinite; /* additive masks: -inf instead of the lowest number */
    bool dense;
    char spans[32]; /* a column, or "" */
    bool has_ignore;
    int64_t ignore;
    char dtype[12]; /* as written, checked to be one of the seven words; "" when left out */
    bool has_pad;
    double pad_float;    /* the value as a number … */
    int64_t pad_integer; /* … and as an integer, when it is one (pad_is_integer) */
    bool pad_is_integer;
    bool pad_counts; /* position_ids: padding goes on counting */
    uint32_t block;  /* block_lists: places of a block */
    SettingsPlace place, from_place, dtype_place, pad_place, mask_place, ignore_place, spans_place,
        fill_place, make_place;
} SettingsTensor;

typedef struct SettingsFeed {
    char name[SETTINGS_NAME];
    char
        *dataset; /* made absolute: relative paths count from the file's directory. NULL: several */
    SettingsDataset *datasets; /* in the file's order */
    uint32_t dataset_count;
    SettingsUnit unit; /* what their weights count */
    SettingsUntil until;
    uint64_t until_count; /* with SETTINGS_UNTIL_COUNT */
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
    char device[SETTINGS_DEVICE]; /* "": the first */
    SettingsValues values;        /* out of range: refuse, or do as PyTorch does */
    bool tensors_preset;          /* `preset`; else the mapping below */
    SettingsPreset preset;
    SettingsTensor tensors[SETTINGS_TENSORS_MAX];
    uint32_t tensor_count;
    SettingsMaskStep *steps; /* of all tensors' masks */
    int64_t *mask_values;
    uint32_t step_count, mask_value_count;
    uint32_t slots;
    uint32_t *allow_users, *allow_groups; /* numeric ids */
    uint32_t allow_user_count, allow_group_count;
    /* Places, for errors that only the dataset can show. */
    SettingsPlace place, dataset_place, datasets_place, unit_place, until_place, window_place,
        strands_place, policy_place, size_place, boundaries_place, shape_place, tokens_place,
        multiple_of_place, length_place, pool_place, group_place, length_max_place, overflow_place,
        pad_to_place, pad_value_place, tensors_place, slots_place, backend_place, device_place;
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
