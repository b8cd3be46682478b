/* SPDX-License-Identifier: MIT */
/* token_lists.h: is a token one of those that a set lists? Lists are made ready once for each set:
 * short ones are compared with vectors of tokens, longer ones become tables (token_hash.h, where
 * the CPU has the instructions; else a byte for each token) beside a few ids that are too large for
 * one, or are searched where many are. Owner: who owns the set. Afterwards immutable; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "mask/tensor.h"

typedef struct TokenLists TokenLists;

/* Make all lists of the set's steps and tensors ready. -ENOMEM. Without it the answers below are
 * the same, slowly. */
MUST_CHECK int token_lists_make(TensorSet *set);
void token_lists_free(TensorSet *set);

/* For each token, which the set's token_element tells how to read: 1 where it is none of
 * values[first .. first + count), else 0. */
void token_lists_answer(const TensorSet *set, uint32_t first, uint32_t count, const uint8_t *tokens,
                        size_t token_count, uint8_t *ret_answers);
/* Is what stands at padding one of them? */
bool token_lists_pad(const TensorSet *set, uint32_t first, uint32_t count);
