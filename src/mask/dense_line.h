/* SPDX-License-Identifier: MIT */
/* dense_line.h: writes one line of a dense mask, the elements of one query: spans one after
 * another, each of one element or copied from memory. Part of the CPU backend, for dense.c. Pure
 * functions; any thread. The fastest form for this CPU is the one that convert.h has chosen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

enum {
    DENSE_LINE_MARGIN = CACHE_LINE, /* bytes before and behind copied ones that may be read */
    DENSE_LINE_SPANS_MAX = 9
};

/* Bytes of a line from where the span before it ends. */
typedef struct DenseSpan {
    const uint8_t *from;
    size_t end;
    bool repeats; /* CACHE_LINE bytes over and over; else from[i] is byte i of the line */
} DenseSpan;

typedef struct DenseLine {
    DenseSpan spans[DENSE_LINE_SPANS_MAX]; /* their ends ascend; a span may be empty */
    uint32_t count;
    size_t bytes; /* a multiple of 16; zeros follow the last span */
} DenseLine;

/* Write a line to `to`, a multiple of 16. */
typedef void DenseLineFunction(const DenseLine *line, uint8_t *to);

/* The function that leaves the line in the cache, or one that stores past it: after the last line
 * of that one dense_line_flush() has to be called. */
DenseLineFunction *dense_line_find(bool past_cache);
void dense_line_flush(void);

/* Would copying a line from here to there be slow? Then it is not from any place that lies an odd
 * multiple of DENSE_LINE_APART away. */
enum { DENSE_LINE_APART = 2048 };
bool dense_line_waits(const uint8_t *from, const uint8_t *to);
