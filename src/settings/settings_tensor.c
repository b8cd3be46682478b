/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings/settings_value.h"
#include "settings/suggest.h"

static const char kinds[] = "{from: tokens}, {from: lengths}, {from: COLUMN}, {mask: EXPR}, "
                            "{apply: {mask: EXPR}}, {make: WORD}";
static const char dtypes[] = "bool|uint8|int32|int64|float16|bfloat16|float32";
static const char presets[] = "seed|hf_classification|hf_causal_lm|megatron|hf_packed_lm";
static const char makes[] = "position_ids|token_type_ids|labels|loss_mask|special_tokens_mask|"
                            "segments|lengths|cu_seqlens|cu_seqlens_padded|max_seqlen|block_lists";

/* What is being read. */
typedef struct TensorReader {
    const SettingsReader *reader;
    SettingsFeed *feed;
    SettingsTensor *tensor;
} TensorReader;

/* The position of a word in "a|b|c", or -EINVAL with the sentence. */
static int read_word(const SettingsReader *reader, const DocumentNode *node, const char *words) {
    char allowed[256] = "", hint[64];
    const char *text;
    int position;

    for (size_t i = 0, used = 0; words[i]; i++)
        used += (size_t)snprintf(allowed + used, sizeof allowed - used,
                                 words[i] == '|' ? ", " : "%c", words[i]);
    text = settings_value_text(reader, node, allowed);
    if (!text)
        return -EINVAL;
    position = settings_key_word(words, text);
    if (position < 0)
        return settings_value_error(reader, node, "'%.60s' is not known%s, allowed: %s", text,
                                    suggest_among(text, words, hint), allowed);
    return position;
}

static int read_column(const SettingsReader *reader, const DocumentNode *node, const char *allowed,
                       char ret_name[32]) {
    const char *text = settings_value_text(reader, node, allowed);

    if (!text)
        return -EINVAL;
    if (strlen(text) >= 32)
        return settings_value_error(reader, node, "'%.60s' is longer than any column's name", text);
    strcpy(ret_name, text);
    return 0;
}

static int read_from(const TensorReader *to, const DocumentNode *node) {
    to->tensor->from_place = node->place;
    return read_column(to->reader, node, "tokens, lengths, the name of a column", to->tensor->from);
}

static int read_mask(const TensorReader *to, const DocumentNode *node) {
    to->tensor->kind = SETTINGS_TENSOR_MASK;
    return settings_mask_read(to->reader, node, to->feed, to->tensor);
}

static int read_make(const TensorReader *to, const DocumentNode *node) {
    int word = read_word(to->reader, node, makes);

    to->tensor->kind = SETTINGS_TENSOR_MAKE;
    to->tensor->make = (SettingsMake)word;
    to->tensor->make_place = node->place;
    return word < 0 ? word : 0;
}

static int read_apply(const TensorReader *to, const DocumentNode *node) {
    const DocumentNode *mask, *mode;
    int word = 0;

    to->tensor->kind = SETTINGS_TENSOR_APPLY;
    if (node->kind != DOCUMENT_MAPPING)
        return settings_value_error(to->reader, node,
                                    "must be a mapping, allowed: {mask: EXPR, mode: select|mul}");
    mask = document_child(node, "mask");
    mode = document_child(node, "mode");
    for (const DocumentNode *child = node->first; child; child = child->next)
        if (child != mask && child != mode)
            return settings_value_error(to->reader, child, "unknown key, allowed: mask, mode");
    if (!mask)
        return settings_value_error(to->reader, node,
                                    "has no mask, allowed: {mask: EXPR, mode: select|mul}");
    if (mode)
        word = read_word(to->reader, mode, "select|mul");
    to->tensor->multiply = word == 1;
    return word < 0 ? word : settings_mask_read(to->reader, mask, to->feed, to->tensor);
}

static int read_dtype(const TensorReader *to, const DocumentNode *node) {
    int word = read_word(to->reader, node, dtypes);

    if (word < 0)
        return word;
    strcpy(to->tensor->dtype, node->text); /* one of the seven words */
    to->tensor->dtype_place = node->place;
    return 0;
}

