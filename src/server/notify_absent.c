/* SPDX-License-Identifier: MIT */
#include "server/notify.h"

const char *notify_part(void) {
    return "";
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
