/* SPDX-License-Identifier: MIT */
/* A cpu_set_t has room for 1024. Where the kernel has more CPUs it refuses a smaller set than its
 * own, so the set grows until it does not. */
#include "base/processors.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>

#include "base/attributes.h"

enum { PROCESSORS_MOST = 1 << 20 };

static void free_set(cpu_set_t **set) {
    CPU_FREE(*set);
}

uint32_t processors_count(void) {
    for (int most = CPU_SETSIZE; most <= PROCESSORS_MOST; most *= 4) {
        CLEANUP(free_set) cpu_set_t *set = CPU_ALLOC(most);
        size_t size = CPU_ALLOC_SIZE(most);

        if (set && sched_getaffinity(0, size, set) == 0)
            return MAX((uint32_t)CPU_COUNT_S(size, set), 1u);
        if (!set || errno != EINVAL)
            break;
    }
    return 1;
}
