/* SPDX-License-Identifier: MIT */
/* random.h: Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel
 * random numbers: as easy as 1, 2, 3" (SC 2011). Integers only, so that CPU and GPU agree bit for
 * bit; plain C that nvcc reads too. */
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#define RANDOM_SHARED static inline __host__ __device__
#else
#define RANDOM_SHARED static inline
#endif

typedef struct RandomBlock {
    uint32_t word[4];
} RandomBlock;

RANDOM_SHARED RandomBlock random_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                                        uint32_t c3) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    RandomBlock out;

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out.word[0] = c0;
    out.word[1] = c1;
    out.word[2] = c2;
    out.word[3] = c3;
    return out;
}

/* A number below `bound` from one 32-bit word (Lemire's multiply-shift without rejection; the bias
 * is below bound / 2^32). */
RANDOM_SHARED uint32_t random_below(uint32_t word, uint32_t bound) {
    return (uint32_t)((uint64_t)word * bound >> 32);
}
