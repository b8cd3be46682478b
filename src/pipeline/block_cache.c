/* SPDX-License-Identifier: MIT */
/* Accounting. Every block here, with what is noted of it, is borrowed from the budget, but for
 * pinned ones that a reservation has claimed back: a stream that pins a block does not use the
 * buffer which it has reserved for it, so such a block is charged to that reservation ("disowned")
 * and freed when it is unpinned. Thus a reservation gets its memory at once, although a window is
 * being copied from.
 *
 * Blocks are given back in the order in which they came: those that came together lie in the same
 * mapping, and a huge page of which parts are in use goes back to nobody. */
#include "pipeline/block_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MIN = 1024, NOTE_BYTES = 112 };

struct CachedBlock {
    CachedBlock *next;          /* in its bucket */
    CachedBlock *newer, *older; /* in the order in which they came */
    uint8_t dataset[16];
    uint32_t block;
    uint32_t pins;
    bool disowned; /* no longer borrowed, no longer findable */
    SlabPiece piece;
};

static_assert(sizeof(CachedBlock) + 2 * sizeof(void *) <= NOTE_BYTES,
              "the note, its bucket and malloc");

struct BlockCache {
    pthread_mutex_t lock;
    MemoryBudget *budget;
    uint64_t limit;
    _Atomic uint64_t held; /* bytes of blocks */
    CachedBlock **buckets;
    uint32_t bucket_count; /* power of two */
    uint32_t count;
    CachedBlock *oldest, *newest;
    uint32_t slab_count; /* that some block lies in */
};

