/* SPDX-License-Identifier: MIT */
/* length_summary.h: the median length of a dataset, exact and in bounded memory. */
#pragma once

#include "base/error.h"
#include "shard/catalog.h"

typedef struct LengthSummary {
    uint64_t median_twice; /* sum of the two middle lengths (or twice the middle one) */
} LengthSummary;

/* Reads the lengths of all blocks, no block. 0 or a negative errno and a sentence. */
MUST_CHECK int length_summary_count(const Catalog *catalog, LengthSummary *ret_summary,
                                    Error *error);
