/* SPDX-License-Identifier: MIT */
/* mask_case.h: random feeds and batches for the tests of tensors. */
#pragma once

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "mask/cell_pack.h"
#include "mask/fill.h"

enum {
    CASE_SEQUENCES = 12,
    CASE_COLUMNS = 5, /* tokens; per token, width 2; per sequence; ragged; ragged pairs */
    CASE_LENGTH = 40,
    CASE_LIST_VALUES = 8
};

typedef struct MaskCase {
    TensorSet set;
    TensorLayout layout;
    uint8_t tokens[CASE_SEQUENCES * CASE_LENGTH * 8];
    uint8_t weights[CASE_SEQUENCES * CASE_LENGTH * 2 * 4], labels[CASE_SEQUENCES * 8];
    int32_t holes[CASE_SEQUENCES * 4], spans[CASE_SEQUENCES * 8];
    uint32_t hole_counts[CASE_SEQUENCES], span_counts[CASE_SEQUENCES], lengths[CASE_SEQUENCES];
    const uint8_t *columns[2 * CASE_COLUMNS + 1];
    FillRow rows[CASE_SEQUENCES];
    uint32_t count, row_count, length; /* rows with a sequence, rows, their padded length */
} MaskCase;

/* The same case for the same seed. */
void mask_case_init(MaskCase *test, uint32_t seed);

/* Its slot as the CPU backend fills it. */
void mask_case_fill(const MaskCase *test, void *slot);

/* A number below `bound`, the next of the case's. */
uint32_t mask_case_draw(uint32_t bound);