static int read_polarity(const TensorReader *to, const DocumentNode *node) {
    int word = read_word(to->reader, node, "keep|masked|additive");

    to->tensor->polarity = (SettingsPolarity)word;
    return word < 0 ? word : 0;
}

static int read_fill(const TensorReader *to, const DocumentNode *node) {
    int word = read_word(to->reader, node, "min|-inf");

    to->tensor->fill_infinite = word == 1;
    to->tensor->fill_place = node->place;
    return word < 0 ? word : 0;
}

static int read_shape(const TensorReader *to, const DocumentNode *node) {
    int word = read_word(to->reader, node, "rows|dense");

    to->tensor->dense = word == 1;
    return word < 0 ? word : 0;
}

static int read_shift(const TensorReader *to, const DocumentNode *node) {
    int word = read_word(to->reader, node, "none|next|megatron");

    to->tensor->shift = (SettingsShift)word;
    return word < 0 ? word : 0;
}

static int read_ignore(const TensorReader *to, const DocumentNode *node) {
    const char *text = settings_value_text(to->reader, node, "a whole number such as -100");

    if (!text)
        return -EINVAL;
    if (!settings_value_parse_integer(text, &to->tensor->ignore))
        return settings_value_error(to->reader, node,
                                    "'%.60s' is no whole number, allowed: -100, 0", text);
    to->tensor->has_ignore = true;
    to->tensor->ignore_place = node->place;
    return 0;
}

static int read_spans(const TensorReader *to, const DocumentNode *node) {
    to->tensor->spans_place = node->place;
    return read_column(to->reader, node, "the name of a ragged column", to->tensor->spans);
}

static int read_block(const TensorReader *to, const DocumentNode *node) {
    const char *text = settings_value_text(to->reader, node, "16 to 65536");
    int64_t places;

    if (!text)
        return -EINVAL;
    if (!settings_value_parse_integer(text, &places) || places < 16 || places > 65536)
        return settings_value_error(to->reader, node,
                                    "'%.60s' is no number of places, allowed: 16 to 65536", text);
    to->tensor->block = (uint32_t)places;
    return 0;
}

static int read_ids(const TensorReader *to, const DocumentNode *node) {
    return settings_mask_numbers(to->reader, node, to->feed, &to->tensor->value_first,
                                 &to->tensor->value_count);
}

/* Decimal numbers and the words of YAML and Python for what is none; no hexadecimal. */
static bool parse_float(const char *text, double *ret_value) {
    static const struct {
        const char *word;
        double value;
    } words[] = {{"nan", NAN},       {".nan", NAN},       {"inf", INFINITY},
                 {".inf", INFINITY}, {"-inf", -INFINITY}, {"-.inf", -INFINITY}};
    char *end;

    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (strcmp(text, words[i].word) == 0) {
            *ret_value = words[i].value;
            return true;
        }
    }
    if (text[strspn(text, "0123456789.eE+-")] || strlen(text) > 60)
        return false;
    errno = 0;
    *ret_value = strtod(text, &end);
    return *end == '\0' && end != text && isfinite(*ret_value);
}

static int read_pad(const TensorReader *to, const DocumentNode *node) {
    const SettingsReader *reader = to->reader;
    SettingsTensor *tensor = to->tensor;
    const char *text = settings_value_text(reader, node, "a number");

    if (!text)
        return -EINVAL;
    tensor->has_pad = true;
    tensor->pad_place = node->place;
    tensor->pad_counts = strcmp(text, "count") == 0;
    if (tensor->pad_counts)
        return 0;
    tensor->pad_is_integer = settings_value_parse_integer(text, &tensor->pad_integer);
    if (tensor->pad_is_integer)
        tensor->pad_float = (double)tensor->pad_integer;
    else if (!parse_float(text, &tensor->pad_float))
        return settings_value_error(reader, node,
                                    "'%.60s' is no number, allowed: -100, 0.5, inf, nan", text);
    return 0;
}

/* Which keys go with which kind of tensor: bits of UseFlag. */
typedef enum UseFlag {
    USE_FROM = 1,
    USE_LENGTHS = 2,
    USE_MASK = 4,
    USE_APPLY = 8,
    USE_POSITIONS = 16, /* token_type_ids as well */
    USE_LABELS = 32,
    USE_LOSS_MASK = 64,
    USE_SPECIAL = 128,
    USE_COUNTS = 256, /* segments, lengths, cu_seqlens … */
    USE_BLOCKS = 512
} UseFlag;

