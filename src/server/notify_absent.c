/* SPDX-License-Identifier: MIT */
#include "server/notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

/* A pip install leaves the part out; ./dev build installs libsystemd-dev and puts it in. */
#define OTHER "run one that './dev build' makes of the sources ('seqfeedd --version' says systemd)"

const char *notify_part(void) {
    return "";
}

/* Such variables are inherited: each names the process that is meant. */
static bool names_us(const char *variable) {
    const char *text = getenv(variable);
    uint64_t pid;

    return text && text_parse_u64(text, 1, INT32_MAX, &pid) && (pid_t)pid == getpid();
}

static bool is_given(const char *variable) {
    const char *text = getenv(variable);

    return text && *text;
}

int notify_check(Error *error) {
    if (is_given("LISTEN_FDS") && names_us("LISTEN_PID"))
        return error_set(
            error, -ENOTSUP,
            "systemd has handed over a socket (LISTEN_FDS), and this seqfeedd was built "
            "without libsystemd and would not listen on it: " OTHER
            ", or do without the .socket unit");
    if (!is_given("NOTIFY_SOCKET"))
        return 0;
    if (names_us("SYSTEMD_EXEC_PID") || names_us("WATCHDOG_PID"))
        return error_set(error, -ENOTSUP,
                         "systemd waits to be told that the service is ready (NOTIFY_SOCKET), and "
                         "this seqfeedd was built without libsystemd and would never say so: " OTHER
                         ", or make the unit Type=exec, without WatchdogSec= and NotifyAccess=");
    log_warning("warning: NOTIFY_SOCKET is set, and this seqfeedd was built without libsystemd: "
                "whoever waits there is not told that it is ready; " OTHER);
    return 0;
}

int notify_listen_fd(void) {
    return -1;
}

int64_t notify_watchdog_ns(void) {
    return 0;
}

void notify_ready(const char *status) {
    (void)status;
}

void notify_stopping(void) {
}

void notify_alive(void) {
}
