/* SPDX-License-Identifier: MIT */
/* What the presets stand for. A mask that is a preset's has no steps: feed_make_mask() takes that
 * for `lengths`. */
#include "feed/feed_internal.h"

#include <string.h>

static SettingsTensor from(const char *name, const char *column, const char *dtype) {
    SettingsTensor tensor = {.kind = SETTINGS_TENSOR_FROM};

    strcpy(tensor.name, name);
    strcpy(tensor.from, column);
    strcpy(tensor.dtype, dtype);
    return tensor;
}

static SettingsTensor mask(const char *name, const char *dtype) {
    SettingsTensor tensor = {.kind = SETTINGS_TENSOR_MASK};

    strcpy(tensor.name, name);
    strcpy(tensor.dtype, dtype);
    return tensor;
}

static SettingsTensor make(const char *name, SettingsMake what, SettingsShift shift) {
    SettingsTensor tensor = {.kind = SETTINGS_TENSOR_MAKE, .make = what, .shift = shift};

    /* Megatron counts on where a row is padded. */
    tensor.pad_counts = what == SETTINGS_MAKE_POSITION_IDS && shift == SETTINGS_SHIFT_MEGATRON;
    tensor.has_pad = tensor.pad_counts;

    strcpy(tensor.name, name);
    return tensor;
}

/* `label`, or as Hugging Face's datasets often have it `labels`; -1: neither. */
static int find_label(const Catalog *catalog) {
    int column = catalog_find_column(catalog, "label");

    if (column >= 0)
        return column;
    column = catalog_find_column(catalog, "labels");
    return column >= 0 && catalog->columns[column].kind == SHARD_KIND_RAGGED ? -1 : column;
}

/* The labels that the dataset has; rows of last: pad have none. */
static SettingsTensor label(const Catalog *catalog, int column) {
    bool floats = column >= 0 && element_is_float(catalog->columns[column].type);
    SettingsTensor tensor = from("labels", column >= 0 ? catalog->columns[column].name : "label",
                                 floats ? "float32" : "int64");

    tensor.has_pad = tensor.pad_is_integer = !floats;
    tensor.pad_integer = FEED_LABEL_IGNORE;
    return tensor;
}

/* Of packed rows: what tells sequences apart comes between tokens and mask, what counts them last.
 */
static uint32_t expand_packed_seed(const Catalog *catalog, int column,
                                   SettingsTensor *ret_tensors) {
    uint32_t count = 0;

    ret_tensors[count++] = from("tokens", "tokens", "");
    ret_tensors[count++] = make("segments", SETTINGS_MAKE_SEGMENTS, 0);
    ret_tensors[count++] = make("position_ids", SETTINGS_MAKE_POSITION_IDS, 0);
    ret_tensors[count++] = mask("mask", "");
    ret_tensors[count++] = from("lengths", "lengths", "");
    if (column >= 0)
        ret_tensors[count++] = label(catalog, column);
    ret_tensors[count++] = make("cu_seqlens", SETTINGS_MAKE_CU_SEQLENS, 0);
    return count;
}

uint32_t feed_expand_preset(SettingsPreset preset, const Catalog *catalog, bool packed,
                            SettingsTensor ret_tensors[FEED_PRESET_MAX]) {
    int column = find_label(catalog);
    uint32_t count = 0;

    switch (preset) {
    case SETTINGS_PRESET_SEED:
        if (packed)
            return expand_packed_seed(catalog, column, ret_tensors);
        ret_tensors[count++] = from("tokens", "tokens", "");
        ret_tensors[count++] = mask("mask", "");
        if (column >= 0)
            ret_tensors[count++] = label(catalog, column);
        ret_tensors[count++] = from("lengths", "lengths", "");
        break;
    case SETTINGS_PRESET_HF_CLASSIFICATION:
        ret_tensors[count++] = from("input_ids", "tokens", "int64");
        ret_tensors[count++] = mask("attention_mask", "int64");
        ret_tensors[count] = label(catalog, column);
        strcpy(ret_tensors[count++].dtype, "int64");
        break;
    case SETTINGS_PRESET_HF_CAUSAL_LM:
        ret_tensors[count++] = from("input_ids", "tokens", "int64");
        ret_tensors[count++] = mask("attention_mask", "int64");
        ret_tensors[count++] = make("labels", SETTINGS_MAKE_LABELS, SETTINGS_SHIFT_NONE);
        break;
    case SETTINGS_PRESET_MEGATRON:
        ret_tensors[count++] = from("tokens", "tokens", "int64");
        ret_tensors[count++] = make("labels", SETTINGS_MAKE_LABELS, SETTINGS_SHIFT_MEGATRON);
        ret_tensors[count++] = make("loss_mask", SETTINGS_MAKE_LOSS_MASK, SETTINGS_SHIFT_MEGATRON);
        ret_tensors[count++] = make("position_ids", SETTINGS_MAKE_POSITION_IDS,
                                    SETTINGS_SHIFT_MEGATRON);
        break;
    case SETTINGS_PRESET_HF_PACKED_LM:
        ret_tensors[count++] = from("input_ids", "tokens", "int64");
        ret_tensors[count++] = make("position_ids", SETTINGS_MAKE_POSITION_IDS, 0);
        ret_tensors[count++] = make("labels", SETTINGS_MAKE_LABELS, SETTINGS_SHIFT_NONE);
        ret_tensors[count++] = make("cu_seq_lens_q", SETTINGS_MAKE_CU_SEQLENS, 0);
        ret_tensors[count++] = make("cu_seq_lens_k", SETTINGS_MAKE_CU_SEQLENS, 0);
        ret_tensors[count++] = make("max_length_q", SETTINGS_MAKE_MAX_SEQLEN, 0);
        ret_tensors[count++] = make("max_length_k", SETTINGS_MAKE_MAX_SEQLEN, 0);
        break;
    }
    return count;
}
