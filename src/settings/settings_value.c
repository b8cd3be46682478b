/* SPDX-License-Identifier: MIT */
#include "settings/settings_value.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "settings/suggest.h"

enum { ALLOWED_BYTES = 256 };

int settings_value_error(const SettingsReader *reader, const DocumentNode *node, const char *format,
                         ...) {
    char path[DOCUMENT_PATH_BYTES], sentence[768];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return settings_error(reader->error, reader->name, node->place, document_path(node, path), "%s",
                          sentence);
}

static int no_memory(const SettingsReader *reader) {
    return error_set(reader->error, -ENOMEM, "%s: out of memory", reader->name);
}

const char *settings_value_text(const SettingsReader *reader, const DocumentNode *node,
                                const char *allowed) {
    if (node->kind == DOCUMENT_SCALAR && node->text[0] != '\0')
        return node->text;
    settings_value_error(reader, node, "%s, allowed: %s",
                         node->kind == DOCUMENT_SCALAR ? "is empty" : "must be one value", allowed);
    return NULL;
}

bool settings_value_is_name(const char *text, size_t bytes) {
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "0123456789._-");

    return length > 0 && length < bytes && text[length] == '\0';
}

/* Digits without a leading zero, which some readers of YAML take for octal. */
static bool parse_whole(const char *text, uint64_t *ret_value) {
    return !(text[0] == '0' && text[1]) && text_parse_u64(text, 0, UINT64_MAX, ret_value);
}

