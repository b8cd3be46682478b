/* SPDX-License-Identifier: MIT */
/* A dataset appears by one rename. When its directory is absent, a sibling with a temporary name is
 * filled and renamed. When it is there and empty (perhaps a mount point, which cannot be renamed),
 * the temporary directory is made inside and its files move up, dataset.json last: without it
 * there is no dataset. When a dataset is to be replaced, old and new change places at once.
 *
 * Whoever fills a temporary directory holds a lock on it, which the kernel drops with the process:
 * so the next one tells what a killed process left behind from what is still being filled. */
#include "shard/dataset_stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "shard/manifest.h"

enum { TEMPORARY_TRIES = 100 };

static bool is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Names that pack makes: nothing else is ever removed from a directory that is replaced. */
static bool is_dataset_file(const char *name) {
    size_t length = strlen(name);

    return strcmp(name, MANIFEST_NAME) == 0 || (strncmp(name, "shard-", 6) == 0 && length > 10 &&
                                                strcmp(name + length - 4, ".zst") == 0);
}

typedef struct Listing {
    uint32_t files; /* of a dataset */
    bool has_manifest;
    bool has_others;
} Listing;

static int list_directory(const char *path, Listing *ret_listing) {
    Listing listing = {0};
    DIR *directory = opendir(path);
    struct dirent *entry;

    if (!directory)
        return -errno;
    while ((entry = readdir(directory))) {
        if (is_dot(entry->d_name))
            continue;
        if (is_dataset_file(entry->d_name))
            listing.files++;
        else
            listing.has_others = true;
        if (strcmp(entry->d_name, MANIFEST_NAME) == 0)
            listing.has_manifest = true;
    }
    closedir(directory);
    *ret_listing = listing;
    return 0;
}

/* Remove a directory without subdirectories. */
static void remove_flat(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;

    if (!directory)
        return;
    while ((entry = readdir(directory)))
        if (!is_dot(entry->d_name))
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    (void)rmdir(path);
}

/* "PREFIX4711-0": a name that make_temporary() gives. */
static bool is_temporary(const char *name, const char *prefix) {
    size_t length = strlen(prefix);
    const char *rest = name + length;

    if (strncmp(name, prefix, length) != 0)
        return false;
    length = strspn(rest, "0123456789");
    if (length == 0 || rest[length] != '-')
        return false;
    rest += length + 1;
    length = strspn(rest, "0123456789");
    return length > 0 && rest[length] == '\0';
}

/* True when the directory is ours and nobody holds its lock. */
static bool is_abandoned(int folder_fd, const char *name) {
    CLEANUP(file_close)
    int fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;

    return fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
           flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void remove_abandoned(const char *folder, const char *prefix) {
    DIR *directory = opendir(folder);
    struct dirent *entry;

    if (!directory)
        return;
    while ((entry = readdir(directory))) {
        CLEANUP(text_deinit) Text path = {0};

        if (!is_temporary(entry->d_name, prefix) || !is_abandoned(dirfd(directory), entry->d_name))
            continue;
        text_add(&path, "%s/%s", folder, entry->d_name);
        if (!path.failed)
            remove_flat(path.bytes);
    }
    closedir(directory);
}

/* What killed processes left beside the target and in it. */
static void remove_leftovers(const char *path) {
    CLEANUP(text_deinit) Text prefix = {0};
    const char *slash = strrchr(path, '/');
    char *copy = strdup(path);

    text_add(&prefix, "%s.tmp-", slash ? slash + 1 : path);
    if (copy && !prefix.failed)
        remove_abandoned(dirname(copy), prefix.bytes);
    remove_abandoned(path, ".tmp-");
    free(copy);
}

static int look_at_target(DatasetStage *stage, bool force, Error *error) {
    Listing listing = {0};
    int r = list_directory(stage->path, &listing);

    if (r == -ENOENT)
        return 0;
    if (r == -ENOTDIR)
        return error_set(error, -EEXIST, "%s is a file: give a directory that is absent or empty",
                         stage->path);
    if (r < 0)
        return error_set(error, r, "cannot look into %s: %s", stage->path, strerror(-r));
    if (listing.files == 0 && !listing.has_others) {
        stage->inside = true;
        return 0;
    }
    if (!force)
        return error_set(error, -EEXIST, "%s is not empty: choose another directory%s", stage->path,
                         listing.has_manifest ? " or replace the dataset with --force" : "");
    if (listing.has_others || !listing.has_manifest)
        return error_set(error, -EEXIST,
                         "%s holds more than a dataset and is not replaced: choose another "
                         "directory",
                         stage->path);
    stage->replace = true;
    return 0;
}

/* Open and lock what was just made. -EAGAIN when another process took it for a leftover. */
static int take_temporary(DatasetStage *stage, char *name, Error *error) {
    CLEANUP(file_close) int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 && errno == ENOENT)
        return -EAGAIN;
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(error, -errno, "cannot open %s: %s", name, strerror(errno));
    /* A file system without locks has no leftovers removed either. */
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return -EAGAIN;
    if (fstat(fd, &status) < 0 || status.st_nlink == 0)
        return -EAGAIN;
    stage->dir_fd = fd;
    stage->temporary = name;
    fd = FILE_NONE;
    return 0;
}

