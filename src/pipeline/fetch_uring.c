/* SPDX-License-Identifier: MIT */
/* Reads with io_uring. The ring belongs to the fetch thread; another thread ends its sleep by an
 * eventfd on which the ring keeps a read of its own.
 *
 * Files and buffers are registered when they are first used. That is a gain only: where the kernel
 * refuses (RLIMIT_MEMLOCK, a full table) the same read runs unregistered. */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/attributes.h"
#include "base/file.h"
#include "pipeline/fetch_backend.h"

enum { DEPTH = 128, FILE_SLOTS = 1024, BUFFER_SLOTS = 1024 };

/* Which places of a registered table are taken. */
typedef struct SlotTable {
    bool usable;
    uint32_t count;
    uint32_t free_count;
    uint16_t free[FILE_SLOTS > BUFFER_SLOTS ? FILE_SLOTS : BUFFER_SLOTS];
} SlotTable;

typedef struct FetchUring {
    FetchBackend backend; /* first: the two are one object */
    struct io_uring ring;
    int event_fd;
    uint64_t event_value; /* target of the read on event_fd */
    bool event_armed;
    uint32_t in_flight; /* requests, without the event */
    SlotTable files, buffers;
} FetchUring;

static void slot_table_fill(SlotTable *table, uint32_t count) {
    table->usable = true;
    table->count = table->free_count = count;
    for (uint32_t i = 0; i < count; i++)
        table->free[i] = (uint16_t)(count - 1 - i);
}

static int slot_take(SlotTable *table) {
    if (!table->usable || table->free_count == 0)
        return FETCH_SLOT_REFUSED;
    return table->free[--table->free_count];
}

static void slot_give(SlotTable *table, int slot) {
    assert(table->free_count < table->count);
    table->free[table->free_count++] = (uint16_t)slot;
}

static void register_file(FetchUring *uring, FetchFile *file) {
    int fd = file->direct_fd >= 0 ? file->direct_fd : file->fd;

    file->slot = slot_take(&uring->files);
    if (file->slot >= 0 &&
        io_uring_register_files_update(&uring->ring, (unsigned)file->slot, &fd, 1) != 1) {
        slot_give(&uring->files, file->slot);
        file->slot = FETCH_SLOT_REFUSED;
    }
}

static void register_buffer(FetchUring *uring, FetchBuffer *buffer) {
    struct iovec vector = {.iov_base = buffer->memory, .iov_len = buffer->size};
    __u64 tag = 0;

    buffer->slot = slot_take(&uring->buffers);
    if (buffer->slot < 0)
        return;
    if (io_uring_register_buffers_update_tag(&uring->ring, (unsigned)buffer->slot, &vector, &tag,
                                             1) != 1) {
        uring->buffers.usable = false; /* the lock limit does not change: do not try again */
        buffer->slot = FETCH_SLOT_REFUSED;
    }
}

static bool uring_has_room(const FetchBackend *backend) {
    return ((const FetchUring *)backend)->in_flight < DEPTH - 2;
}

/* Queue the part of the request that is still missing. */
static void uring_queue(FetchUring *uring, FetchRequest *request) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    FetchFile *file = request->file;
    FetchBuffer *buffer = request->buffer;
    bool direct = buffer && file->direct_fd >= 0;
    /* The table holds the direct descriptor if there is one; lengths are read through the cache. */
    bool fixed = file->slot >= 0 && (direct || file->direct_fd < 0);
    int fd = fixed ? file->slot : direct ? file->direct_fd : file->fd;
    uint8_t *memory = (buffer ? buffer->memory : request->memory) + request->progress;
    unsigned size = request->read_size - request->progress;
    uint64_t offset = request->read_offset + request->progress;

    if (buffer && buffer->slot >= 0)
        io_uring_prep_read_fixed(sqe, fd, memory, size, offset, buffer->slot);
    else
        io_uring_prep_read(sqe, fd, memory, size, offset);
    if (fixed)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, request);
    uring->in_flight++;
}

static void uring_begin(FetchBackend *backend, FetchRequest *request, bool *ret_done) {
    FetchUring *uring = (FetchUring *)backend;

    if (request->file->slot == FETCH_SLOT_UNTRIED)
        register_file(uring, request->file);
    if (request->buffer && request->buffer->slot == FETCH_SLOT_UNTRIED)
        register_buffer(uring, request->buffer);
    uring_queue(uring, request);
    *ret_done = false;
}

static void arm_event(FetchUring *uring) {
    struct io_uring_sqe *sqe;

    if (uring->event_armed)
        return;
    sqe = io_uring_get_sqe(&uring->ring);
    io_uring_prep_read(sqe, uring->event_fd, &uring->event_value, sizeof uring->event_value, 0);
    io_uring_sqe_set_data(sqe, NULL);
    uring->event_armed = true;
}

