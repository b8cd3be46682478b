/* SPDX-License-Identifier: MIT */
/* file.h: descriptors and whole reads and writes. Every descriptor is close-on-exec from birth.
 * Functions return 0 or a negative errno unless they say otherwise. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/heartbeat.h"

#define FILE_NONE (-1)

/* For CLEANUP(file_close): closes *fd if it is not FILE_NONE and sets it to FILE_NONE; errno kept.
 */
void file_close(int *fd);

/* Raise the soft limit on open descriptors to the hard one, for a process that opens every shard of
 * its datasets. Returns how many it may have. What the process starts would inherit it. */
uint32_t file_raise_limit(void);

/* Open once more, to be read past the page cache (O_DIRECT), what `fd` is open for; with `try` read
 * a little, since some file systems open it and then refuse to read. *ret_align is what offset,
 * size and memory of such reads must be a multiple of: a page at most. 0; FILE_E_CACHED: this file
 * is read through its cache only; negative errno: no descriptor or memory. */
enum { FILE_E_CACHED = 1 };
MUST_CHECK int file_open_direct(int fd, bool try, int *ret_fd, uint32_t *ret_align);

/* Read exactly `size` bytes at `offset`. -ENODATA when the file ends before. Restarts after
 * signals. */
MUST_CHECK int file_read_at(int fd, void *to, size_t size, uint64_t offset);

/* Write all of `size` bytes at the descriptor's position. */
MUST_CHECK int file_write(int fd, const void *from, size_t size);

/* Size in bytes of a regular file; -EINVAL for anything else. */
MUST_CHECK int file_size(int fd, uint64_t *ret_size);

/* Read a whole regular file of at most `limit` bytes into malloc'ed memory with a NUL after it.
 * -EFBIG when it is larger. The caller frees *ret_bytes. */
MUST_CHECK int file_load(int dir_fd, const char *path, size_t limit, char **ret_bytes,
                         size_t *ret_size);

/* Flush a directory entry to disk, so that a rename survives a power cut. */
MUST_CHECK int file_sync_dir(const char *path);

/* A memory file of `size` bytes, its pages allocated (-ENOSPC instead of a later SIGBUS), not yet
 * sealed. Takes half a second a GiB; `heartbeat` may be NULL. The caller owns the descriptor. */
MUST_CHECK int file_memory_new(const char *name, uint64_t size, const Heartbeat *heartbeat,
                               int *ret_fd);