bool settings_value_parse_integer(const char *text, int64_t *ret_value) {
    bool negative = text[0] == '-';
    uint64_t limit = (uint64_t)INT64_MAX + negative, value;

    if (!parse_whole(text + negative, &value) || value > limit || (negative && value == 0))
        return false;
    *ret_value = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* What may stand there, for the end of a message. */
static const char *allowed_text(const SettingsKey *key, char to[ALLOWED_BYTES]) {
    const char *word = key->words;
    size_t used = 0;
    char size[32];

    if (key->type == SETTINGS_KEY_CHOICE) {
        for (; word; word = word[strcspn(word, "|")] ? word + strcspn(word, "|") + 1 : NULL)
            used += (size_t)snprintf(to + used, ALLOWED_BYTES - used, "%s%.*s", used ? ", " : "",
                                     (int)strcspn(word, "|"), word);
        assert(used < ALLOWED_BYTES);
        return to;
    }
    if (key->type == SETTINGS_KEY_BOOL)
        return "true, false";
    if (key->type == SETTINGS_KEY_INTEGER)
        return "a whole number";
    if (key->type == SETTINGS_KEY_PATH)
        return "a path";
    if (key->type == SETTINGS_KEY_DEVICE)
        return "a number from 0, or GPU-UUID";
    if (key->type == SETTINGS_KEY_SIZE && key->min > 0)
        snprintf(to, ALLOWED_BYTES, "a size of at least %s, such as 512MiB",
                 text_format_size(size, key->min));
    else if (key->type == SETTINGS_KEY_SIZE)
        snprintf(to, ALLOWED_BYTES, "0, a size such as 512MiB");
    else
        snprintf(to, ALLOWED_BYTES, "%" PRIu64 " to %" PRIu64, key->min, key->max);
    if (word)
        strncat(strncat(to, ", ", ALLOWED_BYTES - strlen(to) - 1), word,
                ALLOWED_BYTES - strlen(to) - 1);
    return to;
}

static void store(const SettingsKey *key, void *object, uint64_t value) {
    uint8_t *field = (uint8_t *)object + key->offset;

    assert(key->bytes == 1 || key->bytes == 4 || key->bytes == 8);
    memcpy(field, &value, key->bytes); /* little-endian, as every machine this builds for */
}

static void store_flag(const SettingsKey *key, void *object, bool value) {
    if (key->flag)
        memcpy((uint8_t *)object + key->flag, &value, sizeof value);
}

static int read_choice(const SettingsReader *reader, const SettingsKey *key,
                       const DocumentNode *node, const char *text, const char *allowed,
                       void *object) {
    int position = settings_key_word(key->words, text);
    char hint[64];

    if (position >= 0) {
        store(key, object, (uint64_t)position);
        return 0;
    }
    return settings_value_error(reader, node, "'%.60s' is not known%s, allowed: %s", text,
                                suggest_among(text, key->words, hint), allowed);
}

static int read_bool(const SettingsReader *reader, const SettingsKey *key, const DocumentNode *node,
                     const char *text, void *object) {
    bool is_true = strcmp(text, "true") == 0;

    if (!is_true && strcmp(text, "false") != 0)
        return settings_value_error(reader, node, "'%.60s' is no boolean, allowed: true, false",
                                    text);
    store(key, object, is_true);
    return 0;
}

/* Sizes, whole numbers, and the word that may stand for one. */
static int read_number(const SettingsReader *reader, const SettingsKey *key,
                       const DocumentNode *node, const char *text, const char *allowed,
                       void *object) {
    bool is_size = key->type == SETTINGS_KEY_SIZE;
    bool is_word = key->words && strcmp(text, key->words) == 0;
    uint64_t value = 0;

    if (!is_word && !(is_size ? text_parse_size(text, &value) : parse_whole(text, &value)))
        return settings_value_error(reader, node, "'%.60s' is no %s, allowed: %s", text,
                                    is_size ? "size" : "whole number in range", allowed);
    if (!is_word && (value < key->min || value > key->max))
        return settings_value_error(reader, node, "%.60s is out of range, allowed: %s", text,
                                    allowed);
    store(key, object, value);
    store_flag(key, object, is_word);
    return 0;
}

static int read_integer(const SettingsReader *reader, const SettingsKey *key,
                        const DocumentNode *node, const char *text, void *object) {
    int64_t value;

    if (!settings_value_parse_integer(text, &value))
        return settings_value_error(reader, node, "'%.60s' is no whole number of 64 bits", text);
    store(key, object, (uint64_t)value);
    store_flag(key, object, true);
    return 0;
}

static int read_path(const SettingsReader *reader, const SettingsKey *key, const DocumentNode *node,
                     const char *text, void *object) {
    char **field = (char **)(void *)((uint8_t *)object + key->offset), *path;

    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return settings_value_error(reader, node, "a path without control characters, please");
    if (text[0] == '/')
        path = strdup(text);
    else if (asprintf(&path, "%s/%s", strcmp(reader->dir, "/") ? reader->dir : "", text) < 0)
        path = NULL;
    if (!path)
        return no_memory(reader);
    free(*field);
    *field = path;
    if (strlen(path) > key->max)
        return settings_value_error(reader, node,
                                    "%.200s is %zu bytes long, allowed: at most %" PRIu64, path,
                                    strlen(path), key->max);
    return 0;
}

/* As CUDA numbers devices, or as nvidia-smi -L names them. */
static int read_device(const SettingsReader *reader, const SettingsKey *key,
                       const DocumentNode *node, const char *text, const char *allowed,
                       void *object) {
    uint64_t index;
    bool is_uuid = strncmp(text, "GPU-", 4) == 0 && text[4] &&
                   text[4 + strspn(text + 4, "0123456789abcdef-")] == '\0';

    if (!(parse_whole(text, &index) && index < 1000) &&
        !(is_uuid && strlen(text) < SETTINGS_DEVICE))
        return settings_value_error(reader, node, "'%.60s' names no device, allowed: %s", text,
                                    allowed);
    strcpy((char *)object + key->offset, text);
    return 0;
}

/* A user or group by number or by name. */
static int find_id(const SettingsReader *reader, const DocumentNode *node, bool is_user,
                   const char *text, uint32_t *ret_id) {
    uint64_t number;

    if (parse_whole(text, &number) && number < UINT32_MAX) {
        *ret_id = (uint32_t)number;
        return 0;
    }
    if (is_user) {
        const struct passwd *user = getpwnam(text);
        if (user) {
            *ret_id = user->pw_uid;
            return 0;
        }
    } else {
        const struct group *group = getgrnam(text);
        if (group) {
            *ret_id = group->gr_gid;
            return 0;
        }
    }
    return settings_value_error(reader, node, "this machine has no %s '%.60s'",
                                is_user ? "user" : "group", text);
}

static int read_ids(const SettingsReader *reader, const SettingsKey *key, const DocumentNode *node,
                    SettingsFeed *feed) {
    bool is_user = key->type == SETTINGS_KEY_USERS;
    uint32_t *ids, count = 0;
    int r = 0;

    if (node->kind != DOCUMENT_SEQUENCE)
        return settings_value_error(reader, node,
                                    "must be a list of names or numbers, such as [alice, 1001]");
    if (node->child_count > SETTINGS_ALLOW_MAX)
        return settings_value_error(reader, node, "has %" PRIu32 " entries, allowed: at most %d",
                                    node->child_count, SETTINGS_ALLOW_MAX);
    ids = calloc(node->child_count + 1, sizeof *ids);
    if (!ids)
        return no_memory(reader);
    for (const DocumentNode *child = node->first; child && r == 0; child = child->next) {
        const char *text = settings_value_text(reader, child, "a name or a number");

        r = text ? find_id(reader, child, is_user, text, &ids[count++]) : -EINVAL;
    }
    free(is_user ? feed->allow_users : feed->allow_groups);
    *(is_user ? &feed->allow_users : &feed->allow_groups) = ids;
    *(is_user ? &feed->allow_user_count : &feed->allow_group_count) = r == 0 ? count : 0;
    return r;
}

int settings_value_read(const SettingsReader *reader, const SettingsKey *key,
                        const DocumentNode *node, void *object) {
    char buffer[ALLOWED_BYTES];
    const char *allowed, *text;

    if (key->place)
        memcpy((uint8_t *)object + key->place, &node->place, sizeof node->place);
    if (key->type == SETTINGS_KEY_TENSORS)
        return settings_tensor_read(reader, node, object);
    if (key->type == SETTINGS_KEY_BOUNDARIES)
        return settings_boundaries_read(reader, node, object);
    if (key->type == SETTINGS_KEY_DATASETS)
        return settings_datasets_read(reader, node, object);
    if (key->type == SETTINGS_KEY_UNTIL)
        return settings_until_read(reader, node, object);
    if (key->type == SETTINGS_KEY_USERS || key->type == SETTINGS_KEY_GROUPS)
        return read_ids(reader, key, node, object);
    allowed = allowed_text(key, buffer);
    text = settings_value_text(reader, node, allowed);
    if (!text)
        return -EINVAL;
    switch (key->type) {
    case SETTINGS_KEY_BOOL:
        return read_bool(reader, key, node, text, object);
    case SETTINGS_KEY_CHOICE:
        return read_choice(reader, key, node, text, allowed, object);
    case SETTINGS_KEY_INTEGER:
        return read_integer(reader, key, node, text, object);
    case SETTINGS_KEY_PATH:
        return read_path(reader, key, node, text, object);
    case SETTINGS_KEY_DEVICE:
        return read_device(reader, key, node, text, allowed, object);
    default:
        return read_number(reader, key, node, text, allowed, object);
    }
}
