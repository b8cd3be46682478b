/* SPDX-License-Identifier: MIT */
/* Whole streams, mostly in one thread, against batches that are worked out from the plan and the
 * rule by which the test's dataset was made. (Python tests compare daemon and plan with a reference
 * that shares no code with them.) */
#include "pipeline/stream_bench.h"

/* A window's units, and the sequence of the dataset that each belongs to. */
typedef struct Expected {
    const Feed *feed;
    FeedEpoch *epoch;
    PlanSpec spec;
} Expected;

/* Does expected_unit() hold the units of the current epoch? */
static bool kept;

/* Piece `piece` of a unit, and how many the unit has. */
static PlanUnit expected_piece(const Expected *expected, uint32_t strand, uint64_t unit,
                               uint32_t piece, uint64_t *ret_sequence, uint32_t *ret_pieces) {
    const Catalog *catalog = expected->feed->catalog;
    const PlanStrand *plan = &expected->epoch->plan->strands[strand];
    uint32_t number = plan_window_of_unit(plan, unit);
    const PlanWindow *window = &plan->windows[number];
    static uint32_t lengths[200000], counts[5000];
    static PlanUnit units[400000];
    static uint32_t firsts[400001];
    static uint32_t kept_strand, kept_number;
    PlanUnit found;
    uint32_t block;

    unit -= plan->unit_sums[number];

    if (!kept || kept_strand != strand || kept_number != number) {
        uint64_t at = 0;
        for (uint32_t i = 0; i < window->block_count; i++) {
            block = plan->blocks[window->block_first + i];
            if (catalog_read_lengths(catalog, block, lengths + at, NULL) != 0)
                ck_abort();
            counts[i] = catalog->block_sequences[block];
            at += counts[i];
        }
        PlanScratch scratch = {0};
        for (uint32_t u = 0; u < ARRAY_COUNT(firsts); u++)
            firsts[u] = u;
        ck_assert_int_eq(plan_window_units_make(&expected->spec, expected->epoch->plan, strand,
                                                number, lengths, counts,
                                                expected->spec.policy == PLAN_POLICY_FIXED
                                                    ? plan_window_units(plan, number)
                                                    : ARRAY_COUNT(units),
                                                &scratch, units, firsts),
                         0);
        plan_scratch_free(&scratch);
        kept = true;
        kept_strand = strand;
        kept_number = number;
    }
    *ret_pieces = firsts[unit + 1] - firsts[unit];
    found = units[firsts[unit] + piece];
    block = plan->blocks[window->block_first + found.block];
    *ret_sequence = found.sequence;
    for (uint32_t i = 0; i < block; i++)
        *ret_sequence += catalog->block_sequences[i];
    /* found.start counts within the block; make it count within the sequence */
    uint32_t start = 0;
    uint32_t own[5000];
    if (catalog->block_sequences[block] > 5000 ||
        catalog_read_lengths(catalog, block, own, NULL) != 0)
        ck_abort();
    for (uint32_t i = 0; i < found.sequence; i++)
        start += own[i];
    found.start -= start;
    return found;
}

