/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "settings/document.h"

/* Values from the command line stand in no line of the file: settings_error() names the option. */
static const SettingsPlace override_place = {0, 1};

/* How much of `path` names the child that it leads to: an existing child may have dots in its name,
 * of several the longest counts; a new one ends at the next dot. */
static size_t step_length(const DocumentNode *mapping, const char *path) {
    size_t longest = 0;

    for (const DocumentNode *child = mapping->first; child; child = child->next) {
        size_t length = strlen(child->key);
        if (length > longest && strncmp(path, child->key, length) == 0 &&
            (path[length] == '.' || path[length] == '\0'))
            longest = length;
    }
    return longest ? longest : strcspn(path, ".");
}

/* The child named by the first `length` bytes of `path`; made as an empty mapping if absent. NULL:
 * out of memory. */
static DocumentNode *child_get(DocumentNode *mapping, const char *path, size_t length) {
    char *key = strndup(path, length);
    DocumentNode *child = key ? document_child(mapping, key) : NULL;

    if (child || !key) {
        free(key);
        return child;
    }
    child = document_new_child(mapping, DOCUMENT_MAPPING, override_place, key);
    free(key);
    return child;
}

/* The node that `path` leads to, from the root on; what is missing is made. */
static int walk(DocumentNode *root, const char *path, DocumentNode **ret_node, Error *error) {
    DocumentNode *node = root;
    uint32_t depth = 0;

    for (const char *at = path; at;) {
        size_t length;

        if (node->kind != DOCUMENT_MAPPING)
            return error_set(error, -EINVAL, "--set %s: %.*s has no keys below it", path,
                             (int)(at - path - 1), path);
        length = step_length(node, at);
        if (length == 0 || ++depth > SETTINGS_DEPTH_MAX)
            return error_set(error, -EINVAL, "--set %s: not the path of a key", path);
        node = child_get(node, at, length);
        if (!node)
            return error_set(error, -ENOMEM, "out of memory");
        at = at[length] == '.' ? at + length + 1 : NULL;
    }
    *ret_node = node;
    return 0;
}

static void move_here(DocumentNode *node) {
    node->place = node->key_place = override_place;
    for (DocumentNode *child = node->first; child; child = child->next)
        move_here(child);
}

static int parse_value(const char *path, const char *value, DocumentNode **ret_node, Error *error) {
    char name[DOCUMENT_PATH_BYTES];
    int r;

    snprintf(name, sizeof name, "--set %s", path);
    /* Nothing is an empty string here, which a YAML stream cannot hold without quotes. */
    if (value[strspn(value, " \t\n")] == '\0')
        value = "''";
    r = document_parse(value, strlen(value), name, ret_node, error);
    if (r == 0)
        move_here(*ret_node);
    return r;
}

int document_override(DocumentNode *root, const char *override, Error *error) {
    CLEANUP(text_deinit) Text path = {0};
    const char *equals = strchr(override, '=');
    DocumentNode *node = NULL, *value = NULL;
    int r;

    if (!equals || equals == override)
        return error_set(error, -EINVAL, "--set %s: must be KEY.PATH=VALUE", override);
    text_add_bytes(&path, override, (size_t)(equals - override));
    if (path.failed)
        return error_set(error, -ENOMEM, "out of memory");
    r = walk(root, path.bytes, &node, error);
    if (r < 0)
        return r;
    r = parse_value(path.bytes, equals + 1, &value, error);
    if (r < 0)
        return r;
    document_replace(node, value);
    return 0;
}
