/* SPDX-License-Identifier: MIT */
#include "tool/pack_schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"
#include "tool/number.h"

enum { COLUMN_OPTION_MAX = 128 };

void pack_schema_init(PackSchema *schema) {
    *schema = (PackSchema){.column_count = 1};
    schema->columns[0] = column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_NONE, 0);
}

void pack_schema_deinit(PackSchema *schema) {
    for (uint32_t c = 0; c < SHARD_COLUMNS_MAX; c++)
        buffer_deinit(&schema->encoded[c]);
}

static bool is_known(const PackSchema *schema, const char *key) {
    for (uint32_t c = 1; c < schema->column_count; c++)
        if (strcmp(schema->columns[c].name, key) == 0)
            return true;
    return false;
}

static int split_option(char *text, char *parts[4]) {
    int count = 0;

    for (char *part = strtok(text, ":"); part; part = strtok(NULL, ":")) {
        if (count == 4)
            return -EINVAL;
        parts[count++] = part;
    }
    return count;
}

int pack_schema_name(PackSchema *schema, const char *text, Error *error) {
    char copy[COLUMN_OPTION_MAX], *parts[4];
    uint64_t width = 1;
    int count, kind;
    ElementType type;

    if ((size_t)snprintf(copy, sizeof copy, "%s", text) >= sizeof copy ||
        (count = split_option(copy, parts)) < 3)
        return error_set(error, -EINVAL,
                         "--column %s: give NAME:KIND:TYPE or "
                         "NAME:KIND:TYPE:WIDTH",
                         text);
    kind = column_kind_parse(parts[1]);
    type = column_type_parse(parts[2]);
    if (kind < 0)
        return error_set(error, -EINVAL,
                         "--column %s: '%s' is not a kind; there are token, "
                         "sequence, ragged, and tokens for the tokens themselves",
                         text, parts[1]);
    if (type == ELEMENT_NONE)
        return error_set(error, -EINVAL,
                         "--column %s: '%s' is not a type; there are u8 u16 u24 "
                         "u32 i32 i64 f16 bf16 f32",
                         text, parts[2]);
    if (count == 4 && !text_parse_u64(parts[3], 1, SHARD_WIDTH_MAX, &width))
        return error_set(error, -EINVAL, "--column %s: the width is 1 to %d", text,
                         SHARD_WIDTH_MAX);
    if (kind == SHARD_KIND_TOKENS) {
        if (strcmp(parts[0], "tokens") != 0)
            return error_set(error, -EINVAL,
                             "--column %s: the column of the tokens is called "
                             "'tokens'; --tokens KEY says where they stand",
                             text);
        schema->columns[0] = column_make("tokens", SHARD_KIND_TOKENS, type, (uint32_t)width);
        schema->tokens_named = true;
        return 0;
    }
    if (!column_name_is_valid(parts[0]) || is_known(schema, parts[0]))
        return error_set(error, -EINVAL,
                         "--column %s: a name is of a-z, 0-9 and _, begins with a "
                         "letter, has at most %d characters, stands once, and is neither 'tokens' "
                         "nor 'lengths'",
                         text, SHARD_COLUMN_NAME - 1);
    if (schema->column_count == SHARD_COLUMNS_MAX)
        return error_set(error, -EINVAL, "there are at most %d columns", SHARD_COLUMNS_MAX);
    schema->columns[schema->column_count] = column_make(parts[0], (ShardKind)kind, type,
                                                        (uint32_t)width);
    schema->named[schema->column_count++] = true;
    return 0;
}

static bool is_list(const PackCell *cell) {
    return cell->shape == PACK_SHAPE_LIST || cell->shape == PACK_SHAPE_NESTED;
}

/* What the row has instead, and what can be done with that. */
static int no_tokens(const PackSchema *schema, const PackRow *row, Error *error) {
    CLEANUP(text_deinit) Text has = {0};
    const char *list = NULL,
               *either = strcmp(schema->tokens_key, "input_ids") == 0 ? "\"tokens\" or " : "";

    for (uint32_t i = 0; i < row->cell_count; i++) {
        if (row->cells[i].row != row->row)
            continue;
        text_add(&has, "%s\"%s\"", has.size ? ", " : "", row->cells[i].key);
        if (!list && is_list(&row->cells[i]) && row->cells[i].count > 0)
            list = row->cells[i].key;
    }
    if (list)
        return error_set(error, -EINVAL,
                         "there is no list of numbers under %s\"%s\": name the key of the tokens "
                         "with --tokens KEY, as --tokens %s",
                         either, schema->tokens_key, list);
    return error_set(
        error, -EINVAL,
        "there is no list of numbers under %s\"%s\" (the row has %.200s): name its key "
        "with --tokens KEY; text has to be tokenized first, in Python: "
        "seqfeed.pack(({\"tokens\": tokenizer.encode(row[\"text\"])} for row in rows), "
        "DIR)",
        either, schema->tokens_key, has.size && !has.failed ? has.bytes : "no keys");
}

