/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attributes.h"

enum { PAGE = 4096 };

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { ALLOCATE_PART = 64 << 20 };

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

/* The alignment that direct reads of this file need; 0 when it has none to offer. */
static uint32_t direct_alignment(int fd) {
#ifdef STATX_DIOALIGN
    struct statx status;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
        (status.stx_mask & STATX_DIOALIGN))
        return MAX(status.stx_dio_offset_align, status.stx_dio_mem_align);
#endif
    (void)fd;
    return PAGE; /* before Linux 6.1 nobody tells; a page is enough for every disk */
}

/* Some file systems open with O_DIRECT and then refuse to read: try the first bytes. */
static bool direct_reads_work(int fd, uint32_t align) {
    void *memory;
    ssize_t count;

    if (posix_memalign(&memory, PAGE, PAGE) != 0)
        return false;
    count = pread(fd, memory, align, 0);
    free(memory);
    return count > 0;
}

int file_open_direct(int fd, bool try, int *ret_fd, uint32_t *ret_align) {
    CLEANUP(file_close) int direct_fd = FILE_NONE;
    uint32_t align = direct_alignment(fd);
    char path[48];

    if (align == 0 || align > PAGE)
        return FILE_E_CACHED;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    direct_fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (direct_fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : FILE_E_CACHED;
    if (try && !direct_reads_work(direct_fd, align))
        return FILE_E_CACHED;
    *ret_fd = direct_fd;
    *ret_align = align;
    direct_fd = FILE_NONE;
    return 0;
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

/* The kernel zeroes pages at some 2 GiB a second and does not look up before it is done. */
static int allocate_pages(int fd, uint64_t size, const Heartbeat *heartbeat) {
    for (uint64_t at = 0; at < size;) {
        uint64_t part = MIN(size - at, (uint64_t)ALLOCATE_PART);
        int r = posix_fallocate(fd, (off_t)at, (off_t)part);

        if (r != 0 && r != EINTR)
            return -r;
        if (!heartbeat_goes_on(heartbeat))
            return -ECANCELED;
        at += r == 0 ? part : 0;
    }
    return 0;
}

int file_memory_new(const char *name, uint64_t size, const Heartbeat *heartbeat, int *ret_fd) {
    CLEANUP(file_close) int fd = FILE_NONE;
    int r;

    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    r = allocate_pages(fd, size, heartbeat);
    if (r < 0)
        return r;
    *ret_fd = fd;
    fd = FILE_NONE;
    return 0;
}