static int make_temporary(DatasetStage *stage, Error *error) {
    int r = 0;

    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        char *name = NULL;
        if (asprintf(&name, stage->inside ? "%s/.tmp-%ld-%d" : "%s.tmp-%ld-%d", stage->path,
                     (long)getpid(), i) < 0)
            return error_set(error, -ENOMEM, "out of memory");
        r = mkdir(name, 0777) < 0 ? -errno : 0;
        if (r == 0) {
            r = take_temporary(stage, name, error);
            if (r == 0)
                return 0;
            if (r != -EAGAIN) {
                free(name);
                return r;
            }
        }
        free(name);
        if (r != -EEXIST && r != -EAGAIN)
            break;
    }
    return error_set(error, r, "cannot make a directory for %s: %s", stage->path,
                     r == -ENOENT ? "the directory that it is to stand in is not there"
                                  : strerror(-r));
}

static void strip_slashes(char *path) {
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
}

/* Settle the path and how it will be filled; nothing is made yet, but leftovers go. */
static int begin(DatasetStage *stage, const char *path, bool force, Error *error) {
    /* Names like "." have no siblings; the real path has. */
    stage->path = realpath(path, NULL);
    if (!stage->path)
        stage->path = strdup(path);
    if (!stage->path)
        return error_set(error, -ENOMEM, "out of memory");
    strip_slashes(stage->path);
    remove_leftovers(stage->path);
    return look_at_target(stage, force, error);
}

int dataset_stage_check(const char *path, bool force, Error *error) {
    CLEANUP(dataset_stage_deinit) DatasetStage stage = DATASET_STAGE_NONE;

    return begin(&stage, path, force, error);
}

int dataset_stage_open(const char *path, bool force, DatasetStage *ret_stage, Error *error) {
    CLEANUP(dataset_stage_deinit) DatasetStage stage = DATASET_STAGE_NONE;
    int r = begin(&stage, path, force, error);

    if (r < 0)
        return r;
    r = make_temporary(&stage, error);
    if (r < 0)
        return r;
    *ret_stage = stage;
    stage = DATASET_STAGE_NONE;
    return 0;
}

int dataset_stage_create(const DatasetStage *stage, const char *name, int *ret_fd, Error *error) {
    int fd = openat(stage->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

    if (fd < 0)
        return error_set(error, -errno, "cannot create %s/%s: %s", stage->temporary, name,
                         strerror(errno));
    *ret_fd = fd;
    return 0;
}

int dataset_stage_write(const DatasetStage *stage, const char *name, const void *bytes, size_t size,
                        Error *error) {
    CLEANUP(file_close) int fd = FILE_NONE;
    int r = dataset_stage_create(stage, name, &fd, error);

    if (r < 0)
        return r;
    r = file_write(fd, bytes, size);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r < 0)
        return error_set(error, r, "cannot write %s/%s: %s", stage->path, name, strerror(-r));
    return 0;
}

