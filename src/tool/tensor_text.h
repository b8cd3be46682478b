/* SPDX-License-Identifier: MIT */
/* tensor_text.h: tensors as programs (JSON) and people (a grid) read them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <seqfeed/seqfeed.h>

/* Longest text of one value, with the NUL. */
enum { TENSOR_TEXT_VALUE = 32 };

/* One value as JSON has it: whole numbers, true and false; floats with the fewest digits that read
 * back as the same float32, NaN and infinities as strings. */
void tensor_text_value(uint32_t dtype, const void *element, char ret_text[TENSOR_TEXT_VALUE]);

/* Nested lists. */
void tensor_text_json(FILE *to, const SeqfeedTensor *tensor);

typedef struct TensorTextGrid {
    const SeqfeedTensor *mask; /* of the same shape: what it masks out is dimmed; NULL: nothing */
    uint32_t columns;          /* characters that a line may have */
    uint32_t rows;             /* lines that are shown */
    bool colour;
} TensorTextGrid;

/* The last dimension runs along a line, all others down. What does not fit is left out, visibly. */
void tensor_text_grid(FILE *to, const SeqfeedTensor *tensor, const TensorTextGrid *grid);
