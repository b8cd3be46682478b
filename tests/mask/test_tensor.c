/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include <errno.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/mask_rule.h"
#include "mask/tensor.h"

static TensorSet example(void) {
    return (TensorSet){
        .count = 4,
        .rows_max = 64,
        .length_max = 1200,
        .tensors =
            {
                {.name = "tokens",
                 .source = TENSOR_TOKENS,
                 .element = ELEMENT_U16,
                 .width = 1,
                 .dtype = SEQFEED_INT64,
                 .pad = -1},
                {.name = "frames",
                 .source = TENSOR_TOKEN_COLUMN,
                 .element = ELEMENT_F16,
                 .width = 80,
                 .dtype = SEQFEED_FLOAT32},
                {.name = "mask",
                 .source = TENSOR_MASK_LENGTHS,
                 .dtype = SEQFEED_BOOL,
                 .polarity = SEQFEED_POLARITY_KEEP},
                {.name = "labels",
                 .source = TENSOR_SEQUENCE_COLUMN,
                 .element = ELEMENT_I32,
                 .width = 3,
                 .dtype = SEQFEED_INT64},
            },
    };
}

START_TEST(the_words_of_dtypes_go_both_ways)
{
    static const char *const words[] = {"bool",    "uint8",    "int32",  "int64",
                                        "float16", "bfloat16", "float32"};
    static const uint32_t bytes[] = {1, 1, 4, 8, 2, 2, 4};

    for (uint32_t i = 0; i < 7; i++) {
        ck_assert_uint_eq(tensor_dtype_parse(words[i]), i + 1);
        ck_assert_str_eq(tensor_dtype_name(i + 1), words[i]);
        ck_assert_uint_eq(tensor_dtype_bytes(i + 1), bytes[i]);
    }
    ck_assert_uint_eq(tensor_dtype_parse("none"), 0);
    ck_assert_uint_eq(tensor_dtype_parse("int16"), 0);
    ck_assert_uint_eq(tensor_dtype_bytes(0), 0);
    ck_assert_uint_eq(tensor_dtype_bytes(SEQFEED_DTYPE_COUNT), 0);
    ck_assert_str_eq(tensor_dtype_name(99), "none");
}
END_TEST

/* The table in tensor.h, once more. */
START_TEST(no_dtype_is_allowed_that_loses_values)
{
    static const char *const allowed[ELEMENT_TYPE_COUNT] = {
        [ELEMENT_U8] = "uint8 int32 int64 float16 bfloat16 float32 ",
        [ELEMENT_U16] = "int32 int64 float32 ",
        [ELEMENT_U24] = "int32 int64 float32 ",
        [ELEMENT_U32] = "int64 ",
        [ELEMENT_I32] = "int32 int64 ",
        [ELEMENT_I64] = "int64 ",
        [ELEMENT_F16] = "float16 float32 ",
        [ELEMENT_BF16] = "bfloat16 float32 ",
        [ELEMENT_F32] = "float32 ",
    };

    for (uint32_t element = 1; element < ELEMENT_TYPE_COUNT; element++) {
        char found[128] = "";
        for (uint32_t dtype = 0; dtype <= SEQFEED_DTYPE_COUNT; dtype++)
            if (tensor_dtype_allows((uint8_t)element, dtype))
                strcat(strcat(found, tensor_dtype_name(dtype)), " ");
        ck_assert_str_eq(found, allowed[element]);
    }
    ck_assert(!tensor_dtype_allows(ELEMENT_NONE, SEQFEED_INT64));
    ck_assert(!tensor_dtype_allows(200, SEQFEED_INT64));
}
END_TEST

START_TEST(tensors_of_fixed_shape_come_first_and_none_overlap)
{
    TensorSet set = example();
    TensorLayout layout;

    for (uint32_t rows = 0; rows <= 5; rows++) {
        for (uint32_t length = 0; length <= 9; length++) {
            tensor_layout(&set, rows, length, &layout);
            ck_assert_uint_eq(layout.offset[3], 0);
            ck_assert_uint_eq(layout.size_bytes[3], rows * 3 * 8);
            ck_assert_uint_eq(layout.size_bytes[0], rows * length * 8);
            ck_assert_uint_eq(layout.size_bytes[1], rows * length * 80 * 4);
            ck_assert_uint_eq(layout.size_bytes[2], rows * length);
            ck_assert_uint_eq(layout.offset[0], align_up(layout.size_bytes[3], 256));
            ck_assert_uint_eq(layout.offset[1],
                              layout.offset[0] + align_up(layout.size_bytes[0], 256));
            ck_assert_uint_eq(layout.offset[2],
                              layout.offset[1] + align_up(layout.size_bytes[1], 256));
            ck_assert_uint_eq(layout.bytes, layout.offset[2] + layout.size_bytes[2]);
        }
    }
}
END_TEST

START_TEST(a_slot_is_whole_pages_and_holds_the_largest_batch)
{
    TensorSet set = example();
    TensorLayout layout;
    uint64_t bytes = 0;

    ck_assert_int_eq(tensor_slot_bytes(&set, &bytes, NULL), 0);
    tensor_layout(&set, 64, 1200, &layout);
    ck_assert_uint_eq(bytes % SEQFEED_PAGE, 0);
    ck_assert_uint_ge(bytes, layout.bytes);
    ck_assert_uint_lt(bytes - layout.bytes, SEQFEED_PAGE);
}
END_TEST

