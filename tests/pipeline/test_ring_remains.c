/* SPDX-License-Identifier: MIT */
#include "pipeline/ring_remains.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/check_main.h"
#include "support/own_memory.h"

enum { EVENTS_MOST = 20000 };

static RingWriter *make_ring(MemoryBudget *budget) {
    const RingOptions options = {.slot_count = 1, .slot_bytes = 1, .world = 1, .plan = ""};
    RingWriter *writer;
    Error error;

    ck_assert_int_eq(ring_writer_create(&options, &writer, &error), 0);
    ck_assert(memory_budget_reserve(budget, writer->memory_bytes));
    return writer;
}

static int open_path(const RingWriter *writer) {
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", writer->data_fd);
    return open(path, O_PATH | O_CLOEXEC);
}

START_TEST(what_nobody_has_is_returned_at_once)
{
    MemoryBudget budget;
    RingRemains *remains;

    memory_budget_init(&budget, 1 << 20);
    remains = ring_remains_new(&budget);
    ck_assert(ring_remains_are_seen(remains));
    ring_remains_bury(remains, make_ring(&budget));
    ck_assert_uint_eq(atomic_load(&budget.reserved), 0);
    ck_assert_uint_eq(ring_remains_bytes(remains), 0);
    ring_remains_free(remains);
}
END_TEST

START_TEST(what_somebody_has_stays_reserved)
{
    MemoryBudget budget;
    RingRemains *remains;
    RingWriter *writer;
    uint64_t bytes;
    void *mapping;
    int path;

    memory_budget_init(&budget, 1 << 20);
    remains = ring_remains_new(&budget);
    writer = make_ring(&budget);
    bytes = writer->memory_bytes;
    mapping = mmap(NULL, bytes, PROT_READ, MAP_SHARED, writer->data_fd, 0);
    path = open_path(writer);
    ck_assert(mapping != MAP_FAILED && path >= 0);

    ring_remains_bury(remains, writer);
    ck_assert_uint_eq(ring_remains_bytes(remains), bytes);
    ring_remains_bury(remains, make_ring(&budget)); /* another, which goes */
    ck_assert_uint_eq(atomic_load(&budget.reserved), bytes);
    ck_assert_int_eq(munmap(mapping, bytes), 0);
    ring_remains_collect(remains);
    ck_assert_uint_eq(atomic_load(&budget.reserved), bytes); /* it could be opened again */
    close(path);
    ck_assert_uint_eq(atomic_load(&budget.reserved), bytes); /* nobody has looked */
    ring_remains_collect(remains);
    ck_assert_uint_eq(atomic_load(&budget.reserved), 0);
    ring_remains_free(remains);
}
END_TEST

/* More at once than the kernel tells. */
START_TEST(none_is_reserved_for_ever)
{
    uint32_t count = (uint32_t)own_number("/proc/sys/fs/inotify/max_queued_events", "%lu");
    void **mappings = calloc(count, sizeof *mappings);
    MemoryBudget budget;
    RingRemains *remains;
    uint64_t bytes = 0;

    memory_budget_init(&budget, UINT64_MAX);
    remains = ring_remains_new(&budget);
    for (uint32_t i = 0; count <= EVENTS_MOST && i < count; i++) {
        RingWriter *writer = make_ring(&budget);

        bytes = writer->memory_bytes;
        mappings[i] = mmap(NULL, bytes, PROT_READ, MAP_SHARED, writer->data_fd, 0);
        ck_assert(mappings[i] != MAP_FAILED);
        ring_remains_bury(remains, writer);
    }
    for (uint32_t i = 0; count <= EVENTS_MOST && i < count; i++)
        ck_assert_int_eq(munmap(mappings[i], bytes), 0);
    ring_remains_collect(remains);
    ck_assert_uint_eq(atomic_load(&budget.reserved), 0);
    ring_remains_free(remains);
    free(mappings);
}
END_TEST

CHECK_MAIN("ring_remains", what_nobody_has_is_returned_at_once, what_somebody_has_stays_reserved,
           none_is_reserved_for_ever)
