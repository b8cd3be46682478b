/* SPDX-License-Identifier: MIT */
/* settings_key.h: every key of the configuration, once: its type, default, range, and the field it
 * is stored in. The reader walks this table, messages are made from it, and the test of
 * config/seqfeedd.yaml compares the file with it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum SettingsKeyType {
    SETTINGS_KEY_SIZE,       /* uint64_t: "256MiB" */
    SETTINGS_KEY_NUMBER,     /* uint32_t, or uint64_t: whole, without sign */
    SETTINGS_KEY_INTEGER,    /* int64_t */
    SETTINGS_KEY_BOOL,       /* bool */
    SETTINGS_KEY_CHOICE,     /* an enum or bool: the position of the word in `words` */
    SETTINGS_KEY_PATH,       /* char *, made absolute */
    SETTINGS_KEY_DEVICE,     /* char [SETTINGS_DEVICE] */
    SETTINGS_KEY_USERS,      /* SettingsFeed.allow_users */
    SETTINGS_KEY_GROUPS,     /* SettingsFeed.allow_groups */
    SETTINGS_KEY_TENSORS,    /* SettingsFeed.tensors */
    SETTINGS_KEY_BOUNDARIES, /* SettingsFeed.boundary_kind and what belongs to it */
    SETTINGS_KEY_DATASETS,   /* SettingsFeed.datasets */
    SETTINGS_KEY_UNTIL       /* SettingsFeed.until and until_count */
} SettingsKeyType;

typedef struct SettingsKey {
    const char *path; /* "memory", "feeds.*.batch.size" */
    SettingsKeyType type;
    const char *fallback; /* the default, as a file would say it; NULL: none */
    const char *words;    /* choices: "keep|drop|pad"; numbers and sizes: the one word that is
                             allowed beside them and stored as 0 */
    uint64_t min, max;
    uint16_t offset; /* of the field in Settings, or in SettingsFeed below "feeds.*" */
    uint16_t bytes;  /* of that field */
    uint16_t flag;   /* of a bool that says: the word was given (numbers with `words`), or the key
                        was given (others); 0: none */
    uint16_t place;  /* of a SettingsPlace; 0: none */
} SettingsKey;

extern const SettingsKey settings_keys[];
extern const size_t settings_key_count;

/* The key with this path ("feeds.*.dataset"), or NULL. */
const SettingsKey *settings_key_find(const char *path);

/* Is `path` a section: do keys lie below it? */
int settings_key_is_section(const char *path);

/* Does `word` stand in "one|two|three"? Its position, or -1. */
int settings_key_word(const char *words, const char *word);
