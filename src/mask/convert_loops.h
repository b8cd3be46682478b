/* SPDX-License-Identifier: MIT */
/* convert_loops.h: the loops of convert.c, once for each kind of CPU. Included several times, so no
 * #pragma once: LOOPS_NAME(x) names what is defined, LOOPS_TARGET is the compiler attribute,
 * LOOPS_AVX2 tells whether its instructions may be used by hand. The plain loops are simple enough
 * that compilers turn them into vector code; three-byte values are not, and are shuffled by hand.
 */

#define LOOP(name, From, To, expression)                                                  \
    LOOPS_TARGET static void LOOPS_NAME(name)(void *to, const void *from, size_t count) { \
        const __typeof__(From) *restrict in = from;                                       \
        __typeof__(To) *restrict out = to;                                                \
                                                                                          \
        for (size_t i = 0; i < count; i++) {                                              \
            __typeof__(From) value = in[i];                                               \
            out[i] = (To)(expression);                                                    \
        }                                                                                 \
    }

LOOP(u8_32, uint8_t, uint32_t, value)
LOOP(u8_64, uint8_t, uint64_t, value)
LOOP(u8_f16, uint8_t, uint16_t, f16_of_u8(value))
LOOP(u8_bf16, uint8_t, uint16_t, f32_of_integer(value) >> 16)
LOOP(u8_f32, uint8_t, uint32_t, f32_of_integer(value))
LOOP(u16_32, uint16_t, uint32_t, value)
LOOP(u16_64, uint16_t, uint64_t, value)
LOOP(u16_f32, uint16_t, uint32_t, f32_of_integer(value))
LOOP(u32_64, uint32_t, uint64_t, value)
LOOP(i32_64, int32_t, int64_t, value)
LOOP(f16_f32, uint16_t, uint32_t, f32_of_f16(value))
LOOP(bf16_f32, uint16_t, uint32_t, (uint32_t)value << 16)
#undef LOOP

/* Stores that cross the lines of the cache take twice as long. */
#define REPEAT(name, To)                                                               \
    LOOPS_TARGET static void LOOPS_NAME(name)(void *to, uint64_t bits, size_t count) { \
        __typeof__(To) *out = to;                                                      \
                                                                                       \
        for (; count > CACHE_LINE && (uintptr_t)out % CACHE_LINE != 0; count--)        \
            *out++ = (To)bits;                                                         \
        for (size_t i = 0; i < count; i++)                                             \
            out[i] = (To)bits;                                                         \
    }

REPEAT(repeat_16, uint16_t)
REPEAT(repeat_32, uint32_t)
REPEAT(repeat_64, uint64_t)
#undef REPEAT

#define SELECT(name, To)                                                                 \
    LOOPS_TARGET static void LOOPS_NAME(name)(void *to, const uint8_t *restrict answers, \
                                              const uint64_t bits[2], size_t count) {    \
        __typeof__(To) *restrict out = to;                                               \
        To no = (To)bits[0], yes = (To)bits[1];                                          \
                                                                                         \
        for (size_t i = 0; i < count; i++)                                               \
            out[i] = answers[i] ? yes : no;                                              \
    }

SELECT(select_8, uint8_t)
SELECT(select_16, uint16_t)
SELECT(select_32, uint32_t)
SELECT(select_64, uint64_t)
#undef SELECT

#if LOOPS_AVX2
/* Eight three-byte values as 32-bit lanes. Reads 28 bytes from `from`. */
LOOPS_TARGET static inline __m256i LOOPS_NAME(u24_load)(const uint8_t *from) {
    const __m256i spread = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 0,
                                            1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)from);
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(from + 12));

    return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1),
                               spread);
}
#endif

/* The vector loops stop two values early: a load reads four bytes more than it uses. */
#define U24_LOOP(name, To, expression, store)                                             \
    LOOPS_TARGET static void LOOPS_NAME(name)(void *to, const void *from, size_t count) { \
        const uint8_t *in = from;                                                         \
        __typeof__(To) *out = to;                                                         \
        size_t i = 0;                                                                     \
                                                                                          \
        U24_VECTOR(store)                                                                 \
        for (; i < count; i++) {                                                          \
            uint32_t value = bytes_get_u24(in + 3 * i);                                   \
            out[i] = (expression);                                                        \
        }                                                                                 \
    }

#if LOOPS_AVX2
#define U24_VECTOR(store)                                  \
    for (; i + 10 <= count; i += 8) {                      \
        __m256i values = LOOPS_NAME(u24_load)(in + 3 * i); \
        __m256i *at = (__m256i *)(void *)(out + i);        \
        store;                                             \
    }
#else
#define U24_VECTOR(store)
#endif

U24_LOOP(u24_32, uint32_t, value, _mm256_storeu_si256(at, values))
U24_LOOP(u24_f32, uint32_t, f32_of_integer(value),
         _mm256_storeu_si256(at, _mm256_castps_si256(_mm256_cvtepi32_ps(values))))
U24_LOOP(u24_64, uint64_t, value,
         _mm256_storeu_si256(at, _mm256_cvtepu32_epi64(_mm256_castsi256_si128(values)));
         _mm256_storeu_si256(at + 1, _mm256_cvtepu32_epi64(_mm256_extracti128_si256(values, 1))))
#undef U24_LOOP
#undef U24_VECTOR

static const ConvertLoops LOOPS_NAME(loops) = {
    .convert =
        {
            [ELEMENT_U8] = {[SEQFEED_UINT8] = copy_1,
                            [SEQFEED_INT32] = LOOPS_NAME(u8_32),
                            [SEQFEED_INT64] = LOOPS_NAME(u8_64),
                            [SEQFEED_FLOAT16] = LOOPS_NAME(u8_f16),
                            [SEQFEED_BFLOAT16] = LOOPS_NAME(u8_bf16),
                            [SEQFEED_FLOAT32] = LOOPS_NAME(u8_f32)},
            [ELEMENT_U16] = {[SEQFEED_INT32] = LOOPS_NAME(u16_32),
                             [SEQFEED_INT64] = LOOPS_NAME(u16_64),
                             [SEQFEED_FLOAT32] = LOOPS_NAME(u16_f32)},
            [ELEMENT_U24] = {[SEQFEED_INT32] = LOOPS_NAME(u24_32),
                             [SEQFEED_INT64] = LOOPS_NAME(u24_64),
                             [SEQFEED_FLOAT32] = LOOPS_NAME(u24_f32)},
            [ELEMENT_U32] = {[SEQFEED_INT64] = LOOPS_NAME(u32_64)},
            [ELEMENT_I32] = {[SEQFEED_INT32] = copy_4, [SEQFEED_INT64] = LOOPS_NAME(i32_64)},
            [ELEMENT_I64] = {[SEQFEED_INT64] = copy_8},
            [ELEMENT_F16] = {[SEQFEED_FLOAT16] = copy_2, [SEQFEED_FLOAT32] = LOOPS_NAME(f16_f32)},
            [ELEMENT_BF16] =
                {[SEQFEED_BFLOAT16] = copy_2, [SEQFEED_FLOAT32] = LOOPS_NAME(bf16_f32)},
            [ELEMENT_F32] = {[SEQFEED_FLOAT32] = copy_4},
        },
    .repeat_16 = LOOPS_NAME(repeat_16),
    .repeat_32 = LOOPS_NAME(repeat_32),
    .repeat_64 = LOOPS_NAME(repeat_64),
    .select_8 = LOOPS_NAME(select_8),
    .select_16 = LOOPS_NAME(select_16),
    .select_32 = LOOPS_NAME(select_32),
    .select_64 = LOOPS_NAME(select_64),
};
