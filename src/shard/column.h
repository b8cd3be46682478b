/* SPDX-License-Identifier: MIT */
/* column.h: what a dataset's columns may be. In memory a schema is an array of ShardColumn, just as
 * it stands in a shard's header. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "format/element_format.h"
#include "format/shard_format.h"

/* `name` may name a column beside the primary one: [a-z][a-z0-9_]*, at most 23 bytes, and neither
 * "tokens" nor "lengths", which mean something of their own. */
bool column_name_is_valid(const char *name);

/* A column with every unused byte zero. `name` is valid (or "tokens" for the primary column). */
ShardColumn column_make(const char *name, ShardKind kind, ElementType type, uint32_t width);

/* NULL when the schema keeps every rule of the format, else what is wrong with it. */
const char *column_check_all(const ShardColumn *columns, uint32_t count);

/* "tokens", "token", "sequence", "ragged", and back; -1 for another word. */
const char *column_kind_name(uint32_t kind);
int column_kind_parse(const char *word);
/* The code of "u8", "bf16" …; ELEMENT_NONE for another word. */
ElementType column_type_parse(const char *word);
