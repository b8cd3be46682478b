/* SPDX-License-Identifier: MIT */
#include "pipeline/block_cache.h"

#include "support/check_main.h"

static const uint8_t dataset[16] = {1, 2, 3};

enum { PAGE = 4096 };

START_TEST(blocks_are_found_again_until_memory_is_reserved)
{
    MemoryBudget budget;
    BlockCache *cache;
    CachedBlock *pinned;

    memory_budget_init(&budget, 100 * PAGE);
    cache = block_cache_new(&budget, UINT64_MAX);
    for (uint32_t block = 0; block < 100; block++) {
        uint8_t *memory = memory_map(PAGE);
        memory[0] = (uint8_t)block;
        ck_assert(block_cache_offer(cache, dataset, block, memory, PAGE));
    }
    uint8_t *late = memory_map(PAGE);
    ck_assert(!block_cache_offer(cache, dataset, 100, late, PAGE));
    ck_assert_ptr_null(block_cache_pin(cache, dataset, 100));
    memory_unmap(late, PAGE);

    pinned = block_cache_pin(cache, dataset, 42);
    ck_assert_ptr_nonnull(pinned);
    ck_assert_uint_eq(block_cache_bytes(pinned)[0], 42);

    /* All of it is reserved: the pinned block stays readable but is nobody's to find. */
    ck_assert(memory_budget_reserve(&budget, 100 * PAGE));
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
    uint8_t *first = memory_map(PAGE), *second = memory_map(PAGE);

    memory_budget_init(&budget, 100 * PAGE);
    cache = block_cache_new(&budget, PAGE);
    ck_assert(block_cache_offer(cache, dataset, 1, first, PAGE));
    ck_assert(!block_cache_offer(cache, dataset, 2, second, PAGE));
    memory_unmap(second, PAGE);
    block_cache_free(cache);
    ck_assert_uint_eq(atomic_load(&budget.borrowed), 0);
}
END_TEST

CHECK_MAIN("block_cache", blocks_are_found_again_until_memory_is_reserved,
           the_limit_of_the_cache_holds_beside_the_budget)
