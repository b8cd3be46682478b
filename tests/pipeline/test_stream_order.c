/* SPDX-License-Identifier: MIT */
/* What order promises, over random settings of every policy: any number of ranks gets the same
 * batches, any round can be resumed at, and a strand's ranks read no other strand's blocks. Batches
 * are compared by a hash of all their bytes; what is in them, test_stream.c and the Python
 * references look at. */
#include "base/random.h"
#include "pipeline/stream_bench.h"

enum { BATCHES_MAX = 2000, PLANS = 3 };

typedef struct Sum {
    uint64_t content; /* of descriptor and tensors */
    uint64_t next_epoch, next_index;
} Sum;

typedef struct Run {
    uint64_t batches; /* of the epoch */
    Sum sums[BATCHES_MAX];
} Run;

static const uint32_t all_ranks[] = {0, 1, 2, 3, 4, 5, 6, 7};

static uint64_t hash(uint64_t sum, const void *bytes, size_t size) {
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* Everything but where the batch stands: ring, rank, repetitions and cursors differ by right. */
static uint64_t batch_content(const Bench *bench, uint32_t ring, const SeqfeedDescriptor *batch) {
    const uint64_t numbers[] = {
        batch->tokens,    batch->slots,   batch->rows,  batch->sequences,   batch->squares,
        batch->truncated, batch->ignored, batch->items, batch->items_first, batch->tensor_count};
    uint64_t sum = hash(UINT64_C(0xcbf29ce484222325), numbers, sizeof numbers);

    for (uint32_t t = 0; t < batch->tensor_count; t++) {
        SeqfeedTensorRecord record = batch->tensors[t];
        const uint8_t *data = bench_tensor(bench, ring, batch, record.name, &record);

        sum = hash(sum, &record, sizeof record);
        sum = hash(sum, data, record.size_bytes);
    }
    return sum;
}

/* One of the policies with settings drawn from `dice`; they stand in `to` as a feed's lines. */
static void draw_settings(PlanPolicy policy, uint32_t dice, char *to, size_t size) {
    static const char *const lasts[] = {"keep", "drop", "pad"}, *const tails[] = {"repeat", "drop"};
    static const char *const overflows[] = {"split", "truncate_left", "drop", "truncate_right"};
    const char *last = lasts[dice % 3], *tail = tails[dice / 3 % 4 == 3];
    char batch[200];

    if (policy == PLAN_POLICY_FIXED)
        snprintf(batch, sizeof batch, "size: %u", 3 + dice % 7);
    else if (policy == PLAN_POLICY_BUCKET)
        snprintf(batch, sizeof batch, "policy: bucket, size: %u, shape: %s", 2 + dice % 6,
                 dice % 2 ? "longest" : "bucket");
    else if (policy == PLAN_POLICY_TOKENS)
        snprintf(batch, sizeof batch, "policy: tokens, tokens: %u, multiple_of: %u",
                 400 + dice % 300, 1 + dice % 3);
    else
        snprintf(batch, sizeof batch, "policy: pack, size: %u, length: %u, pool: %u, group: %u",
                 1 + dice % 3, 100 + dice % 60, 1 + dice % 20, dice % 4);
    snprintf(to, size,
             "    batch: {%s, last: %s, tail: %s}\n"
             "    length: {max: %u, overflow: %s, empty: %s}\n",
             batch, last, tail, 60 + dice % 30, overflows[dice / 7 % 4],
             dice / 5 % 2 ? "keep" : "drop");
}

static BenchOptions draw_options(PlanPolicy policy, uint32_t number, char *extra, size_t size) {
    uint32_t dice = random_philox(77, number, policy, 0, 0).word[0] >> 4;

    draw_settings(policy, dice, extra, size);
    return (BenchOptions){.sequences = 700,
                          .block_target = 4096,
                          .window = 1 + dice / 11 % 4,
                          .strands = 1 + dice / 13 % 3,
                          .world = 1,
                          .ring_count = 1,
                          .members = 1,
                          .ranks = all_ranks,
                          .extra = extra};
}

static uint64_t epoch_batches(Bench *bench, uint64_t number) {
    FeedEpoch *epoch;
    uint64_t count;

    ck_assert_int_eq(
        feed_epoch_get(bench->feed, bench->feed->plan.seed, number, NULL, &epoch, NULL), 0);
    count = epoch->plan->batch_count;
    feed_epoch_unref(bench->feed, epoch);
    return count;
}

static Sum take(Bench *bench, uint32_t ring) {
    const SeqfeedDescriptor *batch = bench_next(bench, ring);
    Sum sum = {.content = batch_content(bench, ring, batch),
               .next_epoch = batch->next_epoch,
               .next_index = batch->next_index};

    bench_release(bench, ring);
    return sum;
}

/* One rank's whole epoch, uninterrupted: what everything else is compared with. */
static void run_alone(BenchOptions options, uint64_t epoch, Run *ret_run) {
    Bench bench;

    options.epoch = epoch;
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    ret_run->batches = epoch_batches(&bench, epoch);
    ck_assert_uint_le(ret_run->batches, BATCHES_MAX);
    for (uint64_t i = 0; i < ret_run->batches; i++)
        ret_run->sums[i] = take(&bench, 0);
    bench_end(&bench);
}

static void check_world(BenchOptions options, uint32_t world, const Run *alone) {
    Bench bench;
    uint64_t rounds;

    options.world = options.ring_count = world;
    bench_make(&bench, &options);
    rounds = plan_round_count(bench.feed->plan.tail, alone->batches, 0, world);
    if (rounds > 0)
        bench_start(&bench, &options);
    for (uint64_t round = 0; round < rounds; round++)
        for (uint32_t rank = 0; rank < world; rank++) {
            uint64_t place = round * world + rank;
            Sum sum = take(&bench, rank);

            if (sum.content != alone->sums[place % alone->batches].content)
                ck_abort_msg("world %u, place %lu of %lu:\n%s", world, (unsigned long)place,
                             (unsigned long)alone->batches, options.extra);
        }
    bench_end(&bench);
}

START_TEST(any_world_gets_the_same_batches)
{
    static const uint32_t worlds[] = {2, 3, 4, 7, 8};
    static Run alone;
    char extra[512];

    for (uint32_t number = 0; number < 4 * PLANS; number++) {
        BenchOptions options = draw_options(number % 4, number, extra, sizeof extra);

        run_alone(options, 0, &alone);
        for (size_t w = 0; w < ARRAY_COUNT(worlds); w++)
            check_world(options, worlds[w], &alone);
    }
}
END_TEST

/* Begin where round `round` of a stream of `world` ranks ends, with `ranks` of them: the next
 * batches are those that the uninterrupted run had there. */
static void check_resumed(Bench *bench, BenchOptions *options, const Run runs[2], uint64_t index,
                          uint64_t rounds) {
    uint64_t batches = runs[0].batches, place = index;
    const Run *run = &runs[0];

    options->index = index;
    bench_start(bench, options);
    for (uint64_t round = 0; round < rounds; round++) {
        if (place >= batches ||
            plan_round_count(bench->feed->plan.tail, batches, place, options->world) == 0) {
            if (run == &runs[1])
                break;
            run = &runs[1];
            batches = run->batches;
            place = 0;
        }
        for (uint32_t rank = 0; rank < options->world; rank++, place++)
            if (take(bench, rank).content != run->sums[place % batches].content)
                ck_abort_msg("resumed at %lu with world %u, place %lu of %lu:\n%s",
                             (unsigned long)index, options->world, (unsigned long)place,
                             (unsigned long)batches, options->extra);
    }
    bench_stop(bench);
}

START_TEST(any_round_can_be_resumed_at)
{
    static const uint32_t worlds[] = {1, 3};
    static Run runs[2];
    char extra[512];

    for (uint32_t number = 0; number < 4 * PLANS; number++) {
        BenchOptions options = draw_options(number % 4, 100 + number, extra, sizeof extra);

        run_alone(options, 0, &runs[0]);
        run_alone(options, 1, &runs[1]);
        for (size_t w = 0; w < ARRAY_COUNT(worlds); w++) {
            Bench bench;

            options.world = options.ring_count = worlds[w];
            options.index = 0;
            bench_make(&bench, &options);
            /* Each round of the uninterrupted run, and then some rounds from there; whole rest from
             * some of them. */
            for (uint64_t at = 0; at < runs[0].batches; at += options.world)
                check_resumed(&bench, &options, runs, at,
                              at / options.world % 16 == 5 ? UINT64_MAX : 3);
            bench_end(&bench);
        }
    }
}
END_TEST

/* As many ranks as strands, each alone on its machine: half an epoch, so that nothing of the next
 * one is read yet. */
START_TEST(a_strand_reads_no_block_of_another)
{
    static const char *const batches[] = {
        [PLAN_POLICY_FIXED] = "    batch: {size: 8}\n",
        [PLAN_POLICY_BUCKET] = "    batch: {policy: bucket, size: 4}\n",
        [PLAN_POLICY_TOKENS] = "    batch: {policy: tokens, tokens: 400}\n",
        [PLAN_POLICY_PACK] = "    batch: {policy: pack, size: 2, length: 120}\n"};
    const uint32_t strands = 4;

    for (uint32_t i = 0; i < ARRAY_COUNT(batches) * strands; i++) {
        uint32_t rank = i % strands;
        BenchOptions options = {.sequences = 3000,
                                .block_target = 4096,
                                .window = 2,
                                .strands = strands,
                                .world = strands,
                                .ring_count = 1,
                                .members = 1,
                                .ranks = &all_ranks[rank],
                                .extra = batches[i / strands]};
        FeedEpoch *epoch;
        StreamStatus status;
        uint64_t own, all = 0;
        Bench bench;

        bench_make(&bench, &options);
        ck_assert_int_eq(feed_epoch_get(bench.feed, bench.feed->plan.seed, 0, NULL, &epoch, NULL),
                         0);
        own = epoch->plan->strands[rank].block_count;
        for (uint32_t s = 0; s < strands; s++)
            all += epoch->plan->strands[s].block_count;
        ck_assert_uint_lt(2 * own, all);
        bench_start(&bench, &options);
        for (uint64_t b = 0; b < epoch->plan->strands[rank].batch_count / 2; b++)
            (void)take(&bench, 0);
        stream_status(bench.stream, &status);
        ck_assert_uint_ge(status.blocks_decoded, own / 2 - 1);
        ck_assert_uint_le(status.blocks_decoded, own);
        ck_assert_uint_le(status.blocks_read, own);
        feed_epoch_unref(bench.feed, epoch);
        bench_end(&bench);
    }
}
END_TEST

CHECK_MAIN("stream_order", any_world_gets_the_same_batches, any_round_can_be_resumed_at,
           a_strand_reads_no_block_of_another)
