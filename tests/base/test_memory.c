/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "support/check_main.h"
#include "support/own_memory.h"

enum { PAGE = 4096, MIB = 1 << 20, MOST_MAPPINGS = 1 << 17 };

START_TEST(reservations_never_exceed_the_limit)
{
    MemoryBudget budget;

    memory_budget_init(&budget, 100);
    ck_assert(memory_budget_reserve(&budget, 60));
    ck_assert(!memory_budget_reserve(&budget, 41));
    ck_assert(!memory_budget_reserve(&budget, UINT64_MAX));
    ck_assert(memory_budget_reserve(&budget, 40));
    memory_budget_release(&budget, 60);
    ck_assert(memory_budget_reserve(&budget, 60));
}
END_TEST

START_TEST(what_is_borrowed_gives_way_to_reservations)
{
    MemoryBudget budget;

    memory_budget_init(&budget, 100);
    ck_assert(memory_budget_reserve(&budget, 30));
    ck_assert(!memory_budget_borrow(&budget, 71));
    ck_assert(memory_budget_borrow(&budget, 70));
    ck_assert_uint_eq(memory_budget_excess(&budget), 0);
    ck_assert(memory_budget_reserve(&budget, 50));
    ck_assert_uint_eq(memory_budget_excess(&budget), 50);
    memory_budget_return(&budget, 50);
    ck_assert_uint_eq(memory_budget_excess(&budget), 0);
}
END_TEST

/* Have as many mappings as the kernel allows. Returns where they lie; NULL where that is a lot. */
static uint8_t *use_up_mappings(size_t *ret_size) {
    size_t limit = own_number("/proc/sys/vm/max_map_count", "%lu"), i = 1;
    uint8_t *memory;

    if (limit > MOST_MAPPINGS || OWN_MEMORY_HAS_SHADOW)
        return NULL;
    *ret_size = 2 * limit * PAGE;
    memory = mmap(NULL, *ret_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert(memory != MAP_FAILED);
    while (i < 2 * limit && mprotect(memory + i * PAGE, PAGE, PROT_READ) == 0)
        i += 2;
    ck_assert_uint_lt(i, 2 * limit);
    return memory;
}

START_TEST(pages_go_back_where_the_kernel_allows_no_more_mappings)
{
    uint8_t *memory = memory_map(32 * MIB);
    size_t size;
    uint8_t *mappings = use_up_mappings(&size);
    uint64_t resident;

    if (!mappings)
        return;
    memset(memory, 1, 32 * MIB);
    resident = own_resident();
    memory_unmap(memory + 8 * MIB, 16 * MIB); /* what it leaves would be two */
    ck_assert_uint_le(own_resident(), resident - 15 * MIB);
    ck_assert_int_eq(munmap(mappings, size), 0);
    memory_unmap(memory, 32 * MIB);
}
END_TEST

int __real_munmap(void *memory, size_t size);
int __wrap_munmap(void *memory, size_t size);

static size_t largest_part;

int __wrap_munmap(void *memory, size_t size) {
    largest_part = MAX(largest_part, size);
    return __real_munmap(memory, size);
}

/* Who maps or unmaps something meanwhile waits for one call, not for all of it. */
START_TEST(large_memory_goes_back_in_parts)
{
    size_t size = 50 * MIB + PAGE;
    uint8_t *memory = memory_map(size);
    unsigned char resident;

    memset(memory, 1, size);
    largest_part = 0;
    memory_unmap(memory, size);
    ck_assert_uint_le(largest_part, 16 * MIB);
    for (size_t at = 0; at < size; at += PAGE)
        ck_assert(mincore(memory + at, PAGE, &resident) == -1 && errno == ENOMEM);
}
END_TEST

CHECK_MAIN("memory", reservations_never_exceed_the_limit,
           what_is_borrowed_gives_way_to_reservations,
           pages_go_back_where_the_kernel_allows_no_more_mappings, large_memory_goes_back_in_parts)
