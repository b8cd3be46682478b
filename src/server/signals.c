/* SPDX-License-Identifier: MIT */
#include "server/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "server/notify.h"

static void fill(sigset_t *ret_set) {
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    sigaddset(ret_set, SIGHUP);
}

void signals_block(void) {
    sigset_t set;

    fill(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

int signals_open(void) {
    sigset_t set;
    int fd;

    fill(&set);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

bool signals_ask_for_end(int fd) {
    struct signalfd_siginfo info;

    while (read(fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo != SIGHUP) {
            log_info("%s from pid %u", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT",
                     info.ssi_pid);
            return true;
        }
        log_info("SIGHUP: the configuration is read at start only; restart to change it");
    }
    return false;
}

static void *watch(void *argument) {
    EarlyEnd *early = argument;
    struct pollfd fds[] = {{.fd = early->signal_fd, .events = POLLIN},
                           {.fd = early->stop_fd, .events = POLLIN}};

    for (;;) {
        if (poll(fds, ARRAY_COUNT(fds), -1) < 0 && errno != EINTR)
            return NULL;
        if (fds[1].revents)
            return NULL;
        if (!signals_ask_for_end(early->signal_fd))
            continue;
        notify_stopping();
        listener_close(early->listener);
        _exit(0);
    }
}

void early_end_start(EarlyEnd *early, int signal_fd, Listener *listener) {
    *early = (EarlyEnd){.signal_fd = signal_fd, .listener = listener};
    early->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (early->stop_fd >= 0)
        early->started = pthread_create(&early->thread, NULL, watch, early) == 0;
}

void early_end_stop(EarlyEnd *early) {
    uint64_t one = 1;

    if (early->started) {
        (void)!write(early->stop_fd, &one, sizeof one);
        (void)pthread_join(early->thread, NULL);
    }
    file_close(&early->stop_fd);
}
