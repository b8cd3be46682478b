/* SPDX-License-Identifier: MIT */
/* dense_line.h: writes one line of a dense mask, the elements of one query: a run that is kept, or
 * what places say there, between two that are masked out. Part of the CPU backend, for dense.c.
 * Pure functions; any thread. The fastest form for this CPU is the one that convert.h has chosen.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

enum { DENSE_LINE_MARGIN = CACHE_LINE }; /* bytes before and behind `inside` that may be read */

/* What all lines of a mask share. */
typedef struct DenseLine {
    _Alignas(CACHE_LINE) uint8_t kept[CACHE_LINE]; /* the element, repeated */
    uint8_t out[CACHE_LINE];
    const uint8_t *inside; /* the line as places alone decide it; NULL: they keep everything */
    size_t end, bytes;     /* elements end there; zeros follow. `bytes` is a multiple of 16 */
} DenseLine;

/* Write a line to `to`, a multiple of 16: `inside` for bytes low .. high, `out` around them.
 * low <= high <= end. */
typedef void DenseLineFunction(const DenseLine *line, size_t low, size_t high, uint8_t *to);

/* The function that leaves the line in the cache, or one that stores past it: after the last line
 * of that one dense_line_flush() has to be called. */
DenseLineFunction *dense_line_find(bool past_cache);
void dense_line_flush(void);
