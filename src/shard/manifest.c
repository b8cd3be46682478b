/* SPDX-License-Identifier: MIT */
/* The file ends with a line that holds the CRC32C of every byte before that line; the line itself
 * has one form only. So no byte can change unnoticed, not even white space, and the parser behind
 * it sees what a writer wrote. */
#include "shard/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"
#include "shard/column.h"

#define FORMAT_NAME "seqfeed-dataset"
#define TAIL_FORMAT "  \"checksum\": \"crc32c:%08x\"\n}\n"

enum { FORMAT_VERSION = 1, TAIL_BYTES = 34, PATH_BYTES_MAX = 255 };

/* How many values a file of some size may hold. A shard's entry is an object of seven values in at
 * least 128 bytes; beside those there are label names, columns, and room for what comes later. */
enum { ENTRY_BYTES = 128, ENTRY_VALUES = 8, OTHER_OBJECTS_MAX = 4096 };

static void free_shards(ManifestShard *shards, uint32_t count) {
    for (uint32_t s = 0; shards && s < count; s++)
        free((void *)shards[s].path);
    free(shards);
}

void manifest_deinit(Manifest *manifest) {
    free_shards(manifest->shards, manifest->shard_count);
    for (uint32_t i = 0; manifest->label_names && i < manifest->label_count; i++)
        free(manifest->label_names[i]);
    free(manifest->label_names);
    free(manifest->columns);
    *manifest = (Manifest){0};
}

