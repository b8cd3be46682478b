/* SPDX-License-Identifier: MIT */
/* Steps 6 and 7: batches of the epoch, and rounds of ranks. */
#include "plan/plan.h"

#include "base/arithmetic.h"

PlanBatch plan_epoch_batch(const PlanSpec *spec, const PlanEpoch *epoch, uint64_t index) {
    uint32_t s = (uint32_t)(index % epoch->strand_count);
    uint64_t local = index / epoch->strand_count;
    const PlanStrand *strand = &epoch->strands[s];
    PlanBatch batch = {.strand = s, .repeated = local >= strand->batch_count};
    uint64_t units;

    assert(epoch->counted);
    assert(index < epoch->batch_count);

    batch.unit_first = local % strand->batch_count;
    batch.unit_count = 1;
    if (plan_units_are_batches(spec))
        return batch;
    batch.unit_first *= spec->size;
    units = strand->unit_sums[strand->window_count] - batch.unit_first;
    batch.unit_count = (uint32_t)MIN(units, (uint64_t)spec->size);
    return batch;
}

uint32_t plan_batch_rows(const PlanSpec *spec, uint32_t real) {
    if (spec->last != PLAN_LAST_PAD)
        return real;
    return spec->policy == PLAN_POLICY_TOKENS ? (uint32_t)align_up(real, spec->multiple_of)
                                              : spec->size;
}

uint32_t plan_shape_length(const PlanSpec *spec, uint32_t longest) {
    if (spec->policy == PLAN_POLICY_PACK)
        return spec->length;
    if (spec->policy == PLAN_POLICY_BUCKET && spec->shape_bucket)
        return spec->boundaries[plan_bucket_of(spec, longest)];
    return longest;
}

uint64_t plan_round_count(PlanTail tail, uint64_t batch_count, uint64_t start, uint32_t world) {
    assert(start <= batch_count);
    assert(world >= 1);
    return tail == PLAN_TAIL_DROP ? (batch_count - start) / world
                                  : divide_up(batch_count - start, world);
}

uint64_t plan_round_batch(uint64_t batch_count, uint64_t place, bool *ret_repeated) {
    assert(batch_count > 0);
    *ret_repeated = place >= batch_count;
    return place % batch_count;
}

void plan_round_cursor(PlanTail tail, uint64_t epoch, uint64_t batch_count, uint64_t start,
                       uint32_t world, uint64_t round, uint64_t *ret_epoch, uint64_t *ret_index) {
    bool is_last = round + 1 >= plan_round_count(tail, batch_count, start, world);

    *ret_epoch = is_last ? epoch + 1 : epoch;
    *ret_index = is_last ? 0 : start + (round + 1) * world;
}
