/* SPDX-License-Identifier: MIT */
/* token_loops.h: the loops of token_lists.c, once for each kind of CPU; like convert_loops.h.
 * LOOPS_NAME(x) names what is defined, LOOPS_TARGET is the compiler attribute. Simple enough that
 * compilers turn them into vector code: all ids of a group are compared while a token is there. */

#define IS(i) (value == w##i)
#define IS_1 IS(0)
#define IS_2 (IS(0) | IS(1))
#define IS_4 (IS_2 | IS(2) | IS(3))
#define IS_8 (IS_4 | IS(4) | IS(5) | IS(6) | IS(7))
#define IS_16 (IS_8 | IS(8) | IS(9) | IS(10) | IS(11) | IS(12) | IS(13) | IS(14) | IS(15))

#define NONE_OF(name, Token, hit)                                                       \
    LOOPS_TARGET static void LOOPS_NAME(name)(const void *tokens, size_t count,         \
                                              const uint64_t *ids, uint32_t id_count,   \
                                              uint8_t *restrict to) {                   \
        const Token *restrict in = tokens;                                              \
        const Token w0 = (Token)ids[0], w1 = (Token)ids[1], w2 = (Token)ids[2];         \
        const Token w3 = (Token)ids[3], w4 = (Token)ids[4], w5 = (Token)ids[5];         \
        const Token w6 = (Token)ids[6], w7 = (Token)ids[7], w8 = (Token)ids[8];         \
        const Token w9 = (Token)ids[9], w10 = (Token)ids[10], w11 = (Token)ids[11];     \
        const Token w12 = (Token)ids[12], w13 = (Token)ids[13], w14 = (Token)ids[14];   \
        const Token w15 = (Token)ids[15];                                               \
                                                                                        \
        (void)w1, (void)w2, (void)w3, (void)w4, (void)w5, (void)w6, (void)w7, (void)w8; \
        (void)w9, (void)w10, (void)w11, (void)w12, (void)w13, (void)w14, (void)w15;     \
        for (size_t i = 0; i < count; i++) {                                            \
            Token value = in[i];                                                        \
            to[i] = !(hit);                                                             \
        }                                                                               \
    }

#define NONE_OF_ALL(bits, Token)          \
    NONE_OF(none_##bits##_1, Token, IS_1) \
    NONE_OF(none_##bits##_2, Token, IS_2) \
    NONE_OF(none_##bits##_4, Token, IS_4) \
    NONE_OF(none_##bits##_8, Token, IS_8) \
    NONE_OF(none_##bits##_16, Token, IS_16)

NONE_OF_ALL(8, uint8_t)
NONE_OF_ALL(16, uint16_t)
NONE_OF_ALL(32, uint32_t)
NONE_OF_ALL(64, uint64_t)

#define ROW(bits)                                                                              \
    {                                                                                          \
        LOOPS_NAME(none_##bits##_1), LOOPS_NAME(none_##bits##_2), LOOPS_NAME(none_##bits##_4), \
            LOOPS_NAME(none_##bits##_8), LOOPS_NAME(none_##bits##_16)                          \
    }
static const TokenLoops LOOPS_NAME(loops) = {.none_of = {ROW(8), ROW(16), ROW(32), ROW(64)}};
#undef ROW
#undef NONE_OF_ALL
#undef NONE_OF
#undef IS
#undef IS_1
#undef IS_2
#undef IS_4
#undef IS_8
#undef IS_16
