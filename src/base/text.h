/* SPDX-License-Identifier: MIT */
/* text.h: a growing string, sizes and durations as people write them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

/* A string that grows up to TEXT_MAX bytes. Appending after an allocation failed does nothing;
 * `failed` tells. Owner: who declared it, with CLEANUP(text_deinit). */
typedef struct Text {
    char *bytes; /* NUL-terminated, or NULL while empty */
    size_t size; /* without the NUL */
    size_t capacity;
    bool failed;
} Text;

enum { TEXT_MAX = 64 << 20 };

void text_deinit(Text *text);
void text_add(Text *text, const char *format, ...) PRINTF_FORMAT(2, 3);
void text_add_bytes(Text *text, const void *bytes, size_t size);
/* `string` in double quotes, escaped as JSON wants it; invalid UTF-8 becomes U+FFFD. */
void text_add_json(Text *text, const char *string);

/* Bytes of the UTF-8 character (RFC 3629) at the start of `size` bytes; 0 when they begin with
 * none.
 */
size_t text_utf8_length(const void *bytes, size_t size);

/* What could drive a terminal becomes question marks: control characters of one byte, and those of
 * two that UTF-8 has besides. For words from outside that a person is to read. */
void text_mask_controls(char *text);

/* "256KiB", "2GiB", "4096", "10MB": bytes. Powers of 1024 with "i", of 1000 without. False when it
 * is not a size or above 2^62. */
MUST_CHECK bool text_parse_size(const char *string, uint64_t *ret_bytes);

/* "250ms", "10s", "5m", "1h", "90" (seconds): nanoseconds. */
MUST_CHECK bool text_parse_duration(const char *string, int64_t *ret_ns);

/* A whole decimal number without sign, within min..max. */
MUST_CHECK bool text_parse_u64(const char *string, uint64_t min, uint64_t max, uint64_t *ret_value);

/* "1.5 GiB"; `to` needs 32 bytes. Returns `to`. */
char *text_format_size(char to[32], uint64_t bytes);
/* "12.3 M"; `to` needs 32 bytes. Returns `to`. */
char *text_format_count(char to[32], double count);
/* "850 us", "12.3 ms", "4.2 s"; `to` needs 32 bytes. Returns `to`. */
char *text_format_seconds(char to[32], double seconds);

/* Lower-case hexadecimal of `size` bytes and back; `to` needs 2 * size + 1. */
void text_format_hex(char *to, const uint8_t *bytes, size_t size);
MUST_CHECK bool text_parse_hex(const char *string, uint8_t *ret_bytes, size_t size);
