/* SPDX-License-Identifier: MIT */
/* plan_dump: reads plans from standard input and prints their batches, so that another
 * implementation can be compared. One plan a paragraph:
 *
 *   shuffle seed window strands size last tail max overflow empty    (numbers; enums as in plan.h)
 *       policy pad_to pad_multiple_of tokens multiple_of length pool group boundaries boundary ...
 *       sources until count (first_block block_count total weight) ...   (0 sources: one dataset)
 *   epoch start world blocks
 *   count length length ...                                          (a line for each block)
 *
 * Answer: "nodata STRAND", or "batches N", a line "source SHARE EPOCH PLACE BLOCKS SEQUENCES TOKENS
 * AGAIN" for each source (EPOCH and PLACE are ? where it gives no block), a line "INDEX STRAND ROWS
 * REPEATED UNIT ..." for each batch, where a unit is b,s,start,length of its pieces with + between
 * them, a line "round EPOCH INDEX batch:repeated ..." for each round, and "end". */
#include <errno.h>
#include <inttypes.h>

#include "plan_support.h"

typedef struct Question {
    PlanSpec spec;
    uint32_t boundaries[PLAN_BOUNDARIES_MAX];
    PlanMix mix;
    PlanSource sources[PLAN_SOURCES_MAX];
    uint64_t epoch, start;
    uint32_t world, blocks;
} Question;

static bool read_policy(Question *question) {
    PlanSpec *spec = &question->spec;
    unsigned policy;

    if (scanf("%u %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32
              " %" SCNu32,
              &policy, &spec->pad_to, &spec->pad_multiple_of, &spec->tokens, &spec->multiple_of,
              &spec->length, &spec->pool, &spec->group, &spec->boundary_count) != 9 ||
        spec->boundary_count > PLAN_BOUNDARIES_MAX)
        return false;
    for (uint32_t b = 0; b < spec->boundary_count; b++)
        if (scanf("%" SCNu32, &question->boundaries[b]) != 1)
            return false;
    spec->policy = policy;
    spec->boundaries = question->boundaries;
    return true;
}

static bool read_mix(Question *question) {
    PlanMix *mix = &question->mix;
    unsigned until;

    if (scanf("%" SCNu32 " %u %" SCNu64, &mix->source_count, &until, &mix->count) != 3 ||
        mix->source_count > PLAN_SOURCES_MAX)
        return false;
    for (uint32_t i = 0; i < mix->source_count; i++) {
        PlanSource *source = &question->sources[i];

        if (scanf("%" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64, &source->first_block,
                  &source->block_count, &source->total, &source->weight) != 4)
            return false;
    }
    mix->until = until;
    mix->sources = question->sources;
    question->spec.mix = mix->source_count ? mix : NULL;
    if (mix->source_count)
        plan_mix_settle(mix);
    return true;
}

static bool read_question(Question *question) {
    PlanSpec *spec = &question->spec;
    unsigned shuffle, last, tail, overflow, empty;

    if (scanf("%u %" SCNu64 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %u %u %" SCNu32 " %u %u",
              &shuffle, &spec->seed, &spec->window, &spec->strands, &spec->size, &last, &tail,
              &spec->length_max, &overflow, &empty) != 10)
        return false;
    spec->shuffle = shuffle;
    spec->last = last;
    spec->tail = tail;
    spec->overflow = overflow;
    spec->empty = empty;
    return read_policy(question) && read_mix(question) &&
           scanf("%" SCNu64 " %" SCNu64 " %" SCNu32 " %" SCNu32, &question->epoch, &question->start,
                 &question->world, &question->blocks) == 4;
}

static bool read_block(PlanData *data) {
    uint32_t count, length;

    plan_data_add_block(data);
    if (scanf("%" SCNu32, &count) != 1)
        return false;
    data->lengths = realloc(data->lengths, (data->all + count + (size_t)1) * sizeof *data->lengths);
    if (!data->lengths)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        if (scanf("%" SCNu32, &length) != 1)
            return false;
        plan_data_add(data, length);
    }
    return true;
}

static void print_batch(const Question *question, const PlanData *data, const PlanEpoch *epoch,
                        uint64_t index) {
    PlanBatch batch = plan_epoch_batch(&question->spec, epoch, index);
    bool whole = plan_units_are_batches(&question->spec);
    PlanPicked picked = plan_data_pick(&question->spec, data, epoch, batch.strand, batch.unit_first,
                                       batch.unit_count);

    printf("%" PRIu64 " %u %u %d", index, batch.strand,
           plan_batch_rows(&question->spec, whole ? picked.count : batch.unit_count),
           batch.repeated);
    for (uint32_t i = 0, unit = 0; i < picked.count; i++) {
        bool begins = i == picked.firsts[unit];

        unit += begins;
        printf("%c%u,%u,%u,%u", begins ? ' ' : '+', picked.units[i].block, picked.units[i].sequence,
               picked.units[i].start, picked.units[i].length);
    }
    printf("\n");
    plan_picked_free(&picked);
}

static void print_rounds(const Question *question, uint64_t count) {
    const PlanTail tail = question->spec.tail;
    const uint64_t rounds = plan_round_count(tail, count, question->start, question->world);

    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t epoch, index;

        plan_round_cursor(tail, question->epoch, count, question->start, question->world, round,
                          &epoch, &index);
        printf("round %" PRIu64 " %" PRIu64, epoch, index);
        for (uint32_t rank = 0; rank < question->world; rank++) {
            bool repeated;
            uint64_t batch = plan_round_batch(
                count, question->start + round * question->world + rank, &repeated);

            printf(" %" PRIu64 ":%d", batch, repeated);
        }
        printf("\n");
    }
}

static void print_sources(const Question *question, const PlanEpoch *epoch) {
    for (uint32_t i = 0; i < question->mix.source_count; i++) {
        const PlanSourceSpan *span = &epoch->sources[i];

        printf("source %" PRIu32, question->sources[i].share);
        if (span->blocks > 0)
            printf(" %" PRIu64 " %" PRIu32, span->epoch, span->place);
        else
            printf(" ? ?");
        printf(" %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", span->blocks, span->sequences,
               span->tokens, span->sequences_again);
    }
}

static void answer(const Question *question, const PlanData *data) {
    PlanEpoch *epoch;
    uint32_t strand;
    int r = plan_data_epoch(&question->spec, data, question->epoch, true, &epoch, &strand);

    if (r == -ENODATA) {
        printf("nodata %u\n", strand);
        return;
    }
    if (r < 0)
        abort();
    printf("batches %" PRIu64 "\n", epoch->batch_count);
    print_sources(question, epoch);
    for (uint64_t index = 0; index < epoch->batch_count; index++)
        print_batch(question, data, epoch, index);
    if (question->start < epoch->batch_count)
        print_rounds(question, epoch->batch_count);
    printf("end\n");
    plan_epoch_free(epoch);
}

int main(void) {
    Question question;

    while (read_question(&question)) {
        PlanData data;

        plan_data_init(&data, question.blocks, 0);
        for (uint32_t b = 0; b < question.blocks; b++)
            if (!read_block(&data))
                return EXIT_FAILURE;
        answer(&question, &data);
        plan_data_deinit(&data);
    }
    return EXIT_SUCCESS;
}
