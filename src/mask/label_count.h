/* SPDX-License-Identifier: MIT */
/* label_count.h: how many entries of a batch's labels count in the loss. It follows from lengths
 * and spans, as the labels themselves do; no token and no label is looked at. */
#pragma once

#include "mask/fill.h"

typedef enum LabelKind {
    LABEL_NONE,     /* the set has no labels */
    LABEL_SEQUENCE, /* one for each sequence */
    LABEL_TOKEN     /* one for each place */
} LabelKind;

/* Which tensor tells what counts: the first loss mask, else the first labels that are made from
 * tokens, else a column that is named `labels`. `ret_spec` may be NULL. */
LabelKind label_kind(const TensorSet *set, const TensorSpec **ret_spec);

typedef struct LabelCount {
    uint64_t items;       /* entries that count … */
    uint64_t items_first; /* … and of these, those at the first place of a row */
} LabelCount;

/* Of `count` sequences in rows of `length` places. `firsts` is NULL where each is a row; else it
 * has the number of the first sequence of each of `row_count` packed rows, `base` more. */
LabelCount label_count(const TensorSet *set, uint32_t length, const FillRow *sources,
                       uint32_t count, const uint32_t *firsts, uint32_t row_count, uint32_t base);
