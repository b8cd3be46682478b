/* SPDX-License-Identifier: MIT */
/* cell_batch.h: the packed form of a batch in which it goes to a device, and how what a rule looks
 * at is found in it. Plain C that nvcc reads too.
 *
 * The plan is the feed's and stays on the device; a batch is one block of bytes:
 *
 *   CellBatch | CellRow[rows] | sums[sequences + 1] | CellPart[sequences], where lists need them |
 *   CellInput[inputs] | values of each input, and before those of lists where each list begins
 *
 * A batch's sequences stand one after another, row by row, whether a row holds one or several, and
 * so do the values of each input. Hence one table, the sums of their lengths, tells all: a place of
 * a row is a token of the batch (CellRow.token and what the place is beyond its first), tokens and
 * columns are found without asking whose they are, and whose a token is, is one binary search in
 * the row's part of the sums. It takes four bytes for each sequence, which matters because room for
 * it must be there for as many sequences as a batch has places. */
#pragma once

#include <stdint.h>

#include "mask/mask_rule.h"
#include "mask/tensor.h"

enum {
    CELL_INPUTS_MAX = 2 * SEQFEED_TENSORS_MAX + 32, /* columns that tensors and steps look at */
    CELL_CHUNK_BYTES = 16                           /* what one thread writes */
};

#define CELL_NONE UINT32_MAX /* no sequence */

typedef struct CellTensor {
    uint32_t source, dtype, polarity, value_bytes;
    uint32_t value_shift; /* log2 of value_bytes */
    uint32_t is_plain;    /* integers of one column or of labels, as they stand: mask_chunk.h */
    uint32_t by_sequence; /* packed: a place must know whose it is, not only what its row holds */
    uint32_t has_segments;
    uint32_t element, element_bytes, width;
    uint32_t input; /* of its column; of tokens for labels */
    uint32_t shift, multiply, counts_on, block;
    uint32_t has_spans, spans_input, spans_element, spans_element_bytes;
    uint32_t first_step, step_count, first_value, value_count;
    int64_t pad;
    uint64_t keeps, drops; /* masks: eight bytes of elements that are kept, and that are not */
} CellTensor;

typedef struct CellPlan {
    uint32_t tensor_count, input_count, side, time_first;
    uint32_t packed, tail_segment, has_parts;
    uint32_t token_input, token_element, token_element_bytes;
    int64_t token_pad;
    CellTensor tensors[SEQFEED_TENSORS_MAX];
    MaskStep steps[TENSOR_STEPS_MAX]; /* an index column's `first` is an input */
    int64_t values[TENSOR_VALUES_MAX];
} CellPlan;

typedef struct CellBatch {
    uint64_t bytes; /* of this block */
    uint32_t rows, length, sequences, longest;
    uint64_t rows_at, sums_at, parts_at, inputs_at;
    uint64_t offset[SEQFEED_TENSORS_MAX], size_bytes[SEQFEED_TENSORS_MAX];
    uint64_t dense_stride; /* elements */
} CellBatch;

typedef struct CellRow {
    uint32_t begin, real;  /* its real places */
    uint32_t token;        /* of the batch, the row's first */
    uint32_t first, count; /* its sequences */
} CellRow;

/* What a sequence is a piece of. */
typedef struct CellPart {
    uint32_t skipped, whole; /* tokens before its first, and in all */
} CellPart;

/* Where an input's values are, from the start of the block; of lists, also the sums of how many
 * numbers they have, [sequences + 1]. */
typedef struct CellInput {
    uint64_t at, sums_at;
} CellInput;

/* A sequence in its row as rules look at it, or padding of a packed row: like RowRun. */
typedef struct CellView {
    uint32_t end;         /* where the places end that it is right for */
    uint32_t begin, real; /* the sequence's */
    uint32_t token;       /* of the batch, its first */
    uint32_t sequence;    /* CELL_NONE: padding, or an empty row */
} CellView;

