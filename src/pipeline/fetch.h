/* SPDX-License-Identifier: MIT */
/* fetch.h: reads of shard bytes, by io_uring or by pread with the same behaviour. One thread, the
 * only one that knows how. Requests are nodes inside their owner's objects, so none is ever refused
 * for want of memory; how many may be under way is the owner's business (its buffers). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Fetch Fetch;

/* A file to read from. Filled in by fetch_file_init(); the private part belongs to the fetch
 * thread. */
typedef struct FetchFile {
    int fd;         /* borrowed; buffered reads */
    int direct_fd;  /* borrowed; FILE_NONE without O_DIRECT */
    uint32_t align; /* of offset, size and memory for direct reads; 1 without */
    int slot;       /* private: place in the ring's file table, or a FETCH_SLOT_* */
} FetchFile;

/* Memory that reads go to over and over: known to the kernel beforehand where it allows that. */
typedef struct FetchBuffer {
    uint8_t *memory; /* page-aligned */
    size_t size;
    int slot; /* private */
} FetchBuffer;

enum { FETCH_SLOT_UNTRIED = -1, FETCH_SLOT_REFUSED = -2 };

typedef struct FetchRequest FetchRequest;
struct FetchRequest {
    FetchFile *file;
    FetchBuffer *buffer; /* NULL: `memory` is ordinary memory and the read is buffered */
    uint8_t *memory; /* without buffer: where the bytes go. With buffer: set to where they are */
    uint64_t offset;
    uint32_t size;
    /* Called on the fetch thread: `result` is 0 or a negative errno (-ENODATA: the file is too
     * short). */
    void (*done)(FetchRequest *request);
    int result;
    FetchRequest *next; /* of a chain that is handed in; then private */
    /* private */
    uint64_t read_offset; /* aligned superset of offset … */
    uint32_t read_size;   /* … and size */
    uint32_t progress;    /* bytes read so far */
};

typedef struct FetchOptions {
    bool force_pread;
} FetchOptions;

/* Chooses the backend: io_uring, or pread when that is refused. 0 or negative errno. */
MUST_CHECK int fetch_new(const FetchOptions *options, Fetch **ret_fetch, Error *error);
void fetch_free(Fetch *fetch); /* nothing may be under way; accepts NULL */
const char *fetch_backend(const Fetch *fetch);
const char *fetch_reason(const Fetch *fetch);

/* Prepare to read from descriptors that stay open until fetch_forget() has been answered:
 * file_open_direct() says how to come by the second and its alignment; FILE_NONE: there is none. */
void fetch_file_init(FetchFile *file, int fd, int direct_fd, uint32_t align);
void fetch_buffer_init(FetchBuffer *buffer, uint8_t *memory, size_t size);
/* Bytes a buffer needs so that `size` bytes at any offset fit with their alignment. */
size_t fetch_buffer_bytes(uint32_t size);

/* Hand in a request, or a chain of them, which wakes the fetch thread once and not for each. Any
 * thread. */
void fetch_submit(Fetch *fetch, FetchRequest *request);
void fetch_submit_chain(Fetch *fetch, FetchRequest *first);

/* Things that the kernel should forget, before their owner frees them. Nothing of them is under
 * way. `done` is called on the fetch thread (or at once, when nothing was registered). */
typedef struct FetchForget FetchForget;
struct FetchForget {
    FetchFile *files;
    uint32_t file_count;
    FetchBuffer *buffers;
    uint32_t buffer_count;
    void (*done)(FetchForget *forget);
    FetchForget *next;
};
void fetch_forget(Fetch *fetch, FetchForget *forget);

/* One bounded step; how much was done. The thread is started by fetch_start(). */
int fetch_step(Fetch *fetch);
MUST_CHECK int fetch_start(Fetch *fetch);
/* worker_has_stepped() of the thread, which is woken after it. */
MUST_CHECK bool fetch_has_stepped(Fetch *fetch);
void fetch_stop(Fetch *fetch);
