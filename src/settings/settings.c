/* SPDX-License-Identifier: MIT */
#include "settings/settings.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "settings/cgroup.h"
#include "settings/document.h"
#include "settings/settings_key.h"
#include "settings/settings_parse.h"
#include "settings/settings_value.h"
#include "settings/suggest.h"

enum { PATTERN_BYTES = 256 };

int settings_error(Error *error, const char *path, SettingsPlace place, const char *key,
                   const char *format, ...) {
    char sentence[768], where[32] = "";
    bool has_key = key && *key, is_override = place.line == 0 && place.column != 0;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    if (is_override)
        return error_set(error, -EINVAL, "--set %s: %s", has_key ? key : "", sentence);
    if (place.line)
        snprintf(where, sizeof where, ":%" PRIu32 ":%" PRIu32, place.line, place.column);
    return error_set(error, -EINVAL, "%s%s: %s%s%s", path, where, has_key ? key : "",
                     has_key ? ": " : "", sentence);
}

static int no_memory(const SettingsReader *reader) {
    return error_set(reader->error, -ENOMEM, "%s: out of memory", reader->name);
}

/* The part of a key's path below the section `pattern` ("" for the root) up to the next dot, or
 * NULL where the key lies elsewhere. */
static const char *below(const SettingsKey *key, const char *pattern, size_t *ret_length) {
    size_t length = strlen(pattern);

    if (length && (strncmp(key->path, pattern, length) != 0 || key->path[length] != '.'))
        return NULL;
    *ret_length = strcspn(key->path + length + (length != 0), ".");
    return key->path + length + (length != 0);
}

/* All keys of a section, as "a, b, c", and the one of them that `word` is near to. */
static void section_keys(const char *pattern, const char *word, char to[512], char nearest[64]) {
    unsigned distance = SUGGEST_FAR;
    char name[64], last[64] = "";

    to[0] = nearest[0] = '\0';
    for (size_t k = 0; k < settings_key_count; k++) {
        size_t length;
        const char *part = below(&settings_keys[k], pattern, &length);

        if (!part)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)length, part);
        if (strcmp(name, last) == 0)
            continue; /* keys of one section stand together in the table */
        snprintf(to + strlen(to), 512 - strlen(to), "%s%s", *to ? ", " : "", name);
        if (suggest_is_better(word, name, &distance))
            strcpy(nearest, name);
        strcpy(last, name);
    }
}

/* Is `word` the section and the key in one, as batch_size, batchSize and max_length are? */
static bool is_run_together(const char *word, const char *section, const char *key) {
    size_t head = strcspn(section, "."), tail = strlen(key), size = 0;
    char bare[128];

    for (; *word && size + 1 < sizeof bare; word++)
        if (isalnum((unsigned char)*word))
            bare[size++] = (char)tolower((unsigned char)*word);
    bare[size] = '\0';
    if (size != head + tail)
        return false;
    return (strncmp(bare, section, head) == 0 && strcmp(bare + head, key) == 0) ||
           (strncmp(bare, key, tail) == 0 && strncmp(bare + tail, section, head) == 0);
}

/* Where a key of this name does exist: people forget the section more often than the name. */
static const char *elsewhere(const char *word) {
    static const char in_feed[] = "feeds.*.";

    for (size_t k = 0; k < settings_key_count; k++) {
        const char *path = settings_keys[k].path, *dot = strrchr(path, '.');
        size_t prefix = strncmp(path, in_feed, sizeof in_feed - 1) == 0 ? sizeof in_feed - 1 : 0;

        if (dot && (strcmp(dot + 1, word) == 0 ||
                    (dot > path + prefix && is_run_together(word, path + prefix, dot + 1))))
            return path;
    }
    return NULL;
}

static int refuse_unknown(const SettingsReader *reader, const DocumentNode *node,
                          const char *pattern) {
    char allowed[512], nearest[64], path[DOCUMENT_PATH_BYTES], hint[96] = "";
    const char *other = elsewhere(node->key);

    section_keys(pattern, node->key, allowed, nearest);
    if (*nearest)
        snprintf(hint, sizeof hint, ", did you mean %s", nearest);
    else if (other)
        snprintf(hint, sizeof hint, ", did you mean %s",
                 strncmp(other, "feeds.*.", 8) == 0 && *pattern ? other + 8 : other);
    return settings_error(reader->error, reader->name, node->key_place, document_path(node, path),
                          "unknown key%s, allowed: %s", hint, allowed);
}

/* Read all keys of a section and of those below it into `object`; `pattern` is the section's path
 * in the table of keys. "feeds" itself is passed over: settings_read() goes through it. */
