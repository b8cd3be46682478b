/* SPDX-License-Identifier: MIT */
/* memory.h: whole-page memory for the data path, and the budget that bounds it.
 *
 * A MemoryBudget has one limit. Streams RESERVE (a promise kept until released); the block cache
 * only BORROWS what nobody has reserved, and a reservation may ask for it back. Numbers only: the
 * budget allocates nothing. All functions may be called from any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

enum { MEMORY_HUGE_PAGE = 2 << 20 };

/* Zeroed, page-aligned memory straight from the kernel (never touched: costs nothing until used),
 * or NULL. Freed with memory_unmap() of the same size. */
void *memory_map(size_t size);
/* The pages are the kernel's again when this returns, whatever it answers to munmap(). */
void memory_unmap(void *memory, size_t size);
/* The same for buffers that lie side by side, on huge pages as far as `size` reaches: their first
 * use and random reads cost less. To be unmapped as a whole: each piece that is unmapped for itself
 * leaves one mapping more, and the kernel has a limit to those. */
void *memory_map_many(size_t size);
/* Give the pages of a part back to the kernel, at once; the mapping stays and reads as zeros. */
void memory_discard(void *memory, size_t size);

typedef struct MemoryBudget {
    uint64_t limit;            /* bytes; constant after init */
    _Atomic uint64_t reserved; /* promised to streams */
    _Atomic uint64_t borrowed; /* held by the cache */
} MemoryBudget;

void memory_budget_init(MemoryBudget *budget, uint64_t limit);

/* Promise `size` bytes if they fit beside what is reserved already. What is borrowed does not count
 * against it, but the caller must have it given back (see memory_budget_excess) before using the
 * memory. Returns false, and changes nothing, when it does not fit. */
MUST_CHECK bool memory_budget_reserve(MemoryBudget *budget, uint64_t size);
void memory_budget_release(MemoryBudget *budget, uint64_t size);

/* Take `size` bytes of what is neither reserved nor borrowed; false when there is not enough. */
MUST_CHECK bool memory_budget_borrow(MemoryBudget *budget, uint64_t size);
void memory_budget_return(MemoryBudget *budget, uint64_t size);

/* Bytes that the borrower has to give back so that all reservations can be kept; 0 when all is
 * well. */
uint64_t memory_budget_excess(const MemoryBudget *budget);