MASK_SHARED uint32_t cell_least(uint64_t value, uint32_t most) {
    return value < most ? (uint32_t)value : most;
}

MASK_SHARED const void *cell_at(const CellBatch *batch, uint64_t at) {
    return (const uint8_t *)batch + at;
}

MASK_SHARED const CellRow *cell_row(const CellBatch *batch, uint32_t row) {
    return (const CellRow *)cell_at(batch, batch->rows_at) + row;
}

MASK_SHARED const uint32_t *cell_sums(const CellBatch *batch) {
    return (const uint32_t *)cell_at(batch, batch->sums_at);
}

MASK_SHARED const CellPart *cell_part(const CellBatch *batch, uint32_t sequence) {
    return (const CellPart *)cell_at(batch, batch->parts_at) + sequence;
}

MASK_SHARED const CellInput *cell_input(const CellBatch *batch, uint32_t input) {
    return (const CellInput *)cell_at(batch, batch->inputs_at) + input;
}

/* Value `index` of an input of values of so many bytes. */
MASK_SHARED const uint8_t *cell_value(const CellBatch *batch, uint32_t input, uint64_t index,
                                      uint32_t bytes) {
    return (const uint8_t *)cell_at(batch, cell_input(batch, input)->at + index * bytes);
}

/* The numbers [first, end) of an input are the sequence's list. */
typedef struct CellList {
    uint32_t first, end;
} CellList;

MASK_SHARED CellList cell_list(const CellBatch *batch, uint32_t input, uint32_t sequence) {
    const uint32_t *sums = (const uint32_t *)cell_at(batch, cell_input(batch, input)->sums_at);
    CellList list = {0, 0};

    if (sequence != CELL_NONE) {
        list.first = sums[sequence];
        list.end = sums[sequence + 1];
    }
    return list;
}

/* The last one of [low, high) that begins at `token` or before it: of several that do, because some
 * are empty, the one that has it. */
MASK_SHARED uint32_t cell_search(const uint32_t *sums, uint32_t low, uint32_t high,
                                 uint32_t token) {
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (sums[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* All real places of a row, as if they were one sequence's. */
MASK_SHARED CellView cell_row_view(const CellPlan *plan, const CellBatch *batch, uint32_t row) {
    const CellRow *at = cell_row(batch, row);
    CellView view = {batch->length, at->begin, at->real, at->token, CELL_NONE};

    if (!plan->packed && at->count > 0)
        view.sequence = at->first;
    return view;
}

/* Sequence `sequence` of a packed row. */
MASK_SHARED CellView cell_sequence_view(const CellBatch *batch, const CellRow *row,
                                        uint32_t sequence) {
    const uint32_t *sums = cell_sums(batch) + sequence;
    uint32_t begin = row->begin + (sums[0] - row->token), real = sums[1] - sums[0];
    CellView view = {begin + real, begin, real, sums[0], sequence};

    return view;
}

/* Whose place it is. */
MASK_SHARED CellView cell_view(const CellPlan *plan, const CellBatch *batch, uint32_t row,
                               uint32_t place) {
    const CellRow *at = cell_row(batch, row);
    CellView view = cell_row_view(plan, batch, row);

    if (!plan->packed)
        return view;
    if (place - at->begin < at->real)
        return cell_sequence_view(batch, at,
                                  cell_search(cell_sums(batch), at->first, at->first + at->count,
                                              at->token + (place - at->begin)));
    if (place < at->begin)
        view.end = at->begin;
    view.begin = place;
    view.real = 0;
    return view;
}

/* Does the place hold a token of the view's sequence? */
MASK_SHARED int cell_is_real(const CellView *view, uint32_t place) {
    return place - view->begin < view->real;
}

/* Chunks of CELL_CHUNK_BYTES in a tensor; the last may be shorter. */
MASK_SHARED uint64_t cell_chunks(const CellBatch *batch, uint32_t tensor) {
    return (batch->size_bytes[tensor] + CELL_CHUNK_BYTES - 1) / CELL_CHUNK_BYTES;
}
