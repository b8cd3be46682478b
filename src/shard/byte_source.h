/* SPDX-License-Identifier: MIT */
/* byte_source.h: the bytes of a file or of standard input, decompressed when they are zstd, handed
 * out in chunks or lines. Memory: one chunk, or the longest line. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/buffer.h"

#define BYTE_SOURCE_STDIN "-"

enum { BYTE_SOURCE_LINE_MAX = 1 << 30 };

typedef struct ByteSource ByteSource;

/* Called before every read that may wait: 0, or a negative errno that ends the reading. */
typedef int ByteSourceWait(int fd);

/* Open `path`, or standard input for "-". `wait` may be NULL. */
MUST_CHECK int byte_source_open(const char *path, ByteSourceWait *wait, ByteSource **ret_source,
                                Error *error);
void byte_source_free(ByteSource *source); /* accepts NULL */

/* The next line without its end ("\n" or "\r\n"), and a NUL after it. The bytes are the caller's to
 * change and stay until the next call. 1, or 0 at the end, or a negative errno and a sentence. */
MUST_CHECK int byte_source_line(ByteSource *source, char **ret_line, size_t *ret_size,
                                Error *error);

const char *byte_source_name(const ByteSource *source);     /* "standard input" for "-" */
uint64_t byte_source_line_number(const ByteSource *source); /* of the last line, from 1 */
uint64_t byte_source_bytes(const ByteSource *source);       /* read from the file so far */

/* Size of the file at `path`, 0 when it is unknown. */
uint64_t byte_source_size(const char *path);
