/* SPDX-License-Identifier: MIT */
/* A token is multiplied by an odd number: that loses nothing. Six bits of the product choose one of
 * 64 buckets; a vector instruction fetches what is in the buckets of 32 tokens, and one more
 * compares. So a list costs two instructions for 32 tokens times the ids of its fullest bucket,
 * which is why multipliers are tried until buckets are even. Answers are exact and take as long for
 * tokens that are listed as for others.
 *
 * Of two bytes: the bucket is the product's upper six bits, and what is compared the token itself.
 * Cells that hold no id hold a token of another bucket.
 *
 * Of four bytes, below 2^21: the product is taken modulo 2^21 and doubled, so it has 22 bits; the
 * upper six are the bucket and the lower sixteen what is compared. Those are even: cells that hold
 * no id are odd. Of eight bytes: those above 2^32 become the highest number of four, which no table
 * has. */
#include "mask/token_hash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/arithmetic.h"
#include "mask/convert.h"

enum {
    BUCKETS = 64,
    DEPTH_MAX_16 = 24, /* beyond, a look into memory for each token is faster */
    DEPTH_MAX_32 = 20,
    TRIES = 64, /* multipliers */
    WORDS = 32, /* tokens, of two bytes or what is compared of longer ones, in a vector */
    VECTORS = 4,
    STEP = VECTORS * WORDS /* tokens that are looked up at once */
};
#define IDS_END (UINT64_C(1) << 21) /* of tokens that are not of two bytes */

struct TokenHash {
    uint32_t multiplier; /* twice the odd number where tokens are not of two bytes */
    uint32_t depth;
    uint16_t cells[][BUCKETS];
};

static uint32_t bucket_of(uint32_t token_bytes, uint32_t multiplier, uint64_t id) {
    uint32_t product = (uint32_t)id * multiplier;

    return product >> (token_bytes == 2 ? 10 : 16) & (BUCKETS - 1);
}

/* Ids in the fullest bucket. */
static uint32_t count_depth(uint32_t token_bytes, uint32_t multiplier, const uint64_t *ids,
                            uint32_t count) {
    uint32_t counts[BUCKETS] = {0}, depth = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t *bucket = &counts[bucket_of(token_bytes, multiplier, ids[i])];

        ++*bucket;
        depth = MAX(depth, *bucket);
    }
    return depth;
}

/* The best of some multipliers. */
static uint32_t find_multiplier(uint32_t token_bytes, const uint64_t *ids, uint32_t count,
                                uint32_t *ret_depth) {
    uint32_t number = 0, best = 0, least = UINT32_MAX;

    for (uint32_t i = 0; i < TRIES && least > 1; i++) {
        uint32_t multiplier, depth;

        number = number * 1664525u + 1013904223u; /* a linear congruence: its upper bits are good */
        multiplier = number >> 10 | 1;
        if (token_bytes != 2)
            multiplier *= 2;
        depth = count_depth(token_bytes, multiplier, ids, count);
        if (depth < least) {
            least = depth;
            best = multiplier;
        }
    }
    *ret_depth = least;
    return best;
}

/* What no token of this bucket is compared as. */
static uint16_t free_cell(uint32_t token_bytes, uint32_t multiplier, uint32_t bucket) {
    uint16_t token = 0;

    if (token_bytes != 2)
        return 1;
    while (bucket_of(token_bytes, multiplier, token) == bucket)
        token++;
    return token;
}

static void fill_cells(TokenHash *hash, uint32_t token_bytes, const uint64_t *ids, uint32_t count) {
    uint32_t counts[BUCKETS] = {0};

    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++)
        for (uint32_t d = 0; d < hash->depth; d++)
            hash->cells[d][bucket] = free_cell(token_bytes, hash->multiplier, bucket);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bucket = bucket_of(token_bytes, hash->multiplier, ids[i]);
        uint32_t compared = token_bytes == 2 ? (uint32_t)ids[i]
                                             : (uint32_t)ids[i] * hash->multiplier;

        hash->cells[counts[bucket]++][bucket] = (uint16_t)compared;
    }
}

int token_hash_make(uint32_t token_bytes, const uint64_t *ids, uint32_t count,
                    TokenHash **ret_hash) {
    uint32_t depth_max = token_bytes == 2 ? DEPTH_MAX_16 : DEPTH_MAX_32, multiplier, depth;
    TokenHash *hash;

    *ret_hash = NULL;
    if (token_bytes == 1 || count == 0 || count > depth_max * BUCKETS)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] >= (token_bytes == 2 ? UINT16_MAX + UINT64_C(1) : IDS_END))
            return 0;
    multiplier = find_multiplier(token_bytes, ids, count, &depth);
    if (depth > depth_max)
        return 0;
    hash = malloc(sizeof *hash + depth * sizeof *hash->cells);
    if (!hash)
        return -ENOMEM;
    hash->multiplier = multiplier;
    hash->depth = depth;
    fill_cells(hash, token_bytes, ids, count);
    *ret_hash = hash;
    return 0;
}

#ifdef __x86_64__
#define WIDE __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))

bool token_hash_works(void) {
    return convert_level() == 2;
}

