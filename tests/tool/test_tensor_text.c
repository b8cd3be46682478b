/* SPDX-License-Identifier: MIT */
#include "tool/tensor_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check_main.h"

static char *json_of(const SeqfeedTensor *tensor) {
    static char text[4096];
    FILE *to = fmemopen(text, sizeof text, "w");

    tensor_text_json(to, tensor);
    fclose(to);
    return text;
}

static const char *value_of(uint32_t dtype, const void *element) {
    static char text[TENSOR_TEXT_VALUE];

    tensor_text_value(dtype, element, text);
    return text;
}

static const char *float_of(float value) {
    return value_of(SEQFEED_FLOAT32, &value);
}

static const char *half_of(uint16_t bits) {
    return value_of(SEQFEED_FLOAT16, &bits);
}

static const char *bfloat_of(uint16_t bits) {
    return value_of(SEQFEED_BFLOAT16, &bits);
}

START_TEST(whole_numbers_are_whole)
{
    const int64_t wide[] = {INT64_MIN, -1, 0, 7, INT64_MAX};
    const char *const expected[] = {"-9223372036854775808", "-1", "0", "7", "9223372036854775807"};
    int32_t narrow = INT32_MIN;
    uint8_t byte = 255, yes = 1, no = 0;

    for (size_t i = 0; i < 5; i++)
        ck_assert_str_eq(value_of(SEQFEED_INT64, &wide[i]), expected[i]);
    ck_assert_str_eq(value_of(SEQFEED_INT32, &narrow), "-2147483648");
    ck_assert_str_eq(value_of(SEQFEED_UINT8, &byte), "255");
    ck_assert_str_eq(value_of(SEQFEED_BOOL, &yes), "true");
    ck_assert_str_eq(value_of(SEQFEED_BOOL, &no), "false");
}
END_TEST

START_TEST(floats_are_short_and_show_that_they_are_floats)
{
    ck_assert_str_eq(float_of(0.0f), "0.0");
    ck_assert_str_eq(float_of(-0.0f), "-0.0");
    ck_assert_str_eq(float_of(1.0f), "1.0");
    ck_assert_str_eq(float_of(0.1f), "0.1");
    ck_assert_str_eq(float_of(-2.5f), "-2.5");
    ck_assert_str_eq(float_of(16777216.0f), "16777216.0");
    ck_assert_str_eq(float_of(1e20f), "1e+20");
    ck_assert_str_eq(float_of(NAN), "\"NaN\"");
    ck_assert_str_eq(float_of(INFINITY), "\"Infinity\"");
    ck_assert_str_eq(float_of(-INFINITY), "\"-Infinity\"");
}
END_TEST

START_TEST(floats_read_back_as_what_they_were)
{
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t bits = random_philox(1, i, 0, 0, 0).word[0];
        float value, back;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        back = strtof(float_of(value), NULL);
        ck_assert_msg(memcmp(&back, &value, sizeof value) == 0, "%a", (double)value);
    }
}
END_TEST

START_TEST(short_floats_are_converted)
{
    ck_assert_str_eq(half_of(0x3c00), "1.0");
    ck_assert_str_eq(half_of(0xc100), "-2.5");
    ck_assert_str_eq(half_of(0x7bff), "65504.0");
    ck_assert_str_eq(half_of(0x0001), "5.9604645e-08");
    ck_assert_str_eq(half_of(0x8000), "-0.0");
    ck_assert_str_eq(half_of(0x7c00), "\"Infinity\"");
    ck_assert_str_eq(half_of(0x7e00), "\"NaN\"");
    ck_assert_str_eq(bfloat_of(0x3f80), "1.0");
    ck_assert_str_eq(bfloat_of(0xff80), "\"-Infinity\"");
}
END_TEST

START_TEST(json_follows_the_strides)
{
    const int64_t numbers[] = {1, 2, 3, 4, 5, 6, 7, 8};
    SeqfeedTensor tensor = {.data = numbers,
                            .dtype = SEQFEED_INT64,
                            .ndim = 2,
                            .shape = {2, 3},
                            .stride = {4, 1},
                            .size_bytes = sizeof numbers};

    ck_assert_str_eq(json_of(&tensor), "[[1,2,3],[5,6,7]]");
    tensor.shape[0] = 0;
    ck_assert_str_eq(json_of(&tensor), "[]");
    tensor.ndim = 0;
    ck_assert_str_eq(json_of(&tensor), "1");
    tensor = (SeqfeedTensor){.data = numbers,
                             .dtype = SEQFEED_INT64,
                             .ndim = 4,
                             .shape = {1, 2, 2, 1},
                             .stride = {4, 2, 1, 1}};
    ck_assert_str_eq(json_of(&tensor), "[[[[1],[2]],[[3],[4]]]]");
}
END_TEST

START_TEST(a_grid_shows_what_fits_and_says_what_does_not)
{
    static const int64_t numbers[64 * 64];
    SeqfeedTensor tensor = {.data = numbers,
                            .dtype = SEQFEED_INT64,
                            .ndim = 2,
                            .shape = {64, 64},
                            .stride = {64, 1},
                            .size_bytes = sizeof numbers};
    TensorTextGrid grid = {.columns = 40, .rows = 3};
    char text[4096] = "";
    FILE *to = fmemopen(text, sizeof text, "w");
    uint32_t lines = 0;

    tensor_text_grid(to, &tensor, &grid);
    fclose(to);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        ck_assert_uint_le(strlen(line), 40);
    ck_assert_uint_eq(lines, 4);
    tensor.shape[0] = 0;
    to = fmemopen(text, sizeof text, "w");
    tensor_text_grid(to, &tensor, &grid);
    fclose(to);
}
END_TEST

START_TEST(padding_is_dimmed_where_there_is_colour)
{
    const int64_t numbers[] = {5, 0};
    const uint8_t keep[] = {1, 0};
    SeqfeedTensor tensor = {
        .data = numbers, .dtype = SEQFEED_INT64, .ndim = 2, .shape = {1, 2}, .stride = {2, 1}};
    SeqfeedTensor mask = tensor;
    TensorTextGrid grid = {.mask = &mask, .columns = 80, .rows = 3, .colour = true};
    char text[256] = "";
    FILE *to = fmemopen(text, sizeof text, "w");

    mask.data = keep;
    mask.dtype = SEQFEED_BOOL;
    mask.polarity = SEQFEED_POLARITY_KEEP;
    tensor_text_grid(to, &tensor, &grid);
    fclose(to);
    ck_assert_str_eq(text, "    5 \033[2m0\033[0m\n");
}
END_TEST

CHECK_MAIN("tensor_text", whole_numbers_are_whole, floats_are_short_and_show_that_they_are_floats,
           floats_read_back_as_what_they_were, short_floats_are_converted, json_follows_the_strides,
           a_grid_shows_what_fits_and_says_what_does_not, padding_is_dimmed_where_there_is_colour)
