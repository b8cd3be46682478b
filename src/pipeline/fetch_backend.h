/* SPDX-License-Identifier: MIT */
/* fetch_backend.h: what a way of reading implements. Fetch thread only, but for open(). */
#pragma once

#include "pipeline/fetch.h"

typedef struct FetchBackend FetchBackend;
struct FetchBackend {
    const char *name;
    /* May another request be begun? */
    bool (*has_room)(const FetchBackend *backend);
    /* Begin it, or do it; when it has ended *ret_done is set and result filled in. */
    void (*begin)(FetchBackend *backend, FetchRequest *request, bool *ret_done);
    /* Tell the kernel of what was begun and take what has ended; returns a list through `next`. */
    FetchRequest *(*reap)(FetchBackend *backend);
    /* Sleep until something ends or wake() is called. NULL: nothing ever ends by itself. */
    void (*sleep)(FetchBackend *backend);
    void (*wake)(FetchBackend *backend); /* any thread */
    void (*forget)(FetchBackend *backend, FetchForget *forget);
    void (*free)(FetchBackend *backend);
};

FetchBackend *fetch_pread_open(void); /* NULL: no memory */
/* NULL and the reason when io_uring is not to be had. */
FetchBackend *fetch_uring_open(char *ret_reason, size_t reason_size);

/* Take `count` more bytes of a request: true when it has ended (all there, or the file has). Shared
 * by the backends so that they cannot differ. `count` is a read's result: bytes, 0 at the end, or
 * -errno. */
bool fetch_request_advance(FetchRequest *request, int count);
