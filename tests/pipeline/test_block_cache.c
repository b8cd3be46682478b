/* SPDX-License-Identifier: MIT */
#include "pipeline/block_cache.h"

#include <string.h>

#include "base/arithmetic.h"
#include "support/check_main.h"
#include "support/own_memory.h"

static const uint8_t dataset[16] = {1, 2, 3};

enum { PAGE = 4096, MIB = 1 << 20, NOTE = 112 };

static SlabPiece page_alone(void) {
    SlabPiece piece;

    ck_assert(slab_take_whole(PAGE, &piece));
    return piece;
}

START_TEST(blocks_are_found_again_until_memory_is_reserved)
{
    MemoryBudget budget;
    BlockCache *cache;
    CachedBlock *pinned;

    memory_budget_init(&budget, 100 * (PAGE + NOTE));
    cache = block_cache_new(&budget, UINT64_MAX);
    for (uint32_t block = 0; block < 100; block++) {
        SlabPiece piece = page_alone();
        piece.memory[0] = (uint8_t)block;
        ck_assert(block_cache_offer(cache, dataset, block, &piece));
    }
    SlabPiece late = page_alone();
    ck_assert(!block_cache_offer(cache, dataset, 100, &late));
    ck_assert_ptr_null(block_cache_pin(cache, dataset, 100));
    slab_give(&late);

    pinned = block_cache_pin(cache, dataset, 42);
    ck_assert_ptr_nonnull(pinned);
    ck_assert_uint_eq(block_cache_bytes(pinned)[0], 42);

    /* All of it is reserved: the pinned block stays readable but is nobody's to find. */
    ck_assert(memory_budget_reserve(&budget, 100 * (PAGE + NOTE)));
    block_cache_shrink(cache);
    ck_assert_uint_eq(memory_budget_excess(&budget), 0);
    ck_assert_uint_eq(block_cache_bytes_held(cache), 0);
    ck_assert_uint_eq(block_cache_bytes(pinned)[0], 42);
    ck_assert_ptr_null(block_cache_pin(cache, dataset, 42));
    block_cache_unpin(cache, pinned);
    block_cache_free(cache);
}
END_TEST

START_TEST(the_limit_of_the_cache_holds_beside_the_budget)
{
    MemoryBudget budget;
    BlockCache *cache;
    SlabPiece first = page_alone(), second = page_alone();

    memory_budget_init(&budget, 100 * PAGE);
    cache = block_cache_new(&budget, PAGE);
    ck_assert(block_cache_offer(cache, dataset, 1, &first));
    ck_assert(!block_cache_offer(cache, dataset, 2, &second));
    slab_give(&second);
    block_cache_free(cache);
    ck_assert_uint_eq(atomic_load(&budget.borrowed), 0);
}
END_TEST

/* `bytes` of blocks of `size`, in mappings of `slab_size` as streams make them. */
static void fill_cache(BlockCache *cache, uint64_t bytes, size_t size, size_t slab_size) {
    Slab *slab = NULL;
    SlabPiece piece;

    for (uint32_t block = 0; block < bytes / size; block++) {
        if (!slab || !slab_take(slab, size, &piece)) {
            slab_unref(slab);
            slab = slab_new(slab_size, slab_size >= MEMORY_HUGE_PAGE);
            ck_assert_ptr_nonnull(slab);
            ck_assert(slab_take(slab, size, &piece));
        }
        memset(piece.memory, 1, size);
        ck_assert(block_cache_offer(cache, dataset, block, &piece));
    }
    slab_unref(slab);
}

static void check_own(uint64_t resident_most, uint64_t mappings_most) {
    if (OWN_MEMORY_HAS_SHADOW)
        return;
    ck_assert_uint_le(own_resident(), resident_most);
    ck_assert_uint_le(own_mappings(), mappings_most);
}

