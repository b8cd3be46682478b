/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include "support/check_main.h"

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

CHECK_MAIN("memory", reservations_never_exceed_the_limit,
           what_is_borrowed_gives_way_to_reservations)
