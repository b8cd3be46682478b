/* SPDX-License-Identifier: MIT */
/* A daemon without libsystemd refuses what it could not answer, and nothing else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/notify.h"
#include "support/check_main.h"

static void set_pid(const char *name, pid_t pid) {
    char text[16];

    snprintf(text, sizeof text, "%d", (int)pid);
    setenv(name, text, 1);
}

static void forget_all(void) {
    static const char *const names[] = {"LISTEN_FDS",   "LISTEN_PID",       "NOTIFY_SOCKET",
                                        "WATCHDOG_PID", "SYSTEMD_EXEC_PID", "WATCHDOG_USEC"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

START_TEST(a_start_by_hand_is_fine)
{
    Error error = {0};

    forget_all();
    ck_assert_int_eq(notify_check(&error), 0);
}
END_TEST

START_TEST(a_socket_for_this_process_is_refused_and_one_for_another_is_not)
{
    Error error = {0};

    forget_all();
    setenv("LISTEN_FDS", "1", 1);
    set_pid("LISTEN_PID", getpid());
    ck_assert_int_eq(notify_check(&error), -ENOTSUP);
    ck_assert(strstr(error.text, "LISTEN_FDS") && strstr(error.text, "without libsystemd"));
    ck_assert(strstr(error.text, "./dev build"));
    set_pid("LISTEN_PID", getppid());
    ck_assert_int_eq(notify_check(&error), 0);
}
END_TEST

START_TEST(who_waits_for_word_of_this_process_is_refused)
{
    static const char *const names[] = {"SYSTEMD_EXEC_PID", "WATCHDOG_PID"};
    Error error = {0};

    for (size_t i = 0; i < 2; i++) {
        forget_all();
        setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
        set_pid(names[i], getpid());
        ck_assert_int_eq(notify_check(&error), -ENOTSUP);
        ck_assert(strstr(error.text, "NOTIFY_SOCKET") && strstr(error.text, "Type=exec"));
    }
}
END_TEST

START_TEST(an_inherited_notify_socket_is_a_warning)
{
    Error error = {0};
    char said[1024] = "";
    int ends[2];

    forget_all();
    setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
    set_pid("SYSTEMD_EXEC_PID", getppid());
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    ck_assert_int_eq(notify_check(&error), 0);
    ck_assert_int_gt(read(ends[0], said, sizeof said - 1), 0);
    ck_assert(strstr(said, "NOTIFY_SOCKET is set"));
}
END_TEST

CHECK_MAIN("notify_absent", a_start_by_hand_is_fine,
           a_socket_for_this_process_is_refused_and_one_for_another_is_not,
           who_waits_for_word_of_this_process_is_refused, an_inherited_notify_socket_is_a_warning)
