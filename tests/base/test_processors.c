/* SPDX-License-Identifier: MIT */
#include "base/processors.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "support/check_main.h"

static size_t kernel_bytes; /* of the machine's own set */
static int kernel_error;    /* what it answers instead */
static uint32_t kernel_allows;

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    ck_assert_int_eq(pid, 0);
    errno = kernel_error ? kernel_error : EINVAL;
    if (kernel_error || size < kernel_bytes)
        return -1;
    memset(set, 0, size);
    for (uint32_t i = 0; i < kernel_allows; i++)
        CPU_SET_S(kernel_bytes * 8 - 1 - i, size, set);
    return 0;
}

START_TEST(a_machine_may_have_more_processors_than_a_cpu_set)
{
    static const uint32_t machines[] = {8, 1024, 1088, 8192, 1 << 20};

    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        kernel_bytes = machines[i] / 8;
        kernel_allows = machines[i] / 2 + 1;
        ck_assert_uint_eq(processors_count(), kernel_allows);
    }
}
END_TEST

START_TEST(where_the_kernel_does_not_say_there_is_one)
{
    kernel_bytes = 1 << 30; /* no set is large enough */
    ck_assert_uint_eq(processors_count(), 1);
    kernel_error = EPERM;
    ck_assert_uint_eq(processors_count(), 1);
}
END_TEST

CHECK_MAIN("processors", a_machine_may_have_more_processors_than_a_cpu_set,
           where_the_kernel_does_not_say_there_is_one)
