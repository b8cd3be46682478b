/* SPDX-License-Identifier: MIT */
/* cgroup.h: what the control group of this process allows, in cgroup version 2 and 1. Blocks for
 * reads of small files in /proc and /sys. */
#pragma once

#include <stdint.h>

/* Bytes of memory: the smallest limit from the process's group up to the root; UINT64_MAX: none.
 */
uint64_t cgroup_memory_limit(void);

/* CPUs by the quota, rounded up, at least 1; UINT32_MAX: no quota. */
uint32_t cgroup_cpu_limit(void);

/* The same from another list of groups than /proc/self/cgroup and another mount than
 * /sys/fs/cgroup. */
uint64_t cgroup_memory_limit_at(const char *groups, const char *mount);
uint32_t cgroup_cpu_limit_at(const char *groups, const char *mount);
