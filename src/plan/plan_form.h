/* SPDX-License-Identifier: MIT */
/* plan_form.h: how one window's pieces are grouped into units. The same code counts and makes: it
 * only leaves out writing when it counts, so the two cannot disagree; but for buckets, whose number
 * needs no order (a test compares). Private to plan/. */
#pragma once

#include <stddef.h>

#include "plan/plan.h"

typedef struct PlanForm {
    const uint32_t *lengths; /* of the pieces, in the window's order */
    uint32_t count;
    uint32_t *order;  /* piece numbers, unit after unit; NULL: count only */
    uint32_t *firsts; /* where units begin in `order`, and where the last one ends */
    uint32_t units;
    uint32_t placed; /* pieces in units */
    uint64_t tokens_cut;
} PlanForm;

static inline void plan_form_add(PlanForm *form, uint32_t piece) {
    if (form->order)
        form->order[form->placed] = piece;
    form->placed++;
}

static inline void plan_form_close(PlanForm *form) {
    form->units++;
    if (form->firsts)
        form->firsts[form->units] = form->placed;
}

/* Words of scratch that a policy wants for so many pieces, and the policies. `words` need not be
 * zero. */
size_t plan_form_words(const PlanSpec *spec, size_t count);
void plan_form_bucket(const PlanSpec *spec, PlanForm *form, uint32_t *words);
void plan_form_tokens(const PlanSpec *spec, PlanForm *form, uint32_t *words);
void plan_form_pack(const PlanSpec *spec, PlanForm *form, uint32_t *words);

/* Units that plan_form_bucket() makes of pieces of these lengths, in whatever order they stand.
 * Not with last: drop, where it matters which pieces are left over. `words` has room for a number
 * for each boundary. */
uint32_t plan_form_count_bucket(const PlanSpec *spec, const uint32_t *lengths, uint32_t count,
                                uint32_t *words);

/* Sort piece numbers by their length, equal ones in the order in which they stand. `spare` has room
 * for as many. */
void plan_form_sort(const uint32_t *lengths, uint32_t *pieces, uint32_t *spare, uint32_t count);
