/* SPDX-License-Identifier: MIT */
/* plan_count: what the policies waste, and how fast an epoch is counted, on the lengths of the
 * benchmarks (log-normal, median 180, sigma 0.8, 1..2048) in blocks of 128 Ki tokens and windows of
 * 64 blocks, one core. Beside the policies stand random batches of 64 and best-fit-decreasing over
 * the whole set, which no stream can reach.
 *
 *   plan_count [SEQUENCES] */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "plan/plan.h"

enum { LONGEST = 2048, BLOCK_TOKENS = 128 << 10, WINDOW = 64, SIZE = 64 };

typedef struct Lengths {
    uint32_t *all;
    uint64_t count, tokens;
    uint32_t *block_sequences, *block_tokens;
    uint64_t *block_first;
    PlanBlocks blocks;
} Lengths;

static void *memory(uint64_t bytes) {
    void *got = calloc(1, bytes + 1);

    if (!got)
        abort();
    return got;
}

static double now(void) {
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static uint32_t draw_length(uint64_t number) {
    RandomBlock words = random_philox(1, (uint32_t)number, (uint32_t)(number >> 32), 0, 0);
    double u = (words.word[0] + 0.5) / 4294967296.0, v = words.word[1] / 4294967296.0;
    double length = 180 * exp(0.8 * sqrt(-2 * log(u)) * cos(6.283185307179586 * v));

    return length < 1 ? 1 : length > LONGEST ? LONGEST : (uint32_t)length;
}

static void make_lengths(Lengths *lengths, uint64_t count) {
    uint64_t blocks_max = count * LONGEST / BLOCK_TOKENS + 1;

    *lengths = (Lengths){.all = memory(count * sizeof(uint32_t)), .count = count};
    lengths->block_sequences = memory(blocks_max * sizeof(uint32_t));
    lengths->block_tokens = memory(blocks_max * sizeof(uint32_t));
    lengths->block_first = memory(blocks_max * sizeof(uint64_t));
    for (uint64_t i = 0, block = 0; i < count; i++) {
        uint32_t length = lengths->all[i] = draw_length(i);

        if (lengths->block_tokens[block] + length > BLOCK_TOKENS)
            lengths->block_first[++block] = i;
        lengths->block_sequences[block]++;
        lengths->block_tokens[block] += length;
        lengths->tokens += length;
        lengths->blocks.count = (uint32_t)block + 1;
    }
    lengths->blocks.sequences = lengths->block_sequences;
    lengths->blocks.tokens = lengths->block_tokens;
}

static uint64_t gather(const Lengths *lengths, const PlanStrand *strand, uint32_t window,
                       uint32_t *to, uint32_t *ret_sequences) {
    uint64_t count = 0;

    for (uint32_t i = 0; i < strand->windows[window].block_count; i++) {
        uint32_t block = strand->blocks[strand->windows[window].block_first + i];

        ret_sequences[i] = lengths->block_sequences[block];
        memcpy(to + count, lengths->all + lengths->block_first[block],
               ret_sequences[i] * sizeof *to);
        count += ret_sequences[i];
    }
    return count;
}

/* Places of all batches of the epoch, from their units. */
static uint64_t count_places(const PlanSpec *spec, const Lengths *lengths, PlanEpoch *epoch,
                             uint32_t *scratch_lengths, uint32_t *sequences) {
    PlanUnit *pieces = memory(lengths->count * sizeof *pieces);
    uint32_t *firsts = memory((lengths->count + 1) * sizeof *firsts);
    const PlanStrand *strand = &epoch->strands[0];
    PlanScratch scratch = {0};
    uint64_t places = 0, rows = 0, longest = 0;

    for (uint32_t w = 0; w < strand->window_count; w++) {
        uint64_t count = gather(lengths, strand, w, scratch_lengths, sequences);

        if (plan_window_units_make(spec, epoch, 0, w, scratch_lengths, sequences, count, &scratch,
                                   pieces, firsts) < 0)
            abort();
        for (uint64_t u = 0; u < plan_window_units(strand, w); u++) {
            uint64_t first = spec->policy == PLAN_POLICY_FIXED ? u : firsts[u];
            uint64_t last = spec->policy == PLAN_POLICY_FIXED ? u + 1 : firsts[u + 1];

            for (uint64_t p = first; p < last; p++)
                longest = MAX(longest, (uint64_t)pieces[p].length);
            rows += plan_units_are_batches(spec) ? last - first : 1;
            if (plan_units_are_batches(spec) || rows == spec->size) {
                places += rows * plan_shape_length(spec, (uint32_t)longest);
                rows = longest = 0;
            }
        }
    }
    plan_scratch_free(&scratch);
    free(pieces);
    free(firsts);
    return places + rows * plan_shape_length(spec, (uint32_t)longest);
}

static void measure(const char *name, const PlanSpec *spec, const Lengths *lengths) {
    uint32_t *some = memory(lengths->count * sizeof *some), *units, strand;
    uint32_t *sequences = memory(lengths->blocks.count * sizeof *sequences);
    PlanScratch scratch = {0};
    PlanTally sum = {0};
    PlanEpoch *epoch;
    double seconds;

    if (plan_epoch_new(spec, &lengths->blocks, 0, &epoch) < 0)
        abort();
    units = memory(epoch->strands[0].window_count * sizeof *units);
    seconds = now();
    for (uint32_t w = 0; w < epoch->strands[0].window_count; w++) {
        uint64_t count = gather(lengths, &epoch->strands[0], w, some, sequences);
        PlanTally tally;

        if (plan_count_window(spec, epoch, 0, w, some, count, &scratch, &tally) < 0)
            abort();
        units[w] = (uint32_t)tally.units;
        plan_tally_add(&sum, &tally);
    }
    seconds = now() - seconds;
    if (plan_epoch_finish(spec, epoch, &units, &sum, &strand) < 0)
        abort();
    printf("%-26s %7.3f %% %9" PRIu64 " batches %8.1f M sequences/s counted\n", name,
           100 - 100.0 * (double)lengths->tokens /
                     (double)count_places(spec, lengths, epoch, some, sequences),
           epoch->batch_count, (double)lengths->count / seconds * 1e-6);
    plan_epoch_free(epoch);
    plan_scratch_free(&scratch);
    free(some);
    free(sequences);
    free(units);
}

/* Best-fit-decreasing over everything: lengths by falling size into the fullest row that fits. */
static void measure_best_fit(const Lengths *lengths) {
    uint64_t count[LONGEST + 1] = {0}, rooms[LONGEST + 1] = {0}, rows = 0;

    for (uint64_t i = 0; i < lengths->count; i++)
        count[lengths->all[i]]++;
    for (uint32_t length = LONGEST; length >= 1; length--)
        for (uint64_t n = count[length]; n > 0; n--) {
            uint32_t room = length;

            while (room <= LONGEST && rooms[room] == 0)
                room++;
            rows += room > LONGEST;
            rooms[room > LONGEST ? LONGEST : room] -= room <= LONGEST;
            rooms[(room > LONGEST ? LONGEST : room) - length]++;
        }
    printf("%-26s %7.3f %%\n", "(best-fit-decreasing)",
           100 - 100.0 * (double)lengths->tokens / ((double)rows * LONGEST));
}

int main(int argc, char **argv) {
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    uint32_t boundaries[PLAN_BOUNDARIES_MAX], boundary_count = 0;
    PlanSpec spec = {.shuffle = true,
                     .seed = 1,
                     .window = WINDOW,
                     .strands = 1,
                     .size = SIZE,
                     .length_max = LONGEST,
                     .pad_multiple_of = 1,
                     .tokens = 65536,
                     .multiple_of = 1,
                     .length = LONGEST,
                     .pool = 256,
                     .boundaries = boundaries};
    Lengths lengths;

    if (count == 0 || count > UINT32_MAX)
        return EXIT_FAILURE;
    for (uint32_t b = 8; b < LONGEST; b = MAX(b + 1, b * 11 / 10))
        boundaries[boundary_count++] = b;
    boundaries[boundary_count++] = LONGEST;
    spec.boundary_count = boundary_count;
    make_lengths(&lengths, count);
    printf("%" PRIu64 " sequences, %" PRIu64 " tokens, %u blocks, windows of %d; padding:\n",
           lengths.count, lengths.tokens, lengths.blocks.count, WINDOW);
    measure("fixed 64", &spec, &lengths);
    spec.policy = PLAN_POLICY_BUCKET;
    measure("bucket 64, x1.1", &spec, &lengths);
    spec.policy = PLAN_POLICY_TOKENS;
    measure("tokens 65536", &spec, &lengths);
    spec.policy = PLAN_POLICY_PACK;
    spec.size = 8;
    measure("pack 8 x 2048, pool 256", &spec, &lengths);
    measure_best_fit(&lengths);
    return EXIT_SUCCESS;
}
