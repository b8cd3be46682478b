/* SPDX-License-Identifier: MIT */
#include "pool.h"

#include <stdbool.h>
#include <stdlib.h>

enum { POOL_ALIGN = 4096 };

/* Chunks of Python's memory whose last tensor died, maybe without the interpreter, which is asked
 * to bury them soon; if it cannot be asked, whoever next wants something of a pool does. */
static PoolChunk *pool_dead;
static bool pool_asked;

PoolChunk *pool_chunk_ref(PoolChunk *chunk) {
    __atomic_add_fetch(&chunk->references, 1, __ATOMIC_RELAXED);
    return chunk;
}

static void pool_bury(void) {
    PoolChunk *chunk;

    __atomic_store_n(&pool_asked, false, __ATOMIC_SEQ_CST);
    chunk = __atomic_exchange_n(&pool_dead, NULL, __ATOMIC_SEQ_CST);
    while (chunk) {
        PoolChunk *next = chunk->next_dead;

        PyBuffer_Release(&chunk->owner);
        free(chunk);
        chunk = next;
    }
}

static int pool_bury_asked(void *unused) {
    pool_bury();
    return 0;
}

/* Any thread; not once the interpreter has ended. */
static void pool_ask(void) {
    if (Py_IsInitialized() && !__atomic_exchange_n(&pool_asked, true, __ATOMIC_SEQ_CST) &&
        Py_AddPendingCall(pool_bury_asked, NULL) < 0)
        __atomic_store_n(&pool_asked, false, __ATOMIC_SEQ_CST);
}

void pool_chunk_unref(PoolChunk *chunk) {
    if (!chunk || __atomic_sub_fetch(&chunk->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (!chunk->owner.obj) {
        free(chunk->bytes);
        free(chunk);
        return;
    }
    chunk->next_dead = __atomic_load_n(&pool_dead, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&pool_dead, &chunk->next_dead, chunk, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED))
        ;
    pool_ask();
}

/* True when it could be filled; else an exception. */
static int chunk_borrow(PoolChunk *chunk, PyObject *allocate, size_t size) {
    PyObject *owner = PyObject_CallFunction(allocate, "n", (Py_ssize_t)size);
    int r = owner ? PyObject_GetBuffer(owner, &chunk->owner, PyBUF_WRITABLE) : -1;

    Py_XDECREF(owner);
    if (r < 0)
        return 0;
    chunk->bytes = chunk->owner.buf;
    chunk->size = (size_t)chunk->owner.len;
    if (chunk->size >= size)
        return 1;
    PyBuffer_Release(&chunk->owner);
    PyErr_SetString(PyExc_ValueError, "the memory for copies is smaller than was asked for");
    return 0;
}

static PoolChunk *chunk_new(PyObject *allocate, size_t size) {
    PoolChunk *chunk = calloc(1, sizeof *chunk);

    if (!chunk || size > PY_SSIZE_T_MAX - POOL_ALIGN) {
        free(chunk);
        PyErr_NoMemory();
        return NULL;
    }
    chunk->references = 1;
    if (allocate) {
        if (chunk_borrow(chunk, allocate, size))
            return chunk;
        free(chunk);
        return NULL;
    }
    chunk->size = (size / POOL_ALIGN + 1) * POOL_ALIGN;
    chunk->bytes = aligned_alloc(POOL_ALIGN, chunk->size);
    if (chunk->bytes)
        return chunk;
    free(chunk);
    PyErr_NoMemory();
    return NULL;
}

static void pool_remove(Pool *pool, uint32_t place) {
    pool_chunk_unref(pool->chunks[place]);
    for (pool->count--; place < pool->count; place++)
        pool->chunks[place] = pool->chunks[place + 1];
}

/* Room for a chunk more: those that are too small go first, then the oldest. */
static void pool_shrink(Pool *pool, size_t size) {
    for (uint32_t i = pool->count; i-- > 0;)
        if (pool->chunks[i]->size < size)
            pool_remove(pool, i);
    if (pool->count == POOL_MOST)
        pool_remove(pool, 0);
}

PoolChunk *pool_take(Pool *pool, size_t size) {
    PoolChunk *chunk;

    pool_bury();
    if (size > pool->largest)
        pool->largest = size;
    for (uint32_t i = 0; i < pool->count; i++) {
        chunk = pool->chunks[i];
        if (__atomic_load_n(&chunk->references, __ATOMIC_ACQUIRE) == 1 && chunk->size >= size)
            return pool_chunk_ref(chunk);
    }
    /* Some room, so that the next batch fits too, which may be a little longer. */
    chunk = chunk_new(pool->allocate, size + size / 4);
    if (!chunk)
        return NULL;
    pool_shrink(pool, size);
    pool->chunks[pool->count++] = chunk;
    return pool_chunk_ref(chunk);
}

void pool_clear(Pool *pool) {
    while (pool->count > 0)
        pool_remove(pool, pool->count - 1);
    pool_bury();
}