static const struct TensorKey {
    const char *key;
    int (*read)(const TensorReader *, const DocumentNode *);
    unsigned uses;
    const char *why; /* after "is for …" */
} tensor_keys[] = {
    {"from", read_from, USE_FROM | USE_LENGTHS | USE_APPLY, "tokens, columns and apply"},
    {"mask", read_mask, USE_MASK | USE_BLOCKS, "masks and block_lists"},
    {"apply", read_apply, USE_APPLY, "a column times a mask"},
    {"make", read_make,
     USE_POSITIONS | USE_LABELS | USE_LOSS_MASK | USE_SPECIAL | USE_COUNTS | USE_BLOCKS,
     "what is made"},
    {"dtype", read_dtype, ~(unsigned)USE_BLOCKS, "all but block_lists, which are int32"},
    {"pad", read_pad, USE_FROM | USE_APPLY | USE_POSITIONS,
     "tokens, columns and positions: lengths are not padded, masks follow polarity, labels ignore"},
    {"polarity", read_polarity, USE_MASK, "masks"},
    {"fill", read_fill, USE_MASK, "masks with polarity: additive"},
    {"shape", read_shape, USE_MASK, "masks"},
    {"shift", read_shift, USE_LABELS | USE_LOSS_MASK, "labels and loss masks"},
    {"ignore", read_ignore, USE_LABELS, "labels"},
    {"spans", read_spans, USE_LABELS | USE_LOSS_MASK, "labels and loss masks"},
    {"ids", read_ids, USE_SPECIAL, "special_tokens_mask"},
    {"block", read_block, USE_BLOCKS, "block_lists"},
};

static unsigned tensor_use(const SettingsTensor *tensor) {
    if (tensor->kind == SETTINGS_TENSOR_FROM)
        return strcmp(tensor->from, "lengths") == 0 ? USE_LENGTHS : USE_FROM;
    if (tensor->kind != SETTINGS_TENSOR_MAKE)
        return tensor->kind == SETTINGS_TENSOR_MASK ? USE_MASK : USE_APPLY;
    switch (tensor->make) {
    case SETTINGS_MAKE_POSITION_IDS:
    case SETTINGS_MAKE_TOKEN_TYPE_IDS:
        return USE_POSITIONS;
    case SETTINGS_MAKE_LABELS:
        return USE_LABELS;
    case SETTINGS_MAKE_LOSS_MASK:
        return USE_LOSS_MASK;
    case SETTINGS_MAKE_SPECIAL_TOKENS_MASK:
        return USE_SPECIAL;
    case SETTINGS_MAKE_BLOCK_LISTS:
        return USE_BLOCKS;
    default:
        return USE_COUNTS;
    }
}

/* dtypes that a tensor without a column may have; NULL: the column decides. */
static const char *use_dtypes(unsigned use, const SettingsTensor *tensor) {
    switch (use) {
    case USE_LENGTHS:
    case USE_POSITIONS:
    case USE_COUNTS:
        return "int32|int64";
    case USE_MASK:
        return tensor->polarity == SETTINGS_POLARITY_ADDITIVE ? "float16|bfloat16|float32" : dtypes;
    case USE_LABELS:
        return "int32|int64";
    default:
        return use == USE_FROM || use == USE_APPLY ? NULL : dtypes;
    }
}

static int check_dtype(const SettingsReader *reader, const DocumentNode *node,
                       const SettingsTensor *tensor, unsigned use) {
    const char *words = use_dtypes(use, tensor);
    const DocumentNode *at = document_child(node, "dtype");
    bool additive = use == USE_MASK && tensor->polarity == SETTINGS_POLARITY_ADDITIVE;

    if (additive && !at)
        return settings_value_error(reader, node,
                                    "an additive mask is added to numbers and needs their dtype, "
                                    "allowed: float16, bfloat16, float32");
    if (!words || !at || settings_key_word(words, tensor->dtype) >= 0)
        return 0;
    return settings_value_error(reader, at, "%s cannot be %s, allowed: %s",
                                use == USE_LENGTHS ? "lengths"
                                : additive         ? "an additive mask"
                                                   : "this tensor",
                                tensor->dtype,
                                additive ? "float16, bfloat16, float32" : "int32, int64");
}

