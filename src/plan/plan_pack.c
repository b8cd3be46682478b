/* SPDX-License-Identifier: MIT */
/* Policy pack: several pieces in one row.
 *
 * Up to `pool` pieces wait, the oldest first in line. A row begins with the oldest one, so that no
 * piece waits for more than `pool` rows, and then takes the longest that still fits, the oldest
 * among equals, until none does; whatever leaves the pool is replaced at once. The pool keeps a
 * queue for each length and a tree of bits over the lengths that have one: finding the longest that
 * fits costs a few instructions, whatever the pool's size. */
#include "plan/plan_form.h"

#include <string.h>

enum { LEVELS_MAX = 5 };

typedef struct Pool {
    const uint32_t *lengths;
    uint32_t *next;             /* in the queue of its length */
    uint32_t *taken;            /* a bit for each piece */
    uint32_t *first, *last;     /* of the queue of each length, where its bit is set */
    uint64_t *bits[LEVELS_MAX]; /* bit i of level k: some bit of word i of level k - 1 */
    uint32_t levels;
    uint32_t oldest, arrived, waiting;
} Pool;

/* An empty piece takes one place like a token, so that a row cannot hold any number of them. */
static uint32_t piece_places(const Pool *pool, uint32_t piece) {
    return MAX(pool->lengths[piece], 1u);
}

static void pool_init(Pool *pool, const PlanSpec *spec, const PlanForm *form, uint32_t *words) {
    size_t bits = (size_t)spec->length + 1;

    *pool = (Pool){.lengths = form->lengths, .next = words};
    pool->taken = pool->next + form->count;
    pool->first = pool->taken + form->count / 32 + 1;
    pool->last = pool->first + bits;
    words = pool->last + bits;
    words += (uintptr_t)words % sizeof(uint64_t) / sizeof *words;
    memset(pool->taken, 0, (form->count / 32 + (size_t)1) * sizeof *pool->taken);
    do {
        uint64_t *level = (uint64_t *)(void *)words;
        size_t count = (bits + 63) / 64;

        memset(level, 0, count * sizeof *level);
        pool->bits[pool->levels++] = level;
        words += 2 * count;
        bits = count;
    } while (bits > 1);
}

static void pool_push(Pool *pool, uint32_t piece) {
    uint32_t places = piece_places(pool, piece);

    if (pool->bits[0][places / 64] >> places % 64 & 1) {
        pool->next[pool->last[places]] = piece;
    } else {
        uint32_t index = places;

        pool->first[places] = piece;
        for (uint32_t level = 0; level < pool->levels; level++, index /= 64)
            pool->bits[level][index / 64] |= UINT64_C(1) << index % 64;
    }
    pool->last[places] = piece;
    pool->waiting++;
}

/* Take the first of the queue of this length. */
static uint32_t pool_pop(Pool *pool, uint32_t places) {
    uint32_t piece = pool->first[places], index = places;

    pool->taken[piece / 32] |= UINT32_C(1) << piece % 32;
    pool->waiting--;
    if (piece != pool->last[places]) {
        pool->first[places] = pool->next[piece];
        return piece;
    }
    for (uint32_t level = 0; level < pool->levels; level++, index /= 64) {
        pool->bits[level][index / 64] &= ~(UINT64_C(1) << index % 64);
        if (pool->bits[level][index / 64])
            break;
    }
    return piece;
}

/* The largest number of places up to `room` that some waiting piece has; 0: none. */
static uint32_t pool_largest(const Pool *pool, uint32_t room) {
    uint32_t index = room, level = 0;
    uint64_t word = pool->bits[0][index / 64] & UINT64_MAX >> (63 - index % 64);

    while (!word) {
        index /= 64;
        if (++level == pool->levels)
            return 0;
        word = pool->bits[level][index / 64] & ((UINT64_C(1) << index % 64) - 1);
    }
    index = index / 64 * 64 + (63 - (uint32_t)__builtin_clzll(word));
    while (level-- > 0)
        index = index * 64 + (63 - (uint32_t)__builtin_clzll(pool->bits[level][index]));
    return index;
}

static void pool_refill(Pool *pool, const PlanSpec *spec, const PlanForm *form) {
    while (pool->waiting < spec->pool && pool->arrived < form->count)
        pool_push(pool, pool->arrived++);
}

void plan_form_pack(const PlanSpec *spec, PlanForm *form, uint32_t *words) {
    Pool pool;

    pool_init(&pool, spec, form, words);
    pool_refill(&pool, spec, form);
    while (pool.waiting > 0) {
        uint32_t room = spec->length, places;

        while (pool.taken[pool.oldest / 32] >> pool.oldest % 32 & 1)
            pool.oldest++;
        /* The oldest of all is the oldest of its length. */
        for (places = piece_places(&pool, pool.oldest); places > 0;
             places = room > 0 ? pool_largest(&pool, room) : 0) {
            plan_form_add(form, pool_pop(&pool, places));
            room -= places;
            pool_refill(&pool, spec, form);
        }
        plan_form_close(form);
    }
}
