/* SPDX-License-Identifier: MIT */
#include "tool/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t interrupted;
static sigset_t mask_while_waiting;

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
}

void interrupt_begin(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        struct sigaction old;
        /* nohup and background shells ignore some of them on purpose */
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            (void)sigaction(numbers[i], &action, NULL);
            sigaddset(&held, numbers[i]);
        }
    }
    (void)sigprocmask(SIG_BLOCK, &held, &mask_while_waiting);
    (void)signal(SIGXFSZ, SIG_IGN);
}

int interrupt_wait(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    struct timespec at_once = {0};

    if (ppoll(&poll_fd, 1, fd < 0 ? &at_once : NULL, &mask_while_waiting) < 0 && errno != EINTR)
        return -errno;
    return interrupted ? -EINTR : 0;
}
