/* SPDX-License-Identifier: MIT */
/* libyaml 0.2 has no limit on depth, and some of its work grows with the square of the input. The
 * tree is built from its events, with a counter for depth, nodes and children that stops the
 * parser at the first event too many; what costs libyaml time before it hands out the first event
 * (directives) is refused by a look at the bytes beforehand. */
#include "settings/document.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/text.h"

typedef struct DocumentParser {
    yaml_parser_t yaml;
    const char *name;
    const char *bytes;
    size_t size;
    uint32_t nodes, depth;
    DocumentNode *root;
    Error *error;
} DocumentParser;

static SettingsPlace place_of(const yaml_mark_t *mark) {
    return (SettingsPlace){(uint32_t)mark->line + 1, (uint32_t)mark->column + 1};
}

static void free_children(DocumentNode *node) {
    DocumentNode *next;

    for (DocumentNode *child = node->first; child; child = next) {
        next = child->next;
        document_free(child);
    }
}

void document_free(DocumentNode *root) {
    if (!root)
        return;
    free_children(root);
    free(root->key);
    free(root->text);
    free(root);
}

static void node_append(DocumentNode *parent, DocumentNode *child) {
    child->parent = parent;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->child_count++;
}

DocumentNode *document_new_child(DocumentNode *mapping, DocumentKind kind, SettingsPlace place,
                                 const char *key) {
    DocumentNode *child = calloc(1, sizeof *child);

    if (!child)
        return NULL;
    child->kind = kind;
    child->place = child->key_place = place;
    child->key = strdup(key);
    if (!child->key) {
        free(child);
        return NULL;
    }
    node_append(mapping, child);
    return child;
}

void document_replace(DocumentNode *node, DocumentNode *value) {
    free_children(node);
    free(node->text);
    node->kind = value->kind;
    node->place = node->key_place = value->place;
    node->text = value->text;
    node->first = value->first;
    node->last = value->last;
    node->child_count = value->child_count;
    for (DocumentNode *child = node->first; child; child = child->next)
        child->parent = node;
    free(value);
}

DocumentNode *document_child(const DocumentNode *mapping, const char *key) {
    if (mapping->kind != DOCUMENT_MAPPING)
        return NULL;
    for (DocumentNode *child = mapping->first; child; child = child->next)
        if (strcmp(child->key, key) == 0)
            return child;
    return NULL;
}

char *document_path(const DocumentNode *node, char to[DOCUMENT_PATH_BYTES]) {
    size_t used = 0;

    to[0] = '\0';
    if (!node->parent)
        return to;
    document_path(node->parent, to);
    used = strlen(to);
    if (node->key) {
        snprintf(to + used, DOCUMENT_PATH_BYTES - used, "%s%s", used ? "." : "", node->key);
    } else {
        uint32_t index = 0;
        for (const DocumentNode *child = node->parent->first; child != node; child = child->next)
            index++;
        snprintf(to + used, DOCUMENT_PATH_BYTES - used, "[%" PRIu32 "]", index);
    }
    return to;
}

static int refuse(DocumentParser *parser, SettingsPlace place, const char *sentence) {
    return settings_error(parser->error, parser->name, place, NULL, "%s", sentence);
}

/* libyaml's own complaint, with a hint where people trip most often. */
static int refuse_syntax(DocumentParser *parser) {
    const yaml_parser_t *yaml = &parser->yaml;
    SettingsPlace place = place_of(&yaml->problem_mark);
    size_t at = yaml->problem_mark.index;

    if (yaml->error == YAML_MEMORY_ERROR)
        return error_set(parser->error, -ENOMEM, "%s: out of memory", parser->name);
    if (yaml->error == YAML_READER_ERROR)
        return settings_error(parser->error, parser->name, (SettingsPlace){0}, NULL,
                              "not valid YAML: %s at byte %zu", yaml->problem,
                              yaml->problem_offset);
    return settings_error(parser->error, parser->name, place, NULL, "not valid YAML: %s%s",
                          yaml->problem ? yaml->problem : "syntax error",
                          at < parser->size && parser->bytes[at] == '\t'
                              ? " (a tab: YAML is indented with spaces)"
                              : "");
}