static void check_batch(Bench *bench, const Expected *expected, uint32_t ring,
                        const SeqfeedDescriptor *descriptor, uint64_t place) {
    SeqfeedTensorRecord tokens_record, mask_record, labels_record, lengths_record;
    const int64_t *tokens = (const void *)bench_tensor(bench, ring, descriptor, "tokens",
                                                       &tokens_record);
    const uint8_t *mask = bench_tensor(bench, ring, descriptor, "mask", &mask_record);
    const int64_t *labels = (const void *)bench_tensor(bench, ring, descriptor, "labels",
                                                       &labels_record);
    const int64_t *lengths = (const void *)bench_tensor(bench, ring, descriptor, "lengths",
                                                        &lengths_record);
    bool repeated;
    PlanBatch batch = plan_epoch_batch(
        &expected->spec, expected->epoch->plan,
        plan_round_batch(expected->epoch->plan->batch_count, place, &repeated));
    int64_t width = tokens_record.shape[1];
    uint64_t real = 0, squares = 0;
    uint32_t longest = 0;

    ck_assert_uint_eq(descriptor->index, place);
    uint32_t real_rows = batch.unit_count;
    bool is_unit = plan_units_are_batches(&expected->spec);

    if (is_unit) {
        uint64_t sequence;
        (void)expected_piece(expected, batch.strand, batch.unit_first, 0, &sequence, &real_rows);
    }
    ck_assert_uint_eq(descriptor->rows, plan_batch_rows(&expected->spec, real_rows));
    ck_assert_int_eq((descriptor->flags & SEQFEED_BATCH_REPEATED) != 0, repeated || batch.repeated);
    for (uint32_t row = 0; row < descriptor->rows; row++) {
        PlanUnit unit = {0};
        uint64_t sequence = 0;
        if (row < real_rows) {
            uint32_t pieces;
            unit = expected_piece(expected, batch.strand, batch.unit_first + (is_unit ? 0 : row),
                                  is_unit ? row : 0, &sequence, &pieces);
            if (labels[row] != dataset_label(sequence))
                ck_abort_msg("batch %lu row %u: label", (unsigned long)place, row);
        }
        if (lengths[row] != unit.length)
            ck_abort_msg("batch %lu row %u: length", (unsigned long)place, row);
        for (int64_t t = 0; t < width; t++) {
            bool inside = t < unit.length;
            int64_t token = inside ? dataset_token(sequence, unit.start + (uint32_t)t) : 0;
            /* Check writes each assertion down: too slow for every element. */
            if (mask[row * width + t] != inside || tokens[row * width + t] != token)
                ck_abort_msg("batch %lu row %u column %ld: token %ld, mask %d",
                             (unsigned long)place, row, (long)t, (long)tokens[row * width + t],
                             mask[row * width + t]);
        }
        longest = unit.length > longest ? unit.length : longest;
        real += unit.length;
        squares += (uint64_t)unit.length * unit.length;
    }
    ck_assert_int_eq(width, feed_padded_length(expected->feed, longest));
    ck_assert_uint_eq(descriptor->tokens, real);
    ck_assert_uint_eq(descriptor->sequences, real_rows);
    ck_assert_uint_eq(descriptor->squares, squares);
}

/* Go through `epochs` epochs with all rings at their own pace, comparing every batch. */
static void run_epochs(const BenchOptions *options, uint32_t epochs) {
    Bench bench;
    Error error = {0};
    uint64_t index = options->index;

    bench_make(&bench, options);
    bench_start(&bench, options);
    for (uint64_t e = options->epoch; e < options->epoch + epochs; e++, index = 0) {
        Expected expected = {.feed = bench.feed,
                             .spec = feed_plan_spec(bench.feed, bench.feed->plan.seed)};
        ck_assert_msg(feed_epoch_get(bench.feed, bench.feed->plan.seed, e, NULL, &expected.epoch,
                                     &error) == 0,
                      "%s", error.text);
        kept = false;
        uint64_t rounds = plan_round_count(expected.spec.tail, expected.epoch->plan->batch_count,
                                           index, options->world);
        uint64_t whole = plan_round_count(expected.spec.tail, expected.epoch->plan->batch_count, 0,
                                          options->world);
        ck_assert_uint_gt(rounds, 0);
        for (uint64_t round = 0; round < rounds; round++)
            for (uint32_t r = 0; r < options->ring_count; r++) {
                uint64_t next_epoch, next_index;
                const SeqfeedDescriptor *descriptor = bench_next(&bench, r);
                ck_assert_uint_eq(descriptor->sequence, bench.rings[r].taken);
                ck_assert_uint_eq(descriptor->epoch, e);
                ck_assert_uint_eq(descriptor->epoch_length, rounds);
                ck_assert_uint_eq(descriptor->whole_length, whole);
                ck_assert_int_eq((descriptor->flags & SEQFEED_BATCH_EPOCH_END) != 0,
                                 round + 1 == rounds);
                check_batch(&bench, &expected, r, descriptor,
                            index + round * options->world + options->ranks[r]);
                plan_round_cursor(expected.spec.tail, e, expected.epoch->plan->batch_count, index,
                                  options->world, round, &next_epoch, &next_index);
                ck_assert_uint_eq(descriptor->next_epoch, next_epoch);
                ck_assert_uint_eq(descriptor->next_index, next_index);
                bench_release(&bench, r);
            }
        feed_epoch_unref(bench.feed, expected.epoch);
    }
    bench_end(&bench);
}

static const uint32_t ranks_all[] = {0, 1, 2, 3};

START_TEST(one_ring_gets_every_batch_of_three_epochs)
{
    run_epochs(&(BenchOptions){.sequences = 3000,
                               .block_target = 4096,
                               .window = 5,
                               .strands = 1,
                               .world = 1,
                               .ring_count = 1,
                               .members = 1,
                               .ranks = ranks_all,
                               .extra = "    batch: {size: 16}\n"},
               3);
}
END_TEST