int pack_schema_find_tokens(PackSchema *schema, const PackRow *row, Error *error) {
    const PackCell *cell;

    if (!schema->tokens_key)
        schema->tokens_key = pack_row_find(row, "tokens") ? "tokens" : "input_ids";
    cell = pack_row_find(row, schema->tokens_key);
    return cell && is_list(cell) ? 0 : no_tokens(schema, row, error);
}

/* Say once that a key is left out, and why. */
static void leave_out(PackCell *cell, const char *why) {
    char key[sizeof cell->key];

    memcpy(key, cell->key, sizeof key);
    text_mask_controls(key);
    if (!cell->mentioned)
        fprintf(stderr, "seqfeed pack: left out \"%s\": %s\n", key, why);
    cell->mentioned = true;
}

static int infer_one(PackSchema *schema, PackCell *cell, uint32_t length, Error *error) {
    ElementType type = cell->is_real ? ELEMENT_F32 : ELEMENT_I64;
    ShardKind kind;

    if (cell->shape == PACK_SHAPE_OTHER) {
        leave_out(cell, "only numbers and lists of numbers are kept");
        return 0;
    }
    if (!column_name_is_valid(cell->key)) {
        leave_out(cell, "this cannot be the name of a column ([a-z][a-z0-9_]*, not tokens or "
                        "lengths)");
        return 0;
    }
    if (schema->column_count == SHARD_COLUMNS_MAX)
        return error_set(error, -EINVAL, "there are more than %d columns", SHARD_COLUMNS_MAX);
    if (cell->shape != PACK_SHAPE_SCALAR && cell->count == 0)
        return error_set(error, -EINVAL,
                         "\"%s\" is empty in the first row, which does not tell what it is: give "
                         "--column %s:%s:i64 or another kind or type",
                         cell->key, cell->key, length == 0 ? "token" : "ragged");
    if (cell->shape == PACK_SHAPE_SCALAR)
        kind = SHARD_KIND_SEQUENCE;
    else
        kind = cell->count == length ? SHARD_KIND_TOKEN : SHARD_KIND_RAGGED;
    if (cell->width > SHARD_WIDTH_MAX)
        return error_set(error, -EINVAL, "\"%s\" has lists of more than %d numbers", cell->key,
                         SHARD_WIDTH_MAX);
    schema->columns[schema->column_count++] = column_make(cell->key, kind, type, cell->width);
    return 0;
}

