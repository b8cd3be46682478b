/* SPDX-License-Identifier: MIT */
/* plan.h: which sequences form which batch, as docs/formats/plan.md specifies it. Pure: block
 * counts and lengths in, plan out; no I/O, no clock, no globals, nothing allocated but what is
 * returned. A PlanEpoch is immutable once it has been counted, so any thread may read it.
 *
 * The way: blocks are permuted and dealt into strands; a strand's blocks are cut into windows; a
 * window's sequences are filtered, split and permuted into UNITS; consecutive units of a strand
 * form its batches; batch b of the epoch is batch b / S of strand b % S. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

typedef enum PlanPolicy { PLAN_POLICY_FIXED } PlanPolicy;
typedef enum PlanLast { PLAN_LAST_KEEP, PLAN_LAST_DROP, PLAN_LAST_PAD } PlanLast;
typedef enum PlanTail { PLAN_TAIL_REPEAT, PLAN_TAIL_DROP } PlanTail;
typedef enum PlanOverflow {
    PLAN_OVERFLOW_ERROR, /* settled at start: no sequence is longer */
    PLAN_OVERFLOW_TRUNCATE_RIGHT,
    PLAN_OVERFLOW_TRUNCATE_LEFT,
    PLAN_OVERFLOW_SPLIT,
    PLAN_OVERFLOW_DROP
} PlanOverflow;
typedef enum PlanEmpty { PLAN_EMPTY_KEEP, PLAN_EMPTY_DROP } PlanEmpty;

enum { PLAN_STRANDS_MAX = 1024, PLAN_WINDOW_BATCHES = 4 };

typedef struct PlanSpec {
    bool shuffle;
    uint64_t seed;
    uint32_t window;  /* blocks, >= 1 (auto is settled by the caller) */
    uint32_t strands; /* 1..PLAN_STRANDS_MAX */
    PlanPolicy policy;
    uint32_t size; /* rows of a batch, >= 1 */
    PlanLast last;
    PlanTail tail;
    uint32_t length_max; /* >= 1; sequences longer than this overflow */
    PlanOverflow overflow;
    PlanEmpty empty;
} PlanSpec;

/* The dataset as the planner sees it. Borrowed for the time of a call. */
typedef struct PlanBlocks {
    const uint32_t *sequences; /* [count] */
    const uint32_t *tokens;    /* [count] */
    uint32_t count;
} PlanBlocks;

typedef struct PlanWindow {
    uint32_t block_first; /* index into PlanStrand.blocks */
    uint32_t block_count;
    uint64_t sequences; /* sum over its blocks, before filtering */
} PlanWindow;

/* What happened to sequences and tokens of a window or an epoch. */
typedef struct PlanTally {
    uint64_t units;
    uint64_t sequences_in, tokens_in;           /* as the dataset holds them */
    uint64_t sequences_dropped, tokens_dropped; /* by overflow or empty */
    uint64_t sequences_truncated, tokens_truncated;
    uint64_t sequences_split; /* into more than one piece */
} PlanTally;

typedef struct PlanStrand {
    uint32_t *blocks; /* dataset block numbers in order */
    uint32_t block_count;
    PlanWindow *windows;
    uint32_t window_count;
    uint64_t *unit_sums;  /* [window_count + 1]: units before window w; valid when counted */
    uint64_t batch_count; /* valid when counted */
} PlanStrand;

typedef struct PlanEpoch {
    uint64_t epoch;
    PlanStrand *strands;
    uint32_t strand_count;
    bool counted;
    uint64_t batch_count; /* N: batches of the epoch after the strand rule; valid when counted */
    uint64_t batches_cut; /* dropped with tail: drop so that all strands have the same number */
    PlanTally tally;      /* valid when counted from lengths; else units and *_in only */
} PlanEpoch;

/* One piece of a sequence in a window's order. */
typedef struct PlanUnit {
    uint32_t block;    /* index within the window: 0..PlanWindow.block_count-1 */
    uint32_t sequence; /* within the block */
    uint32_t start;    /* its first token, counted from the start of the block's tokens */
    uint32_t length;   /* tokens, after truncation or splitting */
} PlanUnit;
static_assert(sizeof(PlanUnit) == 16, "one for each sequence of an open window");