int manifest_add_shard(Manifest *manifest, const ManifestShard *shard) {
    uint32_t count = manifest->shard_count;

    if ((count & (count - 1)) == 0) { /* full: 0, 1, 2, 4, … */
        ManifestShard *grown = realloc(manifest->shards, MAX(2 * count, 1u) * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        manifest->shards = grown;
    }
    manifest->shards[count] = *shard;
    manifest->shards[count].path = strdup(shard->path);
    if (!manifest->shards[count].path)
        return -ENOMEM;
    manifest->shard_count++;
    return 0;
}

int manifest_set_labels(Manifest *manifest, const char *const *names, uint32_t count) {
    manifest->label_names = calloc(MAX(count, 1u), sizeof *manifest->label_names);
    if (!manifest->label_names)
        return -ENOMEM;
    manifest->label_count = count;
    for (uint32_t i = 0; i < count; i++) {
        manifest->label_names[i] = strdup(names[i]);
        if (!manifest->label_names[i])
            return -ENOMEM;
    }
    return 0;
}

static void render_columns(const Manifest *manifest, Text *text) {
    text_add(text, "  \"columns\": [");
    for (uint32_t c = 0; c < manifest->column_count; c++) {
        const ShardColumn *column = &manifest->columns[c];
        text_add(text,
                 "%s\n    {\"name\": \"%s\", \"kind\": \"%s\", \"type\": \"%s\", \"width\": %u}",
                 c ? "," : "", column->name, column_kind_name(column->kind),
                 element_name(column->type), column->width);
    }
    text_add(text, "\n  ],\n");
}

static void render_labels(const Manifest *manifest, Text *text) {
    if (!manifest->label_names)
        return;
    text_add(text, "  \"label_names\": [");
    for (uint32_t i = 0; i < manifest->label_count; i++) {
        text_add(text, "%s\n    ", i ? "," : "");
        text_add_json(text, manifest->label_names[i]);
    }
    text_add(text, "\n  ],\n");
}

static void render_shards(const Manifest *manifest, Text *text) {
    text_add(text, "  \"shards\": [");
    for (uint32_t s = 0; s < manifest->shard_count; s++) {
        const ManifestShard *shard = &manifest->shards[s];
        char content[2 * sizeof shard->content + 1];
        text_format_hex(content, shard->content, sizeof shard->content);
        text_add(text,
                 "%s\n    {\"path\": \"%s\", \"bytes\": %" PRIu64 ", \"sequences\": %" PRIu64
                 ", \"tokens\": %" PRIu64
                 ", \"blocks\": %u, \"length_max\": %u, \"content\": \"%s\"}",
                 s ? "," : "", shard->path, shard->bytes, shard->sequences, shard->tokens,
                 shard->blocks, shard->length_max, content);
    }
    text_add(text, "\n  ],\n");
}

void manifest_render(const Manifest *manifest, Text *text) {
    uint64_t sequences = 0, tokens = 0, bytes = 0;
    char id[2 * MANIFEST_ID_BYTES + 1];

    for (uint32_t s = 0; s < manifest->shard_count; s++) {
        sequences += manifest->shards[s].sequences;
        tokens += manifest->shards[s].tokens;
        bytes += manifest->shards[s].bytes;
    }
    text_format_hex(id, manifest->id, sizeof manifest->id);
    text_add(text, "{\n  \"format\": \"%s\",\n  \"version\": %d,\n  \"id\": \"%s\",\n", FORMAT_NAME,
             FORMAT_VERSION, id);
    if (manifest->has_pad_id)
        text_add(text, "  \"pad_id\": %" PRId64 ",\n", manifest->pad_id);
    else
        text_add(text, "  \"pad_id\": null,\n");
    text_add(text,
             "  \"sequences\": %" PRIu64 ",\n  \"tokens\": %" PRIu64 ",\n  \"bytes\": %" PRIu64
             ",\n",
             sequences, tokens, bytes);
    render_columns(manifest, text);
    render_labels(manifest, text);
    render_shards(manifest, text);
    if (!text->failed)
        text_add(text, TAIL_FORMAT, bytes_crc32c(0, text->bytes, text->size));
}

/* What went wrong while fields are taken out of the parsed JSON; the first fault wins. */
typedef struct Fields {
    const char *shown;
    Error *error;
    int r;
} Fields;

static void wrong_field(Fields *fields, const char *key) {
    if (fields->r == 0)
        fields->r = error_set(fields->error, -EBADMSG, "%s is damaged: \"%s\" is missing or wrong",
                              fields->shown, key);
}

static uint64_t take_number(Fields *fields, const json_t *object, const char *key, uint64_t max) {
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;

    if (number < 0 || (uint64_t)number > max) {
        wrong_field(fields, key);
        return 0;
    }
    return (uint64_t)number;
}

static const char *take_string(Fields *fields, const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);

    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        wrong_field(fields, key);
        return "";
    }
    return json_string_value(value);
}

static void take_hash(Fields *fields, const json_t *object, const char *key, uint8_t hash[16]) {
    if (!text_parse_hex(take_string(fields, object, key), hash, 16))
        wrong_field(fields, key);
}

static const json_t *take_array(Fields *fields, const json_t *object, const char *key,
                                size_t count_max) {
    const json_t *value = json_object_get(object, key);

    if (!json_is_array(value) || json_array_size(value) < 1 || json_array_size(value) > count_max) {
        wrong_field(fields, key);
        return NULL;
    }
    return value;
}

static bool path_is_safe(const char *path) {
    size_t length = strlen(path);

    return length > 0 && length <= PATH_BYTES_MAX && path[0] != '.' &&
           strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
               length;
}

static void take_columns(Fields *fields, const json_t *root, Manifest *manifest) {
    const json_t *array = take_array(fields, root, "columns", SHARD_COLUMNS_MAX);
    size_t count = json_array_size(array);

    if (!array)
        return;
    manifest->columns = calloc(count, sizeof *manifest->columns);
    if (!manifest->columns) {
        fields->r = error_set(fields->error, -ENOMEM, "out of memory");
        return;
    }
    manifest->column_count = (uint32_t)count;
    for (size_t c = 0; c < count; c++) {
        const json_t *object = json_array_get(array, c);
        const char *name = take_string(fields, object, "name");
        int kind = column_kind_parse(take_string(fields, object, "kind"));
        ElementType type = column_type_parse(take_string(fields, object, "type"));
        uint64_t width = take_number(fields, object, "width", SHARD_WIDTH_MAX);
        if (strlen(name) >= SHARD_COLUMN_NAME || kind < 0)
            wrong_field(fields, "columns");
        else
            manifest->columns[c] = column_make(name, (ShardKind)kind, type, (uint32_t)width);
    }
    if (fields->r == 0 && column_check_all(manifest->columns, manifest->column_count))
        wrong_field(fields, "columns");
}

