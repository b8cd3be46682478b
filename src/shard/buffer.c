/* SPDX-License-Identifier: MIT */
#include "shard/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "format/shard_format.h"

void buffer_deinit(Buffer *buffer) {
    free(buffer->bytes);
    *buffer = (Buffer){0};
}

int buffer_reserve(Buffer *buffer, size_t capacity) {
    uint8_t *bytes;

    if (capacity <= buffer->capacity)
        return 0;
    if (capacity > SIZE_MAX / 2)
        return -ENOMEM;
    capacity = align_up(MAX(capacity, buffer->capacity * 2), SHARD_SECTION_ALIGN);
    bytes = aligned_alloc(SHARD_SECTION_ALIGN, capacity);
    if (!bytes)
        return -ENOMEM;
    if (buffer->size > 0)
        memcpy(bytes, buffer->bytes, buffer->size);
    free(buffer->bytes);
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

int buffer_add(Buffer *buffer, const void *bytes, size_t size) {
    int r;

    if (size == 0)
        return 0;
    r = buffer_reserve(buffer, buffer->size + size);
    if (r < 0)
        return r;
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    return 0;
}
