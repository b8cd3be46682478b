/* SPDX-License-Identifier: MIT */
#include "shard/column.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"

static const char *const kind_names[SHARD_KIND_COUNT] = {"tokens", "token", "sequence", "ragged"};

static bool is_word(const char *name) {
    size_t length = strnlen(name, SHARD_COLUMN_NAME);

    if (length == 0 || length >= SHARD_COLUMN_NAME || name[0] < 'a' || name[0] > 'z')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

bool column_name_is_valid(const char *name) {
    return is_word(name) && strcmp(name, "tokens") != 0 && strcmp(name, "lengths") != 0;
}

ShardColumn column_make(const char *name, ShardKind kind, ElementType type, uint32_t width) {
    ShardColumn column = {.kind = (uint8_t)kind, .type = (uint8_t)type, .width = width};
    size_t length = strlen(name);

    assert(length < sizeof column.name);
    memcpy(column.name, name, length);
    return column;
}

static const char *check_one(const ShardColumn *column, bool primary) {
    size_t length = strnlen(column->name, SHARD_COLUMN_NAME);

    if (length == SHARD_COLUMN_NAME ||
        !bytes_are_zero(column->name + length, SHARD_COLUMN_NAME - length))
        return "a column's name does not end";
    if (primary ? strcmp(column->name, "tokens") != 0 : !column_name_is_valid(column->name))
        return "a column has a name that is not allowed";
    if (column->kind >= SHARD_KIND_COUNT || (column->kind == SHARD_KIND_TOKENS) != primary)
        return "a column has a kind that is not allowed";
    if (element_bytes(column->type) == 0)
        return "a column has an unknown type";
    if (column->width < 1 || column->width > SHARD_WIDTH_MAX)
        return "a column has a width that is not allowed";
    if (column->reserved_0 != 0 || !bytes_are_zero(column->reserved_1, sizeof column->reserved_1))
        return "reserved bytes of a column are not zero";
    return NULL;
}

const char *column_check_all(const ShardColumn *columns, uint32_t count) {
    if (count < 1 || count > SHARD_COLUMNS_MAX)
        return "the number of columns is not allowed";
    for (uint32_t c = 0; c < count; c++) {
        const char *wrong = check_one(&columns[c], c == 0);
        if (wrong)
            return wrong;
        for (uint32_t other = 0; other < c; other++)
            if (strcmp(columns[c].name, columns[other].name) == 0)
                return "two columns have the same name";
    }
    return NULL;
}

const char *column_kind_name(uint32_t kind) {
    return kind < SHARD_KIND_COUNT ? kind_names[kind] : "none";
}

int column_kind_parse(const char *word) {
    for (int kind = 0; kind < SHARD_KIND_COUNT; kind++)
        if (strcmp(word, kind_names[kind]) == 0)
            return kind;
    return -1;
}

ElementType column_type_parse(const char *word) {
    for (uint32_t type = ELEMENT_U8; type < ELEMENT_TYPE_COUNT; type++)
        if (strcmp(word, element_name(type)) == 0)
            return (ElementType)type;
    return ELEMENT_NONE;
}
