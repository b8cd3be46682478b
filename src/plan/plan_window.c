/* SPDX-License-Identifier: MIT */
/* Steps 4 and 5: one window's sequences become pieces, and these become units. What a sequence
 * becomes is decided in one place, plan_cut(), and what pieces become in another, the policy's
 * function of plan_form.h; counting and making go through both. */
#include "plan/plan.h"

#include <errno.h>

#include "plan/plan_cut.h"
#include "plan/plan_draws.h"
#include "plan/plan_form.h"
#include "plan/plan_scratch.h"

/* Fills units as far as there is room; false when there is not. */
typedef struct Filling {
    PlanUnit *units;
    uint64_t count, room;
} Filling;

static bool add_pieces(Filling *filling, PlanUnit unit, PlanCut cut, uint32_t length_max) {
    if (cut.pieces > filling->room - filling->count)
        return false;
    unit.start += cut.skip;
    for (uint32_t piece = 0; piece < cut.pieces; piece++) {
        unit.length = MIN(cut.length, length_max);
        filling->units[filling->count++] = unit;
        unit.start += unit.length;
        cut.length -= unit.length;
    }
    return true;
}

static int add_block(const PlanSpec *spec, uint32_t block, const uint32_t *lengths, uint32_t count,
                     Filling *filling) {
    uint64_t start = 0;

    for (uint32_t i = 0; i < count; i++) {
        PlanUnit unit = {.block = block, .sequence = i, .start = (uint32_t)start};

        start += lengths[i];
        if (start > UINT32_MAX)
            return -EBADMSG;
        if (lengths[i] > spec->length_max && spec->overflow == PLAN_OVERFLOW_ERROR)
            return -EBADMSG;
        if (!add_pieces(filling, unit, plan_cut(spec, lengths[i]), spec->length_max))
            return -EBADMSG;
    }
    return 0;
}

static PlanDraws window_draws(const PlanSpec *spec, const PlanEpoch *epoch, PlanPurpose purpose,
                              uint32_t strand, uint32_t window) {
    return (PlanDraws){.seed = spec->seed,
                       .epoch = epoch->epoch,
                       .purpose = purpose,
                       .strand = strand,
                       .window = window};
}

static void form_units(const PlanSpec *spec, PlanForm *form, uint32_t *words) {
    if (form->firsts)
        form->firsts[0] = 0;
    if (spec->policy == PLAN_POLICY_BUCKET)
        plan_form_bucket(spec, form, words);
    else if (spec->policy == PLAN_POLICY_TOKENS)
        plan_form_tokens(spec, form, words);
    else
        plan_form_pack(spec, form, words);
}

/* Lengths of the pieces, in block order; false when one is longer than the plan allows. */
static bool cut_lengths(const PlanSpec *spec, const uint32_t *lengths, uint64_t count,
                        uint32_t *ret_lengths) {
    for (uint64_t i = 0; i < count; i++) {
        PlanCut cut = plan_cut(spec, lengths[i]);

        if (lengths[i] > spec->length_max && spec->overflow == PLAN_OVERFLOW_ERROR)
            return false;
        for (; cut.pieces > 0; cut.pieces--) {
            *ret_lengths++ = MIN(cut.length, spec->length_max);
            cut.length -= MIN(cut.length, spec->length_max);
        }
    }
    return true;
}

int plan_count_window(const PlanSpec *spec, const PlanEpoch *epoch, uint32_t strand,
                      uint32_t window, const uint32_t *lengths, uint64_t count,
                      PlanScratch *scratch, PlanTally *ret_tally) {
    const PlanDraws draws = window_draws(spec, epoch, PLAN_PURPOSE_SEQUENCES, strand, window);
    PlanScratchParts parts;
    PlanTally tally;
    PlanForm form;

    plan_count_pieces(spec, lengths, count, &tally);
    if (spec->policy == PLAN_POLICY_FIXED) {
        *ret_tally = tally;
        return 0;
    }
    if (tally.pieces > UINT32_MAX)
        return -EBADMSG;
    if (!plan_scratch_make(scratch, spec, (uint32_t)tally.pieces, &parts))
        return -ENOMEM;
    if (!cut_lengths(spec, lengths, count, parts.lengths))
        return -EBADMSG;
    if (spec->policy == PLAN_POLICY_BUCKET && spec->last != PLAN_LAST_DROP) {
        tally.units = plan_form_count_bucket(spec, parts.lengths, (uint32_t)tally.pieces,
                                             parts.form);
        *ret_tally = tally;
        return 0;
    }
    /* How many batches sorted pieces make does not depend on the order of equal ones. */
    if (spec->shuffle && spec->policy != PLAN_POLICY_TOKENS)
        plan_shuffle_numbers(&draws, parts.lengths, (uint32_t)tally.pieces);
    form = (PlanForm){.lengths = parts.lengths, .count = (uint32_t)tally.pieces};
    form_units(spec, &form, parts.form);
    tally.units = form.units;
    tally.pieces_cut = form.count - form.placed;
    tally.piece_tokens_cut = form.tokens_cut;
    *ret_tally = tally;
    return 0;
}

