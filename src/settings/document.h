/* SPDX-License-Identifier: MIT */
/* document.h: a YAML file as a tree of nodes that know their places, with hard limits on what may
 * be in it. Knows YAML and nothing of keys. Owner: who parsed it; one thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "settings/settings.h"

enum {
    DOCUMENT_NODES_MAX = 10000,
    DOCUMENT_KEYS_MAX = 1024, /* of one mapping; a new key is held against each before it */
    DOCUMENT_PATH_BYTES = 256 /* a node's path is cut to this */
};

typedef enum DocumentKind { DOCUMENT_SCALAR, DOCUMENT_SEQUENCE, DOCUMENT_MAPPING } DocumentKind;

typedef struct DocumentNode {
    DocumentKind kind;
    SettingsPlace place;     /* of the value */
    SettingsPlace key_place; /* of its key; children of mappings only */
    char *key;               /* children of mappings only */
    char *text;              /* scalars only; quoted and plain ones look alike */
    struct DocumentNode *parent, *next;
    struct DocumentNode *first, *last; /* children, in the file's order */
    uint32_t child_count;
} DocumentNode;

/* Parse `size` bytes. `name` stands for the file in messages. Refuses what settings do not need:
 * NUL bytes, invalid UTF-8, directives, anchors, aliases, tags, a second document, duplicate keys,
 * depth above SETTINGS_DEPTH_MAX. 0, -EINVAL or -ENOMEM with the sentence. */
MUST_CHECK int document_parse(const char *bytes, size_t size, const char *name,
                              DocumentNode **ret_root, Error *error);
void document_free(DocumentNode *root); /* accepts NULL */

/* Put the value of a KEY.PATH=VALUE string into the tree, in place of what stands there. Mappings
 * on the way are made. Names of existing children may contain dots. */
MUST_CHECK int document_override(DocumentNode *root, const char *override, Error *error);

/* A new child at the end of a mapping; NULL when memory is out. */
DocumentNode *document_new_child(DocumentNode *mapping, DocumentKind kind, SettingsPlace place,
                                 const char *key);
/* Let `node` keep its key and its place in the tree and take over all else from `value`, a root,
 * which is used up. */
void document_replace(DocumentNode *node, DocumentNode *value);

/* The child of a mapping with this key, or NULL. */
DocumentNode *document_child(const DocumentNode *mapping, const char *key);

/* "feeds.train.batch.size", or "" for the root; elements of sequences count from 0. Returns `to`.
 */
char *document_path(const DocumentNode *node, char to[DOCUMENT_PATH_BYTES]);
