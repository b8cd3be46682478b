/* SPDX-License-Identifier: MIT */
#include "shard/byte_source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/file.h"
#include "format/shard_format.h"

enum { CHUNK = 1 << 20, WINDOW_LOG_MAX = 27 };

struct ByteSource {
    char *name;
    int fd;
    bool owns_fd;
    ByteSourceWait *wait;
    bool started; /* the first bytes have told whether it is zstd */
    bool file_ended;
    ZSTD_DCtx *context; /* NULL: plain bytes */
    bool in_frame;
    Buffer packed; /* with a context: compressed bytes */
    size_t packed_at;
    Buffer plain; /* bytes [begin, plain.size) are not handed out yet */
    size_t begin;
    uint64_t bytes_read, lines;
};

static void source_cleanup(ByteSource **source) {
    byte_source_free(*source);
}

void byte_source_free(ByteSource *source) {
    if (!source)
        return;
    if (source->owns_fd)
        file_close(&source->fd);
    ZSTD_freeDCtx(source->context);
    buffer_deinit(&source->packed);
    buffer_deinit(&source->plain);
    free(source->name);
    free(source);
}

int byte_source_open(const char *path, ByteSourceWait *wait, ByteSource **ret_source,
                     Error *error) {
    CLEANUP(source_cleanup) ByteSource *source = calloc(1, sizeof *source);
    bool from_stdin = strcmp(path, BYTE_SOURCE_STDIN) == 0;
    struct stat status;

    if (source)
        source->name = strdup(from_stdin ? "standard input" : path);
    if (!source || !source->name)
        return error_set(error, -ENOMEM, "out of memory");
    source->wait = wait;
    source->fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    source->owns_fd = !from_stdin;
    if (source->fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", path, strerror(errno));
    if (fstat(source->fd, &status) == 0 && S_ISDIR(status.st_mode))
        return error_set(error, -EISDIR, "%s is a directory: name its files", path);
    *ret_source = source;
    source = NULL;
    return 0;
}

/* Read up to one chunk to the end of `to`. */
static int read_chunk(ByteSource *source, Buffer *to, Error *error) {
    ssize_t n;
    int r = buffer_reserve(to, to->size + CHUNK);

    if (r < 0)
        return error_set(error, r, "out of memory while reading %s", source->name);
    do {
        r = source->wait ? source->wait(source->fd) : 0;
        if (r < 0)
            return error_set(error, r, "interrupted");
        n = read(source->fd, to->bytes + to->size, CHUNK);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0)
        return error_set(error, -errno, "cannot read %s: %s", source->name, strerror(errno));
    to->size += (size_t)n;
    source->bytes_read += (uint64_t)n;
    source->file_ended = n == 0;
    return 0;
}

static bool is_zstd(const Buffer *bytes) {
    uint32_t magic;

    if (bytes->size < 4)
        return false;
    magic = bytes_get_u32(bytes->bytes);
    return magic == SHARD_ZSTD_MAGIC || (magic & 0xFFFFFFF0u) == 0x184D2A50u;
}

/* The first bytes decide; a pipe may bring them one by one. */
static int start(ByteSource *source, Error *error) {
    while (source->plain.size < 4 && !source->file_ended) {
        int r = read_chunk(source, &source->plain, error);
        if (r < 0)
            return r;
    }
    source->started = true;
    if (!is_zstd(&source->plain))
        return 0;
    source->packed = source->plain;
    source->plain = (Buffer){0};
    source->context = ZSTD_createDCtx();
    if (!source->context)
        return error_set(error, -ENOMEM, "out of memory while reading %s", source->name);
    (void)ZSTD_DCtx_setParameter(source->context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    return 0;
}

static int decompress_some(ByteSource *source, Error *error) {
    ZSTD_inBuffer in = {source->packed.bytes, source->packed.size, source->packed_at};
    ZSTD_outBuffer out;
    size_t n;
    int r = buffer_reserve(&source->plain, source->plain.size + CHUNK);

    if (r < 0)
        return error_set(error, r, "out of memory while reading %s", source->name);
    out = (ZSTD_outBuffer){source->plain.bytes, source->plain.capacity, source->plain.size};
    n = ZSTD_decompressStream(source->context, &out, &in);
    if (ZSTD_isError(n))
        return error_set(error, -EBADMSG, "%s is damaged: zstd says '%s'", source->name,
                         ZSTD_getErrorName(n));
    source->in_frame = n != 0;
    source->plain.size = out.pos;
    source->packed_at = in.pos;
    return 0;
}

/* Read compressed bytes in place of those that are used up. 1, or 0 at the end of the file. */
static int read_packed(ByteSource *source, Error *error) {
    int r;

    if (source->file_ended)
        return 0;
    source->packed.size = source->packed_at = 0;
    r = read_chunk(source, &source->packed, error);
    return r < 0 ? r : 1;
}

/* One step towards more plain bytes. 1, or 0 when there are no more. */
static int unpack(ByteSource *source, Error *error) {
    size_t packed_before = source->packed_at, plain_before = source->plain.size;
    int r;

    if (source->packed_at < source->packed.size || source->in_frame) {
        r = decompress_some(source, error);
        if (r < 0)
            return r;
        if (source->packed_at > packed_before || source->plain.size > plain_before)
            return 1;
    }
    r = read_packed(source, error);
    if (r == 0 && source->in_frame)
        return error_set(error, -EBADMSG, "%s is cut off: its zstd data does not end",
                         source->name);
    return r;
}

/* Add bytes to `plain`. 1, or 0 when there are no more. */
static int fill(ByteSource *source, Error *error) {
    size_t before = source->plain.size;
    int r = 1;

    if (!source->started) {
        r = start(source, error);
        if (r < 0)
            return r;
    }
    while (source->plain.size == before) {
        if (source->context) {
            r = unpack(source, error);
        } else if (source->file_ended) {
            r = 0;
        } else {
            r = read_chunk(source, &source->plain, error);
            r = r < 0 ? r : 1;
        }
        if (r <= 0)
            return r;
    }
    return 1;
}

/* Move what is left to the front once most of the buffer has been handed out. */
static void compact(ByteSource *source) {
    size_t left = source->plain.size - source->begin;

    if (source->begin < left || source->begin == 0)
        return;
    assert(source->plain.bytes);
    memmove(source->plain.bytes, source->plain.bytes + source->begin, left);
    source->begin = 0;
    source->plain.size = left;
}

int byte_source_line(ByteSource *source, char **ret_line, size_t *ret_size, Error *error) {
    size_t searched = 0;
    uint8_t *end = NULL;
    char *line;

    for (;;) {
        size_t left = source->plain.size - source->begin;
        if (left > searched) {
            assert(source->plain.bytes);
            end = memchr(source->plain.bytes + source->begin + searched, '\n', left - searched);
        }
        if (end)
            break;
        if (left > BYTE_SOURCE_LINE_MAX)
            return error_set(error, -E2BIG, "%s:%llu: the line is longer than %d GiB", source->name,
                             (unsigned long long)source->lines + 1, BYTE_SOURCE_LINE_MAX >> 30);
        searched = left;
        compact(source);
        int r = fill(source, error);
        if (r < 0)
            return r;
        if (r == 0 && left == 0)
            return 0;
        if (r == 0) { /* the last line has no end; make room for the NUL */
            r = buffer_reserve(&source->plain, source->plain.size + 1);
            if (r < 0)
                return error_set(error, r, "out of memory while reading %s", source->name);
            end = source->plain.bytes + source->plain.size++;
            break;
        }
    }
    line = (char *)source->plain.bytes + source->begin;
    *ret_size = (size_t)((char *)end - line);
    source->begin += *ret_size + 1;
    if (*ret_size > 0 && line[*ret_size - 1] == '\r')
        --*ret_size;
    line[*ret_size] = '\0';
    source->lines++;
    *ret_line = line;
    return 1;
}

const char *byte_source_name(const ByteSource *source) {
    return source->name;
}

uint64_t byte_source_line_number(const ByteSource *source) {
    return source->lines;
}

uint64_t byte_source_bytes(const ByteSource *source) {
    return source->bytes_read;
}

uint64_t byte_source_size(const char *path) {
    struct stat status;

    if (strcmp(path, BYTE_SOURCE_STDIN) == 0 || stat(path, &status) < 0 || !S_ISREG(status.st_mode))
        return 0;
    return (uint64_t)status.st_size;
}