START_TEST(an_absurd_slot_is_refused_with_the_arithmetic)
{
    TensorSet set = example();
    uint64_t bytes = 1;
    Error error = {0};

    set.rows_max = 1 << 20;
    set.length_max = 1 << 30;
    ck_assert_int_eq(tensor_slot_bytes(&set, &bytes, &error), -EOVERFLOW);
    ck_assert_ptr_nonnull(
        strstr(error.text, "tensor tokens alone needs 1048576 rows x 1073741824 places x 1"));
    ck_assert_uint_eq(bytes, 1);
    set.tensors[1].width = UINT32_MAX;
    set.rows_max = set.length_max = UINT32_MAX;
    ck_assert_int_eq(tensor_slot_bytes(&set, &bytes, &error), -EOVERFLOW);
}
END_TEST

START_TEST(descriptions_have_shape_and_strides_in_elements)
{
    TensorSet set = example();
    SeqfeedTensorRecord records[SEQFEED_TENSORS_MAX];
    TensorLayout layout;

    tensor_layout(&set, 5, 7, &layout);
    tensor_describe(&set, 5, 7, &layout, records);
    ck_assert_str_eq(records[0].name, "tokens");
    ck_assert_uint_eq(records[0].ndim, 2);
    ck_assert_int_eq(records[0].shape[0], 5);
    ck_assert_int_eq(records[0].shape[1], 7);
    ck_assert_int_eq(records[0].stride[0], 7);
    ck_assert_int_eq(records[0].stride[1], 1);
    ck_assert_int_eq(records[0].fill, -1);
    ck_assert_uint_eq(records[0].offset, layout.offset[0]);
    ck_assert_uint_eq(records[0].size_bytes, 5 * 7 * 8);
    ck_assert_uint_eq(records[1].ndim, 3);
    ck_assert_int_eq(records[1].shape[2], 80);
    ck_assert_int_eq(records[1].stride[0], 7 * 80);
    ck_assert_int_eq(records[1].stride[1], 80);
    ck_assert_uint_eq(records[2].polarity, SEQFEED_POLARITY_KEEP);
    ck_assert_uint_eq(records[3].ndim, 2);
    ck_assert_int_eq(records[3].shape[0], 5);
    ck_assert_int_eq(records[3].shape[1], 3);

    set.time_first = true;
    set.side = SEQFEED_SIDE_LEFT;
    tensor_describe(&set, 5, 7, &layout, records);
    ck_assert_int_eq(records[0].shape[0], 7);
    ck_assert_int_eq(records[0].shape[1], 5);
    ck_assert_int_eq(records[0].stride[0], 5);
    ck_assert_int_eq(records[1].stride[0], 5 * 80);
    ck_assert_int_eq(records[1].stride[1], 80);
    ck_assert_int_eq(records[3].shape[0], 5);
    ck_assert_uint_eq(records[0].side, SEQFEED_SIDE_LEFT);
}
END_TEST

START_TEST(the_rule_keeps_what_arange_below_length_keeps)
{
    for (uint32_t length = 0; length <= 9; length++) {
        for (uint32_t real = 0; real <= length; real++) {
            for (uint32_t place = 0; place < length; place++) {
                ck_assert_int_eq(mask_rule_keeps(SEQFEED_SIDE_RIGHT, length, real, place),
                                 place < real);
                ck_assert_int_eq(mask_rule_keeps(SEQFEED_SIDE_LEFT, length, real, place),
                                 place >= length - real);
            }
        }
    }
}
END_TEST

START_TEST(polarity_decides_the_bits_of_a_mask)
{
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_BOOL, SEQFEED_POLARITY_KEEP, 0, 1), 1);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_BOOL, SEQFEED_POLARITY_KEEP, 0, 0), 0);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_BOOL, SEQFEED_POLARITY_MASKED, 0, 1), 0);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_BOOL, SEQFEED_POLARITY_MASKED, 0, 0), 1);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_FLOAT32, SEQFEED_POLARITY_KEEP, 0, 1), 0x3f800000);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_FLOAT16, SEQFEED_POLARITY_KEEP, 0, 1), 0x3c00);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_BFLOAT16, SEQFEED_POLARITY_KEEP, 0, 1), 0x3f80);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_FLOAT32, SEQFEED_POLARITY_ADDITIVE, 0xff7fffff, 1), 0);
    ck_assert_uint_eq(mask_rule_bits(SEQFEED_FLOAT32, SEQFEED_POLARITY_ADDITIVE, 0xff7fffff, 0),
                      0xff7fffff);
}
END_TEST

CHECK_MAIN("tensor", the_words_of_dtypes_go_both_ways, no_dtype_is_allowed_that_loses_values,
           tensors_of_fixed_shape_come_first_and_none_overlap,
           a_slot_is_whole_pages_and_holds_the_largest_batch,
           an_absurd_slot_is_refused_with_the_arithmetic,
           descriptions_have_shape_and_strides_in_elements,
           the_rule_keeps_what_arange_below_length_keeps, polarity_decides_the_bits_of_a_mask)
