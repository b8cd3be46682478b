/* SPDX-License-Identifier: MIT */
/* Lines of every kind of CPU and store, at every place in a block of memory, against their
 * definition byte by byte. */
#include "mask/dense_line.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "mask/convert.h"
#include "support/check_main.h"

enum { LEVELS = 3, ROUNDS = 6000, UNIT = 16, LONGEST = 700, GUARD = 128 };

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

typedef struct Case {
    DenseLine line;
    size_t low, high, begin; /* begin: of the line in a block of memory */
    uint8_t *inside;
} Case;

static void case_init(Case *test, uint32_t seed) {
    size_t element = (size_t)1 << seed % 4, margin = DENSE_LINE_MARGIN;
    uint8_t pattern[2][8];

    draw_seed = seed;
    draw_count = 0;
    *test = (Case){.begin = (size_t)draw(CACHE_LINE / UNIT) * UNIT};
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i / 8][i % 8] = (uint8_t)draw(256);
    for (size_t i = 0; i < CACHE_LINE; i++) {
        test->line.kept[i] = pattern[0][i % element];
        test->line.out[i] = seed % 5 ? pattern[1][i % element] : 0;
    }
    test->line.bytes = (size_t)UNIT * (draw(draw(2) ? 9 : LONGEST / UNIT) + 1);
    test->line.end = draw(3) ? test->line.bytes : draw_end(test->line.bytes, element);
    test->high = draw_end(test->line.end, element);
    test->low = draw(2) ? 0 : draw_end(test->high, element);
    if (draw(2))
        return;
    test->inside = malloc(test->line.bytes + 2 * margin); /* exactly: sanitizers see reads beyond */
    for (size_t i = 0; i < test->line.bytes + 2 * margin; i++)
        test->inside[i] = (uint8_t)draw(256);
    test->line.inside = test->inside + margin;
}

static uint8_t expected(const Case *test, size_t at) {
    const DenseLine *line = &test->line;

    if (at >= line->end)
        return 0;
    if (at < test->low || at >= test->high)
        return line->out[at % CACHE_LINE];
    return line->inside ? line->inside[at] : line->kept[at % CACHE_LINE];
}

static void check_case(const Case *test, bool past_cache) {
    static _Alignas(CACHE_LINE) uint8_t memory[LONGEST + CACHE_LINE + 2 * GUARD];
    uint8_t *to = memory + GUARD + test->begin;

    memset(memory, 0xa5, sizeof memory);
    dense_line_find(past_cache)(&test->line, test->low, test->high, to);
    dense_line_flush();
    for (size_t i = 0; i < test->line.bytes; i++)
        if (to[i] != expected(test, i))
            ck_abort_msg("seed %u, level %d, past the cache %d: byte %zu is %x, not %x", draw_seed,
                         convert_level(), past_cache, i, to[i], expected(test, i));
    for (size_t i = 0; i < sizeof memory; i++)
        if (memory[i] != 0xa5 && (memory + i < to || memory + i >= to + test->line.bytes))
            ck_abort_msg("seed %u, level %d: byte %zd", draw_seed, convert_level(),
                         memory + i - to);
}

START_TEST(a_line_is_two_values_around_a_run_on_every_kind_of_cpu)
{
    for (uint32_t seed = 0; seed < ROUNDS; seed++) {
        Case test;

        case_init(&test, seed);
        for (int level = 0; level < LEVELS; level++) {
            if (convert_set_level(level) != level)
                continue;
            check_case(&test, false);
            check_case(&test, true);
        }
        free(test.inside);
    }
}
END_TEST

CHECK_MAIN("dense_line", a_line_is_two_values_around_a_run_on_every_kind_of_cpu)