/* A row of places has no queries; a dense mask has, and blocks have. */
static int check_queries(const SettingsReader *reader, const DocumentNode *node,
                         const SettingsFeed *feed, const SettingsTensor *tensor) {
    for (uint32_t s = 0; s < tensor->step_count && !tensor->dense; s++) {
        SettingsMaskOp op = feed->steps[tensor->step_first + s].op;

        if (op == SETTINGS_MASK_CAUSAL || op == SETTINGS_MASK_WINDOW ||
            op == SETTINGS_MASK_SEGMENTS)
            return settings_value_error(reader, node,
                                        "%s says which place sees which and means nothing for "
                                        "rows; give a mask with shape: dense%s",
                                        op == SETTINGS_MASK_CAUSAL   ? "causal"
                                        : op == SETTINGS_MASK_WINDOW ? "window"
                                                                     : "segments",
                                        op == SETTINGS_MASK_SEGMENTS ? ", or make: segments" : "");
    }
    return 0;
}

/* Blocks are told from runs of places: what a query sees must be one. */
static int check_blocks(const SettingsReader *reader, const DocumentNode *node,
                        const SettingsFeed *feed, const SettingsTensor *tensor) {
    for (uint32_t s = 0; s < tensor->step_count; s++) {
        SettingsMaskOp op = feed->steps[tensor->step_first + s].op;

        if (op != SETTINGS_MASK_CAUSAL && op != SETTINGS_MASK_WINDOW &&
            op != SETTINGS_MASK_SEGMENTS && op != SETTINGS_MASK_LENGTHS && op != SETTINGS_MASK_AND)
            return settings_value_error(reader, document_child(node, "mask"),
                                        "block_lists know segments, causal, window and lengths, "
                                        "and all of several of them");
    }
    return 0;
}

/* What only the whole entry shows. */
static int check_tensor(const SettingsReader *reader, const DocumentNode *node,
                        const SettingsFeed *feed, const SettingsTensor *tensor) {
    const DocumentNode *from = document_child(node, "from"), *mask = document_child(node, "mask");
    const DocumentNode *apply = document_child(node, "apply"), *make = document_child(node, "make");
    unsigned use = tensor_use(tensor);
    int r;

    if (!from + !mask + !apply + !make != 3 && !(from && apply && !mask && !make) &&
        !(make && mask && !from && !apply && use == USE_BLOCKS)) {
        bool none = !from && !mask && !apply && !make;

        return settings_value_error(reader, node, "%s, allowed: %s",
                                    none           ? "has neither from nor mask, apply or make"
                                    : from && mask ? "has both from and mask"
                                                   : "has two of from, mask, apply and make",
                                    kinds);
    }
    for (size_t k = 0; k < ARRAY_COUNT(tensor_keys); k++) {
        const DocumentNode *child = document_child(node, tensor_keys[k].key);

        if (child && !(tensor_keys[k].uses & use))
            return settings_value_error(reader, child, "is for %s", tensor_keys[k].why);
    }
    if (document_child(node, "fill") && tensor->polarity != SETTINGS_POLARITY_ADDITIVE)
        return settings_value_error(reader, document_child(node, "fill"),
                                    "is for masks with polarity: additive");
    if (use == USE_SPECIAL && !document_child(node, "ids"))
        return settings_value_error(reader, node,
                                    "special_tokens_mask needs ids: the special tokens");
    if (tensor->shift == SETTINGS_SHIFT_MEGATRON && tensor->has_ignore && tensor->ignore != 0)
        return settings_value_error(reader, document_child(node, "ignore"),
                                    "shift: megatron has 0 there, and a loss_mask that says so; "
                                    "shift: next takes any value");
    if (tensor->pad_counts &&
        (use != USE_POSITIONS || tensor->make == SETTINGS_MAKE_TOKEN_TYPE_IDS))
        return settings_value_error(reader, document_child(node, "pad"),
                                    "count is for position_ids: numbers go on over padding");
    if (use == USE_BLOCKS)
        return check_blocks(reader, node, feed, tensor);
    r = check_dtype(reader, node, tensor, use);
    return r < 0 ? r : check_queries(reader, node, feed, tensor);
}

