/* SPDX-License-Identifier: MIT */
/* plan_report.h: all that `seqfeed plan` says about one feed, gathered once and told as a table
 * (plan_table.c), as JSON (plan_json.c) or as a picture (plan_picture.c). */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/text.h"
#include "feed/feed.h"
#include "tool/plan_compare.h"
#include "tool/plan_walk.h"

enum { PLAN_WARNINGS_MAX = 4, PLAN_RANDOM_ROWS = 64 };

typedef struct PlanReport {
    Feed *feed;
    uint32_t world, nodes;
    uint64_t batches, batches_per_rank, repeated; /* repeated or, with tail: drop, left out */
    uint64_t sequences, tokens;                   /* of epoch 0, as the datasets hold them */
    PlanSourceSpan *sources;                      /* several datasets: of each */
    uint64_t batches_cut;                         /* with tail: drop, by the shortest strand */
    double padding_share, mean_length;
    /* Tokens of epoch 0 in no batch: of sequences that length drops; of rows that last: drop and
     * tail: drop leave out. */
    uint64_t dropped_by_length, dropped_by_last, dropped_by_tail;
    PlanSums sums;
    PlanSpread spread;
    PlanReads reads;
    double random_padding, packed_padding; /* plan_ideal.h */
    uint32_t packed_room;
    PlanCompared compared[PLAN_POLICIES];
    uint32_t compared_count; /* 0: not asked for */
    double count_seconds, seek_seconds;
    FeedMemory memory;      /* without a device */
    uint64_t device_inputs; /* what one would take of it besides; 0: the feed is for none */
    uint64_t memory_limit;
    SeqfeedTensorRecord tensors[SEQFEED_TENSORS_MAX]; /* of the largest batch */
    char warnings[PLAN_WARNINGS_MAX][256];
    uint32_t warning_count;
} PlanReport;

/* Plan epoch 0 for a world of ranks on so many nodes, each rank with one ring of its own. Freed
 * with plan_report_free(). */
MUST_CHECK int plan_report_make(Feed *feed, uint64_t memory_limit, uint32_t world, uint32_t nodes,
                                bool compare, PlanReport **ret_report, Error *error);
void plan_report_free(PlanReport *report); /* accepts NULL */

/* How many times each block is decoded in all. */
double plan_report_amplification(const PlanReport *report);
bool plan_report_reads_lengths(const PlanReport *report); /* to count an epoch */
double plan_report_count_rate(const PlanReport *report);  /* sequences a second */

/* plan_sources.c: the part about several datasets. -1: no memory. */
MUST_CHECK int plan_sources_take(PlanReport *report, const PlanEpoch *plan);
/* The share that a dataset's weight asks for, of sequences or tokens, and what it gets. */
double plan_sources_wanted(const PlanReport *report, uint32_t source, double *ret_kept);
void plan_sources_print(const PlanReport *report);
void plan_sources_add(Text *text, const PlanReport *report);

void plan_table_print(const PlanReport *report, bool is_first);
void plan_json_add(Text *text, const PlanReport *report);
/* An SVG of `count` feeds, one below the other. */
void plan_picture_add(Text *text, const PlanReport *report, uint32_t place);
void plan_picture_begin(Text *text, uint32_t count);
void plan_picture_end(Text *text);
