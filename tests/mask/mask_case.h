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
    CASE_PIECES = 60 * CASE_SEQUENCES, /* of a packed batch */
    CASE_PARTS = 2,
    CASE_LIST_VALUES = 8
};

typedef struct MaskCase {
    TensorSet set;
    TensorLayout layout;
    uint8_t tokens[CASE_SEQUENCES * CASE_LENGTH * 8];
    uint8_t weights[CASE_SEQUENCES * CASE_LENGTH * 2 * 4], labels[CASE_SEQUENCES * 8];
    uint8_t list_element; /* integers, of holes and of spans */
    uint8_t holes[CASE_SEQUENCES * 4 * 8], spans[CASE_SEQUENCES * 8 * 8];
    uint32_t hole_counts[CASE_SEQUENCES], span_counts[CASE_SEQUENCES], lengths[CASE_SEQUENCES];
    uint32_t hole_ends[CASE_SEQUENCES], span_ends[CASE_SEQUENCES], ends[CASE_SEQUENCES];
    const uint8_t *columns[2 * CASE_COLUMNS + 1];
    FillRow rows[CASE_PIECES]; /* packed: sequences */
    uint32_t count;
    uint32_t row_count, length; /* of the batch; rows behind those that have sequences are empty */
    uint32_t firsts[CASE_SEQUENCES + 1]; /* packed: as they stand in the middle of a window */
    FillPacked parts[CASE_PARTS];
    uint32_t part_count;
} MaskCase;

/* The same case for the same seed: every other one is packed. */
void mask_case_init(MaskCase *test, uint32_t seed);
/* The next batch of its feed, of the same shape but for the number of sequences. */
void mask_case_turn(MaskCase *test);

/* Its slot as the CPU backend fills it; bytes that it may take for any batch. */
void mask_case_fill(const MaskCase *test, void *slot);
uint64_t mask_case_slot_bytes(const MaskCase *test);

/* Its block for a device, of at most `capacity` bytes; how many any batch of its feed takes, and
 * this one, where no ragged column has more numbers than another. */
uint64_t mask_case_pack(const MaskCase *test, const CellPlan *plan, void *block, uint64_t capacity);
uint64_t mask_case_pack_bytes(const MaskCase *test, const CellPlan *plan);
uint64_t mask_case_bound(const MaskCase *test, const CellPlan *plan);

/* A number below `bound`, the next of the case's. */
uint32_t mask_case_draw(uint32_t bound);