/* Reserve more and more of a full cache of 64 MiB. */
static void check_reclaim(size_t block, size_t slab) {
    const uint64_t total = 64 * MIB, slack = 8 * MIB, notes = align_up(total / block * NOTE, 4);
    MemoryBudget budget;
    BlockCache *cache;
    uint64_t resident = own_resident();
    uint32_t mappings = own_mappings();

    memory_budget_init(&budget, total + notes);
    cache = block_cache_new(&budget, UINT64_MAX);
    fill_cache(cache, total, block, slab);
    ck_assert_uint_le(total - block_cache_bytes_held(cache), block - 1);
    ck_assert_uint_eq(budget.borrowed, block_cache_bytes_held(cache) + total / block * NOTE);
    ck_assert_uint_ge(own_resident(), resident + total - MIB);

    for (uint32_t quarter = 1; quarter <= 4; quarter++) {
        ck_assert(memory_budget_reserve(&budget, (total + notes) / 4));
        block_cache_shrink(cache);
        ck_assert_uint_le(block_cache_bytes_held(cache), total / 4 * (4 - quarter));
        check_own(resident + total / 4 * (4 - quarter) + slack, mappings + 2 * total / slab + 8);
    }
    block_cache_free(cache);
}

START_TEST(what_is_given_back_leaves_neither_memory_nor_mappings)
{
    check_reclaim(PAGE, 64 * PAGE);
    check_reclaim(PAGE, 4 * MIB);
    check_reclaim(65 * PAGE, align_down(16 * MIB, 65 * PAGE));
}
END_TEST

/* Some blocks are in use while all others are given back. */
START_TEST(blocks_that_stay_do_not_hold_the_pages_of_their_neighbours)
{
    enum { COUNT = 16 * MIB / PAGE };
    MemoryBudget budget;
    BlockCache *cache;
    CachedBlock *pinned[COUNT / 16];
    uint64_t resident = own_resident();
    uint32_t mappings = own_mappings();

    memory_budget_init(&budget, 16 * MIB + COUNT * NOTE);
    cache = block_cache_new(&budget, UINT64_MAX);
    fill_cache(cache, 16 * MIB, PAGE, MIB);
    for (uint32_t i = 0; i < COUNT / 16; i++)
        pinned[i] = block_cache_pin(cache, dataset, 16 * i);
    ck_assert(memory_budget_reserve(&budget, 16 * MIB + COUNT * NOTE));
    block_cache_shrink(cache);
    ck_assert_uint_eq(block_cache_bytes_held(cache), 0);
    check_own(resident + 4 * MIB, mappings + 32);
    for (uint32_t i = 0; i < COUNT / 16; i++) {
        ck_assert_uint_eq(block_cache_bytes(pinned[i])[PAGE - 1], 1);
        block_cache_unpin(cache, pinned[i]);
    }
    check_own(resident + 4 * MIB, mappings + 8);
    block_cache_free(cache);
}
END_TEST

START_TEST(the_cache_lies_in_so_many_mappings_at_most)
{
    MemoryBudget budget;
    BlockCache *cache;
    SlabPiece piece;
    Slab *slab = slab_new(2 * PAGE, false);

    memory_budget_init(&budget, UINT64_MAX);
    cache = block_cache_new(&budget, UINT64_MAX);
    ck_assert(slab_take(slab, PAGE, &piece));
    ck_assert(block_cache_offer(cache, dataset, 0, &piece));
    for (uint32_t block = 1; block < BLOCK_CACHE_SLABS_MAX; block++) {
        piece = page_alone();
        ck_assert(block_cache_offer(cache, dataset, block, &piece));
    }
    piece = page_alone();
    ck_assert(!block_cache_offer(cache, dataset, BLOCK_CACHE_SLABS_MAX, &piece));
    slab_give(&piece);
    ck_assert(slab_take(slab, PAGE, &piece)); /* of a mapping that it has a block of */
    ck_assert(block_cache_offer(cache, dataset, BLOCK_CACHE_SLABS_MAX, &piece));
    slab_unref(slab);
    block_cache_free(cache);
    ck_assert_uint_eq(atomic_load(&budget.borrowed), 0);
}
END_TEST

CHECK_MAIN("block_cache", blocks_are_found_again_until_memory_is_reserved,
           the_limit_of_the_cache_holds_beside_the_budget,
           what_is_given_back_leaves_neither_memory_nor_mappings,
           blocks_that_stay_do_not_hold_the_pages_of_their_neighbours,
           the_cache_lies_in_so_many_mappings_at_most)
