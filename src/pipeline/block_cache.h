/* SPDX-License-Identifier: MIT */
/* block_cache.h: decoded blocks that are kept while memory lasts, shared by all streams. It only
 * borrows what nobody has reserved. It keeps the first blocks that fit and evicts none to make
 * room: each epoch reads every block once in a fresh order, so recency says nothing about the
 * future. All functions may be called from any thread; a lock is held for pointer moves. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "pipeline/slab.h"

/* What the cache holds lies in at most so many mappings. Beyond, it takes only blocks of mappings
 * that it has blocks of; the kernel allows a process 65530. */
enum { BLOCK_CACHE_SLABS_MAX = 16384 };

typedef struct BlockCache BlockCache;
typedef struct CachedBlock CachedBlock;

/* `limit` in bytes of blocks, beside what the budget leaves, of which each block takes 112 more.
 * NULL: no memory. */
BlockCache *block_cache_new(MemoryBudget *budget, uint64_t limit);
void block_cache_free(BlockCache *cache); /* nothing may be pinned; accepts NULL */

/* The block if it is here, pinned until block_cache_unpin(); else NULL. `dataset` is the dataset
 * id. */
CachedBlock *block_cache_pin(BlockCache *cache, const uint8_t dataset[16], uint32_t block);
void block_cache_unpin(BlockCache *cache, CachedBlock *cached);
const uint8_t *block_cache_bytes(const CachedBlock *cached);

/* Offer a decoded block. True: the cache owns the piece now. */
bool block_cache_offer(BlockCache *cache, const uint8_t dataset[16], uint32_t block,
                       const SlabPiece *piece);

/* Give back what the budget's reservations need (see memory_budget_excess), to the kernel too but
 * for what is pinned. */
void block_cache_shrink(BlockCache *cache);

uint64_t block_cache_bytes_held(const BlockCache *cache);
