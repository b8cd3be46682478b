/* SPDX-License-Identifier: MIT */
/* pack_schema.h: the columns of a dataset that is packed from JSON rows: as the user names them, or
 * as the first row shows them; and a row's numbers as values of these columns. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/block_builder.h"
#include "shard/column.h"
#include "tool/pack_row.h"

typedef struct PackSchema {
    ShardColumn columns[SHARD_COLUMNS_MAX]; /* [0] is the primary one */
    bool named[SHARD_COLUMNS_MAX];          /* by the user */
    uint32_t column_count;
    bool tokens_named;      /* --column tokens:tokens:… */
    const char *tokens_key; /* as in the rows; settled by the first one */
    Buffer encoded[SHARD_COLUMNS_MAX];
} PackSchema;

void pack_schema_init(PackSchema *schema);
void pack_schema_deinit(PackSchema *schema);

/* Take NAME:KIND:TYPE[:WIDTH]. 0, or -EINVAL and a sentence. */
MUST_CHECK int pack_schema_name(PackSchema *schema, const char *text, Error *error);

/* Find the key of the tokens in the first row: `tokens`, else `input_ids`, unless it is set. 0, or
 * -EINVAL and a sentence. */
MUST_CHECK int pack_schema_find_tokens(PackSchema *schema, const PackRow *row, Error *error);

/* Settle the columns beside the primary one by the first row. The primary's type is set already;
 * its width too, if it is not 0. Says on standard error what is left out. */
MUST_CHECK int pack_schema_infer(PackSchema *schema, PackRow *row, Error *error);

/* The values of a row, which stay until the next call. 0, or -EINVAL and what is wrong with the
 * option that helps. */
MUST_CHECK int pack_schema_values(PackSchema *schema, PackRow *row, BlockValues ret_values[],
                                  Error *error);