/* Steps 1-3 for one epoch. 0, -ENOMEM, or -EOVERFLOW when a window would hold 2^32 sequences or
 * more. The caller frees with plan_epoch_free(). */
MUST_CHECK int plan_epoch_new(const PlanSpec *spec, const PlanBlocks *blocks, uint64_t epoch,
                              PlanEpoch **ret_epoch);
void plan_epoch_free(PlanEpoch *epoch); /* accepts NULL */

/* Must lengths be read to count units? Not when no sequence is dropped or split. `length_min` and
 * `length_max` are the dataset's. */
bool plan_needs_lengths(const PlanSpec *spec, uint32_t length_min, uint32_t length_max);

/* Units of one window and what was lost, from its sequences' lengths in block order. The caller
 * refuses a window of more than UINT32_MAX units. */
void plan_count_window(const PlanSpec *spec, const uint32_t *lengths, uint64_t count,
                       PlanTally *ret_tally);

/* Finish counting. `window_units[s][w]` gives the units of each window, or NULL: every sequence is
 * one unit. Sets unit_sums, batch counts, N and `counted`. `tally` (may be NULL) is stored. Returns
 * 0, -ENODATA when a strand has no batch (ret_strand names it). */
MUST_CHECK int plan_epoch_finish(const PlanSpec *spec, PlanEpoch *epoch,
                                 uint32_t *const *window_units, const PlanTally *tally,
                                 uint32_t *ret_strand);

/* Units of a window: unit_sums difference. */
static inline uint64_t plan_window_units(const PlanStrand *strand, uint32_t window) {
    return strand->unit_sums[window + 1] - strand->unit_sums[window];
}

/* The window that holds unit `unit` (< total units) of the strand. Binary search. */
uint32_t plan_window_of_unit(const PlanStrand *strand, uint64_t unit);

/* Step 4 and 5 for one window: all its units in order. `lengths` are its sequences' lengths in
 * block order, `block_sequences[i]` how many belong to its i-th block. Writes exactly
 * plan_window_units() units to ret_units (or returns -EBADMSG, having written at most that many,
 * when the lengths do not give this number, or one is above length_max with overflow: error: the
 * index has changed under us). */
MUST_CHECK int plan_window_units_make(const PlanSpec *spec, const PlanEpoch *epoch, uint32_t strand,
                                      uint32_t window, const uint32_t *lengths,
                                      const uint32_t *block_sequences, PlanUnit *ret_units);

/* A batch of the epoch. */
typedef struct PlanBatch {
    uint32_t strand;
    uint64_t unit_first; /* within the strand */
    uint32_t unit_count; /* real rows */
    uint32_t rows;       /* with last: pad, up to `size`; else unit_count */
    bool repeated;       /* by the strand rule */
} PlanBatch;

/* Batch `index` < batch_count. */
PlanBatch plan_epoch_batch(const PlanSpec *spec, const PlanEpoch *epoch, uint64_t index);

/* Rounds: how the batches from `start` on are dealt to `world` ranks. `batch_count` is N. */

/* Number of whole rounds from `start` (< batch_count): rounded up with repeat, down with drop. */
uint64_t plan_round_count(PlanTail tail, uint64_t batch_count, uint64_t start, uint32_t world);

/* The batch index at place `rank` of round `round` is start + round * world + rank; this is the
 * batch it stands for (smaller than N) and whether that is a repetition (place >= N, step 7). */
uint64_t plan_round_batch(uint64_t batch_count, uint64_t place, bool *ret_repeated);

/* Where the round ends: the cursor of all its batches. After the last round: epoch + 1, index 0. */
void plan_round_cursor(PlanTail tail, uint64_t epoch, uint64_t batch_count, uint64_t start,
                       uint32_t world, uint64_t round, uint64_t *ret_epoch, uint64_t *ret_index);