/* `none` holds tokens that no table can have; the answers for these join it. */
WIDE static inline void answer_words(const TokenHash *hash, const __m512i *words,
                                     const __m512i *buckets, const __mmask32 *none, uint8_t *to) {
    __mmask32 other[VECTORS] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};

    for (uint32_t d = 0; d < hash->depth; d++) {
        __m512i low = _mm512_loadu_si512(hash->cells[d]);
        __m512i high = _mm512_loadu_si512(hash->cells[d] + WORDS);

        for (int v = 0; v < VECTORS; v++)
            other[v] = _mm512_mask_cmpneq_epu16_mask(
                other[v], words[v], _mm512_permutex2var_epi16(low, buckets[v], high));
    }
    for (int v = 0; v < VECTORS; v += 2) {
        uint64_t first = none[v] | other[v], second = none[v + 1] | other[v + 1];

        _mm512_storeu_si512(to + v * WORDS, _mm512_maskz_set1_epi8(second << WORDS | first, 1));
    }
}

WIDE static inline void answer_16(const TokenHash *hash, const void *tokens, uint8_t *to) {
    const __m512i multiplier = _mm512_set1_epi16((short)hash->multiplier);
    __m512i words[VECTORS], buckets[VECTORS];
    __mmask32 none[VECTORS] = {0};

    for (int v = 0; v < VECTORS; v++) {
        words[v] = _mm512_loadu_si512((const uint16_t *)tokens + v * WORDS);
        buckets[v] = _mm512_srli_epi16(_mm512_mullo_epi16(words[v], multiplier), 10);
    }
    answer_words(hash, words, buckets, none, to);
}

WIDE static inline void answer_32(const TokenHash *hash, const void *tokens, uint8_t *to) {
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36,
                                          34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6,
                                          4, 2, 0);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi16(1));
    const __m512i multiplier = _mm512_set1_epi32((int)hash->multiplier);
    const __m512i last = _mm512_set1_epi32((int)IDS_END - 1);
    __m512i words[VECTORS], buckets[VECTORS];
    __mmask32 none[VECTORS];

    for (int v = 0; v < VECTORS; v++) {
        __m512i low = _mm512_loadu_si512((const uint32_t *)tokens + v * WORDS);
        __m512i high = _mm512_loadu_si512((const uint32_t *)tokens + v * WORDS + WORDS / 2);

        none[v] = _mm512_cmpgt_epu32_mask(low, last) |
                  (__mmask32)_mm512_cmpgt_epu32_mask(high, last) << WORDS / 2;
        low = _mm512_mullo_epi32(low, multiplier);
        high = _mm512_mullo_epi32(high, multiplier);
        words[v] = _mm512_permutex2var_epi16(low, even, high);
        buckets[v] = _mm512_permutex2var_epi16(low, odd, high); /* the upper bits do not count */
    }
    answer_words(hash, words, buckets, none, to);
}

WIDE static inline void answer_64(const TokenHash *hash, const void *tokens, uint8_t *to) {
    uint32_t narrow[STEP];

    for (int i = 0; i < STEP; i += 8)
        _mm256_storeu_si256((void *)(narrow + i), _mm512_cvtusepi64_epi32(_mm512_loadu_si512(
                                                      (const uint64_t *)tokens + i)));
    answer_32(hash, narrow, to);
}

/* The last ones stand in a step of their own, so that nothing beyond them is read or written. */
#define ANSWER_ALL(bits)                                                                        \
    WIDE static void answer_all_##bits(const TokenHash *hash, const void *tokens, size_t count, \
                                       uint8_t *to) {                                           \
        const uint##bits##_t *in = tokens;                                                      \
        uint##bits##_t rest[STEP] = {0};                                                        \
        uint8_t answers[STEP];                                                                  \
        size_t i = 0;                                                                           \
                                                                                                \
        for (; count - i >= STEP; i += STEP)                                                    \
            answer_##bits(hash, in + i, to + i);                                                \
        if (i == count)                                                                         \
            return;                                                                             \
        memcpy(rest, in + i, (count - i) * sizeof *in);                                         \
        answer_##bits(hash, rest, answers);                                                     \
        memcpy(to + i, answers, count - i);                                                     \
    }
ANSWER_ALL(16)
ANSWER_ALL(32)
ANSWER_ALL(64)
#undef ANSWER_ALL

void token_hash_answer(const TokenHash *hash, uint32_t token_bytes, const void *tokens,
                       size_t count, uint8_t *ret_answers) {
    assert(token_bytes == 2 || token_bytes == 4 || token_bytes == 8);
    if (token_bytes == 2)
        answer_all_16(hash, tokens, count, ret_answers);
    else if (token_bytes == 4)
        answer_all_32(hash, tokens, count, ret_answers);
    else
        answer_all_64(hash, tokens, count, ret_answers);
}
#else
bool token_hash_works(void) {
    return false;
}

void token_hash_answer(const TokenHash *hash, uint32_t token_bytes, const void *tokens,
                       size_t count, uint8_t *ret_answers) {
    assert(!"no table works here");
}
#endif