BlockCache *block_cache_new(MemoryBudget *budget, uint64_t limit) {
    BlockCache *cache = calloc(1, sizeof *cache);

    if (!cache)
        return NULL;
    cache->buckets = calloc(BUCKETS_MIN, sizeof(CachedBlock *));
    if (!cache->buckets) {
        free(cache);
        return NULL;
    }
    cache->bucket_count = BUCKETS_MIN;
    cache->budget = budget;
    cache->limit = limit;
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

static CachedBlock **bucket_of(const BlockCache *cache, const uint8_t dataset[16], uint32_t block) {
    uint64_t hash;

    memcpy(&hash, dataset, sizeof hash);
    hash = (hash ^ block) * UINT64_C(0x9E3779B97F4A7C15);
    return &cache->buckets[(hash >> 32) & (cache->bucket_count - 1)];
}

/* The link that points to the block, or to the end of its bucket. */
static CachedBlock **find_link(const BlockCache *cache, const uint8_t dataset[16], uint32_t block) {
    CachedBlock **link = bucket_of(cache, dataset, block);

    while (*link && ((*link)->block != block || memcmp((*link)->dataset, dataset, 16) != 0))
        link = &(*link)->next;
    return link;
}

static void grow(BlockCache *cache) {
    CachedBlock **old = cache->buckets;
    uint32_t old_count = cache->bucket_count;
    CachedBlock **buckets = calloc(2 * (size_t)old_count, sizeof(CachedBlock *));

    if (!buckets)
        return; /* longer chains, nothing worse */
    cache->buckets = buckets;
    cache->bucket_count = 2 * old_count;
    for (uint32_t i = 0; i < old_count; i++)
        for (CachedBlock *cached = old[i], *next; cached; cached = next) {
            CachedBlock **link = bucket_of(cache, cached->dataset, cached->block);
            next = cached->next;
            cached->next = *link;
            *link = cached;
        }
    free(old);
}

static uint64_t borrowed_bytes(const SlabPiece *piece) {
    return piece->size + NOTE_BYTES;
}

static void block_destroy(CachedBlock *cached) {
    slab_give(&cached->piece);
    free(cached);
}

static void destroy_all(CachedBlock *dead) {
    for (CachedBlock *next; dead; dead = next) {
        next = dead->next;
        block_destroy(dead);
    }
}

static void insert(BlockCache *cache, CachedBlock *cached, CachedBlock **link) {
    *link = cached;
    cached->older = cache->newest;
    if (cache->newest)
        cache->newest->newer = cached;
    else
        cache->oldest = cached;
    cache->newest = cached;
    if (cached->piece.slab->cached++ == 0)
        cache->slab_count++;
    atomic_fetch_add(&cache->held, cached->piece.size);
    if (++cache->count > 2 * cache->bucket_count)
        grow(cache);
}

/* Take the block out of the cache and out of the budget. Unless it is pinned it goes to the dead,
 * which are freed when the lock is not held. */
static void disown(BlockCache *cache, CachedBlock *cached, CachedBlock **dead) {
    *find_link(cache, cached->dataset, cached->block) = cached->next;
    *(cached->older ? &cached->older->newer : &cache->oldest) = cached->newer;
    *(cached->newer ? &cached->newer->older : &cache->newest) = cached->older;
    if (--cached->piece.slab->cached == 0)
        cache->slab_count--;
    cache->count--;
    cached->disowned = true;
    atomic_fetch_sub(&cache->held, cached->piece.size);
    memory_budget_return(cache->budget, borrowed_bytes(&cached->piece));
    if (cached->pins > 0)
        return;
    cached->next = *dead;
    *dead = cached;
}

void block_cache_free(BlockCache *cache) {
    CachedBlock *dead = NULL;

    if (!cache)
        return;
    while (cache->oldest) {
        assert(cache->oldest->pins == 0);
        disown(cache, cache->oldest, &dead);
    }
    destroy_all(dead);
    pthread_mutex_destroy(&cache->lock);
    free(cache->buckets);
    free(cache);
}

CachedBlock *block_cache_pin(BlockCache *cache, const uint8_t dataset[16], uint32_t block) {
    CachedBlock *cached;

    if (atomic_load_explicit(&cache->held, memory_order_relaxed) == 0)
        return NULL;
    pthread_mutex_lock(&cache->lock);
    cached = *find_link(cache, dataset, block);
    if (cached)
        cached->pins++;
    pthread_mutex_unlock(&cache->lock);
    return cached;
}

void block_cache_unpin(BlockCache *cache, CachedBlock *cached) {
    bool last;

    pthread_mutex_lock(&cache->lock);
    assert(cached->pins > 0);
    last = --cached->pins == 0 && cached->disowned;
    pthread_mutex_unlock(&cache->lock);
    if (last)
        block_destroy(cached);
}

const uint8_t *block_cache_bytes(const CachedBlock *cached) {
    return cached->piece.memory;
}

bool block_cache_offer(BlockCache *cache, const uint8_t dataset[16], uint32_t block,
                       const SlabPiece *piece) {
    CachedBlock *cached, **link;
    size_t size = piece->size;

    if (atomic_load_explicit(&cache->held, memory_order_relaxed) + size > cache->limit ||
        !memory_budget_borrow(cache->budget, borrowed_bytes(piece)))
        return false;
    cached = calloc(1, sizeof *cached);
    if (!cached) {
        memory_budget_return(cache->budget, borrowed_bytes(piece));
        return false;
    }
    *cached = (CachedBlock){.block = block, .piece = *piece};
    memcpy(cached->dataset, dataset, 16);

    pthread_mutex_lock(&cache->lock);
    link = find_link(cache, dataset, block);
    if (*link || cache->held + size > cache->limit || /* another stream was first */
        (piece->slab->cached == 0 && cache->slab_count == BLOCK_CACHE_SLABS_MAX)) {
        pthread_mutex_unlock(&cache->lock);
        memory_budget_return(cache->budget, borrowed_bytes(piece));
        free(cached);
        return false;
    }
    insert(cache, cached, link);
    pthread_mutex_unlock(&cache->lock);
    return true;
}

/* Unpinned blocks first: freeing those gives memory back to the kernel and not only on paper. */
static void shrink_pass(BlockCache *cache, bool pinned_too, CachedBlock **dead) {
    CachedBlock *cached = cache->oldest;

    while (cached && memory_budget_excess(cache->budget) > 0) {
        CachedBlock *newer = cached->newer;

        if (cached->pins == 0 || pinned_too)
            disown(cache, cached, dead);
        cached = newer;
    }
}

void block_cache_shrink(BlockCache *cache) {
    CachedBlock *dead = NULL;

    if (memory_budget_excess(cache->budget) == 0)
        return;
    pthread_mutex_lock(&cache->lock);
    shrink_pass(cache, false, &dead);
    shrink_pass(cache, true, &dead);
    pthread_mutex_unlock(&cache->lock);
    destroy_all(dead);
}

uint64_t block_cache_bytes_held(const BlockCache *cache) {
    return atomic_load(&((BlockCache *)cache)->held);
}
