/* SPDX-License-Identifier: MIT */
#include "base/worker.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

enum { SPIN_WORTH_MOST = 1024, SPIN_PROBE = 8, SPIN_LOOKS = 16 };

void bell_ring(Bell *bell, uint32_t wake_count) {
    atomic_fetch_add(&bell->count, 1);
    if (atomic_load(&bell->waiters) > 0)
        (void)syscall(SYS_futex, &bell->count, FUTEX_WAKE_PRIVATE, (int)wake_count, NULL, NULL, 0);
}

uint32_t bell_read(const Bell *bell) {
    return atomic_load(&((Bell *)bell)->count);
}

void bell_wait(Bell *bell, uint32_t seen, int64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = timeout_ns / NS_PER_SECOND,
                               .tv_nsec = timeout_ns % NS_PER_SECOND};

    atomic_fetch_add(&bell->waiters, 1);
    if (atomic_load(&bell->count) == seen)
        (void)syscall(SYS_futex, &bell->count, FUTEX_WAIT_PRIVATE, seen,
                      timeout_ns < 0 ? NULL : &timeout, NULL, 0);
    atomic_fetch_sub(&bell->waiters, 1);
}

/* Work that comes a little later is worth spinning for: who brings it need not wake anybody. Work
 * that comes much later is not, and then every spin is lost. Most of the last spins tell which it
 * is; some are made all the same, to notice when that changes. */
static bool worker_spins(Worker *worker) {
    if (worker->spin_ns == 0)
        return false;
    return worker->spin_worth >= SPIN_WORTH_MOST / 2 || ++worker->idles % SPIN_PROBE == 0;
}

/* True: the bell has been rung. */
static bool worker_spin(Worker *worker, uint32_t seen) {
    int64_t until = clock_now_ns() + worker->spin_ns;
    bool rung = false;

    do {
        for (uint32_t i = 0; i < SPIN_LOOKS && !rung; i++) {
            cpu_pause();
            rung = bell_read(worker->bell) != seen;
        }
    } while (!rung && clock_now_ns() < until);
    worker->spin_worth += ((rung ? SPIN_WORTH_MOST : 0) - worker->spin_worth) / 8;
    return rung;
}

static void worker_idle(Worker *worker, uint32_t seen) {
    if (worker->sleep)
        worker->sleep(worker->argument);
    else if (!worker_spins(worker) || !worker_spin(worker, seen))
        bell_wait(worker->bell, seen, -1);
}

static void *worker_main(void *argument) {
    Worker *worker = argument;

    (void)pthread_setname_np(pthread_self(), worker->name);
    if (worker->yields) /* where it is refused all is as without */
        (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    while (!atomic_load(&worker->stop)) {
        uint32_t seen = worker->bell ? bell_read(worker->bell) : 0;

        atomic_fetch_add_explicit(&worker->steps, 1, memory_order_relaxed);
        if (worker->step(worker->argument) == 0 && !atomic_load(&worker->stop))
            worker_idle(worker, seen);
    }
    return NULL;
}

int worker_start(Worker *worker) {
    sigset_t all, old;
    int r;

    assert(worker->step && (worker->bell || worker->sleep) && !worker->started);
    atomic_store(&worker->stop, false);
    sigfillset(&all); /* signals belong to the control thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    worker->started = r == 0;
    return -r;
}

void worker_wake(Worker *worker) {
    if (worker->wake)
        worker->wake(worker->argument);
    else
        bell_ring(worker->bell, INT_MAX);
}

bool worker_has_stepped(Worker *worker) {
    uint64_t seen = atomic_load_explicit(&worker->steps, memory_order_relaxed) + 1;
    bool stepped = worker->steps_seen != seen;

    worker->steps_seen = seen;
    return stepped;
}

void worker_stop(Worker *worker) {
    if (!worker->started)
        return;
    atomic_store(&worker->stop, true);
    worker_wake(worker);
    pthread_join(worker->thread, NULL);
    worker->started = false;
}
