/* SPDX-License-Identifier: MIT */
/* Lines for every kind of CPU and store, at every place in a block of memory, against their
 * definition byte by byte. */
#include "mask/dense_line.h"

#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/random.h"
#include "mask/convert.h"
#include "support/check_main.h"

enum { LEVELS = 3, ROUNDS = 6000, UNIT = 16, LONGEST = 700, GUARD = 128 };
enum { SWEPT = 4 * CACHE_LINE }; /* bytes of a line of which every cut is tried */

static uint32_t draw_seed, draw_count;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

/* Ends of runs lie anywhere, and often at or next to the ends of blocks. */
static size_t draw_end(size_t most, size_t element) {
    size_t end = draw((uint32_t)most + 1);

    if (draw(2))
        end = end / CACHE_LINE * CACHE_LINE + (size_t)draw(3) * element;
    return MIN(end, most) / element * element;
}

/* A line whose spans are drawn; each has a part of memory as long as a line and its margins, so
 * that sanitizers see reads beyond. */
typedef struct Case {
    DenseLine line;
    size_t begin; /* of the line in a block of memory */
    uint8_t *memory[DENSE_LINE_SPANS_MAX];
} Case;

static void span_init(Case *test, uint32_t s, size_t element, bool repeats, size_t end) {
    size_t bytes = repeats ? CACHE_LINE : test->line.bytes + 2 * DENSE_LINE_MARGIN;

    test->memory[s] = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        test->memory[s][i] = repeats && i >= element ? test->memory[s][i - element]
                                                     : (uint8_t)draw(256);
    test->line.spans[s] = (DenseSpan){.from = test->memory[s] + (repeats ? 0 : DENSE_LINE_MARGIN),
                                      .end = end,
                                      .repeats = repeats};
}

static void case_init(Case *test, uint32_t seed) {
    size_t element = (size_t)1 << seed % 4, end;

    draw_seed = seed;
    draw_count = 0;
    *test = (Case){.begin = (size_t)draw(CACHE_LINE / UNIT) * UNIT};
    test->line.bytes = (size_t)UNIT * (draw(draw(2) ? 9 : LONGEST / UNIT) + 1);
    test->line.count = draw(DENSE_LINE_SPANS_MAX + 1);
    end = draw(3) ? test->line.bytes : draw_end(test->line.bytes, element);
    for (uint32_t s = test->line.count; s-- > 0;) {
        span_init(test, s, element, draw(2), end);
        end = draw_end(end, element);
    }
}

static void case_deinit(Case *test) {
    for (uint32_t s = 0; s < DENSE_LINE_SPANS_MAX; s++)
        free(test->memory[s]);
}

static uint8_t expected(const DenseLine *line, size_t at) {
    for (uint32_t s = 0; s < line->count; s++)
        if (at < line->spans[s].end)
            return line->spans[s].from[line->spans[s].repeats ? at % CACHE_LINE : at];
    return 0;
}

static void check_line(const DenseLine *line, size_t begin, bool past_cache) {
    static _Alignas(CACHE_LINE) uint8_t memory[LONGEST + CACHE_LINE + 2 * GUARD];
    uint8_t *to = memory + GUARD + begin;

    memset(memory, 0xa5, sizeof memory);
    dense_line_find(past_cache)(line, to);
    dense_line_flush();
    for (size_t i = 0; i < line->bytes; i++)
        if (to[i] != expected(line, i))
            ck_abort_msg("seed %u, level %d, past the cache %d, begin %zu: byte %zu is %x, not %x",
                         draw_seed, convert_level(), past_cache, begin, i, to[i],
                         expected(line, i));
    for (size_t i = 0; i < sizeof memory; i++)
        if (memory[i] != 0xa5 && (memory + i < to || memory + i >= to + line->bytes))
            ck_abort_msg("seed %u, level %d: byte %zd", draw_seed, convert_level(),
                         memory + i - to);
}

static void check_levels(const Case *test) {
    for (int level = 0; level < LEVELS; level++) {
        if (convert_set_level(level) != level)
            continue;
        check_line(&test->line, test->begin, false);
        check_line(&test->line, test->begin, true);
    }
}

START_TEST(a_line_is_its_spans_on_every_kind_of_cpu)
{
    for (uint32_t seed = 0; seed < ROUNDS; seed++) {
        Case test;

        case_init(&test, seed);
        check_levels(&test);
        case_deinit(&test);
    }
}
END_TEST

/* The second of three: every place where it begins, in a line that begins anywhere. */
static void sweep(Case *test) {
    static const size_t widths[] = {0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130};
    size_t end = test->line.spans[2].end;

    for (size_t first = 0; first <= end; first++) {
        for (size_t w = 0; w < ARRAY_COUNT(widths); w++) {
            test->line.spans[0].end = first;
            test->line.spans[1].end = MIN(first + widths[w], end);
            test->begin = (first + w) % (CACHE_LINE / UNIT) * UNIT;
            check_levels(test);
        }
    }
}

START_TEST(spans_meet_at_any_byte)
{
    for (uint32_t kinds = 0; kinds < 8; kinds++) {
        Case test = {.line = {.count = 3, .bytes = SWEPT}};

        draw_seed = ROUNDS + kinds;
        draw_count = 0;
        for (uint32_t s = 0; s < test.line.count; s++)
            span_init(&test, s, 1, kinds >> s & 1, SWEPT - 3);
        sweep(&test);
        case_deinit(&test);
    }
}
END_TEST

/* A load is not from the place in its page that any of the last stores has in another. */
START_TEST(one_of_two_copies_half_a_page_apart_need_not_wait)
{
    static const uint8_t memory[4 * DENSE_LINE_APART];
    const uint8_t *to = memory + 1600;

    for (uint32_t i = 0; i < 2 * DENSE_LINE_APART; i++) {
        const uint8_t *from = memory + i;

        ck_assert(dense_line_waits(from, to) != dense_line_waits(from + DENSE_LINE_APART, to));
        for (ptrdiff_t back = 0; back < 24 * CACHE_LINE; back++)
            if ((from - (to - back)) % 4096 == 0)
                ck_assert(dense_line_waits(from, to));
    }
}
END_TEST

CHECK_MAIN("dense_line", a_line_is_its_spans_on_every_kind_of_cpu, spans_meet_at_any_byte,
           one_of_two_copies_half_a_page_apart_need_not_wait)
