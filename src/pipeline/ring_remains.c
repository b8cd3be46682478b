/* SPDX-License-Identifier: MIT */
/* A memfd has no name, so inotify tells of its deletion (IN_DELETE_SELF) when its last reference
 * has gone: descriptors, also such as were opened anew or with O_PATH, mappings, and messages under
 * way that carry one. A watch is no reference itself. A lease (F_SETLEASE) would not do: it does
 * not see O_PATH, from which a descriptor can be made again. */
#include "pipeline/ring_remains.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/file.h"

typedef struct Remain {
    int watch;
    uint64_t bytes;
} Remain;

struct RingRemains {
    pthread_mutex_t lock;
    MemoryBudget *budget;
    int inotify_fd; /* FILE_NONE: nothing is seen */
    Remain *remains;
    uint32_t count, capacity;
    uint64_t bytes;
};

static int watch_file(int inotify_fd, int fd) {
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return inotify_add_watch(inotify_fd, path, IN_DELETE_SELF);
}

enum { GONE_NONE = -1, GONE_UNKNOWN = -2 };

/* The next watch whose file has gone; GONE_UNKNOWN: there were too many to be told. */
static int next_gone(int inotify_fd) {
    struct inotify_event event; /* of a file, which has no name: never longer */

    while (read(inotify_fd, &event, sizeof event) == sizeof event) {
        if (event.mask & IN_DELETE_SELF)
            return event.wd;
        if (event.mask & IN_Q_OVERFLOW)
            return GONE_UNKNOWN;
    }
    return GONE_NONE;
}

/* Not every kernel that calls itself Linux does what the head of this file says. */
static bool kernel_tells(int inotify_fd) {
    bool told_early;
    int fd, watch;

    if (file_memory_new("seqfeed-probe", 4096, NULL, &fd) < 0)
        return false;
    watch = watch_file(inotify_fd, fd);
    told_early = next_gone(inotify_fd) != GONE_NONE;
    file_close(&fd);
    return watch >= 0 && !told_early && next_gone(inotify_fd) == watch;
}

RingRemains *ring_remains_new(MemoryBudget *budget) {
    RingRemains *remains = calloc(1, sizeof *remains);

    if (!remains)
        return NULL;
    pthread_mutex_init(&remains->lock, NULL);
    remains->budget = budget;
    remains->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (remains->inotify_fd >= 0 && !kernel_tells(remains->inotify_fd))
        file_close(&remains->inotify_fd);
    return remains;
}

void ring_remains_free(RingRemains *remains) {
    if (!remains)
        return;
    file_close(&remains->inotify_fd);
    free(remains->remains);
    pthread_mutex_destroy(&remains->lock);
    free(remains);
}

bool ring_remains_are_seen(const RingRemains *remains) {
    return remains->inotify_fd >= 0;
}

static bool make_room(RingRemains *remains) {
    uint32_t capacity = remains->capacity ? 2 * remains->capacity : 16;
    Remain *grown;

    if (remains->count < remains->capacity)
        return true;
    grown = realloc(remains->remains, capacity * sizeof *grown);
    if (!grown)
        return false;
    remains->remains = grown;
    remains->capacity = capacity;
    return true;
}

static void forget(RingRemains *remains, uint32_t number) {
    uint64_t bytes = remains->remains[number].bytes;

    remains->remains[number] = remains->remains[--remains->count];
    remains->bytes -= bytes;
    memory_budget_release(remains->budget, bytes);
}

/* Thousands of rings have gone at once. Who waits for memory must not wait for what nobody has, so
 * those that somebody still has are forgotten with them. */
static void forget_all(RingRemains *remains) {
    while (remains->count > 0) {
        (void)inotify_rm_watch(remains->inotify_fd, remains->remains[0].watch);
        forget(remains, 0);
    }
}

static void collect(RingRemains *remains) {
    int watch;

    while (remains->inotify_fd >= 0 && (watch = next_gone(remains->inotify_fd)) != GONE_NONE) {
        if (watch == GONE_UNKNOWN)
            forget_all(remains);
        for (uint32_t i = 0; i < remains->count; i++)
            if (remains->remains[i].watch == watch)
                forget(remains, i--);
    }
}

void ring_remains_bury(RingRemains *remains, RingWriter *writer) {
    uint64_t bytes = writer->memory_bytes;
    int watch = -1;

    pthread_mutex_lock(&remains->lock);
    if (remains->inotify_fd >= 0 && make_room(remains))
        watch = watch_file(remains->inotify_fd, writer->data_fd);
    if (watch >= 0) {
        remains->remains[remains->count++] = (Remain){.watch = watch, .bytes = bytes};
        remains->bytes += bytes;
    }
    pthread_mutex_unlock(&remains->lock);
    ring_writer_destroy(writer); /* takes long, for which nobody waits */
    pthread_mutex_lock(&remains->lock);
    if (watch >= 0)
        collect(remains);
    else
        memory_budget_release(remains->budget, bytes);
    pthread_mutex_unlock(&remains->lock);
}

void ring_remains_collect(RingRemains *remains) {
    pthread_mutex_lock(&remains->lock);
    collect(remains);
    pthread_mutex_unlock(&remains->lock);
}

uint64_t ring_remains_bytes(RingRemains *remains) {
    uint64_t bytes;

    pthread_mutex_lock(&remains->lock);
    bytes = remains->bytes;
    pthread_mutex_unlock(&remains->lock);
    return bytes;
}
