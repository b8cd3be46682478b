/* SPDX-License-Identifier: MIT */
#include "plan/plan_scratch.h"

#include <stdlib.h>

#include "base/arithmetic.h"
#include "plan/plan_form.h"

/* Lengths, order, firsts and the order of units; the pieces before they are put into it. */
static uint64_t scratch_words(const PlanSpec *spec, uint64_t pieces) {
    return 4 * (pieces + 1) + pieces * (sizeof(PlanUnit) / sizeof(uint32_t)) +
           plan_form_words(spec, pieces);
}

uint64_t plan_scratch_bytes(const PlanSpec *spec, uint64_t pieces) {
    return spec->policy == PLAN_POLICY_FIXED ? 0 : scratch_words(spec, pieces) * sizeof(uint32_t);
}

void plan_scratch_free(PlanScratch *scratch) {
    free(scratch->words);
    *scratch = (PlanScratch){0};
}

bool plan_scratch_make(PlanScratch *scratch, const PlanSpec *spec, uint32_t pieces,
                       PlanScratchParts *ret_parts) {
    size_t need = scratch_words(spec, pieces);

    if (need > scratch->capacity) {
        free(scratch->words);
        scratch->words = malloc(need * sizeof *scratch->words);
        scratch->capacity = scratch->words ? need : 0;
        if (!scratch->words)
            return false;
    }
    ret_parts->lengths = scratch->words;
    ret_parts->order = ret_parts->lengths + pieces + 1;
    ret_parts->firsts = ret_parts->order + pieces + 1;
    ret_parts->units = ret_parts->firsts + pieces + 1;
    ret_parts->pieces = (PlanUnit *)(void *)(ret_parts->units + pieces + 1);
    ret_parts->form = (uint32_t *)(void *)(ret_parts->pieces + pieces);
    return true;
}