static int next_event(DocumentParser *parser, yaml_event_t *ret_event) {
    if (!yaml_parser_parse(&parser->yaml, ret_event))
        return refuse_syntax(parser);
    return 0;
}

/* Anchors, aliases and tags make a file mean something else than it says. */
static int check_event(DocumentParser *parser, const yaml_event_t *event) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    SettingsPlace place = place_of(&event->start_mark);

    if (event->type == YAML_ALIAS_EVENT)
        return refuse(parser, place, "aliases (*name) are not allowed: write the value out");
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (memchr(event->data.scalar.value, '\0', event->data.scalar.length))
            return refuse(parser, place, "NUL characters are not allowed");
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor)
        return refuse(parser, place, "anchors (&name) are not allowed: write the value out");
    if (tag)
        return refuse(parser, place, "tags (!name) are not allowed: write the plain value");
    return 0;
}

static int refuse_memory(DocumentParser *parser) {
    return error_set(parser->error, -ENOMEM, "%s: out of memory", parser->name);
}

/* A node in its place in the tree; `key` is NULL but in mappings. */
static int node_new(DocumentParser *parser, DocumentNode *parent, const yaml_event_t *key,
                    const yaml_event_t *event, DocumentNode **ret_node) {
    DocumentNode *node;

    if (++parser->nodes > DOCUMENT_NODES_MAX)
        return refuse(parser, place_of(&event->start_mark),
                      "more than 10000 values: this is no configuration");
    node = calloc(1, sizeof *node);
    if (!node)
        return refuse_memory(parser);
    if (parent)
        node_append(parent, node);
    else
        parser->root = node;
    node->kind = event->type == YAML_SCALAR_EVENT          ? DOCUMENT_SCALAR
                 : event->type == YAML_MAPPING_START_EVENT ? DOCUMENT_MAPPING
                                                           : DOCUMENT_SEQUENCE;
    node->place = place_of(&event->start_mark);
    if (key) {
        node->key_place = place_of(&key->start_mark);
        node->key = strdup((const char *)key->data.scalar.value);
    }
    if (node->kind == DOCUMENT_SCALAR)
        node->text = strdup((const char *)event->data.scalar.value);
    if ((key && !node->key) || (node->kind == DOCUMENT_SCALAR && !node->text))
        return refuse_memory(parser);
    *ret_node = node;
    return 0;
}

static int parse_children(DocumentParser *parser, DocumentNode *node);

static int parse_node(DocumentParser *parser, DocumentNode *parent, const yaml_event_t *key,
                      const yaml_event_t *event) {
    DocumentNode *node = NULL;
    int r = check_event(parser, event);

    if (r < 0)
        return r;
    if (event->type != YAML_SCALAR_EVENT && parser->depth == SETTINGS_DEPTH_MAX)
        return refuse(parser, place_of(&event->start_mark), "nested deeper than 16 levels");
    r = node_new(parser, parent, key, event, &node);
    if (r < 0)
        return r;
    assert(node);
    if (node->kind == DOCUMENT_SCALAR)
        return 0;
    parser->depth++;
    r = parse_children(parser, node);
    parser->depth--;
    return r;
}

/* A key of a mapping and the value that follows it. */
static int parse_pair(DocumentParser *parser, const yaml_event_t *key, DocumentNode *mapping) {
    CLEANUP(yaml_event_delete) yaml_event_t value = {0};
    const DocumentNode *twin;
    char path[DOCUMENT_PATH_BYTES];
    int r;

    if (key->type != YAML_SCALAR_EVENT)
        return refuse(parser, place_of(&key->start_mark), "a key must be a plain word");
    r = check_event(parser, key);
    if (r < 0)
        return r;
    twin = document_child(mapping, (const char *)key->data.scalar.value);
    if (twin)
        return settings_error(parser->error, parser->name, place_of(&key->start_mark),
                              document_path(twin, path), "is given twice, first in line %" PRIu32,
                              twin->key_place.line);
    r = next_event(parser, &value);
    return r < 0 ? r : parse_node(parser, mapping, key, &value);
}

