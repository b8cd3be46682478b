/* SPDX-License-Identifier: MIT */
#include "server/notify.h"

#include <errno.h>
#include <systemd/sd-daemon.h>

const char *notify_part(void) {
    return "systemd";
}

int notify_check(Error *error) {
    (void)error;
    return 0;
}

int notify_listen_fd(void) {
    int count = sd_listen_fds(1);

    if (count <= 0)
        return -1;
    return count == 1 ? SD_LISTEN_FDS_START : -E2BIG;
}

int64_t notify_watchdog_ns(void) {
    uint64_t microseconds = 0;

    if (sd_watchdog_enabled(0, &microseconds) <= 0 || microseconds > INT64_MAX / 1000)
        return 0;
    return (int64_t)microseconds * 1000;
}

void notify_ready(const char *status) {
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void notify_stopping(void) {
    (void)sd_notify(0, "STOPPING=1");
}

void notify_alive(void) {
    (void)sd_notify(0, "WATCHDOG=1");
}