START_TEST(pread_and_cache_give_the_same)
{
    run_epochs(&(BenchOptions){.sequences = 3000,
                               .block_target = 4096,
                               .window = 5,
                               .strands = 2,
                               .world = 1,
                               .ring_count = 1,
                               .members = 2,
                               .ranks = ranks_all,
                               .pread = true,
                               .cache = UINT64_MAX,
                               .extra = "    batch: {size: 16}\n"},
               3);
    run_epochs(&(BenchOptions){.sequences = 3000,
                               .block_target = 4096,
                               .window = 5,
                               .strands = 1,
                               .world = 1,
                               .ring_count = 1,
                               .members = 1,
                               .ranks = ranks_all,
                               .cache = 100000,
                               .extra = "    batch: {size: 16}\n"},
               3);
}
END_TEST

START_TEST(several_ranks_and_strands_share_one_stream)
{
    static const uint32_t some[] = {2, 0};

    run_epochs(&(BenchOptions){.sequences = 2000,
                               .block_target = 4096,
                               .window = 2,
                               .strands = 4,
                               .world = 4,
                               .ring_count = 4,
                               .members = 1,
                               .ranks = ranks_all,
                               .extra = "    batch: {size: 8}\n"},
               3);
    run_epochs(&(BenchOptions){.sequences = 2000,
                               .block_target = 4096,
                               .window = 2,
                               .strands = 3,
                               .world = 4,
                               .ring_count = 2,
                               .members = 1,
                               .ranks = some,
                               .extra = "    batch: {size: 8}\n"},
               3);
    run_epochs(&(BenchOptions){.sequences = 2000,
                               .block_target = 4096,
                               .window = 3,
                               .strands = 4,
                               .world = 4,
                               .ring_count = 1,
                               .members = 1,
                               .ranks = some,
                               .index = 37,
                               .extra = "    batch: {size: 8}\n"},
               3);
    run_epochs(&(BenchOptions){.sequences = 2000,
                               .block_target = 4096,
                               .window = 3,
                               .strands = 2,
                               .world = 3,
                               .ring_count = 3,
                               .members = 1,
                               .ranks = ranks_all,
                               .extra = "    batch: {size: 8, tail: drop, last: drop}\n"},
               3);
}
END_TEST

/* A dataset of one window, of one batch, of one batch for more ranks than there are batches. */
START_TEST(tiny_datasets_wrap_around)
{
    run_epochs(&(BenchOptions){.sequences = 3,
                               .block_target = 4096,
                               .window = 1,
                               .strands = 1,
                               .world = 1,
                               .ring_count = 1,
                               .members = 1,
                               .ranks = ranks_all,
                               .extra = "    batch: {size: 8}\n"},
               12);
    run_epochs(&(BenchOptions){.sequences = 20,
                               .block_target = 4096,
                               .window = 1,
                               .strands = 1,
                               .world = 4,
                               .ring_count = 4,
                               .members = 1,
                               .ranks = ranks_all,
                               .extra = "    batch: {size: 16, last: pad}\n"},
               12);
    run_epochs(&(BenchOptions){.sequences = 300,
                               .block_target = 4096,
                               .window = 1,
                               .strands = 2,
                               .world = 4,
                               .ring_count = 2,
                               .members = 1,
                               .ranks = ranks_all,
                               .extra = "    batch: {size: 100}\n"},
               12);
}
END_TEST

START_TEST(split_drop_and_truncate_reach_the_slots)
{
    static const char *const rules[] = {"split", "drop", "truncate_right", "truncate_left"};

    for (int i = 0; i < 4; i++) {
        char extra[160];
        snprintf(extra, sizeof extra,
                 "    batch: {size: 16}\n    length: {max: 20, overflow: %s, empty: %s}\n",
                 rules[i], i % 2 ? "keep" : "drop");
        run_epochs(&(BenchOptions){.sequences = 2500,
                                   .block_target = 4096,
                                   .window = 2,
                                   .strands = 2,
                                   .world = 1,
                                   .ring_count = 1,
                                   .members = 1,
                                   .ranks = ranks_all,
                                   .extra = extra},
                   2);
    }
}
END_TEST

/* Nearly everything is dropped, so one batch spans many windows and has to be filled in pieces. */
START_TEST(a_batch_may_span_many_windows)
{
    for (uint32_t strands = 1; strands <= 3; strands++)
        run_epochs(
            &(BenchOptions){
                .sequences = 6000,
                .block_target = 4096,
                .window = 1,
                .strands = strands,
                .world = 1,
                .ring_count = 1,
                .members = 1,
                .ranks = ranks_all,
                .extra =
                    "    batch: {size: 16}\n    length: {max: 1, overflow: drop, empty: drop}\n"},
            3);
}
END_TEST

