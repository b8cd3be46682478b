/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>

enum { UNMAP_PART = 16 << 20 };

void *memory_map(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, size, MADV_DONTDUMP); /* token data has no place in a core file */
    return memory;
}

void *memory_map_many(size_t size) {
    uint8_t *memory, *first;
    size_t before;

    if (size < MEMORY_HUGE_PAGE)
        return memory_map(size);
    memory = memory_map(size + MEMORY_HUGE_PAGE);
    if (!memory)
        return NULL;
    before = -(uintptr_t)memory % MEMORY_HUGE_PAGE;
    first = memory + before;
    if (before > 0)
        (void)munmap(memory, before);
    (void)munmap(first + size, MEMORY_HUGE_PAGE - before);
    (void)madvise(first, size, MADV_HUGEPAGE); /* refused where the kernel has none: slower only */
    return first;
}

/* Other threads wait with their own mappings until munmap() returns, for 60 ms a GiB: so part after
 * part. Adjacent mappings may be one to the kernel, which at its limit of mappings does not cut
 * them in two. What stays mapped then is addresses, no memory. */
void memory_unmap(void *memory, size_t size) {
    for (size_t at = 0, part; memory && at < size; at += part) {
        part = MIN(size - at, (size_t)UNMAP_PART);
        if (munmap((uint8_t *)memory + at, part) < 0)
            memory_discard((uint8_t *)memory + at, part);
    }
}

void memory_discard(void *memory, size_t size) {
    int r = madvise(memory, size, MADV_DONTNEED);

    assert(r == 0); /* needs nothing; refuses only what is no memory of ours */
    (void)r;
}

void memory_budget_init(MemoryBudget *budget, uint64_t limit) {
    budget->limit = limit;
    atomic_init(&budget->reserved, 0);
    atomic_init(&budget->borrowed, 0);
}

bool memory_budget_reserve(MemoryBudget *budget, uint64_t size) {
    uint64_t reserved = atomic_load(&budget->reserved);

    do {
        if (size > budget->limit || reserved > budget->limit - size)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->reserved, &reserved, reserved + size));
    return true;
}

void memory_budget_release(MemoryBudget *budget, uint64_t size) {
    uint64_t before = atomic_fetch_sub(&budget->reserved, size);

    assert(before >= size);
    (void)before;
}

/* Add first and look after, and the other way round in reserve(): of two threads that race for the
 * last bytes at least one sees the other, so the sum is never silently above the limit. */
bool memory_budget_borrow(MemoryBudget *budget, uint64_t size) {
    uint64_t borrowed = atomic_fetch_add(&budget->borrowed, size) + size;
    uint64_t reserved = atomic_load(&budget->reserved);

    if (borrowed <= budget->limit && reserved <= budget->limit - borrowed)
        return true;
    atomic_fetch_sub(&budget->borrowed, size);
    return false;
}

void memory_budget_return(MemoryBudget *budget, uint64_t size) {
    uint64_t before = atomic_fetch_sub(&budget->borrowed, size);

    assert(before >= size);
    (void)before;
}

uint64_t memory_budget_excess(const MemoryBudget *budget) {
    uint64_t reserved = atomic_load(&budget->reserved);
    uint64_t borrowed = atomic_load(&budget->borrowed);
    uint64_t free_bytes = budget->limit - reserved;

    return borrowed > free_bytes ? borrowed - free_bytes : 0;
}
