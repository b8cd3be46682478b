/* SPDX-License-Identifier: MIT */
/* Nearly all of a line is one value or another, which a register holds, or is copied from a line
 * that stays in the cache: only the blocks in which one span meets the next are put together.
 *
 * Stores that pass the cache fill whole lines of it in as few instructions as the CPU can. It need
 * not read what it overwrites, and some memories take lines of zeros at several times the speed of
 * others, as long as stores are wide.
 *
 * Stores wait in a queue for the memory, and before a load a CPU looks there for what it wants, at
 * first by the place within the page alone. So a load waits for a store to the same place of
 * another page: where a line lies some twenty blocks or less behind the stores in this sense,
 * copying it took half as long again, and no longer where it lies ahead. Who copies a line to many
 * places keeps it twice, half a page apart, and takes the one that lies ahead. */
#include "mask/dense_line.h"

#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "mask/convert.h"

enum { LINE_UNIT = 16 }; /* lines begin and end at multiples of it */

/* From any place of the first half on: so many bytes of ones, then zeros. */
static const uint8_t steps[2 * CACHE_LINE] = {
    [0 ... CACHE_LINE - 1] = 0xff,
};

/* 64 bytes of which the first `count` (taken as 0 .. 64) are all ones, the others zero. */
static inline const uint8_t *block_until(ptrdiff_t count) {
    return steps + CACHE_LINE - MAX((ptrdiff_t)0, MIN(count, (ptrdiff_t)CACHE_LINE));
}

/* What the span has at a place of the line. */
static inline const uint8_t *span_at(const DenseSpan *span, ptrdiff_t at) {
    return span->from + (span->repeats ? 0 : at);
}

bool dense_line_waits(const uint8_t *from, const uint8_t *to) {
    return ((uintptr_t)from - (uintptr_t)to - CACHE_LINE) % (2 * DENSE_LINE_APART) >=
           DENSE_LINE_APART;
}

/* The part from byte i on of a block: `first` in the bytes below `count`, `then` in the others. */
#define MIX(first, then, count, i)                               \
    ({                                                           \
        LINE_VECTOR below = LINE_LOAD(block_until(count) + (i)); \
        (below & (first)) | (~below & (then));                   \
    })

#ifdef __x86_64__
#define LOAD_128(from) _mm_loadu_si128((const void *)(from))
#define LOAD_256(from) _mm256_loadu_si256((const void *)(from))
#define LOAD_512(from) _mm512_loadu_si512((const void *)(from))

/* A block is one vector, and its mask need not come from memory. */
static inline uint64_t bits_until(ptrdiff_t count) {
    return count <= 0 ? 0 : UINT64_MAX >> (CACHE_LINE - MIN(count, (ptrdiff_t)CACHE_LINE));
}
#define MIX_512(first, then, count, i) _mm512_mask_mov_epi8(then, bits_until(count), first)

#define LOOPS_NAME(name) name##_plain
#define LOOPS_TARGET
#define LINE_VECTOR __m128i
#define LINE_LOAD LOAD_128
#define LINE_MIX MIX
#define LINE_STORE(to, value) _mm_store_si128((void *)(to), value)
#define LINE_PIECE(to, from) _mm_store_si128((void *)(to), LOAD_128(from))
#include "mask/dense_line_loops.h"

#define LOOPS_NAME(name) name##_plain_past
#define LOOPS_TARGET
#define LINE_VECTOR __m128i
#define LINE_LOAD LOAD_128
#define LINE_MIX MIX
#define LINE_STORE(to, value) _mm_stream_si128((void *)(to), value)
#define LINE_PIECE(to, from) _mm_stream_si128((void *)(to), LOAD_128(from))
#include "mask/dense_line_loops.h"

#define LOOPS_NAME(name) name##_avx2
#define LOOPS_TARGET __attribute__((target("avx2")))
#define LINE_VECTOR __m256i
#define LINE_LOAD LOAD_256
#define LINE_MIX MIX
#define LINE_STORE(to, value) _mm256_store_si256((void *)(to), value)
#define LINE_PIECE(to, from) _mm_store_si128((void *)(to), LOAD_128(from))
#include "mask/dense_line_loops.h"

#define LOOPS_NAME(name) name##_avx2_past
#define LOOPS_TARGET __attribute__((target("avx2")))
#define LINE_VECTOR __m256i
#define LINE_LOAD LOAD_256
#define LINE_MIX MIX
#define LINE_STORE(to, value) _mm256_stream_si256((void *)(to), value)
#define LINE_PIECE(to, from) _mm_stream_si128((void *)(to), LOAD_128(from))
#include "mask/dense_line_loops.h"

#define LOOPS_NAME(name) name##_avx512
#define LOOPS_TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#define LINE_VECTOR __m512i
#define LINE_LOAD LOAD_512
#define LINE_MIX MIX_512
#define LINE_STORE(to, value) _mm512_store_si512((void *)(to), value)
#define LINE_PIECE(to, from) _mm_store_si128((void *)(to), LOAD_128(from))
#include "mask/dense_line_loops.h"

#define LOOPS_NAME(name) name##_avx512_past
#define LOOPS_TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#define LINE_VECTOR __m512i
#define LINE_LOAD LOAD_512
#define LINE_MIX MIX_512
#define LINE_STORE(to, value) _mm512_stream_si512((void *)(to), value)
#define LINE_PIECE(to, from) _mm_stream_si128((void *)(to), LOAD_128(from))
#include "mask/dense_line_loops.h"

static DenseLineFunction *const all_lines[][2] = {
    {line_plain, line_plain_past}, {line_avx2, line_avx2_past}, {line_avx512, line_avx512_past}};

void dense_line_flush(void) {
    _mm_sfence();
}
#else
typedef uint8_t Piece __attribute__((vector_size(LINE_UNIT)));

static inline Piece load_piece(const uint8_t *from) {
    Piece piece;

    memcpy(&piece, from, sizeof piece);
    return piece;
}

static inline void store_piece(uint8_t *to, Piece piece) {
    memcpy(to, &piece, sizeof piece);
}

#define LOOPS_NAME(name) name##_plain
#define LOOPS_TARGET
#define LINE_VECTOR Piece
#define LINE_LOAD load_piece
#define LINE_MIX MIX
#define LINE_STORE store_piece
#define LINE_PIECE(to, from) memcpy(to, from, LINE_UNIT)
#include "mask/dense_line_loops.h"

static DenseLineFunction *const all_lines[][2] = {{line_plain, line_plain}};

void dense_line_flush(void) {
}
#endif

DenseLineFunction *dense_line_find(bool past_cache) {
    return all_lines[convert_level()][past_cache];
}
