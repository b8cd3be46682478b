/* SPDX-License-Identifier: MIT */
/* Reads with pread, one at a time: for kernels and containers that refuse io_uring. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "pipeline/fetch_backend.h"

static bool pread_has_room(const FetchBackend *backend) {
    return true;
}

static void pread_begin(FetchBackend *backend, FetchRequest *request, bool *ret_done) {
    int fd = request->buffer && request->file->direct_fd >= 0 ? request->file->direct_fd
                                                              : request->file->fd;
    uint8_t *memory = request->buffer ? request->buffer->memory : request->memory;
    ssize_t count;

    do {
        count = pread(fd, memory + request->progress, request->read_size - request->progress,
                      (off_t)(request->read_offset + request->progress));
    } while (!fetch_request_advance(request, count < 0 ? -errno : (int)count));
    *ret_done = true;
}

static void pread_free(FetchBackend *backend) {
    free(backend);
}

FetchBackend *fetch_pread_open(void) {
    FetchBackend *backend = calloc(1, sizeof *backend);

    if (backend)
        *backend = (FetchBackend){
            .name = "pread", .has_room = pread_has_room, .begin = pread_begin, .free = pread_free};
    return backend;
}
