/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "base/attributes.h"
#include "base/file.h"
#include "settings/document.h"
#include "settings/settings_key.h"
#include "settings/settings_parse.h"

static void free_text(char **text) {
    free(*text);
}

static void free_document(DocumentNode **root) {
    document_free(*root);
}

static void free_settings(Settings **settings) {
    settings_free(*settings);
}

static char *read_text(const char *path) {
    char *text = NULL;
    size_t size;

    ck_assert_msg(file_load(AT_FDCWD, path, SETTINGS_FILE_MAX, &text, &size) == 0, "%s", path);
    return text;
}

static Settings *parse(const char *name, const char *text) {
    Settings *settings = NULL;
    Error error = {0};

    ck_assert_msg(
        settings_parse(text, strlen(text), name, CONFIG_DIR, NULL, 0, &settings, &error) == 0, "%s",
        error.text);
    return settings;
}

/* "#key: value" becomes " key: value"; "# prose" stays. */
static void uncomment(char *text) {
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        line += strspn(line, " ");
        if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z')
            memmove(line, line + 1, strlen(line));
    }
}

/* Some cannot stand beside others: dataset beside datasets, those of one policy with another. */
static void leave_out(char *text, const char *key) {
    size_t at = 0;

    while (text[at] && strncmp(text + at, key, strlen(key)) != 0)
        at++;
    ck_assert_msg(text[at] != '\0', "the file has no%s", key);
    text[at + strspn(text + at, "\n ")] = '#';
}

/* The node of a key of the table, whose feed is called "train". */
static const DocumentNode *find(const DocumentNode *root, const char *path) {
    char part[64];

    while (root && *path) {
        size_t length = strcspn(path, ".");

        snprintf(part, sizeof part, "%.*s", (int)length, path);
        root = document_child(root, strcmp(part, "*") == 0 ? "train" : part);
        path += length + (path[length] == '.');
    }
    return root;
}

START_TEST(every_key_stands_in_the_shipped_file_and_nothing_that_is_not_a_key)
{
    CLEANUP(free_text) char *text = read_text(CONFIG_DIR "/seqfeedd.yaml");
    CLEANUP(free_document) DocumentNode *bare = NULL;
    CLEANUP(free_document) DocumentNode *full = NULL;

    ck_assert_int_eq(document_parse(text, strlen(text), "bare", &bare, NULL), 0);
    settings_free(parse("bare", text));
    uncomment(text);
    ck_assert_int_eq(document_parse(text, strlen(text), "full", &full, NULL), 0);
    leave_out(text, "\n    dataset: ");
    leave_out(text, "\n      tokens: ");
    leave_out(text, "\n      length: ");
    settings_free(parse("full", text));
    for (size_t k = 0; k < settings_key_count; k++) {
        const SettingsKey *key = &settings_keys[k];
        bool expected = key->fallback || strcmp(key->path, "feeds.*.dataset") == 0;

        ck_assert_msg(find(full, key->path) != NULL, "%s is missing", key->path);
        ck_assert_msg((find(bare, key->path) != NULL) == expected,
                      "%s has no default, and the file gives one, or the other way round",
                      key->path);
    }
}
END_TEST

/* Compared by the text of the file and by the bytes that both ways lead to. */
START_TEST(the_values_of_the_shipped_file_are_the_built_in_defaults)
{
    static const char minimal[] = "feeds: {train: {dataset: corpus}}";
    CLEANUP(free_text) char *text = read_text(CONFIG_DIR "/seqfeedd.yaml");
    CLEANUP(free_settings) Settings *shipped = parse("shipped", text);
    CLEANUP(free_settings) Settings *built_in = parse("built-in", minimal);
    CLEANUP(free_document) DocumentNode *root = NULL;

    ck_assert_int_eq(document_parse(text, strlen(text), "shipped", &root, NULL), 0);
    for (size_t k = 0; k < settings_key_count; k++) {
        const SettingsKey *key = &settings_keys[k];
        bool in_feed = strncmp(key->path, "feeds.", 6) == 0;
        const char *a = in_feed ? (const char *)shipped->feeds : (const char *)shipped;
        const char *b = in_feed ? (const char *)built_in->feeds : (const char *)built_in;
        const DocumentNode *node = find(root, key->path);

        if (key->type == SETTINGS_KEY_USERS || key->type == SETTINGS_KEY_GROUPS) {
            ck_assert_uint_eq(node->child_count, 0);
            continue;
        }
        if (key->fallback)
            ck_assert_msg(strcmp(node->text, key->fallback) == 0, "%s: %s in the file, %s built in",
                          key->path, node->text, key->fallback);
        if (key->type == SETTINGS_KEY_PATH || strcmp(key->path, "memory") == 0)
            continue; /* memory: the cgroup of this machine may allow less */
        ck_assert_msg(memcmp(a + key->offset, b + key->offset, key->bytes) == 0, "%s", key->path);
        if (key->flag)
            ck_assert_msg(memcmp(a + key->flag, b + key->flag, sizeof(bool)) == 0, "%s", key->path);
    }
    ck_assert_str_eq(shipped->feeds[0].dataset, CONFIG_DIR "/corpus");
}
END_TEST

START_TEST(every_example_is_valid)
{
    glob_t found;

    ck_assert_int_eq(glob(CONFIG_DIR "/examples/*.yaml", 0, NULL, &found), 0);
    ck_assert_uint_ge(found.gl_pathc, 2);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        CLEANUP(free_text) char *text = read_text(found.gl_pathv[i]);
        settings_free(parse(found.gl_pathv[i], text));
    }
    globfree(&found);
}
END_TEST

CHECK_MAIN("config_files", every_key_stands_in_the_shipped_file_and_nothing_that_is_not_a_key,
           the_values_of_the_shipped_file_are_the_built_in_defaults, every_example_is_valid)
