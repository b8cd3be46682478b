/* SPDX-License-Identifier: MIT */
/* dense_line_loops.h: the loops of dense_line.c, once for each kind of CPU and of store; like
 * convert_loops.h. LOOPS_NAME(x) names what is defined, LOOPS_TARGET is the compiler attribute,
 * LINE_VECTOR the widest vector, LINE_LOAD and LINE_STORE move one, LINE_PIECE stores 16 bytes; all
 * of them end here. */

/* The blocks at .. stop, all of the same bytes. Returns where the next one begins. */
LOOPS_TARGET static inline ptrdiff_t LOOPS_NAME(store_same)(uint8_t *to, ptrdiff_t at,
                                                            ptrdiff_t stop, const uint8_t *block) {
    LINE_VECTOR value = LINE_LOAD(block);

    for (; at + CACHE_LINE <= stop; at += CACHE_LINE)
        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
            LINE_STORE(to + at + i, value);
    return at;
}

LOOPS_TARGET static inline ptrdiff_t
LOOPS_NAME(store_inside)(uint8_t *to, ptrdiff_t at, ptrdiff_t stop, const uint8_t *inside) {
    for (; at + CACHE_LINE <= stop; at += CACHE_LINE)
        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
            LINE_STORE(to + at + i, LINE_LOAD(inside + at + i));
    return at;
}

/* A block in which something ends, or of which the line has only a part. */
LOOPS_TARGET static inline ptrdiff_t
LOOPS_NAME(store_mixed)(const DenseLine *line, const ptrdiff_t *ends, ptrdiff_t at, uint8_t *to) {
    const uint8_t *before = block_until(ends[0] - at), *until = block_until(ends[1] - at);
    const uint8_t *real = block_until(ends[2] - at);
    const uint8_t *inside = line->inside ? line->inside + at : line->kept;
    _Alignas(CACHE_LINE) LINE_VECTOR block[CACHE_LINE / sizeof(LINE_VECTOR)];

    for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR)) {
        LINE_VECTOR keeps = LINE_LOAD(until + i) & ~LINE_LOAD(before + i);
        LINE_VECTOR bytes = (LINE_LOAD(inside + i) & keeps) | (LINE_LOAD(line->out + i) & ~keeps);

        block[i / sizeof(LINE_VECTOR)] = bytes & LINE_LOAD(real + i);
    }
    if (at >= 0 && at + CACHE_LINE <= ends[3]) {
        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
            LINE_STORE(to + at + i, block[i / sizeof(LINE_VECTOR)]);
        return at + CACHE_LINE;
    }
    for (ptrdiff_t i = 0; i < CACHE_LINE; i += LINE_UNIT)
        if (at + i >= 0 && at + i < ends[3])
            LINE_PIECE(to + at + i, (const uint8_t *)block + i);
    return at + CACHE_LINE;
}

/* Block by block of memory, which need not begin where the line does. */
LOOPS_TARGET static void LOOPS_NAME(line)(const DenseLine *line, size_t low, size_t high,
                                          uint8_t *to) {
    const ptrdiff_t ends[] = {(ptrdiff_t)low, (ptrdiff_t)high, (ptrdiff_t)line->end,
                              (ptrdiff_t)line->bytes};
    ptrdiff_t at = -(ptrdiff_t)((uintptr_t)to % CACHE_LINE);

    if (at < 0)
        at = LOOPS_NAME(store_mixed)(line, ends, at, to);
    at = LOOPS_NAME(store_same)(to, at, ends[0], line->out);
    if (at < ends[0])
        at = LOOPS_NAME(store_mixed)(line, ends, at, to);
    at = line->inside ? LOOPS_NAME(store_inside)(to, at, ends[1], line->inside)
                      : LOOPS_NAME(store_same)(to, at, ends[1], line->kept);
    if (at < ends[1])
        at = LOOPS_NAME(store_mixed)(line, ends, at, to);
    at = LOOPS_NAME(store_same)(to, at, ends[2], line->out);
    while (at < ends[3])
        at = LOOPS_NAME(store_mixed)(line, ends, at, to);
}

#undef LOOPS_NAME
#undef LOOPS_TARGET
#undef LINE_VECTOR
#undef LINE_LOAD
#undef LINE_STORE
#undef LINE_PIECE
