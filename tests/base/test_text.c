/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <errno.h>

#include "base/error.h"
#include "support/check_main.h"

START_TEST(sizes_are_read_with_both_kinds_of_units)
{
    uint64_t bytes;

    ck_assert(text_parse_size("256KiB", &bytes) && bytes == 262144);
    ck_assert(text_parse_size("2GiB", &bytes) && bytes == UINT64_C(2) << 30);
    ck_assert(text_parse_size("1.5MiB", &bytes) && bytes == 1572864);
    ck_assert(text_parse_size("10MB", &bytes) && bytes == 10000000);
    ck_assert(text_parse_size("4096", &bytes) && bytes == 4096);
}
END_TEST

START_TEST(what_is_not_a_size_is_refused)
{
    static const char *const bad[] = {"",           "-1",    "KiB",  "1 2", "99999999999999999999",
                                      "8388608TiB", "1.MiB", "0x10", "1e9", "1kib"};
    uint64_t bytes;

    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        ck_assert_msg(!text_parse_size(bad[i], &bytes), "%s", bad[i]);
}
END_TEST

START_TEST(json_strings_are_escaped_and_valid)
{
    CLEANUP(text_deinit) Text text = {0};

    text_add_json(&text, "a\"b\\c\n\x01\xff\xc3\xa4");
    ck_assert_str_eq(text.bytes, "\"a\\\"b\\\\c\\u000a\\u0001\xef\xbf\xbd\xc3\xa4\"");
}
END_TEST

START_TEST(hexadecimal_is_lower_case_only)
{
    uint8_t bytes[2];
    char hex[5];

    ck_assert(text_parse_hex("0aff", bytes, 2));
    text_format_hex(hex, bytes, 2);
    ck_assert_str_eq(hex, "0aff");
    ck_assert(!text_parse_hex("0AFF", bytes, 2));
    ck_assert(!text_parse_hex("0af", bytes, 2));
}
END_TEST

START_TEST(times_have_the_unit_that_suits_them)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0 us"},          {3e-7, "less than 1 us"}, {9.7e-7, "1 us"},
                 {42.4e-6, "42 us"},   {999.6e-6, "1.0 ms"},     {12.34e-3, "12.3 ms"},
                 {99.96e-3, "100 ms"}, {0.9994, "999 ms"},       {0.9996, "1.0 s"},
                 {59.94, "59.9 s"},    {12345.6, "12346 s"}};
    char text[32];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_str_eq(text_format_seconds(text, cases[i].seconds), cases[i].text);
}
END_TEST

START_TEST(what_could_drive_a_terminal_is_masked)
{
    char text[] = "a\x1b[2J\x7f \xc2\x9b"
                  "31m \xc2\xa0\xc3\xa4\xe2\x82\xac\xc2";
    Error error = {0};

    text_mask_controls(text);
    ck_assert_str_eq(text, "a?[2J? ??31m \xc2\xa0\xc3\xa4\xe2\x82\xac\xc2");
    error_set(&error, -EINVAL, "key \"%s\"", "\x1b]0;x\x07");
    error_prefix(&error, -EINVAL, "%s", "a\nb.jsonl");
    ck_assert_str_eq(error.text, "a?b.jsonl: key \"?]0;x?\"");
}
END_TEST

CHECK_MAIN("text", sizes_are_read_with_both_kinds_of_units, what_is_not_a_size_is_refused,
           json_strings_are_escaped_and_valid, hexadecimal_is_lower_case_only,
           times_have_the_unit_that_suits_them, what_could_drive_a_terminal_is_masked)
