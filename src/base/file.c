/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

void file_close(int *fd) {
    int saved = errno;

    if (*fd >= 0)
        (void)close(*fd);
    *fd = FILE_NONE;
    errno = saved;
}

uint32_t file_raise_limit(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    return (uint32_t)MIN(limit.rlim_cur, (rlim_t)INT32_MAX);
}

int file_read_at(int fd, void *to, size_t size, uint64_t offset) {
    uint8_t *at = to;

    while (size > 0) {
        ssize_t n = pread(fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int file_write(int fd, const void *from, size_t size) {
    const uint8_t *at = from;

    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

int file_size(int fd, uint64_t *ret_size) {
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

int file_load(int dir_fd, const char *path, size_t limit, char **ret_bytes, size_t *ret_size) {
    CLEANUP(file_close) int fd = FILE_NONE;
    uint64_t size;
    char *bytes;
    int r;

    fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    r = file_size(fd, &size);
    if (r < 0)
        return r;
    if (size > limit)
        return -EFBIG;
    bytes = malloc(size + 1);
    if (!bytes)
        return -ENOMEM;
    r = file_read_at(fd, bytes, size, 0);
    if (r < 0) {
        free(bytes);
        return r;
    }
    bytes[size] = '\0';
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int file_sync_dir(const char *path) {
    CLEANUP(file_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return fsync(fd) < 0 ? -errno : 0;
}

int file_memory_new(const char *name, uint64_t size, int *ret_fd) {
    CLEANUP(file_close) int fd = FILE_NONE;
    int r;

    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    do
        r = posix_fallocate(fd, 0, (off_t)size);
    while (r == EINTR);
    if (r != 0)
        return -r;
    *ret_fd = fd;
    fd = FILE_NONE;
    return 0;
}
