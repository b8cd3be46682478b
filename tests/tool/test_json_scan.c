/* SPDX-License-Identifier: MIT */
#include "tool/json_scan.h"

#include <stdio.h>
#include <string.h>

#include "support/check_main.h"

static bool skips(const char *text) {
    JsonScan scan = json_scan_begin(text, strlen(text));

    return json_scan_skip(&scan) && json_scan_finish(&scan);
}

static bool reads_number(const char *text, JsonNumber *ret_number) {
    JsonScan scan = json_scan_begin(text, strlen(text));

    return json_scan_number(&scan, ret_number) && json_scan_finish(&scan);
}

START_TEST(json_is_stepped_over)
{
    static const char *const good[] = {"0",
                                       "-0.5e+3",
                                       "null",
                                       " true ",
                                       "\"a\\u00e4\\n\\ud83d\\ude00\"",
                                       "[]",
                                       "{}",
                                       "[[],{},[{}]]",
                                       "[1,[2,[3,{\"a\":[]}]],\"]\"]",
                                       "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"}\"}",
                                       "[ 1 , 2 ]"};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(skips(good[i]), "%s", good[i]);
}
END_TEST

START_TEST(what_is_not_json_is_refused)
{
    static const char *const bad[] = {
        "",          "[",       "]",        "[1",          "[1,",         "[1,]",
        "{",         "{\"a\"}", "{\"a\":}", "{a:1}",       "{\"a\":1",    "[1}",
        "{\"a\":1]", "\"a",     "\"\\x\"",  "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"",
        "nul",       "tru",     "NaN",      "Infinity",    "01",          "-",
        "1.",        ".5",      "1e",       "1e+",         "+1",          "--1",
        "0x10",      "1 2",     "[1 2]",    "\"\n\"",      "{\"a\":1,}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!skips(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(depth_is_bounded)
{
    char text[2 * JSON_SCAN_DEPTH_MAX + 3] = "";

    memset(text, '[', JSON_SCAN_DEPTH_MAX);
    memset(text + JSON_SCAN_DEPTH_MAX, ']', JSON_SCAN_DEPTH_MAX);
    ck_assert(skips(text));
    memset(text, '[', JSON_SCAN_DEPTH_MAX + 1);
    memset(text + JSON_SCAN_DEPTH_MAX + 1, ']', JSON_SCAN_DEPTH_MAX + 1);
    ck_assert(!skips(text));
}
END_TEST

START_TEST(numbers_are_exact_to_the_edges)
{
    JsonNumber number;

    ck_assert(reads_number("9223372036854775807", &number) && number.integer == INT64_MAX);
    ck_assert(reads_number("-9223372036854775808", &number) && number.integer == INT64_MIN);
    ck_assert(!reads_number("9223372036854775808", &number));
    ck_assert(!reads_number("-9223372036854775809", &number));
    ck_assert(!reads_number("18446744073709551617", &number));
    ck_assert(!reads_number("99999999999999999999", &number));
    ck_assert(reads_number("0.1", &number) && number.is_real && number.real == 0.1);
    ck_assert(reads_number("-2.5E-3", &number) && number.real == -2.5e-3);
    ck_assert(reads_number("1e2", &number) && number.is_real && number.real == 100);
    ck_assert(!reads_number("1e999", &number));
    ck_assert(reads_number("true", &number) && !number.is_real && number.integer == 1);
}
END_TEST

START_TEST(keys_are_decoded_and_cut)
{
    char text[600], key[JSON_SCAN_KEY_MAX];
    JsonScan scan = json_scan_begin("\"a\\u00e4\\\"\" :", 13);

    ck_assert(json_scan_key(&scan, key));
    ck_assert_str_eq(key, "a\xc3\xa4\"");
    snprintf(text, sizeof text, "\"%0500d\":", 0);
    scan = json_scan_begin(text, strlen(text));
    ck_assert(json_scan_key(&scan, key));
    ck_assert_uint_eq(strlen(key), JSON_SCAN_KEY_MAX - 1);
}
END_TEST

CHECK_MAIN("json_scan", json_is_stepped_over, what_is_not_json_is_refused, depth_is_bounded,
           numbers_are_exact_to_the_edges, keys_are_decoded_and_cut)
