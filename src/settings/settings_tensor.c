/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "settings/settings_value.h"
#include "settings/suggest.h"

static const char kinds[] = "{from: tokens}, {from: lengths}, {from: COLUMN}, {mask: lengths}";
static const char dtypes[] = "bool|uint8|int32|int64|float16|bfloat16|float32";

static int read_from(const SettingsReader *reader, const DocumentNode *node,
                     SettingsTensor *tensor) {
    const char *text = settings_value_text(reader, node, "tokens, lengths, the name of a column");

    if (!text)
        return -EINVAL;
    if (strlen(text) >= sizeof tensor->from)
        return settings_value_error(reader, node, "'%.60s' is longer than any column's name", text);
    strcpy(tensor->from, text);
    tensor->kind = SETTINGS_TENSOR_FROM;
    tensor->from_place = node->place;
    return 0;
}

static int read_mask(const SettingsReader *reader, const DocumentNode *node,
                     SettingsTensor *tensor) {
    const char *text = settings_value_text(reader, node, "lengths");

    if (!text)
        return -EINVAL;
    if (strcmp(text, "lengths") != 0)
        return settings_value_error(reader, node, "'%.60s' is not known, allowed: lengths", text);
    tensor->kind = SETTINGS_TENSOR_MASK_LENGTHS;
    return 0;
}

static int read_dtype(const SettingsReader *reader, const DocumentNode *node,
                      SettingsTensor *tensor) {
    static const char allowed[] = "bool, uint8, int32, int64, float16, bfloat16, float32";
    const char *text = settings_value_text(reader, node, allowed);

    if (!text)
        return -EINVAL;
    if (settings_key_word(dtypes, text) < 0 || strlen(text) >= sizeof tensor->dtype)
        return settings_value_error(reader, node, "'%.60s' is not known, allowed: %s", text,
                                    allowed);
    strcpy(tensor->dtype, text);
    tensor->dtype_place = node->place;
    return 0;
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

static int read_pad(const SettingsReader *reader, const DocumentNode *node,
                    SettingsTensor *tensor) {
    const char *text = settings_value_text(reader, node, "a number");

    if (!text)
        return -EINVAL;
    tensor->pad_is_integer = settings_value_parse_integer(text, &tensor->pad_integer);
    if (tensor->pad_is_integer)
        tensor->pad_float = (double)tensor->pad_integer;
    else if (!parse_float(text, &tensor->pad_float))
        return settings_value_error(reader, node,
                                    "'%.60s' is no number, allowed: -100, 0.5, inf, nan", text);
    tensor->has_pad = true;
    tensor->pad_place = node->place;
    return 0;
}

/* What only the whole entry shows. */
static int check_tensor(const SettingsReader *reader, const DocumentNode *node,
                        const SettingsTensor *tensor) {
    const DocumentNode *from = document_child(node, "from"), *mask = document_child(node, "mask");
    const DocumentNode *pad = document_child(node, "pad");
    const char *dtype = tensor->dtype;
    bool is_lengths = from && strcmp(tensor->from, "lengths") == 0;

    if (!from == !mask)
        return settings_value_error(reader, node, "%s, allowed: %s with dtype and pad",
                                    from ? "has both from and mask" : "has neither from nor mask",
                                    kinds);
    if (pad && (mask || is_lengths))
        return settings_value_error(reader, pad, "is for tokens and columns: %s are not padded",
                                    mask ? "masks" : "lengths");
    if (is_lengths && dtype[0] && strcmp(dtype, "int32") != 0 && strcmp(dtype, "int64") != 0)
        return settings_value_error(reader, document_child(node, "dtype"),
                                    "lengths cannot be %s, allowed: int32, int64", dtype);
    return 0;
}

static int read_tensor(const SettingsReader *reader, const DocumentNode *node,
                       SettingsTensor *tensor) {
    static const struct {
        const char *key;
        int (*read)(const SettingsReader *, const DocumentNode *, SettingsTensor *);
    } keys[] = {{"from", read_from}, {"mask", read_mask}, {"dtype", read_dtype}, {"pad", read_pad}};

    if (!settings_value_is_name(node->key, sizeof tensor->name))
        return settings_value_error(
            reader, node, "a tensor's name has 1 to %zu of the characters A-Z a-z 0-9 . _ -",
            sizeof tensor->name - 1);
    strcpy(tensor->name, node->key);
    tensor->place = node->key_place;
    if (node->kind != DOCUMENT_MAPPING)
        return settings_value_error(reader, node, "must be a mapping, allowed: %s", kinds);
    for (const DocumentNode *child = node->first; child; child = child->next) {
        const char *meant = NULL;
        unsigned nearest = SUGGEST_FAR;
        size_t k = 0;
        int r;

        while (k < ARRAY_COUNT(keys) && strcmp(child->key, keys[k].key) != 0)
            k++;
        for (size_t i = 0; k == ARRAY_COUNT(keys) && i < k; i++)
            if (suggest_is_better(child->key, keys[i].key, &nearest))
                meant = keys[i].key;
        if (k == ARRAY_COUNT(keys))
            return settings_value_error(reader, child,
                                        "unknown key%s%s, allowed: from, mask, dtype, pad",
                                        meant ? ", did you mean " : "", meant ? meant : "");
        r = keys[k].read(reader, child, tensor);
        if (r < 0)
            return r;
    }
    return check_tensor(reader, node, tensor);
}

int settings_tensor_read(const SettingsReader *reader, const DocumentNode *node,
                         SettingsFeed *feed) {
    feed->tensors_preset = false;
    feed->tensor_count = 0;
    if (node->kind == DOCUMENT_SCALAR && strcmp(node->text, "seed") == 0) {
        feed->tensors_preset = true;
        return 0;
    }
    if (node->kind != DOCUMENT_MAPPING)
        return settings_value_error(reader, node,
                                    "%s%.60s%s, allowed: seed, a mapping of names to %s",
                                    node->kind == DOCUMENT_SCALAR ? "'" : "must not be a list",
                                    node->kind == DOCUMENT_SCALAR ? node->text : "",
                                    node->kind == DOCUMENT_SCALAR ? "' is no preset" : "", kinds);
    if (node->child_count == 0 || node->child_count > SETTINGS_TENSORS_MAX)
        return settings_value_error(reader, node, "has %u tensors, allowed: 1 to %d",
                                    node->child_count, SETTINGS_TENSORS_MAX);
    for (const DocumentNode *child = node->first; child; child = child->next) {
        SettingsTensor *tensor = &feed->tensors[feed->tensor_count++];
        int r;

        *tensor = (SettingsTensor){0};
        r = read_tensor(reader, child, tensor);
        if (r < 0)
            return r;
    }
    return 0;
}