/* Everything up to the end of a sequence or mapping. */
static int parse_children(DocumentParser *parser, DocumentNode *node) {
    for (;;) {
        CLEANUP(yaml_event_delete) yaml_event_t event = {0};
        int r = next_event(parser, &event);

        if (r < 0)
            return r;
        if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
            return 0;
        if (node->kind == DOCUMENT_MAPPING && node->child_count == DOCUMENT_KEYS_MAX)
            return refuse(parser, place_of(&event.start_mark), "more than 1024 keys in one place");
        r = node->kind == DOCUMENT_MAPPING ? parse_pair(parser, &event, node)
                                           : parse_node(parser, node, NULL, &event);
        if (r < 0)
            return r;
    }
}

/* The one event that must come next, thrown away; `otherwise` says what is wrong when it does not.
 */
static int expect_event(DocumentParser *parser, yaml_event_type_t type, const char *otherwise) {
    CLEANUP(yaml_event_delete) yaml_event_t event = {0};
    int r = next_event(parser, &event);

    if (r == 0 && event.type != type)
        return refuse(parser, place_of(&event.start_mark), otherwise);
    return r;
}

static int parse_stream(DocumentParser *parser) {
    CLEANUP(yaml_event_delete) yaml_event_t event = {0};
    int r = expect_event(parser, YAML_STREAM_START_EVENT, "not YAML");

    if (r < 0)
        return r;
    r = expect_event(parser, YAML_DOCUMENT_START_EVENT, "is empty: at least 'feeds' is required");
    if (r < 0)
        return r;
    r = next_event(parser, &event);
    if (r < 0)
        return r;
    r = parse_node(parser, NULL, NULL, &event);
    if (r < 0)
        return r;
    r = expect_event(parser, YAML_DOCUMENT_END_EVENT, "not YAML");
    if (r < 0)
        return r;
    return expect_event(parser, YAML_STREAM_END_EVENT,
                        "a second document (---) begins here: only one is allowed");
}

/* What libyaml would accept, or would be slow to refuse. */
static int check_bytes(DocumentParser *parser) {
    const char *line_start = parser->bytes;
    SettingsPlace place = {1, 1};

    for (size_t i = 0; i < parser->size; place.column++) {
        size_t length = text_utf8_length(parser->bytes + i, parser->size - i);

        if (parser->bytes[i] == '\0')
            return refuse(parser, place, "NUL bytes are not allowed");
        if (length == 0)
            return refuse(parser, place, "not valid UTF-8");
        if (parser->bytes[i] == '%' && parser->bytes + i == line_start)
            return refuse(parser, place, "a line that begins with % (a directive) is not allowed");
        if (parser->bytes[i] == '\n') {
            place = (SettingsPlace){place.line + 1, 0};
            line_start = parser->bytes + i + 1;
        }
        i += length;
    }
    return 0;
}

int document_parse(const char *bytes, size_t size, const char *name, DocumentNode **ret_root,
                   Error *error) {
    DocumentParser parser = {.name = name, .bytes = bytes, .size = size, .error = error};
    int r = check_bytes(&parser);

    if (r < 0)
        return r;
    if (!yaml_parser_initialize(&parser.yaml))
        return refuse_memory(&parser);
    yaml_parser_set_input_string(&parser.yaml, (const unsigned char *)bytes, size);
    r = parse_stream(&parser);
    yaml_parser_delete(&parser.yaml);
    if (r < 0) {
        document_free(parser.root);
        return r;
    }
    *ret_root = parser.root;
    return 0;
}
