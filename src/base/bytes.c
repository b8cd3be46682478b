/* SPDX-License-Identifier: MIT */
/* CRC32C in three streams: the crc32 instruction takes three cycles and one may start in each, so
 * three independent runs over adjacent stretches keep the unit busy; their results are joined by
 * multiplying with x^(8·stretch) modulo the polynomial, from tables made at first use. */
#include "base/bytes.h"

#include <pthread.h>

enum { POLYNOMIAL = (int)0x82F63B78, STRETCH = 4096 };

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static uint32_t byte_table[8][256];
static uint32_t
    shift_table[4][256]; /* advances a CRC over STRETCH zero bytes, byte by byte of the CRC */

bool bytes_are_zero(const void *bytes, size_t size) {
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++)
        if (at[i])
            return false;
    return true;
}

static uint32_t advance_zeros(uint32_t crc, size_t count) {
    while (count--)
        crc = crc >> 8 ^ byte_table[0][crc & 0xff];
    return crc;
}

static void tables_make(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? (uint32_t)POLYNOMIAL : 0);
        byte_table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            byte_table[k][i] = byte_table[k - 1][i] >> 8 ^
                               byte_table[0][byte_table[k - 1][i] & 0xff];

    /* Advancing is linear: 32 single bits give the whole map. */
    uint32_t bit_map[32];
    for (int bit = 0; bit < 32; bit++)
        bit_map[bit] = advance_zeros(1u << bit, STRETCH);
    for (int k = 0; k < 4; k++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t sum = 0;
            for (int bit = 0; bit < 8; bit++)
                if (i >> bit & 1)
                    sum ^= bit_map[8 * k + bit];
            shift_table[k][i] = sum;
        }
}

static uint32_t crc_portable(uint32_t crc, const uint8_t *at, size_t size) {
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word = bytes_get_u64(at) ^ crc;
        crc = byte_table[7][word & 0xff] ^ byte_table[6][word >> 8 & 0xff] ^
              byte_table[5][word >> 16 & 0xff] ^ byte_table[4][word >> 24 & 0xff] ^
              byte_table[3][word >> 32 & 0xff] ^ byte_table[2][word >> 40 & 0xff] ^
              byte_table[1][word >> 48 & 0xff] ^ byte_table[0][word >> 56];
    }
    for (; size; at++, size--)
        crc = crc >> 8 ^ byte_table[0][(crc ^ *at) & 0xff];
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

static uint32_t shift_stretch(uint32_t crc) {
    return shift_table[0][crc & 0xff] ^ shift_table[1][crc >> 8 & 0xff] ^
           shift_table[2][crc >> 16 & 0xff] ^ shift_table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const uint8_t *at,
                                                            size_t size) {
    while (size >= 3 * STRETCH) {
        uint64_t a = crc, b = 0, c = 0;
        for (size_t i = 0; i < STRETCH; i += 8) {
            a = _mm_crc32_u64(a, bytes_get_u64(at + i));
            b = _mm_crc32_u64(b, bytes_get_u64(at + STRETCH + i));
            c = _mm_crc32_u64(c, bytes_get_u64(at + 2 * STRETCH + i));
        }
        crc = shift_stretch(shift_stretch((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
        at += 3 * STRETCH;
        size -= 3 * STRETCH;
    }
    for (; size >= 8; at += 8, size -= 8)
        crc = (uint32_t)_mm_crc32_u64(crc, bytes_get_u64(at));
    for (; size; at++, size--)
        crc = _mm_crc32_u8(crc, *at);
    return crc;
}

static bool have_sse42(void) {
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t crc_sse42(uint32_t crc, const uint8_t *at, size_t size) {
    return crc_portable(crc, at, size);
}

static bool have_sse42(void) {
    return false;
}
#endif

uint32_t bytes_crc32c(uint32_t crc, const void *bytes, size_t size) {
    pthread_once(&tables_once, tables_make);
    crc = ~crc;
    crc = have_sse42() ? crc_sse42(crc, bytes, size) : crc_portable(crc, bytes, size);
    return ~crc;
}
