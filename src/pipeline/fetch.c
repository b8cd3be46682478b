/* SPDX-License-Identifier: MIT */
#include "pipeline/fetch.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arithmetic.h"
#include "base/worker.h"
#include "pipeline/fetch_backend.h"

enum { PAGE = 4096, STEP_REQUESTS = 64 };

struct Fetch {
    FetchOptions options;
    FetchBackend *backend;
    char reason[160];
    pthread_mutex_t lock; /* guards the two lists; held for pointer moves */
    FetchRequest *first, *last;
    FetchForget *forgets;
    Bell bell; /* for a backend that cannot sleep on the kernel */
    _Atomic bool sleeping;
    Worker worker;
};

bool fetch_request_advance(FetchRequest *request, int count) {
    uint32_t need = (uint32_t)(request->offset - request->read_offset) + request->size;

    if (count < 0) {
        request->result = count;
        return count != -EINTR && count != -EAGAIN;
    }
    request->progress += (uint32_t)count;
    if (request->progress >= need) {
        request->result = 0;
        return true;
    }
    request->result = -ENODATA;
    return count == 0;
}

int fetch_new(const FetchOptions *options, Fetch **ret_fetch, Error *error) {
    Fetch *fetch = calloc(1, sizeof *fetch);

    if (!fetch)
        return error_set(error, -ENOMEM, "no memory for the fetch stage");
    fetch->options = *options;
    if (options->force_pread)
        snprintf(fetch->reason, sizeof fetch->reason, "asked for");
    else
        fetch->backend = fetch_uring_open(fetch->reason, sizeof fetch->reason);
    if (!fetch->backend)
        fetch->backend = fetch_pread_open();
    if (!fetch->backend) {
        free(fetch);
        return error_set(error, -ENOMEM, "no memory for the fetch stage");
    }
    pthread_mutex_init(&fetch->lock, NULL);
    *ret_fetch = fetch;
    return 0;
}

void fetch_free(Fetch *fetch) {
    if (!fetch)
        return;
    /* What was not begun is dropped: a pipeline may end while its streams still want something. */
    fetch->backend->free(fetch->backend);
    pthread_mutex_destroy(&fetch->lock);
    free(fetch);
}

const char *fetch_backend(const Fetch *fetch) {
    return fetch->backend->name;
}

const char *fetch_reason(const Fetch *fetch) {
    return fetch->reason;
}

void fetch_file_init(FetchFile *file, int fd, int direct_fd, uint32_t align) {
    *file = (FetchFile){.fd = fd,
                        .direct_fd = direct_fd,
                        .align = direct_fd >= 0 ? align : 1,
                        .slot = FETCH_SLOT_UNTRIED};
}

void fetch_buffer_init(FetchBuffer *buffer, uint8_t *memory, size_t size) {
    *buffer = (FetchBuffer){.memory = memory, .size = size, .slot = FETCH_SLOT_UNTRIED};
}

size_t fetch_buffer_bytes(uint32_t size) {
    return align_up((uint64_t)size, PAGE) + 2 * PAGE;
}

static void fetch_wake(Fetch *fetch) {
    if (!fetch->backend->wake) {
        bell_ring(&fetch->bell, 1);
        return;
    }
    if (atomic_exchange(&fetch->sleeping, false)) /* the first of several wakes for all of them */
        fetch->backend->wake(fetch->backend);
}

static void prepare(FetchRequest *request) {
    uint32_t align = request->buffer && request->file->direct_fd >= 0 ? request->file->align : 1;
    uint64_t end = align_up(request->offset + request->size, align);

    request->read_offset = align_down(request->offset, align);
    request->read_size = (uint32_t)(end - request->read_offset);
    request->progress = 0;
    request->result = 0;
    if (request->buffer) {
        assert(request->read_size <= request->buffer->size);
        request->memory = request->buffer->memory + (request->offset - request->read_offset);
    }
}

