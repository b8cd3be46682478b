/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include "settings/suggest.h"

START_TEST(a_swap_an_insertion_a_deletion_and_a_replacement_count_one)
{
    ck_assert_uint_eq(suggest_distance("batch", "batch"), 0);
    ck_assert_uint_eq(suggest_distance("bacth", "batch"), 1);
    ck_assert_uint_eq(suggest_distance("btach", "batch"), 1);
    ck_assert_uint_eq(suggest_distance("batchh", "batch"), 1);
    ck_assert_uint_eq(suggest_distance("btch", "batch"), 1);
    ck_assert_uint_eq(suggest_distance("bitch", "batch"), 1);
    ck_assert_uint_eq(suggest_distance("", "batch"), 5);
    ck_assert_uint_eq(suggest_distance("batch", ""), 5);
    ck_assert_uint_eq(suggest_distance("kitten", "sitting"), 3);
}
END_TEST

START_TEST(long_words_are_far_from_everything)
{
    char word[60] = {0};
    unsigned nearest = SUGGEST_FAR;

    for (int i = 0; i < 59; i++)
        word[i] = 'a';
    ck_assert_uint_eq(suggest_distance(word, "a"), SUGGEST_FAR);
    ck_assert(!suggest_is_better(word, "a", &nearest));
}
END_TEST

START_TEST(only_near_words_are_suggested_and_the_nearest_wins)
{
    unsigned nearest = SUGGEST_FAR;

    ck_assert(!suggest_is_better("bucket", "size", &nearest));
    ck_assert(suggest_is_better("Multiple-Off", "multiple_of", &nearest));
    ck_assert(!suggest_is_better("multiple_off", "multiple_oxx", &nearest));
    ck_assert_uint_eq(nearest, 1);
    ck_assert(suggest_is_better("multiple_of", "multiple_of", &nearest));
}
END_TEST

START_TEST(of_several_words_the_nearest_is_asked_for)
{
    char to[64];

    ck_assert_str_eq(suggest_among("int46", "int32|int64|bool", to), ", did you mean int64");
    ck_assert_str_eq(suggest_among("Bool", "int32|int64|bool", to), ", did you mean bool");
    ck_assert_str_eq(suggest_among("complex", "int32|int64|bool", to), "");
}
END_TEST

CHECK_MAIN("suggest", a_swap_an_insertion_a_deletion_and_a_replacement_count_one,
           long_words_are_far_from_everything, only_near_words_are_suggested_and_the_nearest_wins,
           of_several_words_the_nearest_is_asked_for)