static int read_section(const SettingsReader *reader, const DocumentNode *mapping,
                        const char *pattern, void *object) {
    char path[PATTERN_BYTES];
    int r = 0;

    if (mapping->kind != DOCUMENT_MAPPING) {
        char allowed[512], nearest[64];
        section_keys(pattern, "", allowed, nearest);
        return settings_value_error(reader, mapping, "must be a mapping with keys of: %s", allowed);
    }
    for (const DocumentNode *child = mapping->first; child && r == 0; child = child->next) {
        const SettingsKey *key;

        snprintf(path, sizeof path, "%s%s%s", pattern, *pattern ? "." : "", child->key);
        /* A key with a dot would pass for a path into another section, whose object is not this. */
        bool is_word = !strchr(child->key, '.');
        key = is_word ? settings_key_find(path) : NULL;
        if (strcmp(path, "feeds") == 0)
            continue;
        if (key)
            r = settings_value_read(reader, key, child, object);
        else if (is_word && settings_key_is_section(path))
            r = read_section(reader, child, path, object);
        else
            r = refuse_unknown(reader, child, pattern);
    }
    return r;
}

/* Give every key of `object` the value that the table says. */
static int set_defaults(const SettingsReader *reader, bool in_feed, void *object) {
    for (size_t k = 0; k < settings_key_count; k++) {
        const SettingsKey *key = &settings_keys[k];
        DocumentNode *node;
        int r;

        if ((strncmp(key->path, "feeds.", 6) == 0) != in_feed || !key->fallback)
            continue;
        r = document_parse(key->fallback, strlen(key->fallback), key->path, &node, reader->error);
        if (r < 0)
            return r;
        node->place = (SettingsPlace){0};
        r = settings_value_read(reader, key, node, object);
        document_free(node);
        assert(r == 0 || r == -ENOMEM);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Keys of one policy say nothing with another, so whoever sets them there expects something. */
static int check_batch(const SettingsReader *reader, const SettingsFeed *feed, char *path) {
    static const char *const words[] = {"fixed", "bucket", "tokens", "pack"};
    const struct {
        const char *key;
        SettingsPlace place;
        SettingsPolicy policy;
        bool is_set;
        const char *hint;
    } keys[] = {
        {".batch.boundaries", feed->boundaries_place, SETTINGS_POLICY_BUCKET,
         feed->boundary_count > 0 || feed->boundary_factor != SETTINGS_BOUNDARIES_AUTO, ""},
        {".batch.shape", feed->shape_place, SETTINGS_POLICY_BUCKET, feed->shape_bucket, ""},
        {".batch.tokens", feed->tokens_place, SETTINGS_POLICY_TOKENS, feed->tokens != 0,
         ", did you mean batch.policy: tokens"},
        {".batch.multiple_of", feed->multiple_of_place, SETTINGS_POLICY_TOKENS,
         feed->multiple_of != 1, ""},
        {".batch.length", feed->length_place, SETTINGS_POLICY_PACK, feed->length != 0,
         ", did you mean length.max"},
        {".batch.pool", feed->pool_place, SETTINGS_POLICY_PACK, feed->pool != 256, ""},
        {".batch.group", feed->group_place, SETTINGS_POLICY_PACK, feed->group != 0, ""},
    };

    for (size_t k = 0; k < ARRAY_COUNT(keys); k++)
        if (keys[k].is_set && keys[k].policy != feed->policy)
            return settings_error(
                reader->error, reader->name, keys[k].place, strcat(path, keys[k].key),
                "means nothing with batch.policy: %s%s", words[feed->policy], keys[k].hint);
    if (feed->policy == SETTINGS_POLICY_TOKENS && feed->size != 64)
        return settings_error(reader->error, reader->name, feed->size_place,
                              strcat(path, ".batch.size"),
                              "means nothing with batch.policy: tokens, did you mean batch.tokens");
    if (feed->policy == SETTINGS_POLICY_TOKENS && !feed->tokens)
        return settings_error(reader->error, reader->name, feed->policy_place,
                              strcat(path, ".batch.tokens"),
                              "is required with batch.policy: tokens: the places of a batch, "
                              "padding included");
    if (feed->policy == SETTINGS_POLICY_PACK && !feed->length)
        return settings_error(reader->error, reader->name, feed->policy_place,
                              strcat(path, ".batch.length"),
                              "is required with batch.policy: pack: the places of a row");
    if (feed->policy == SETTINGS_POLICY_PACK && feed->length_max > feed->length)
        return settings_error(reader->error, reader->name, feed->length_max_place,
                              strcat(path, ".length.max"),
                              "is %" PRIu32 ", allowed: at most batch.length (%" PRIu32 ")",
                              feed->length_max, feed->length);
    if (feed->policy == SETTINGS_POLICY_PACK && feed->pad_to)
        return settings_error(reader->error, reader->name, feed->pad_to_place,
                              strcat(path, ".pad.to"),
                              "means nothing with batch.policy: pack: rows have batch.length");
    return 0;
}

/* A name that --set alone gives is more likely a slip than a feed without a dataset. */
static int refuse_name(const SettingsReader *reader, const DocumentNode *node, const char *path) {
    char names[512] = "";

    for (const DocumentNode *feed = node->parent->first; feed; feed = feed->next)
        if (feed->key_place.line)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                     *names ? ", " : "", feed->key);
    return settings_error(reader->error, reader->name, node->key_place, path,
                          "there is no feed '%s', the file has: %s; a new one needs a dataset",
                          node->key, *names ? names : "none");
}

/* One dataset or several, and `mix` with several only. */
static int check_datasets(const SettingsReader *reader, const DocumentNode *node,
                          const SettingsFeed *feed, char *path) {
    bool has_until = feed->until != SETTINGS_UNTIL_FIRST;

    if (!feed->dataset && !feed->datasets && node->key_place.line == 0)
        return refuse_name(reader, node, path);
    if (!feed->dataset && !feed->datasets)
        return settings_error(reader->error, reader->name, feed->place, strcat(path, ".dataset"),
                              "is required: a directory with dataset.json (or datasets, to mix "
                              "several)");
    if (feed->dataset && feed->datasets)
        return settings_error(reader->error, reader->name, feed->datasets_place,
                              strcat(path, ".datasets"),
                              "stands beside dataset, allowed: one of the two");
    if (feed->dataset && (has_until || feed->unit != SETTINGS_UNIT_SEQUENCES))
        return settings_error(
            reader->error, reader->name, has_until ? feed->until_place : feed->unit_place,
            strcat(path, has_until ? ".mix.until" : ".mix.unit"), "means nothing without datasets");
    return 0;
}

static int check_feed(const SettingsReader *reader, const DocumentNode *node,
                      const SettingsFeed *feed) {
    char path[DOCUMENT_PATH_BYTES + 16];
    int r;

    document_path(node, path);
    r = check_datasets(reader, node, feed, path);
    if (r < 0)
        return r;
    if (feed->pad_to && feed->length_max && feed->pad_to < feed->length_max)
        return settings_error(
            reader->error, reader->name, feed->pad_to_place, strcat(path, ".pad.to"),
            "is %" PRIu32 ", allowed: longest, or at least length.max (%" PRIu32 ")", feed->pad_to,
            feed->length_max);
    if (feed->device[0] && feed->backend == SETTINGS_BACKEND_CPU)
        return settings_error(reader->error, reader->name, feed->device_place,
                              strcat(path, ".device"),
                              "means nothing with backend: cpu: take it away, or set backend to "
                              "auto or cuda");
    return check_batch(reader, feed, path);
}

static int read_feed(const SettingsReader *reader, const DocumentNode *node, SettingsFeed *feed) {
    int r;

    if (!settings_value_is_name(node->key, sizeof feed->name))
        return settings_error(reader->error, reader->name, node->key_place, "feeds",
                              "'%.80s' is no name for a feed, allowed: 1 to %zu of the characters "
                              "A-Z a-z 0-9 . _ -",
                              node->key, sizeof feed->name - 1);
    strcpy(feed->name, node->key);
    feed->place = node->key_place;
    r = set_defaults(reader, true, feed);
    if (r < 0)
        return r;
    r = read_section(reader, node, "feeds.*", feed);
    return r < 0 ? r : check_feed(reader, node, feed);
}

static int read_feeds(const SettingsReader *reader, const DocumentNode *root, Settings *settings) {
    const DocumentNode *feeds = document_child(root, "feeds");

    if (!feeds)
        return settings_error(reader->error, reader->name, (SettingsPlace){0}, "feeds",
                              "is required: a mapping of names to feeds");
    if (feeds->kind != DOCUMENT_MAPPING || feeds->child_count == 0)
        return settings_value_error(reader, feeds, "must be a mapping of names to feeds");
    if (feeds->child_count > SETTINGS_FEEDS_MAX)
        return settings_value_error(reader, feeds, "has %" PRIu32 " feeds, allowed: at most %d",
                                    feeds->child_count, SETTINGS_FEEDS_MAX);
    settings->feeds = calloc(feeds->child_count, sizeof *settings->feeds);
    if (!settings->feeds)
        return no_memory(reader);
    for (const DocumentNode *child = feeds->first; child; child = child->next) {
        int r = read_feed(reader, child, &settings->feeds[settings->feed_count++]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_settings(const SettingsReader *reader, const DocumentNode *root,
                         Settings *settings) {
    int r;

    settings->path = strdup(reader->name);
    if (!settings->path)
        return no_memory(reader);
    r = set_defaults(reader, false, settings);
    if (r < 0)
        return r;
    r = read_section(reader, root, "", settings);
    if (r < 0)
        return r;
    if (settings->memory_place.line == 0 && settings->memory_place.column == 0) {
        uint64_t quarter = cgroup_memory_limit() / 4, least = settings_key_find("memory")->min;
        settings->memory = MAX(MIN(settings->memory, quarter), least);
    }
    return read_feeds(reader, root, settings);
}

/* The absolute directory of the file: as the path says it, links in the directory resolved, a link
 * that is the file itself not, so that a tree of links to one file keeps its own neighbours. */
static char *directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    char *absolute = dir ? realpath(dir, NULL) : NULL;

    free(dir);
    return absolute;
}

static void free_bytes(char **bytes) {
    free(*bytes);
}

static void free_document(DocumentNode **root) {
    document_free(*root);
}

static int apply_overrides(DocumentNode *root, char *const *overrides, uint32_t count,
                           Error *error) {
    int r = 0;

    for (uint32_t i = 0; i < count && r == 0; i++)
        r = document_override(root, overrides[i], error);
    return r;
}

int settings_parse(const char *bytes, size_t size, const char *path, const char *dir,
                   char *const *overrides, uint32_t override_count, Settings **ret_settings,
                   Error *error) {
    CLEANUP(free_document) DocumentNode *root = NULL;
    SettingsReader reader = {.name = path, .dir = dir, .error = error};
    Settings *settings;
    int r = document_parse(bytes, size, path, &root, error);

    if (r < 0)
        return r;
    if (root->kind != DOCUMENT_MAPPING)
        return settings_value_error(&reader, root, "must be a mapping with at least 'feeds'");
    r = apply_overrides(root, overrides, override_count, error);
    if (r < 0)
        return r;
    settings = calloc(1, sizeof *settings);
    if (!settings)
        return no_memory(&reader);
    r = read_settings(&reader, root, settings);
    if (r < 0) {
        settings_free(settings);
        return r;
    }
    *ret_settings = settings;
    return 0;
}

/* Read the file after a look at what it is: whoever may write it decides what is read and who may
 * attach. */
static int read_file(const char *path, char **ret_bytes, size_t *ret_size, Error *error) {
    CLEANUP(file_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    CLEANUP(free_bytes) char *bytes = NULL;
    struct stat status;
    size_t size;
    int r;

    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(error, -errno, "%s: cannot be opened: %m", path);
    if (S_ISDIR(status.st_mode))
        return error_set(error, -EISDIR,
                         "%s: is a directory; a configuration is a file that names it: 'seqfeed "
                         "inspect %s' ends with one for a dataset",
                         path, path);
    if (!S_ISREG(status.st_mode))
        return error_set(error, -EINVAL, "%s: is not a regular file", path);
    if (status.st_mode & S_IWOTH)
        return error_set(error, -EINVAL, "%s: everybody may write it: chmod o-w %s", path, path);
    if (status.st_size > SETTINGS_FILE_MAX)
        return error_set(error, -EINVAL, "%s: has %jd bytes, allowed: at most %d", path,
                         (intmax_t)status.st_size, SETTINGS_FILE_MAX);
    size = (size_t)status.st_size;
    bytes = malloc(size + 1);
    if (!bytes)
        return error_set(error, -ENOMEM, "%s: out of memory", path);
    r = file_read_at(fd, bytes, size, 0);
    if (r < 0)
        return error_set(error, r, "%s: cannot be read: %s", path,
                         r == -ENODATA ? "it became shorter meanwhile" : strerror(-r));
    *ret_bytes = bytes;
    *ret_size = size;
    bytes = NULL;
    return 0;
}

int settings_load(const char *path, char *const *overrides, uint32_t override_count,
                  Settings **ret_settings, Error *error) {
    CLEANUP(free_bytes) char *bytes = NULL;
    CLEANUP(free_bytes) char *dir = NULL;
    size_t size = 0;
    int r = read_file(path, &bytes, &size, error);

    if (r < 0)
        return r;
    dir = directory_of(path);
    if (!dir)
        return error_set(error, -errno, "%s: its directory cannot be found: %m", path);
    return settings_parse(bytes, size, path, dir, overrides, override_count, ret_settings, error);
}

void settings_free(Settings *settings) {
    if (!settings)
        return;
    for (uint32_t f = 0; f < settings->feed_count; f++) {
        free(settings->feeds[f].dataset);
        settings_datasets_free(&settings->feeds[f]);
        free(settings->feeds[f].boundaries);
        free(settings->feeds[f].allow_users);
        free(settings->feeds[f].allow_groups);
        free(settings->feeds[f].steps);
        free(settings->feeds[f].mask_values);
    }
    free(settings->feeds);
    free(settings->socket);
    free(settings->path);
    free(settings);
}
