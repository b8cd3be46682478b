/* SPDX-License-Identifier: MIT */
/* check_main.h: the main function of a Check program: CHECK_MAIN("name", test_a, test_b). */
#pragma once

#include <check.h>
#include <stdlib.h>

#define CHECK_MAIN(name, ...)                                       \
    int main(void) {                                                \
        const TTest *const tests[] = {__VA_ARGS__};                 \
        Suite *suite = suite_create(name);                          \
        TCase *test_case = tcase_create(name);                      \
        tcase_set_timeout(test_case, 300);                          \
        for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) \
            tcase_add_test(test_case, tests[i]);                    \
        suite_add_tcase(suite, test_case);                          \
        SRunner *runner = srunner_create(suite);                    \
        srunner_run_all(runner, CK_ENV);                            \
        int failed = srunner_ntests_failed(runner);                 \
        srunner_free(runner);                                       \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;                \
    }