/* Batches of policies whose units are batches, with every ending, over ranks and strands. */
START_TEST(batches_that_are_units_reach_the_slots)
{
    static const char *const batches[] = {
        "    batch: {policy: bucket, size: 8}\n",
        "    batch: {policy: bucket, size: 8, boundaries: [5, 20], shape: bucket, last: pad}\n"
        "    pad: {multiple_of: 8}\n",
        "    batch: {policy: bucket, size: 16, boundaries: {quantiles: 4}, last: drop}\n",
        "    batch: {policy: tokens, tokens: 600, multiple_of: 4, last: pad}\n",
        "    batch: {policy: tokens, tokens: 1024, tail: drop}\n    length: {empty: drop}\n",
        "    batch: {policy: tokens, tokens: 333, last: drop}\n"
        "    length: {max: 20, overflow: split}\n"};

    for (size_t i = 0; i < ARRAY_COUNT(batches); i++) {
        run_epochs(&(BenchOptions){.sequences = 2500,
                                   .block_target = 4096,
                                   .window = 2,
                                   .strands = 1 + (uint32_t)i % 3,
                                   .world = 3,
                                   .ring_count = 3,
                                   .members = 1,
                                   .ranks = ranks_all,
                                   .extra = batches[i]},
                   2);
        run_epochs(&(BenchOptions){.sequences = 2500,
                                   .block_target = 4096,
                                   .window = 3,
                                   .strands = 2,
                                   .world = 1,
                                   .ring_count = 1,
                                   .members = 1,
                                   .ranks = ranks_all,
                                   .index = 31,
                                   .threads = true,
                                   .extra = batches[i]},
                   2);
    }
}
END_TEST

START_TEST(threads_give_the_same)
{
    run_epochs(&(BenchOptions){.sequences = 20000,
                               .block_target = 16384,
                               .window = 4,
                               .strands = 2,
                               .world = 2,
                               .ring_count = 2,
                               .members = 2,
                               .ranks = ranks_all,
                               .threads = true,
                               .cache = UINT64_MAX,
                               .extra = "    batch: {size: 32}\n"},
               3);
    run_epochs(&(BenchOptions){.sequences = 20000,
                               .block_target = 16384,
                               .window = 4,
                               .strands = 1,
                               .world = 1,
                               .ring_count = 1,
                               .members = 1,
                               .ranks = ranks_all,
                               .threads = true,
                               .pread = true,
                               .extra = "    batch: {size: 32}\n"},
               3);
}
END_TEST

/* The rings of ranks that left are passed over; the others see all of theirs. */
START_TEST(a_ring_without_members_does_not_hold_up_the_others)
{
    BenchOptions options = bench_usual(3000, 1);
    Bench bench;

    options.world = options.ring_count = 2;
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    (void)bench_next(&bench, 1);
    stream_leave(bench.stream, 1, 0);
    for (int i = 0; i < 400; i++) {
        const SeqfeedDescriptor *descriptor = bench_next(&bench, 0);
        ck_assert_uint_eq(descriptor->index % 2, 0);
        bench_release(&bench, 0);
    }
    bench_end(&bench);
}
END_TEST

START_TEST(a_member_that_lies_is_thrown_out)
{
    BenchOptions options = bench_usual(500, 2);
    PipelineEvent event;
    Bench bench;

    bench_make(&bench, &options);
    bench_start(&bench, &options);
    (void)bench_next(&bench, 0);
    bench.rings[0].ack[1]->released = 1000;
    stream_poke(bench.stream);
    event = bench_wait_event(&bench);
    ck_assert_int_eq(event.kind, PIPELINE_EVENT_VIOLATION);
    ck_assert_uint_eq(event.member, 1);
    bench_end(&bench);
}
END_TEST

/* The only bytes that come are those of the member that is asked, and whoever that is, nobody is
 * left waiting: the one in front, the one behind, and the one that leaves while it is asked. */
