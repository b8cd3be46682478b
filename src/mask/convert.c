/* SPDX-License-Identifier: MIT */
/* One set of loops for each kind of CPU, compiled in this file with target attributes (gcc and
 * clang agree on those; target_clones they do not), chosen once at the first use. */
#include "mask/convert.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/attributes.h"
#include "base/bytes.h"
#include "format/element_format.h"
#include "format/ring_format.h"

/* Shards are little-endian, tensors are the machine's: the loops below read both as plain memory.
 */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian machines only");

typedef void RepeatFunction(void *to, uint64_t bits, size_t count);
typedef void SelectFunction(void *to, const uint8_t *answers, const uint64_t bits[2], size_t count);

typedef struct ConvertLoops {
    ConvertFunction *convert[ELEMENT_TYPE_COUNT][SEQFEED_DTYPE_COUNT];
    RepeatFunction *repeat_16, *repeat_32, *repeat_64;
    SelectFunction *select_8, *select_16, *select_32, *select_64;
} ConvertLoops;

static void copy_1(void *to, const void *from, size_t count) {
    memcpy(to, from, count);
}

static void copy_2(void *to, const void *from, size_t count) {
    memcpy(to, from, 2 * count);
}

static void copy_4(void *to, const void *from, size_t count) {
    memcpy(to, from, 4 * count);
}

static void copy_8(void *to, const void *from, size_t count) {
    memcpy(to, from, 8 * count);
}

/* The bits of an integer below 2^24, which float32 holds exactly. */
static inline uint32_t f32_of_integer(uint32_t value) {
    float number = (float)(int32_t)value;
    uint32_t bits;

    memcpy(&bits, &number, sizeof bits);
    return bits;
}

/* float32 has 112 more exponents below one and 13 more bits of fraction than float16. */
static inline uint16_t f16_of_u8(uint8_t value) {
    uint32_t bits = (f32_of_integer(value) >> 13) - (112u << 10);

    return value ? (uint16_t)bits : 0;
}

/* Exact for every float16; the payload of a NaN is kept and not made quiet. Without branches, so
 * that loops over it become vector code. */
static inline uint32_t f32_of_f16(uint16_t half) {
    uint32_t sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
    uint32_t normal = (rest << 13) + (112u << 23), special = rest << 13 | 0x7f800000u;
    float tiny = (float)(int32_t)rest * 0x1p-24f; /* below 2^-14 the fraction counts 2^-24ths */
    uint32_t bits;

    memcpy(&bits, &tiny, sizeof bits);
    bits = rest >= 0x7c00 ? special : rest >= 0x0400 ? normal : bits;
    return sign | bits;
}

#define LOOPS_NAME(name) name##_plain
#define LOOPS_TARGET
#define LOOPS_AVX2 0
#include "mask/convert_loops.h"
#undef LOOPS_NAME
#undef LOOPS_TARGET
#undef LOOPS_AVX2

#ifdef __x86_64__
#define LOOPS_AVX2 1
#define LOOPS_NAME(name) name##_avx2
#define LOOPS_TARGET __attribute__((target("avx2")))
#include "mask/convert_loops.h"
#undef LOOPS_NAME
#undef LOOPS_TARGET

#define LOOPS_NAME(name) name##_avx512
#define LOOPS_TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#include "mask/convert_loops.h"
#undef LOOPS_NAME
#undef LOOPS_TARGET
#undef LOOPS_AVX2

static const ConvertLoops *const all_loops[] = {&loops_plain, &loops_avx2, &loops_avx512};

static int cpu_level(void) {
    if (!__builtin_cpu_supports("avx2"))
        return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? 2
               : 1;
}
#else
static const ConvertLoops *const all_loops[] = {&loops_plain};

static int cpu_level(void) {
    return 0;
}
#endif

/* The level in force plus one; 0 until somebody asks. Two threads that ask first store the same. */
static _Atomic int level_chosen;

int convert_level(void) {
    int level = atomic_load_explicit(&level_chosen, memory_order_relaxed);

    if (level == 0) {
        level = cpu_level() + 1;
        atomic_store_explicit(&level_chosen, level, memory_order_relaxed);
    }
    return level - 1;
}

int convert_set_level(int level) {
    int highest = cpu_level();

    level = level < highest ? level : highest;
    atomic_store_explicit(&level_chosen, level + 1, memory_order_relaxed);
    return level;
}

ConvertFunction *convert_find(uint32_t element, uint32_t dtype) {
    if (element >= ELEMENT_TYPE_COUNT || dtype >= SEQFEED_DTYPE_COUNT)
        return NULL;
    return all_loops[convert_level()]->convert[element][dtype];
}

void convert_select(void *to, const uint8_t *answers, const uint64_t bits[2],
                    uint32_t element_bytes, size_t count) {
    const ConvertLoops *loops = all_loops[convert_level()];

    assert(element_bytes == 1 || element_bytes == 2 || element_bytes == 4 || element_bytes == 8);
    if (element_bytes == 1)
        loops->select_8(to, answers, bits, count);
    else if (element_bytes == 2)
        loops->select_16(to, answers, bits, count);
    else if (element_bytes == 4)
        loops->select_32(to, answers, bits, count);
    else
        loops->select_64(to, answers, bits, count);
}

void convert_repeat(void *to, uint64_t bits, uint32_t element_bytes, size_t count) {
    const ConvertLoops *loops = all_loops[convert_level()];
    uint64_t mask = element_bytes == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * element_bytes) - 1;

    assert(element_bytes == 1 || element_bytes == 2 || element_bytes == 4 || element_bytes == 8);
    if ((bits & mask) == ((bits & 0xff) * UINT64_C(0x0101010101010101) & mask))
        memset(to, (int)(bits & 0xff), element_bytes * count);
    else if (element_bytes == 2)
        loops->repeat_16(to, bits, count);
    else if (element_bytes == 4)
        loops->repeat_32(to, bits, count);
    else
        loops->repeat_64(to, bits, count);
}