static void take_labels(Fields *fields, const json_t *root, Manifest *manifest) {
    const json_t *array;
    size_t count;

    if (!json_object_get(root, "label_names"))
        return;
    array = take_array(fields, root, "label_names", MANIFEST_LABELS_MAX);
    count = json_array_size(array);
    manifest->label_names = array ? calloc(count, sizeof *manifest->label_names) : NULL;
    for (size_t i = 0; manifest->label_names && i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_string(value)) {
            wrong_field(fields, "label_names");
            return;
        }
        manifest->label_names[i] = strdup(json_string_value(value));
        manifest->label_count = (uint32_t)i + 1;
        if (!manifest->label_names[i])
            fields->r = error_set(fields->error, -ENOMEM, "out of memory");
    }
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* No two shards may be the same file. */
static void check_duplicates(Fields *fields, const Manifest *manifest) {
    const char **paths = malloc(MAX(manifest->shard_count, 1u) * sizeof *paths);

    if (!paths) {
        fields->r = error_set(fields->error, -ENOMEM, "out of memory");
        return;
    }
    for (uint32_t s = 0; s < manifest->shard_count; s++)
        paths[s] = manifest->shards[s].path;
    qsort(paths, manifest->shard_count, sizeof *paths, compare_paths);
    for (uint32_t s = 1; s < manifest->shard_count; s++)
        if (strcmp(paths[s - 1], paths[s]) == 0)
            wrong_field(fields, "path");
    free(paths);
}

static void take_shards(Fields *fields, const json_t *root, Manifest *manifest) {
    const json_t *array = take_array(fields, root, "shards", SHARD_FILES_MAX);
    size_t count = json_array_size(array);

    for (size_t s = 0; fields->r == 0 && s < count; s++) {
        const json_t *object = json_array_get(array, s);
        const char *path = take_string(fields, object, "path");
        ManifestShard shard = {
            .path = path, /* copied by manifest_add_shard() */
            .bytes = take_number(fields, object, "bytes", INT64_MAX),
            .sequences = take_number(fields, object, "sequences", INT64_MAX),
            .tokens = take_number(fields, object, "tokens", INT64_MAX),
            .blocks = (uint32_t)take_number(fields, object, "blocks", SHARD_BLOCKS_MAX),
            .length_max = (uint32_t)take_number(fields, object, "length_max", SHARD_BLOCK_RAW_MAX),
        };
        take_hash(fields, object, "content", shard.content);
        if (!path_is_safe(path))
            wrong_field(fields, "path");
        if (fields->r == 0 && manifest_add_shard(manifest, &shard) < 0)
            fields->r = error_set(fields->error, -ENOMEM, "out of memory");
    }
    if (fields->r == 0)
        check_duplicates(fields, manifest);
}

static void check_totals(Fields *fields, const json_t *root, const Manifest *manifest) {
    uint64_t sequences = 0, tokens = 0, bytes = 0;

    for (uint32_t s = 0; s < manifest->shard_count; s++)
        if (!add_checked(sequences, manifest->shards[s].sequences, &sequences) ||
            !add_checked(tokens, manifest->shards[s].tokens, &tokens) ||
            !add_checked(bytes, manifest->shards[s].bytes, &bytes))
            wrong_field(fields, "shards");
    if (take_number(fields, root, "sequences", INT64_MAX) != sequences || sequences == 0)
        wrong_field(fields, "sequences");
    if (take_number(fields, root, "tokens", INT64_MAX) != tokens)
        wrong_field(fields, "tokens");
    if (take_number(fields, root, "bytes", INT64_MAX) != bytes)
        wrong_field(fields, "bytes");
}

