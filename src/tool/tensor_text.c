/* SPDX-License-Identifier: MIT */
#include "tool/tensor_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/attributes.h"

static float half_to_float(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31;
    uint32_t fraction = bits & 0x3ff, word;
    float value;

    if (exponent == 0) {
        value = ldexpf((float)fraction, -24);
        return sign ? -value : value;
    }
    word = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &word, sizeof value);
    return value;
}

static float element_float(uint32_t dtype, const void *element) {
    uint32_t word;
    uint16_t half;
    float value;

    if (dtype == SEQFEED_FLOAT32) {
        memcpy(&value, element, sizeof value);
        return value;
    }
    memcpy(&half, element, sizeof half);
    if (dtype == SEQFEED_FLOAT16)
        return half_to_float(half);
    word = (uint32_t)half << 16;
    memcpy(&value, &word, sizeof value);
    return value;
}

static void float_text(float value, char ret_text[TENSOR_TEXT_VALUE]) {
    if (isnan(value) || isinf(value)) {
        snprintf(ret_text, TENSOR_TEXT_VALUE, "%s",
                 isnan(value) ? "\"NaN\""
                 : value > 0  ? "\"Infinity\""
                              : "\"-Infinity\"");
        return;
    }
    /* Nine digits always suffice. */
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(ret_text, TENSOR_TEXT_VALUE, "%.*g", digits, (double)value);
        if (strtof(ret_text, NULL) == value)
            break;
    }
    if (!strpbrk(ret_text, ".e"))
        strcat(ret_text, ".0");
}

/* Much faster than printf, and most of what is printed. */
static void whole_text(int64_t value, char ret_text[TENSOR_TEXT_VALUE]) {
    char digits[TENSOR_TEXT_VALUE];
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    size_t count = 0, at = 0;

    do
        digits[count++] = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (value < 0)
        ret_text[at++] = '-';
    while (count > 0)
        ret_text[at++] = digits[--count];
    ret_text[at] = '\0';
}

void tensor_text_value(uint32_t dtype, const void *element, char ret_text[TENSOR_TEXT_VALUE]) {
    int64_t wide;
    int32_t narrow;

    switch (dtype) {
    case SEQFEED_BOOL:
        strcpy(ret_text, *(const uint8_t *)element ? "true" : "false");
        return;
    case SEQFEED_UINT8:
        whole_text(*(const uint8_t *)element, ret_text);
        return;
    case SEQFEED_INT32:
        memcpy(&narrow, element, sizeof narrow);
        whole_text(narrow, ret_text);
        return;
    case SEQFEED_INT64:
        memcpy(&wide, element, sizeof wide);
        whole_text(wide, ret_text);
        return;
    default:
        float_text(element_float(dtype, element), ret_text);
    }
}

static const uint8_t *step(const SeqfeedTensor *tensor, const uint8_t *from, uint32_t dimension,
                           int64_t index) {
    return from + index * tensor->stride[dimension] * (int64_t)seqfeed_dtype_bytes(tensor->dtype);
}

static void json_from(FILE *to, const SeqfeedTensor *tensor, const uint8_t *from,
                      uint32_t dimension) {
    char text[TENSOR_TEXT_VALUE];

    if (dimension >= MIN(tensor->ndim, (uint32_t)ARRAY_COUNT(tensor->shape))) {
        tensor_text_value(tensor->dtype, from, text);
        fputs_unlocked(text, to);
        return;
    }
    putc_unlocked('[', to);
    for (int64_t i = 0; i < tensor->shape[dimension]; i++) {
        if (i > 0)
            putc_unlocked(',', to);
        json_from(to, tensor, step(tensor, from, dimension, i), dimension + 1);
    }
    putc_unlocked(']', to);
}

void tensor_text_json(FILE *to, const SeqfeedTensor *tensor) {
    json_from(to, tensor, tensor->data, 0);
}

/* For people: 1 and 0 for truth, no quotes. */
static void grid_value(uint32_t dtype, const void *element, char ret_text[TENSOR_TEXT_VALUE]) {
    char text[TENSOR_TEXT_VALUE];
    size_t size;

    if (dtype == SEQFEED_BOOL) {
        strcpy(ret_text, *(const uint8_t *)element ? "1" : "0");
        return;
    }
    tensor_text_value(dtype, element, text);
    size = strlen(text);
    if (text[0] == '"') {
        memcpy(ret_text, text + 1, size - 2);
        ret_text[size - 2] = '\0';
    } else {
        memcpy(ret_text, text, size + 1);
    }
}

/* Start of line `line`: all dimensions but the last count as lines. */
static const uint8_t *line_start(const SeqfeedTensor *tensor, int64_t line) {
    const uint8_t *at = tensor->data;

    for (uint32_t dimension = tensor->ndim > 0 ? tensor->ndim - 1 : 0; dimension-- > 0;) {
        at = step(tensor, at, dimension, line % tensor->shape[dimension]);
        line /= tensor->shape[dimension];
    }
    return at;
}

static bool is_masked(const SeqfeedTensor *mask, const uint8_t *element) {
    char text[TENSOR_TEXT_VALUE];
    bool set;

    grid_value(mask->dtype, element, text);
    set = strcmp(text, "0") != 0 && strcmp(text, "0.0") != 0;
    return set == (mask->polarity == SEQFEED_POLARITY_MASKED);
}

static void print_line(FILE *to, const SeqfeedTensor *tensor, const TensorTextGrid *grid,
                       int64_t line, int64_t shown, int width) {
    uint32_t last = tensor->ndim - 1;
    const uint8_t *from = line_start(tensor, line);
    const uint8_t *mask = grid->mask ? line_start(grid->mask, line) : NULL;
    char text[TENSOR_TEXT_VALUE];

    fputs("   ", to);
    for (int64_t i = 0; i < shown; i++) {
        bool dim = mask && grid->colour && is_masked(grid->mask, step(grid->mask, mask, last, i));
        grid_value(tensor->dtype, step(tensor, from, last, i), text);
        fprintf(to, dim ? " \033[2m%*s\033[0m" : " %*s", width, text);
    }
    fputs(shown < tensor->shape[last] ? " ...\n" : "\n", to);
}

void tensor_text_grid(FILE *to, const SeqfeedTensor *tensor, const TensorTextGrid *grid) {
    int64_t lines = 1, shown_lines, shown;
    char text[TENSOR_TEXT_VALUE];
    int width = 1;

    if (tensor->ndim == 0) {
        grid_value(tensor->dtype, tensor->data, text);
        fprintf(to, "    %s\n", text);
        return;
    }
    for (uint32_t i = 0; i + 1 < tensor->ndim; i++)
        lines *= tensor->shape[i];
    shown_lines = MIN(lines, (int64_t)grid->rows);
    shown = MIN(tensor->shape[tensor->ndim - 1], (int64_t)grid->columns / 2);
    for (int64_t line = 0; line < shown_lines; line++)
        for (int64_t i = 0; i < shown; i++) {
            grid_value(tensor->dtype, step(tensor, line_start(tensor, line), tensor->ndim - 1, i),
                       text);
            width = MAX(width, (int)strlen(text));
        }
    if (shown * (width + 1) + 3 > (int64_t)grid->columns)
        shown = MAX(((int64_t)grid->columns - 7) / (width + 1), (int64_t)1);
    for (int64_t line = 0; line < shown_lines; line++)
        print_line(to, tensor, grid, line, shown, width);
    if (shown_lines < lines)
        fprintf(to, "    ... %lld more\n", (long long)(lines - shown_lines));
}