int pack_schema_infer(PackSchema *schema, PackRow *row, Error *error) {
    const PackCell *tokens = pack_row_find(row, schema->tokens_key);
    int r;

    if (schema->columns[0].width == 0)
        schema->columns[0].width = tokens->width;
    if (schema->columns[0].width > SHARD_WIDTH_MAX)
        return error_set(error, -EINVAL, "frames have more than %d numbers", SHARD_WIDTH_MAX);
    for (uint32_t i = 0; i < row->cell_count; i++) {
        PackCell *cell = &row->cells[i];
        if (cell->row != row->row || strcmp(cell->key, schema->tokens_key) == 0 ||
            is_known(schema, cell->key))
            continue;
        r = infer_one(schema, cell, tokens->count, error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The option that would make `column` of another kind, type or width. */
static void suggest(char to[COLUMN_OPTION_MAX], const ShardColumn *column, ShardKind kind,
                    ElementType type, uint32_t width) {
    int n = snprintf(to, COLUMN_OPTION_MAX, "--column %s:%s:%s", column->name,
                     column_kind_name(kind), element_name(type));

    if (width != 1)
        snprintf(to + n, COLUMN_OPTION_MAX - (size_t)n, ":%u", width);
}

/* Does the cell have the shape that the column wants? */
static int check_shape(const ShardColumn *column, const PackCell *cell, uint32_t length,
                       Error *error) {
    char option[COLUMN_OPTION_MAX];
    bool scalar = cell->shape == PACK_SHAPE_SCALAR;
    bool list = cell->shape == PACK_SHAPE_LIST || cell->shape == PACK_SHAPE_NESTED;

    if (column->kind == SHARD_KIND_SEQUENCE) {
        if (scalar ? column->width == 1
                   : cell->shape == PACK_SHAPE_LIST && cell->count == column->width)
            return 0;
        suggest(option, column, list ? SHARD_KIND_RAGGED : SHARD_KIND_SEQUENCE,
                (ElementType)column->type, 1);
        return error_set(error, -EINVAL, "\"%s\" should be %s, as in the first row: %s%s",
                         cell->key, column->width == 1 ? "one number" : "a list of the same length",
                         list ? "if it varies, give " : "give ", option);
    }
    if (!list)
        return error_set(error, -EINVAL,
                         "\"%s\" should be a list, as in the first row; a number "
                         "for each sequence needs --column %s:sequence:%s in all rows",
                         cell->key, column->name, element_name(column->type));
    if (cell->count > 0 && cell->width != column->width) {
        suggest(option, column, (ShardKind)column->kind, (ElementType)column->type, cell->width);
        return error_set(error, -EINVAL,
                         "\"%s\" has %u numbers in a place that has %u in other "
                         "rows; if all rows are like this one, give %s",
                         cell->key, cell->width, column->width, option);
    }
    if (column->kind == SHARD_KIND_TOKEN && cell->count != length) {
        suggest(option, column, SHARD_KIND_RAGGED, (ElementType)column->type, column->width);
        return error_set(error, -EINVAL,
                         "\"%s\" has %u values for %u tokens: if its length is its "
                         "own, give %s",
                         cell->key, cell->count, length, option);
    }
    return 0;
}

/* A type that would hold what the column's does not. */
static ElementType wider(const ShardColumn *column, const PackCell *cell) {
    int64_t min = 0, max = 0;

    if (cell->is_real || element_is_float(column->type))
        return ELEMENT_F32;
    for (size_t i = 0; i < cell->numbers.size / 8; i++) {
        min = MIN(min, pack_cell_integers(cell)[i]);
        max = MAX(max, pack_cell_integers(cell)[i]);
    }
    return number_narrowest(min, max);
}

static int misfit(const ShardColumn *column, const PackCell *cell, int r, size_t bad,
                  Error *error) {
    char option[COLUMN_OPTION_MAX], value[32];

    if (r == NUMBER_E_FRACTION)
        bad = cell->first_real;
    if (cell->is_real)
        snprintf(value, sizeof value, "%.17g", pack_cell_reals(cell)[bad]);
    else
        snprintf(value, sizeof value, "%" PRId64, pack_cell_integers(cell)[bad]);
    suggest(option, column, (ShardKind)column->kind, wider(column, cell), column->width);
    if (column->kind == SHARD_KIND_TOKENS && column->width == 1)
        snprintf(option, sizeof option, "--token-type %s", element_name(wider(column, cell)));
    return error_set(error, -EINVAL, "%s in \"%s\" does not fit %s%s: give %s", value, cell->key,
                     element_name(column->type),
                     r == NUMBER_E_FRACTION ? ", which has no fractions" : "", option);
}

static int encode(PackSchema *schema, uint32_t c, const PackCell *cell, BlockValues *ret_values,
                  Error *error) {
    const ShardColumn *column = &schema->columns[c];
    size_t count = cell->numbers.size / 8, bad = 0;
    Buffer *to = &schema->encoded[c];
    int r = buffer_reserve(to, count * element_bytes(column->type));

    if (r < 0)
        return error_set(error, r, "out of memory");
    if (cell->is_real)
        r = number_encode_reals((ElementType)column->type, pack_cell_reals(cell), count, to->bytes,
                                &bad);
    else
        r = number_encode_integers((ElementType)column->type, pack_cell_integers(cell), count,
                                   to->bytes, &bad);
    if (r != 0)
        return misfit(column, cell, r, bad, error);
    *ret_values = (BlockValues){to->bytes, (uint32_t)(count / column->width)};
    return 0;
}

/* A row with a column that the first one did not have. */
static int check_new(const PackSchema *schema, PackRow *row, Error *error) {
    for (uint32_t i = 0; i < row->cell_count; i++) {
        PackCell *cell = &row->cells[i];
        if (cell->row != row->row || cell->mentioned ||
            strcmp(cell->key, schema->tokens_key) == 0 || is_known(schema, cell->key))
            continue;
        if (cell->shape == PACK_SHAPE_OTHER)
            leave_out(cell, "only numbers and lists of numbers are kept");
        else
            return error_set(error, -EINVAL,
                             "\"%s\" is new in this row: every row needs the same "
                             "keys; begin with such a row or give --column %s:KIND:TYPE",
                             cell->key, cell->key);
    }
    return 0;
}

int pack_schema_values(PackSchema *schema, PackRow *row, BlockValues ret_values[], Error *error) {
    uint32_t length = 0;
    int r;

    for (uint32_t c = 0; c < schema->column_count; c++) {
        const char *key = c == 0 ? schema->tokens_key : schema->columns[c].name;
        const PackCell *cell = pack_row_find(row, key);
        if (!cell)
            return error_set(error, -EINVAL, "\"%s\" is missing: every row needs the same keys",
                             key);
        if (cell->shape == PACK_SHAPE_OTHER)
            return error_set(error, -EINVAL, "\"%s\" should be numbers, as in the first row", key);
        if (c == 0)
            length = cell->count;
        r = check_shape(&schema->columns[c], cell, length, error);
        if (r == 0)
            r = encode(schema, c, cell, &ret_values[c], error);
        if (r < 0)
            return r;
    }
    return check_new(schema, row, error);
}