static int add_blocks(const PlanSpec *spec, const PlanWindow *window, const uint32_t *lengths,
                      const uint32_t *block_sequences, Filling *filling) {
    int r = 0;

    for (uint32_t block = 0; block < window->block_count && r == 0; block++) {
        r = add_block(spec, block, lengths, block_sequences[block], filling);
        lengths += block_sequences[block];
    }
    return r;
}

/* What a row costs a model with attention: the sum of the squares of its pieces' lengths. */
static uint64_t row_cost(const PlanForm *form, uint32_t unit) {
    uint64_t cost = 0;

    for (uint32_t i = form->firsts[unit]; i < form->firsts[unit + 1]; i++)
        cost += (uint64_t)form->lengths[form->order[i]] * form->lengths[form->order[i]];
    return cost;
}

/* Rows of one group by cost, equal ones as they stood: falling in every other group, so that
 * neighbours are alike across groups too. Insertion: groups are small and costs nearly random. */
static void order_group(const PlanForm *form, uint32_t *units, uint32_t count, bool falling) {
    uint64_t costs[PLAN_GROUP_MAX];

    assert(count <= PLAN_GROUP_MAX);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t cost = row_cost(form, units[i]);
        uint32_t unit = units[i], place = i;

        for (; place > 0; place--) {
            if (falling ? costs[place - 1] >= cost : costs[place - 1] <= cost)
                break;
            costs[place] = costs[place - 1];
            units[place] = units[place - 1];
        }
        costs[place] = cost;
        units[place] = unit;
    }
}

/* The order in which units come. */
static void order_units(const PlanSpec *spec, const PlanDraws *draws, const PlanForm *form,
                        uint32_t *units) {
    for (uint32_t u = 0; u < form->units; u++)
        units[u] = u;
    if (plan_units_are_batches(spec)) {
        if (spec->shuffle)
            plan_shuffle_numbers(draws, units, form->units);
        return;
    }
    for (uint32_t first = 0, group = 0; spec->group > 1 && first < form->units; group++) {
        uint32_t count = MIN(form->units - first, spec->group);

        order_group(form, units + first, count, group % 2 == 1);
        first += count;
    }
}

/* Group the pieces of a window, which stand in their order, into units. */
static int make_units(const PlanSpec *spec, const PlanDraws *draws, PlanScratchParts *parts,
                      uint32_t count, uint64_t units, PlanUnit *ret_units, uint32_t *ret_firsts) {
    PlanForm form = {
        .lengths = parts->lengths, .count = count, .order = parts->order, .firsts = parts->firsts};
    uint32_t at = 0;

    for (uint32_t i = 0; i < count; i++)
        parts->lengths[i] = parts->pieces[i].length;
    form_units(spec, &form, parts->form);
    if (form.units != units)
        return -EBADMSG;
    order_units(spec, draws, &form, parts->units);
    for (uint32_t u = 0; u < form.units; u++) {
        ret_firsts[u] = at;
        for (uint32_t i = form.firsts[parts->units[u]]; i < form.firsts[parts->units[u] + 1]; i++)
            ret_units[at++] = parts->pieces[form.order[i]];
    }
    ret_firsts[form.units] = at;
    return 0;
}

int plan_window_units_make(const PlanSpec *spec, const PlanEpoch *epoch, uint32_t strand,
                           uint32_t window, const uint32_t *lengths,
                           const uint32_t *block_sequences, uint64_t room, PlanScratch *scratch,
                           PlanUnit *ret_units, uint32_t *ret_firsts) {
    const PlanStrand *of = &epoch->strands[strand];
    const PlanDraws sequences = window_draws(spec, epoch, PLAN_PURPOSE_SEQUENCES, strand, window);
    const PlanDraws units = window_draws(spec, epoch, PLAN_PURPOSE_UNITS, strand, window);
    bool is_fixed = spec->policy == PLAN_POLICY_FIXED;
    Filling filling = {.units = ret_units, .room = room};
    PlanScratchParts parts;
    int r;

    assert(epoch->counted);
    assert(room <= UINT32_MAX);

    if (!is_fixed && !plan_scratch_make(scratch, spec, (uint32_t)room, &parts))
        return -ENOMEM;
    if (!is_fixed)
        filling.units = parts.pieces;
    r = add_blocks(spec, &of->windows[window], lengths, block_sequences, &filling);
    if (r < 0)
        return r;
    if (is_fixed && filling.count != plan_window_units(of, window))
        return -EBADMSG;
    if (spec->shuffle)
        plan_shuffle_units(&sequences, filling.units, (uint32_t)filling.count);
    if (is_fixed)
        return 0;
    return make_units(spec, &units, &parts, (uint32_t)filling.count, plan_window_units(of, window),
                      ret_units, ret_firsts);
}