static int unknown_key(const SettingsReader *reader, const DocumentNode *child) {
    const char *meant = NULL;
    unsigned nearest = SUGGEST_FAR;
    char allowed[160] = "";

    for (size_t k = 0, used = 0; k < ARRAY_COUNT(tensor_keys); k++) {
        if (suggest_is_better(child->key, tensor_keys[k].key, &nearest))
            meant = tensor_keys[k].key;
        used += (size_t)snprintf(allowed + used, sizeof allowed - used, "%s%s", k ? ", " : "",
                                 tensor_keys[k].key);
    }
    return settings_value_error(reader, child, "unknown key%s%s, allowed: %s",
                                meant ? ", did you mean " : "", meant ? meant : "", allowed);
}

static int read_tensor(const SettingsReader *reader, const DocumentNode *node, SettingsFeed *feed,
                       SettingsTensor *tensor) {
    const TensorReader to = {.reader = reader, .feed = feed, .tensor = tensor};

    if (!settings_value_is_name(node->key, sizeof tensor->name))
        return settings_value_error(
            reader, node, "a tensor's name has 1 to %zu of the characters A-Z a-z 0-9 . _ -",
            sizeof tensor->name - 1);
    strcpy(tensor->name, node->key);
    tensor->place = node->key_place;
    if (node->kind != DOCUMENT_MAPPING)
        return settings_value_error(reader, node, "must be a mapping, allowed: %s", kinds);
    for (const DocumentNode *child = node->first; child; child = child->next) {
        size_t k = 0;
        int r;

        while (k < ARRAY_COUNT(tensor_keys) && strcmp(child->key, tensor_keys[k].key) != 0)
            k++;
        if (k == ARRAY_COUNT(tensor_keys))
            return unknown_key(reader, child);
        r = tensor_keys[k].read(&to, child);
        if (r < 0)
            return r;
    }
    if (document_child(node, "make"))
        tensor->kind = SETTINGS_TENSOR_MAKE; /* whatever mask it has */
    if (tensor->kind == SETTINGS_TENSOR_APPLY && !tensor->from[0])
        strcpy(tensor->from, "tokens");
    return check_tensor(reader, node, feed, tensor);
}

static int read_preset(const SettingsReader *reader, const DocumentNode *node, SettingsFeed *feed) {
    int preset = settings_key_word(presets, node->text);
    char hint[64];

    if (preset < 0)
        return settings_value_error(reader, node,
                                    "'%.60s' is no preset%s, allowed: seed, hf_classification, "
                                    "hf_causal_lm, hf_packed_lm, megatron, a mapping of names "
                                    "to %s",
                                    node->text, suggest_among(node->text, presets, hint), kinds);
    feed->tensors_preset = true;
    feed->preset = (SettingsPreset)preset;
    return 0;
}

int settings_tensor_read(const SettingsReader *reader, const DocumentNode *node,
                         SettingsFeed *feed) {
    feed->tensors_preset = false;
    feed->tensor_count = 0;
    if (node->kind == DOCUMENT_SCALAR)
        return read_preset(reader, node, feed);
    if (node->kind != DOCUMENT_MAPPING)
        return settings_value_error(
            reader, node, "must not be a list, allowed: %s, a mapping of names to %s",
            "seed, hf_classification, hf_causal_lm, hf_packed_lm, megatron", kinds);
    if (node->child_count == 0 || node->child_count > SETTINGS_TENSORS_MAX)
        return settings_value_error(reader, node, "has %u tensors, allowed: 1 to %d",
                                    node->child_count, SETTINGS_TENSORS_MAX);
    for (const DocumentNode *child = node->first; child; child = child->next) {
        SettingsTensor *tensor = &feed->tensors[feed->tensor_count++];
        int r;

        *tensor = (SettingsTensor){0};
        r = read_tensor(reader, child, feed, tensor);
        if (r < 0)
            return r;
    }
    return 0;
}
