/* SPDX-License-Identifier: MIT */
/* dense_line_loops.h: the loops of dense_line.c, once for each kind of CPU and of store; like
 * convert_loops.h. LOOPS_NAME(x) names what is defined, LOOPS_TARGET is the compiler attribute,
 * LINE_VECTOR the widest vector, LINE_LOAD and LINE_STORE move one, LINE_MIX puts one together of
 * two, LINE_PIECE stores 16 bytes; all of them end here. */

/* The blocks at .. stop, all of the same bytes. Returns where the next one begins. */
LOOPS_TARGET static inline ptrdiff_t LOOPS_NAME(store_same)(uint8_t *to, ptrdiff_t at,
                                                            ptrdiff_t stop, const uint8_t *block) {
    LINE_VECTOR value = LINE_LOAD(block);

    for (; at + CACHE_LINE <= stop; at += CACHE_LINE)
        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
            LINE_STORE(to + at + i, value);
    return at;
}

LOOPS_TARGET static inline ptrdiff_t LOOPS_NAME(store_copy)(uint8_t *to, ptrdiff_t at,
                                                            ptrdiff_t stop, const uint8_t *from) {
    for (; at + CACHE_LINE <= stop; at += CACHE_LINE)
        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
            LINE_STORE(to + at + i, LINE_LOAD(from + at + i));
    return at;
}

/* A block in which any spans from this one on meet, or of which the line has only a part. Those are
 * few, and short lines are faster when their code is not among that of the others. */
LOOPS_TARGET static __attribute__((noinline)) ptrdiff_t
LOOPS_NAME(store_mixed)(const DenseLine *line, const DenseSpan *span, ptrdiff_t at, uint8_t *to) {
    _Alignas(CACHE_LINE) LINE_VECTOR block[CACHE_LINE / sizeof(LINE_VECTOR)] = {0};
    const DenseSpan *last = span, *stop = line->spans + line->count;
    ptrdiff_t bytes = (ptrdiff_t)line->bytes;

    while (last < stop && (last == span || (ptrdiff_t)last[-1].end < at + CACHE_LINE))
        last++;
    while (last-- > span) {
        const uint8_t *from = span_at(last, at);
        ptrdiff_t count = (ptrdiff_t)last->end - at;

        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR)) {
            LINE_VECTOR *part = &block[i / sizeof(LINE_VECTOR)];

            *part = LINE_MIX(LINE_LOAD(from + i), *part, count, i);
        }
    }
    if (at >= 0 && at + CACHE_LINE <= bytes) {
        for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
            LINE_STORE(to + at + i, block[i / sizeof(LINE_VECTOR)]);
        return at + CACHE_LINE;
    }
    for (ptrdiff_t i = 0; i < CACHE_LINE; i += LINE_UNIT)
        if (at + i >= 0 && at + i < bytes)
            LINE_PIECE(to + at + i, (const uint8_t *)block + i);
    return at + CACHE_LINE;
}

/* A block that a span shares with the next one alone. */
LOOPS_TARGET static inline ptrdiff_t LOOPS_NAME(store_two)(const DenseSpan *span, ptrdiff_t at,
                                                           uint8_t *to) {
    const uint8_t *first = span_at(span, at), *then = span_at(span + 1, at);
    ptrdiff_t count = (ptrdiff_t)span->end - at;

    for (size_t i = 0; i < CACHE_LINE; i += sizeof(LINE_VECTOR))
        LINE_STORE(to + at + i, LINE_MIX(LINE_LOAD(first + i), LINE_LOAD(then + i), count, i));
    return at + CACHE_LINE;
}

/* Block by block of memory, which need not begin where the line does. */
LOOPS_TARGET static void LOOPS_NAME(line)(const DenseLine *line, uint8_t *to) {
    const DenseSpan *span = line->spans, *stop = span + line->count;
    ptrdiff_t at = -(ptrdiff_t)((uintptr_t)to % CACHE_LINE);

    if (at < 0)
        at = LOOPS_NAME(store_mixed)(line, span, at, to);
    for (; span < stop; span++) {
        ptrdiff_t end = (ptrdiff_t)span->end;

        if (at >= end)
            continue;
        at = span->repeats ? LOOPS_NAME(store_same)(to, at, end, span->from)
                           : LOOPS_NAME(store_copy)(to, at, end, span->from);
        if (at >= end)
            continue;
        at = span + 1 < stop && at + CACHE_LINE <= (ptrdiff_t)span[1].end
                 ? LOOPS_NAME(store_two)(span, at, to)
                 : LOOPS_NAME(store_mixed)(line, span, at, to);
    }
    while (at < (ptrdiff_t)line->bytes)
        at = LOOPS_NAME(store_mixed)(line, span, at, to);
}

#undef LOOPS_NAME
#undef LOOPS_TARGET
#undef LINE_VECTOR
#undef LINE_LOAD
#undef LINE_MIX
#undef LINE_STORE
#undef LINE_PIECE
