/* SPDX-License-Identifier: MIT */
/* json_scan.h: walks over one JSON text without building a tree: strict, bounded in depth, and fast
 * for long lists of numbers. Every function returns false at the first fault and leaves it in
 * `wrong`; the text ends with a NUL that is not part of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef struct JsonScan {
    const char *start, *at, *end; /* *end is NUL */
    const char *wrong;            /* NULL while all is well */
} JsonScan;

typedef struct JsonNumber {
    bool is_real;    /* has a fraction or an exponent */
    int64_t integer; /* if not */
    double real;     /* in either case */
} JsonNumber;

enum { JSON_SCAN_DEPTH_MAX = 64, JSON_SCAN_KEY_MAX = 256 };

/* A byte order mark at the start is stepped over. */
JsonScan json_scan_begin(const char *text, size_t size);

/* The next character that is not white space; NUL at the end. */
char json_scan_peek(JsonScan *scan);
/* Step over `expected`, which is the next character, or fail. */
MUST_CHECK bool json_scan_take(JsonScan *scan, char expected);
/* After an element of a list or object that `closing` ends: *ret_more tells whether a comma or the
 * end was taken. */
MUST_CHECK bool json_scan_next(JsonScan *scan, char closing, bool *ret_more);

/* A string, decoded; one of JSON_SCAN_KEY_MAX bytes and more is cut. Then the colon. */
MUST_CHECK bool json_scan_key(JsonScan *scan, char ret_key[JSON_SCAN_KEY_MAX]);
/* true and false count as 1 and 0. */
MUST_CHECK bool json_scan_number(JsonScan *scan, JsonNumber *ret_number);
/* Step over any value. */
MUST_CHECK bool json_scan_skip(JsonScan *scan);
/* Nothing but white space is left. */
MUST_CHECK bool json_scan_finish(JsonScan *scan);
