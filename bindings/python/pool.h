/* SPDX-License-Identifier: MIT */
/* pool.h: memory for copies of batches, used again once nobody refers to it. Chunks are counted
 * without a lock of Python's: the last tensor over one may die on any thread. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>

enum { POOL_MOST = 16 }; /* chunks that are kept for another use */

typedef struct PoolChunk {
    void *bytes; /* starts at a page */
    size_t size;
    uint32_t references;
    Py_buffer owner; /* .obj: whose memory it is; NULL: our own */
    struct PoolChunk *next_dead;
} PoolChunk;

PoolChunk *pool_chunk_ref(PoolChunk *chunk);
void pool_chunk_unref(
    PoolChunk *chunk); /* accepts NULL; any thread, with the interpreter or without */

/* All zero is an empty pool; it belongs to one thread at a time, which holds the interpreter's
 * lock.
 */
typedef struct Pool {
    PyObject
        *allocate; /* borrowed: allocate(size) -> an object with a writable buffer; NULL: malloc */
    PoolChunk *chunks[POOL_MOST];
    uint32_t count;
    size_t largest; /* that was ever asked for: batches differ, and the next should fit as well */
} Pool;

/* A chunk of at least `size` bytes that nothing but the pool refers to, with a reference for the
 * caller. NULL and an exception: no memory. */
PoolChunk *pool_take(Pool *pool, size_t size);

/* Let go of all chunks; those in use live on. */
void pool_clear(Pool *pool);
