/* SPDX-License-Identifier: MIT */
/* Old and new runs are two ascending lists, so one walk finds what is old and not new. That is all
 * that has to be zeroed: bytes outside the old runs are zero, bytes inside the new ones are about
 * to be written. The gaps between tensors are kept zero like padding, because the next batch may
 * have its padding there. */
#include "mask/slate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/mask_rule.h"

static uint32_t slate_capacity(const TensorSet *set) {
    return set->count * (set->rows_max + 1) + 1; /* and what others wrote */
}

uint64_t slate_bytes(const TensorSet *set) {
    return 2 * sizeof(SlateRun) * (uint64_t)slate_capacity(set);
}

int slate_init(Slate *slate, const TensorSet *set) {
    uint32_t capacity = slate_capacity(set);
    SlateRun *runs = malloc(2 * sizeof(SlateRun) * (size_t)capacity);

    if (!runs)
        return -ENOMEM;
    *slate = (Slate){.runs = runs, .spare = runs + capacity, .capacity = capacity};
    return 0;
}

void slate_deinit(Slate *slate) {
    free(slate->runs < slate->spare ? slate->runs : slate->spare); /* one allocation, two halves */
    *slate = (Slate){0};
}

static bool padding_is_zero(const TensorSpec *spec) {
    switch (spec->source) {
    case TENSOR_TOKENS:
    case TENSOR_TOKEN_COLUMN:
        return spec->pad == 0;
    case TENSOR_MASK_LENGTHS:
        return mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad, 0) == 0;
    default:
        return false; /* has no padding */
    }
}

uint32_t slate_tensors(const TensorSet *set) {
    uint32_t bits = 0;

    if (set->packed)
        return 0;
    if (set->time_first) /* the places of a row lie apart: no long runs */
        return 0;
    for (uint32_t t = 0; t < set->count; t++)
        bits |= (uint32_t)padding_is_zero(&set->tensors[t]) << t;
    return bits;
}

static void add_run(Slate *slate, uint32_t *count, uint64_t first, uint64_t end) {
    if (first == end)
        return;
    if (*count > 0 && slate->spare[*count - 1].end == first) {
        slate->spare[*count - 1].end = end;
        return;
    }
    assert(*count < slate->capacity);
    slate->spare[(*count)++] = (SlateRun){first, end};
}

/* The real places of each row. */
static void add_rows(Slate *slate, uint32_t *count, uint32_t side, uint64_t offset,
                     uint64_t row_bytes, uint32_t rows, uint32_t length, const uint32_t *lengths) {
    uint64_t place_bytes = row_bytes / length;

    for (uint32_t r = 0; r < rows; r++, offset += row_bytes) {
        uint64_t first = offset + mask_rule_begin(side, length, lengths[r]) * place_bytes;
        add_run(slate, count, first, first + lengths[r] * place_bytes);
    }
}

/* Tensors in the order in which they lie in the slot. */
static uint32_t tensor_after(const TensorSet *set, const TensorLayout *layout, uint64_t offset) {
    uint32_t found = set->count;

    for (uint32_t t = 0; t < set->count; t++)
        if (layout->offset[t] >= offset && layout->size_bytes[t] > 0 &&
            (found == set->count || layout->offset[t] < layout->offset[found]))
            found = t;
    return found;
}

static uint32_t make_runs(Slate *slate, const TensorSet *set, const TensorLayout *layout,
                          uint32_t rows, uint32_t length, const uint32_t *lengths) {
    uint32_t count = 0, t;

    for (uint64_t offset = 0; (t = tensor_after(set, layout, offset)) < set->count;) {
        uint64_t first = layout->offset[t], size = layout->size_bytes[t];

        if (layout->zeroed >> t & 1)
            add_rows(slate, &count, set->side, first, size / rows, rows, length, lengths);
        else
            add_run(slate, &count, first, first + size);
        offset = first + size;
    }
    return count;
}

static void zero_old(const Slate *slate, uint8_t *slot, uint32_t new_count) {
    const SlateRun *fresh = slate->spare, *end = fresh + new_count;

    for (uint32_t i = 0; i < slate->count; i++) {
        uint64_t at = slate->runs[i].first, stop = slate->runs[i].end;

        while (fresh < end && fresh->end <= at)
            fresh++;
        for (const SlateRun *next = fresh; at < stop; next++) {
            uint64_t until = next < end && next->first < stop ? next->first : stop;
            if (until > at)
                memset(slot + at, 0, until - at);
            if (until == stop)
                break;
            at = next->end;
        }
    }
}

/* The runs that were made take the place of the old ones. */
static void slate_take(Slate *slate, uint32_t count) {
    SlateRun *old = slate->runs;

    slate->runs = slate->spare;
    slate->spare = old;
    slate->count = count;
}

void slate_turn(Slate *slate, const TensorSet *set, const TensorLayout *layout, void *slot,
                uint32_t rows, uint32_t length, const uint32_t *lengths) {
    uint32_t count = make_runs(slate, set, layout, rows, length, lengths);

    zero_old(slate, slot, count);
    slate_take(slate, count);
}

void slate_spoil(Slate *slate, uint64_t bytes) {
    uint32_t count = 0;

    add_run(slate, &count, 0, bytes);
    for (uint32_t i = 0; i < slate->count; i++)
        if (slate->runs[i].end > bytes)
            add_run(slate, &count, MAX(slate->runs[i].first, bytes), slate->runs[i].end);
    slate_take(slate, count);
}