static int take_all(const json_t *root, const char *shown, Manifest *manifest, Error *error) {
    Fields fields = {.shown = shown, .error = error};
    const json_t *pad = json_object_get(root, "pad_id");

    if (strcmp(take_string(&fields, root, "format"), FORMAT_NAME) != 0)
        wrong_field(&fields, "format");
    if (take_number(&fields, root, "version", INT64_MAX) != FORMAT_VERSION && fields.r == 0)
        fields.r = error_set(error, -ENOTSUP,
                             "%s was written by a newer seqfeed: use that version to read it",
                             shown);
    take_hash(&fields, root, "id", manifest->id);
    manifest->has_pad_id = json_is_integer(pad);
    manifest->pad_id = manifest->has_pad_id ? json_integer_value(pad) : 0;
    if (!manifest->has_pad_id && !json_is_null(pad))
        wrong_field(&fields, "pad_id");
    take_columns(&fields, root, manifest);
    take_labels(&fields, root, manifest);
    take_shards(&fields, root, manifest);
    if (fields.r == 0)
        check_totals(&fields, root, manifest);
    return fields.r;
}

static bool tail_is_right(const char *bytes, size_t size) {
    char tail[TAIL_BYTES + 1];

    if (size < TAIL_BYTES)
        return false;
    snprintf(tail, sizeof tail, TAIL_FORMAT, bytes_crc32c(0, bytes, size - TAIL_BYTES));
    return memcmp(tail, bytes + size - TAIL_BYTES, TAIL_BYTES) == 0;
}

/* JSON of nothing but small values grows fiftyfold as the tree that the parser makes of it, before
 * anyone could look at the tree: values are counted in the text, where each but the first has a
 * comma or a bracket before it. In text that is no JSON the parser gets no further than we do. */
static bool values_are_few(const char *bytes, size_t size) {
    size_t values = 0, objects = 0;
    bool in_string = false;

    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string) {
            objects += c == '[' || c == '{';
            values += c == '[' || c == '{' || c == ',';
        }
    }
    return objects <= OTHER_OBJECTS_MAX + size / ENTRY_BYTES &&
           values <= MANIFEST_LABELS_MAX + OTHER_OBJECTS_MAX + size / ENTRY_BYTES * ENTRY_VALUES;
}

int manifest_parse(const char *bytes, size_t size, const char *shown, Manifest *ret_manifest,
                   Error *error) {
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    json_error_t fault;
    json_t *root;
    int r;

    if (!tail_is_right(bytes, size))
        return error_set(error, -EBADMSG, "%s is damaged: its checksum does not match", shown);
    if (!values_are_few(bytes, size))
        return error_set(error, -EBADMSG,
                         "%s is damaged: it holds more values than its shards could have", shown);
    root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &fault);
    if (!root)
        return error_set(error, -EBADMSG, "%s is damaged: %s", shown, fault.text);
    r = take_all(root, shown, &manifest, error);
    json_decref(root);
    if (r < 0)
        return r;
    *ret_manifest = manifest;
    manifest = (Manifest){0};
    return 0;
}

int manifest_load(int dir_fd, const char *shown, Manifest *ret_manifest, Error *error) {
    char *bytes;
    size_t size;
    int r;

    r = file_load(dir_fd, MANIFEST_NAME, TEXT_MAX, &bytes, &size);
    if (r < 0)
        return error_set(error, r, "cannot read %s: %s", shown, strerror(-r));
    r = manifest_parse(bytes, size, shown, ret_manifest, error);
    free(bytes);
    return r;
}
