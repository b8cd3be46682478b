/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attributes.h"
#include "settings/cgroup.h"

/* A directory with a list of groups and a tree of limits, removed at the end of the scope. */
typedef struct Tree {
    char dir[64], groups[96], mount[96];
} Tree;

static Tree tree_new(const char *groups) {
    Tree tree;
    FILE *file;

    strcpy(tree.dir, "/tmp/seqfeed-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tree.dir));
    snprintf(tree.groups, sizeof tree.groups, "%s/groups", tree.dir);
    snprintf(tree.mount, sizeof tree.mount, "%s/mount", tree.dir);
    ck_assert_int_eq(mkdir(tree.mount, 0700), 0);
    file = fopen(tree.groups, "w");
    ck_assert_ptr_nonnull(file);
    fputs(groups, file);
    fclose(file);
    return tree;
}

static void tree_remove(Tree *tree) {
    char command[128];

    snprintf(command, sizeof command, "rm -r -- '%s'", tree->dir);
    ck_assert_int_eq(system(command), 0);
}

/* Write `text` to mount/path; directories on the way are made. */
static void tree_put(const Tree *tree, const char *path, const char *text) {
    char full[PATH_MAX];
    FILE *file;

    snprintf(full, sizeof full, "%s/%s", tree->mount, path);
    for (char *at = full + strlen(tree->mount) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(full, 0700);
        *at = '/';
    }
    file = fopen(full, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

START_TEST(the_smallest_limit_on_the_way_to_the_root_holds)
{
    CLEANUP(tree_remove) Tree tree = tree_new("0::/slice/job\n");

    tree_put(&tree, "slice/job/memory.max", "max\n");
    tree_put(&tree, "slice/memory.max", "1073741824\n");
    tree_put(&tree, "memory.max", "4294967296\n");
    tree_put(&tree, "slice/job/cpu.max", "150000 100000\n");
    tree_put(&tree, "slice/cpu.max", "max 100000\n");
    ck_assert_uint_eq(cgroup_memory_limit_at(tree.groups, tree.mount), 1 << 30);
    ck_assert_uint_eq(cgroup_cpu_limit_at(tree.groups, tree.mount), 2);
}
END_TEST

START_TEST(version_one_is_read_by_its_controllers)
{
    CLEANUP(tree_remove)
    Tree tree = tree_new("7:cpu,cpuacct:/a\n5:memory:/b/c\n3:cpuset:/x\n");

    tree_put(&tree, "memory/b/c/memory.limit_in_bytes", "268435456\n");
    tree_put(&tree, "memory/b/memory.limit_in_bytes", "9223372036854771712\n");
    tree_put(&tree, "cpu/a/cpu.cfs_quota_us", "350000\n");
    tree_put(&tree, "cpu/a/cpu.cfs_period_us", "100000\n");
    tree_put(&tree, "cpu/cpu.cfs_quota_us", "-1\n");
    tree_put(&tree, "cpu/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(cgroup_memory_limit_at(tree.groups, tree.mount), 256 << 20);
    ck_assert_uint_eq(cgroup_cpu_limit_at(tree.groups, tree.mount), 4);
}
END_TEST

/* In a container the list may give the host's path, of which only the top is mounted. */
START_TEST(a_path_that_is_not_here_still_finds_the_mounts_own_limit)
{
    CLEANUP(tree_remove) Tree tree = tree_new("0::/host/pod/container\n");

    tree_put(&tree, "memory.max", "1048576\n");
    ck_assert_uint_eq(cgroup_memory_limit_at(tree.groups, tree.mount), 1 << 20);
}
END_TEST

START_TEST(no_file_no_number_and_no_group_are_no_limit)
{
    CLEANUP(tree_remove) Tree tree = tree_new("nonsense\n1\n0::/a\n");

    tree_put(&tree, "a/memory.max", "\n");
    tree_put(&tree, "a/cpu.max", "50000\n");
    ck_assert_uint_eq(cgroup_memory_limit_at(tree.groups, tree.mount), UINT64_MAX);
    ck_assert_uint_eq(cgroup_cpu_limit_at(tree.groups, tree.mount), UINT32_MAX);
    ck_assert_uint_eq(cgroup_memory_limit_at("/nonexistent", tree.mount), UINT64_MAX);
}
END_TEST

CHECK_MAIN("cgroup", the_smallest_limit_on_the_way_to_the_root_holds,
           version_one_is_read_by_its_controllers,
           a_path_that_is_not_here_still_finds_the_mounts_own_limit,
           no_file_no_number_and_no_group_are_no_limit)
