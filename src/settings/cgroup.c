/* SPDX-License-Identifier: MIT */
/* /proc/self/cgroup has one line per hierarchy, "0::/path" for version 2 and "4:memory:/path" for
 * a controller of version 1. Limits of all ancestors hold, so each path is walked up to the mount.
 * Inside a container the path may be the host's, which does not exist here: then only the walk's
 * last step, the mount itself, finds a file, and that is the container's own limit. */
#include "settings/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attributes.h"

enum { CGROUP_PATH = 4096 };

static void close_file(FILE **file) {
    if (*file)
        fclose(*file);
}

/* The first line of dir/name, without its newline. */
static bool read_line(const char *dir, const char *name, char *ret_line, size_t bytes) {
    CLEANUP(close_file) FILE *file = NULL;
    char path[CGROUP_PATH + 64];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "re");
    if (!file || !fgets(ret_line, (int)bytes, file))
        return false;
    ret_line[strcspn(ret_line, "\n")] = '\0';
    return true;
}

static uint64_t memory_of(const char *dir, const char *name) {
    char line[64], *end;
    unsigned long long value;

    if (!read_line(dir, name, line, sizeof line))
        return UINT64_MAX;
    value = strtoull(line, &end, 10);
    /* Version 1 writes "no limit" as the largest multiple of a page. */
    return end == line || value >= UINT64_C(1) << 62 ? UINT64_MAX : value;
}

static uint64_t memory_v2(const char *dir) {
    return memory_of(dir, "memory.max");
}

static uint64_t memory_v1(const char *dir) {
    return memory_of(dir, "memory.limit_in_bytes");
}

/* The CPUs of "QUOTA" and "PERIOD" in microseconds; a quota of "max" or -1 is none. */
static uint64_t cpus_of(const char *quota_text, const char *period_text) {
    char *quota_end, *period_end;
    long long quota = strtoll(quota_text, &quota_end, 10);
    long long period = strtoll(period_text, &period_end, 10);

    if (quota_end == quota_text || period_end == period_text || quota <= 0 || period <= 0 ||
        quota > LLONG_MAX - period)
        return UINT64_MAX;
    return (uint64_t)((quota + period - 1) / period);
}

static uint64_t cpus_v2(const char *dir) {
    char line[64], *space;

    if (!read_line(dir, "cpu.max", line, sizeof line))
        return UINT64_MAX;
    space = strchr(line, ' ');
    return space ? cpus_of(line, space) : UINT64_MAX;
}

static uint64_t cpus_v1(const char *dir) {
    char quota[64], period[64];

    if (!read_line(dir, "cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_line(dir, "cpu.cfs_period_us", period, sizeof period))
        return UINT64_MAX;
    return cpus_of(quota, period);
}

/* The smallest answer of `limit` for mount/path and all directories above it down to the mount. */
static uint64_t walk(const char *mount, const char *path, uint64_t (*limit)(const char *dir)) {
    char dir[CGROUP_PATH];
    uint64_t smallest = UINT64_MAX;
    size_t mount_length = strlen(mount);

    if (snprintf(dir, sizeof dir, "%s%s", mount, path) >= (int)sizeof dir)
        return UINT64_MAX;
    for (;;) {
        uint64_t here = limit(dir);
        char *slash;

        smallest = MIN(smallest, here);
        slash = strrchr(dir, '/');
        if (strlen(dir) <= mount_length || !slash || (size_t)(slash - dir) < mount_length)
            return smallest;
        *slash = '\0';
    }
}

/* Does the comma-separated list name the controller? */
static bool lists(const char *controllers, const char *controller) {
    size_t length = strlen(controller);

    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, controller, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

static uint64_t smallest_limit(const char *groups, const char *mount, const char *controller,
                               uint64_t (*v1)(const char *), uint64_t (*v2)(const char *)) {
    CLEANUP(close_file) FILE *file = fopen(groups, "re");
    char line[CGROUP_PATH], sub_mount[CGROUP_PATH];
    uint64_t smallest = UINT64_MAX, here;

    snprintf(sub_mount, sizeof sub_mount, "%s/%s", mount, controller);
    while (file && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *path;

        if (!controllers)
            continue;
        path = strchr(++controllers, ':');
        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        here = *controllers == '\0'             ? walk(mount, path, v2)
               : lists(controllers, controller) ? walk(sub_mount, path, v1)
                                                : UINT64_MAX;
        smallest = MIN(smallest, here);
    }
    return smallest;
}

uint64_t cgroup_memory_limit_at(const char *groups, const char *mount) {
    return smallest_limit(groups, mount, "memory", memory_v1, memory_v2);
}

uint32_t cgroup_cpu_limit_at(const char *groups, const char *mount) {
    return (uint32_t)MIN(smallest_limit(groups, mount, "cpu", cpus_v1, cpus_v2),
                         (uint64_t)UINT32_MAX);
}

uint64_t cgroup_memory_limit(void) {
    return cgroup_memory_limit_at("/proc/self/cgroup", "/sys/fs/cgroup");
}

uint32_t cgroup_cpu_limit(void) {
    return cgroup_cpu_limit_at("/proc/self/cgroup", "/sys/fs/cgroup");
}
