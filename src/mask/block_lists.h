/* SPDX-License-Identifier: MIT */
/* block_lists.h: which blocks of queries and places a mask leaves something of, as PyTorch's
 * FlexAttention wants to be told (BlockMask.from_kv_blocks). Part of the CPU backend. Pure
 * functions; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "mask/fill.h"
#include "mask/tensor.h"

/* Is it one of these tensors? */
bool block_lists_knows(const TensorSpec *spec);

/* Write its part for a row of `length` places that holds `count` sequences; 0: it is empty. */
void block_lists_fill(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                      uint32_t count, uint32_t length, void *to);