void fetch_submit_chain(Fetch *fetch, FetchRequest *first) {
    FetchRequest *last = first;

    if (!first)
        return;
    for (prepare(first); last->next; last = last->next)
        prepare(last->next);
    pthread_mutex_lock(&fetch->lock);
    if (fetch->last)
        fetch->last->next = first;
    else
        fetch->first = first;
    fetch->last = last;
    pthread_mutex_unlock(&fetch->lock);
    fetch_wake(fetch);
}

void fetch_submit(Fetch *fetch, FetchRequest *request) {
    request->next = NULL;
    fetch_submit_chain(fetch, request);
}

void fetch_forget(Fetch *fetch, FetchForget *forget) {
    pthread_mutex_lock(&fetch->lock);
    forget->next = fetch->forgets;
    fetch->forgets = forget;
    pthread_mutex_unlock(&fetch->lock);
    fetch_wake(fetch);
}

static FetchRequest *take_request(Fetch *fetch) {
    FetchRequest *request;

    pthread_mutex_lock(&fetch->lock);
    request = fetch->first;
    if (request) {
        fetch->first = request->next;
        if (!fetch->first)
            fetch->last = NULL;
    }
    pthread_mutex_unlock(&fetch->lock);
    return request;
}

static int step_forgets(Fetch *fetch) {
    FetchForget *forget, *next;
    int count = 0;

    pthread_mutex_lock(&fetch->lock);
    forget = fetch->forgets;
    fetch->forgets = NULL;
    pthread_mutex_unlock(&fetch->lock);
    for (; forget; forget = next, count++) {
        next = forget->next;
        if (fetch->backend->forget)
            fetch->backend->forget(fetch->backend, forget);
        forget->done(forget);
    }
    return count;
}

int fetch_step(Fetch *fetch) {
    FetchBackend *backend = fetch->backend;
    FetchRequest *request, *next;
    int count = step_forgets(fetch);
    int limit = backend->reap ? STEP_REQUESTS : 1;

    for (int i = 0; i < limit && backend->has_room(backend); i++) {
        bool done = false;

        request = take_request(fetch);
        if (!request)
            break;
        backend->begin(backend, request, &done);
        count++;
        if (done)
            request->done(request);
    }
    if (!backend->reap)
        return count;
    for (request = backend->reap(backend); request; request = next, count++) {
        next = request->next;
        request->done(request);
    }
    return count;
}

static int fetch_worker_step(void *argument) {
    return fetch_step(argument);
}

/* `sleeping` first, then a last look: who submits after the look sees the flag. */
static void fetch_worker_sleep(void *argument) {
    Fetch *fetch = argument;
    bool idle;

    atomic_store(&fetch->sleeping, true);
    pthread_mutex_lock(&fetch->lock);
    idle = !fetch->first && !fetch->forgets;
    pthread_mutex_unlock(&fetch->lock);
    if (idle && !atomic_load(&fetch->worker.stop))
        fetch->backend->sleep(fetch->backend);
    atomic_store(&fetch->sleeping, false);
}

static void fetch_worker_wake(void *argument) {
    Fetch *fetch = argument;

    fetch->backend->wake(fetch->backend);
}

int fetch_start(Fetch *fetch) {
    bool own_sleep = fetch->backend->sleep != NULL;

    fetch->worker = (Worker){
        .name = "seqfeed-fetch",
        .bell = own_sleep ? NULL : &fetch->bell,
        .step = fetch_worker_step,
        .sleep = own_sleep ? fetch_worker_sleep : NULL,
        .wake = own_sleep ? fetch_worker_wake : NULL,
        .argument = fetch,
    };
    return worker_start(&fetch->worker);
}

bool fetch_has_stepped(Fetch *fetch) {
    bool stepped = worker_has_stepped(&fetch->worker);

    worker_wake(&fetch->worker);
    return stepped;
}

void fetch_stop(Fetch *fetch) {
    worker_stop(&fetch->worker);
}