/* Move every file of the temporary directory one up; the manifest last. */
static int move_up(const DatasetStage *stage, int to_fd) {
    DIR *directory = opendir(stage->temporary);
    struct dirent *entry;
    int r = 0;

    if (!directory)
        return -errno;
    while (r == 0 && (entry = readdir(directory)))
        if (!is_dot(entry->d_name) && strcmp(entry->d_name, MANIFEST_NAME) != 0 &&
            renameat(stage->dir_fd, entry->d_name, to_fd, entry->d_name) < 0)
            r = -errno;
    closedir(directory);
    if (r == 0 && fsync(to_fd) < 0)
        r = -errno;
    if (r == 0 && renameat(stage->dir_fd, MANIFEST_NAME, to_fd, MANIFEST_NAME) < 0)
        r = -errno;
    if (r == 0 && fsync(to_fd) < 0)
        r = -errno;
    return r;
}

/* Remove what is a dataset's from a directory that was empty when all began. */
static void take_back(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;

    if (!directory)
        return;
    while ((entry = readdir(directory)))
        if (is_dataset_file(entry->d_name))
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
}

static int commit_inside(DatasetStage *stage) {
    CLEANUP(file_close) int to_fd = open(stage->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    Listing listing = {0};
    int r = to_fd < 0 ? -errno : list_directory(stage->path, &listing);

    if (r == 0 && listing.files > 0)
        r = -ENOTEMPTY; /* somebody else was faster */
    if (r < 0)
        return r;
    r = move_up(stage, to_fd);
    if (r < 0)
        take_back(stage->path);
    return r;
}

static int exchange(const DatasetStage *stage) {
    CLEANUP(text_deinit) Text old = {0};

    if (renameat2(AT_FDCWD, stage->temporary, AT_FDCWD, stage->path, RENAME_EXCHANGE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* This file system cannot exchange: two renames, the old one kept until the new one is there.
     */
    text_add(&old, "%s.old", stage->temporary);
    if (old.failed)
        return -ENOMEM;
    if (rename(stage->path, old.bytes) < 0)
        return -errno;
    if (rename(stage->temporary, stage->path) < 0) {
        int r = -errno;
        (void)rename(old.bytes, stage->path);
        return r;
    }
    (void)rename(old.bytes, stage->temporary);
    return 0;
}

static int sync_parent(const char *path) {
    char *copy = strdup(path);
    int r = copy ? file_sync_dir(dirname(copy)) : -ENOMEM;

    free(copy);
    return r;
}

int dataset_stage_commit(DatasetStage *stage, Error *error) {
    int r = fsync(stage->dir_fd) < 0 ? -errno : 0;

    if (r == 0 && stage->inside)
        r = commit_inside(stage);
    else if (r == 0 && stage->replace)
        r = exchange(stage);
    else if (r == 0 && rename(stage->temporary, stage->path) < 0)
        r = -errno;
    if (r < 0)
        return error_set(error, r, "cannot give %s its name: %s", stage->path, strerror(-r));
    if (stage->inside || stage->replace)
        remove_flat(stage->temporary);
    free(stage->temporary);
    stage->temporary = NULL;
    r = stage->inside ? 0 : sync_parent(stage->path);
    if (r < 0)
        return error_set(error, r, "cannot bring %s to disk: %s", stage->path, strerror(-r));
    return 0;
}

void dataset_stage_deinit(DatasetStage *stage) {
    file_close(&stage->dir_fd);
    if (stage->temporary)
        remove_flat(stage->temporary);
    free(stage->temporary);
    free(stage->path);
    *stage = DATASET_STAGE_NONE;
}
