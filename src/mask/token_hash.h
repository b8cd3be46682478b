/* SPDX-License-Identifier: MIT */
/* token_hash.h: a list of token ids as a table that vector instructions look 32 tokens up in at
 * once. For token_lists.c. A TokenHash is immutable; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct TokenHash TokenHash;

/* *ret_hash: a table of these ids (distinct, each one of a token of `token_bytes` bytes), to be
 * given back with free(); NULL where another way is as fast: for tokens of one byte, ids of 2^21
 * and more, lists that are too long. -ENOMEM. */
MUST_CHECK int token_hash_make(uint32_t token_bytes, const uint64_t *ids, uint32_t count,
                               TokenHash **ret_hash);

/* Can this CPU, as convert_set_level() has it, use tables? */
bool token_hash_works(void);

/* For each token of 2, 4 or 8 bytes, as the table was made for: 1 where it is no id of the table,
 * else 0. */
void token_hash_answer(const TokenHash *hash, uint32_t token_bytes, const void *tokens,
                       size_t count, uint8_t *ret_answers);