START_TEST(the_slowest_of_the_members_is_asked)
{
    BenchOptions options = bench_usual(2000, 3);
    uint64_t released[3] = {0}, asked[3] = {0};
    uint32_t left = 3, random = 1;
    SeqfeedRingHeader *header;
    Bench bench;

    bench_make(&bench, &options);
    bench_start(&bench, &options);
    header = bench.rings[0].header;
    while (released[0] < 200) {
        uint32_t member = (random = random * 1103515245 + 12345) >> 16 & 0xffff;
        uint64_t wake_at, before;

        member %= left;
        before = released[member];
        bench_run(&bench);
        if (released[member] < header->head)
            released[member]++;
        bench.rings[0].ack[member]->released = released[member];
        wake_at = header->wake_at;
        if (before < wake_at && wake_at <= released[member] && header->waker == member + 1) {
            asked[member]++;
            stream_poke(bench.stream);
        }
        if (left == 3 && released[0] >= 100 && header->wake_at && header->waker == 3) {
            stream_leave(bench.stream, 0, 2);
            left = 2;
        }
    }
    ck_assert_uint_eq(left, 2);
    for (int m = 0; m < 3; m++)
        ck_assert_uint_gt(asked[m], 0);
    bench_end(&bench);
}
END_TEST

START_TEST(a_seat_is_told_of_the_epoch_it_starts_in)
{
    BenchOptions options = bench_usual(500, 1); /* 32 batches */
    const SeqfeedRingHeader *header;
    StreamSeat seat;
    Bench bench;

    options.index = 30;
    bench_make(&bench, &options);
    bench_start(&bench, &options);
    header = bench.rings[0].header;
    while (header->head < header->slot_count)
        bench_run(&bench);
    ck_assert_uint_gt(header->head, 2); /* the rest is of the next epoch */
    stream_seat(bench.stream, 0, 0, &seat);
    ck_assert_uint_eq(seat.start_epoch, 0);
    ck_assert_uint_eq(seat.start_index, 30);
    ck_assert_uint_eq(seat.epoch_length, 2);
    bench_end(&bench);
}
END_TEST

START_TEST(drain_publishes_what_was_begun_and_says_so)
{
    BenchOptions options = bench_usual(500, 1);
    Bench bench;

    bench_make(&bench, &options);
    bench_start(&bench, &options);
    (void)bench_next(&bench, 0);
    stream_drain(bench.stream);
    while (__atomic_load_n(&bench.rings[0].header->state, __ATOMIC_ACQUIRE) != SEQFEED_RING_DRAIN)
        bench_run(&bench);
    ck_assert_uint_ge(bench.rings[0].header->head, 1);
    bench_end(&bench);
}
END_TEST

START_TEST(who_waits_for_memory_is_told_of_a_release)
{
    BenchOptions options = bench_usual(500, 1);
    uint64_t need, asked = 0, rest;
    MemoryBudget *budget;
    PipelineEvent event;
    Bench bench;

    bench_make(&bench, &options);
    bench_start(&bench, &options);
    budget = pipeline_budget(bench.pipeline);
    need = budget->reserved;
    rest = budget->limit - need - need / 2;
    ck_assert(memory_budget_reserve(budget, rest));
    ck_assert_int_eq(pipeline_reserve(bench.pipeline, bench.feed, 1, 1, &asked, NULL),
                     PIPELINE_E_WAIT);
    ck_assert_uint_eq(asked, need);
    stream_leave(bench.stream, 0, 0);
    ck_assert_int_eq(bench_wait_event(&bench).kind, PIPELINE_EVENT_MEMORY);
    ck_assert_int_eq(pipeline_reserve(bench.pipeline, bench.feed, 1, 1, &asked, NULL), 0);
    ck_assert_int_eq(bench_wait_event(&bench).kind, PIPELINE_EVENT_CLOSED);
    stream_free(bench.stream);
    bench.stream = NULL;
    pipeline_cancel(bench.pipeline, asked);
    memory_budget_release(budget, rest);
    bench_run(&bench);
    ck_assert(!bench_event(&bench, &event)); /* nobody waits any more */
    bench_end(&bench);
}
END_TEST

CHECK_MAIN("stream", one_ring_gets_every_batch_of_three_epochs, pread_and_cache_give_the_same,
           several_ranks_and_strands_share_one_stream, tiny_datasets_wrap_around,
           split_drop_and_truncate_reach_the_slots, a_batch_may_span_many_windows,
           batches_that_are_units_reach_the_slots, threads_give_the_same,
           a_ring_without_members_does_not_hold_up_the_others, a_member_that_lies_is_thrown_out,
           the_slowest_of_the_members_is_asked, a_seat_is_told_of_the_epoch_it_starts_in,
           drain_publishes_what_was_begun_and_says_so, who_waits_for_memory_is_told_of_a_release)
