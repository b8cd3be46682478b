/* SPDX-License-Identifier: MIT */
/* buffer.h: bytes that grow at the end. Owner: who declared it, with CLEANUP(buffer_deinit). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct Buffer {
    uint8_t *bytes; /* aligned to SHARD_SECTION_ALIGN */
    size_t size, capacity;
} Buffer;

void buffer_deinit(Buffer *buffer);

/* Make room for `capacity` bytes in all; what is there is kept. 0 or -ENOMEM. */
MUST_CHECK int buffer_reserve(Buffer *buffer, size_t capacity);
MUST_CHECK int buffer_add(Buffer *buffer, const void *bytes, size_t size);