static FetchRequest *uring_reap(FetchBackend *backend) {
    FetchUring *uring = (FetchUring *)backend;
    FetchRequest *first = NULL, **last = &first;
    struct io_uring_cqe *cqe;
    bool again = false;

    (void)io_uring_submit_and_get_events(&uring->ring);
    while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        FetchRequest *request = io_uring_cqe_get_data(cqe);
        int count = cqe->res;

        io_uring_cqe_seen(&uring->ring, cqe);
        if (!request) {
            uring->event_armed = false;
            continue;
        }
        uring->in_flight--;
        if (fetch_request_advance(request, count)) {
            request->next = NULL;
            *last = request;
            last = &request->next;
        } else {
            uring_queue(uring, request);
            again = true;
        }
    }
    if (again)
        (void)io_uring_submit(&uring->ring);
    return first;
}

static void uring_sleep(FetchBackend *backend) {
    FetchUring *uring = (FetchUring *)backend;

    arm_event(uring);
    (void)io_uring_submit_and_wait(&uring->ring, 1);
}

static void uring_wake(FetchBackend *backend) {
    uint64_t one = 1;

    if (write(((FetchUring *)backend)->event_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake anyway */
}

static void uring_forget(FetchBackend *backend, FetchForget *forget) {
    FetchUring *uring = (FetchUring *)backend;
    struct iovec none = {0};
    int no_fd = -1;
    __u64 tag = 0;

    for (uint32_t i = 0; i < forget->file_count; i++) {
        if (forget->files[i].slot < 0)
            continue;
        (void)io_uring_register_files_update(&uring->ring, (unsigned)forget->files[i].slot, &no_fd,
                                             1);
        slot_give(&uring->files, forget->files[i].slot);
        forget->files[i].slot = FETCH_SLOT_UNTRIED;
    }
    for (uint32_t i = 0; i < forget->buffer_count; i++) {
        if (forget->buffers[i].slot < 0)
            continue;
        (void)io_uring_register_buffers_update_tag(&uring->ring, (unsigned)forget->buffers[i].slot,
                                                   &none, &tag, 1);
        slot_give(&uring->buffers, forget->buffers[i].slot);
        forget->buffers[i].slot = FETCH_SLOT_UNTRIED;
    }
}

static void uring_free(FetchBackend *backend) {
    FetchUring *uring = (FetchUring *)backend;

    io_uring_queue_exit(&uring->ring);
    file_close(&uring->event_fd);
    free(uring);
}

static const char *refusal(int code) {
    switch (code) {
    case -EPERM:
    case -EACCES:
        return "io_uring is forbidden here (seccomp or kernel.io_uring_disabled)";
    case -ENOSYS:
        return "this kernel has no io_uring";
    case -ENOMEM:
        return "no locked memory left for io_uring (raise LimitMEMLOCK)";
    default:
        return strerror(-code);
    }
}

/* The newest way of completing first; older kernels say EINVAL. Another thread starts the worker,
 * so the ring must not be bound to the thread that made it. */
static int ring_open(struct io_uring *ring) {
    int r = io_uring_queue_init(DEPTH, ring, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP);

    if (r == -EINVAL)
        r = io_uring_queue_init(DEPTH, ring, IORING_SETUP_CLAMP);
    return r;
}

FetchBackend *fetch_uring_open(char *ret_reason, size_t reason_size) {
    FetchUring *uring = calloc(1, sizeof *uring);
    int r;

    if (!uring)
        return NULL;
    uring->event_fd = eventfd(0, EFD_CLOEXEC);
    r = uring->event_fd < 0 ? -errno : ring_open(&uring->ring);
    if (r < 0) {
        snprintf(ret_reason, reason_size, "%s", refusal(r));
        file_close(&uring->event_fd);
        free(uring);
        return NULL;
    }
    if (io_uring_register_files_sparse(&uring->ring, FILE_SLOTS) == 0)
        slot_table_fill(&uring->files, FILE_SLOTS);
    if (io_uring_register_buffers_sparse(&uring->ring, BUFFER_SLOTS) == 0)
        slot_table_fill(&uring->buffers, BUFFER_SLOTS);
    snprintf(ret_reason, reason_size, "depth %d%s%s", DEPTH,
             uring->files.usable ? ", registered files" : "",
             uring->buffers.usable ? ", registered buffers" : "");
    uring->backend = (FetchBackend){
        .name = "io_uring",
        .has_room = uring_has_room,
        .begin = uring_begin,
        .reap = uring_reap,
        .sleep = uring_sleep,
        .wake = uring_wake,
        .forget = uring_forget,
        .free = uring_free,
    };
    return &uring->backend;
}
