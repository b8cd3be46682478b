/* SPDX-License-Identifier: MIT */
/* plan.h: which sequences form which batch, as docs/formats/plan.md specifies it. Pure: block
 * counts and lengths in, plan out; no I/O, no clock, no globals, nothing allocated but what is
 * returned. A PlanEpoch is immutable once it has been counted, so any thread may read it.
 *
 * The way: blocks are permuted and dealt into strands; a strand's blocks are cut into windows; a
 * window's sequences are filtered, split and permuted into PIECES, and these are grouped into
 * UNITS: a piece of its own (fixed), a packed row (pack), or a whole batch (bucket, tokens).
 * Consecutive units of a strand form its batches; batch b of the epoch is batch b / S of strand b %
 * S. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"

typedef enum PlanPolicy {
    PLAN_POLICY_FIXED,  /* a unit is one piece, a batch `size` units */
    PLAN_POLICY_BUCKET, /* a unit is a batch of rows of one bucket of lengths */
    PLAN_POLICY_TOKENS, /* a unit is a batch of as many rows as a budget of places allows */
    PLAN_POLICY_PACK    /* a unit is a row of several pieces, a batch `size` units */
} PlanPolicy;
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
/* When an epoch of several sources ends: when the first of them is exhausted, or the last, or after
 * a number of sequences or tokens. */
typedef enum PlanUntil { PLAN_UNTIL_FIRST, PLAN_UNTIL_ALL, PLAN_UNTIL_COUNT } PlanUntil;

enum {
    PLAN_STRANDS_MAX = 1024,
    PLAN_WINDOW_BATCHES = 4,
    PLAN_BOUNDARIES_MAX = 512,
    PLAN_LENGTH_MAX = 1 << 22, /* of a packed row */
    PLAN_GROUP_MAX = 1024,
    PLAN_SOURCES_MAX = 256,
    PLAN_MIX_PERIOD = 4096 /* blocks after which the sources come in the same order again */
};
#define PLAN_WEIGHT_MAX UINT64_C(1000000000000)

/* One of several datasets whose blocks make up the plan's. */
typedef struct PlanSource {
    uint32_t first_block, block_count; /* > 0 */
    uint64_t total;                    /* its sequences or tokens, whichever weights count; > 0 */
    uint64_t weight;                   /* in millionths, 1 .. PLAN_WEIGHT_MAX */
    uint32_t share;                    /* blocks of a period; plan_mix_settle() */
} PlanSource;

typedef struct PlanMix {
    PlanSource *sources; /* in the order of their blocks */
    uint32_t source_count;
    PlanUntil until;
    uint64_t count;      /* with PLAN_UNTIL_COUNT: of what weights count; > 0, < 2^62 */
    uint64_t blocks_max; /* no epoch has more, whatever the seed; plan_mix_settle() */
} PlanMix;

/* Set the shares and blocks_max. Everything else stands. */
void plan_mix_settle(PlanMix *mix);
/* No block of this source is in an epoch more often. */
uint64_t plan_mix_times_max(const PlanMix *mix, uint32_t source);

typedef struct PlanSpec {
    const PlanMix *mix; /* several sources; NULL: one dataset. Borrowed like boundaries */
    bool shuffle;
    uint64_t seed;
    uint32_t window;  /* blocks, >= 1 (auto is settled by the caller) */
    uint32_t strands; /* 1..PLAN_STRANDS_MAX */
    PlanPolicy policy;
    uint32_t size; /* rows of a batch, >= 1; not with tokens */
    PlanLast last;
    PlanTail tail;
    uint32_t length_max; /* >= 1; sequences longer than this overflow */
    PlanOverflow overflow;
    PlanEmpty empty;
    /* What a row of one length occupies: pad.to (0: the length), rounded up. Used by tokens. */
    uint32_t pad_to, pad_multiple_of;
    /* bucket: the longest row of each bucket, ascending; the last is at least any piece's length.
     * Borrowed for as long as the spec is used. */
    const uint32_t *boundaries;
    uint32_t boundary_count;
    bool shape_bucket;    /* rows as long as their bucket allows, not as the longest of the batch */
    uint32_t tokens;      /* tokens: places of a batch, padding included */
    uint32_t multiple_of; /* tokens: of rows */
    uint32_t length;      /* pack: places of a row, >= length_max, <= PLAN_LENGTH_MAX */
    uint32_t pool;        /* pack: pieces that wait for a row, >= 1 */
    uint32_t group;       /* pack: rows that are ordered by cost together; 0, 1: none */
} PlanSpec;

/* Is each unit a whole batch? */
static inline bool plan_units_are_batches(const PlanSpec *spec) {
    return spec->policy == PLAN_POLICY_BUCKET || spec->policy == PLAN_POLICY_TOKENS;
}

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
    uint64_t units, pieces;
    uint64_t sequences_in, tokens_in;           /* as the dataset holds them */
    uint64_t sequences_dropped, tokens_dropped; /* by overflow or empty */
    uint64_t sequences_truncated, tokens_truncated;
    uint64_t sequences_split;              /* into more than one piece */
    uint64_t pieces_cut, piece_tokens_cut; /* by last: drop at a window's end */
} PlanTally;
void plan_tally_add(PlanTally *sum, const PlanTally *more);

typedef struct PlanStrand {
    uint32_t *blocks; /* dataset block numbers in order; with several sources one may come again */
    uint32_t block_count;
    PlanWindow *windows;
    uint32_t window_count;
    uint64_t *unit_sums;  /* [window_count + 1]: units before window w; valid when counted */
    uint64_t batch_count; /* valid when counted */
} PlanStrand;

/* What one source gives to an epoch of several: the blocks from `place` on in its own epoch
 * `epoch`, and then those of its next epochs. */
typedef struct PlanSourceSpan {
    uint64_t epoch;
    uint32_t place, blocks;
    uint64_t sequences, tokens;
    uint64_t sequences_again,
        tokens_again; /* of blocks that were in this epoch of the feed before */
} PlanSourceSpan;

typedef struct PlanEpoch {
    uint64_t epoch;
    PlanSourceSpan *sources; /* [mix->source_count]; NULL with one dataset */
    PlanStrand *strands;
    uint32_t strand_count;
    bool counted;
    uint64_t batch_count; /* N: batches of the epoch after the strand rule; valid when counted */
    uint64_t batches_cut; /* dropped with tail: drop so that all strands have the same number */
    PlanTally tally;      /* valid when counted from lengths; else units and *_in only */
} PlanEpoch;

/* One piece of a sequence in a window's order: with policy fixed a unit, else part of one. */
typedef struct PlanUnit {
    uint32_t block;    /* index within the window: 0..PlanWindow.block_count-1 */
    uint32_t sequence; /* within the block */
    uint32_t start;    /* its first token, counted from the start of the block's tokens */
    uint32_t length;   /* tokens, after truncation or splitting */
} PlanUnit;
static_assert(sizeof(PlanUnit) == 16, "one for each sequence of an open window");

/* Memory that planning one window needs for the time of a call, kept from call to call. All zero:
 * nothing held yet. One thread at a time. */
typedef struct PlanScratch {
    uint32_t *words;
    size_t capacity;
} PlanScratch;
void plan_scratch_free(PlanScratch *scratch);
/* The most bytes that a window of so many pieces makes it hold. */
uint64_t plan_scratch_bytes(const PlanSpec *spec, uint64_t pieces);

/* Are blocks weighed by their tokens, or by their sequences? And how much of that a window holds at
 * least, beside its number of blocks. */
bool plan_weighs_tokens(const PlanSpec *spec);
uint64_t plan_window_enough(const PlanSpec *spec);

/* Steps 1-3 for one epoch. 0, -ENOMEM, or -EOVERFLOW when a window would hold 2^32 sequences or
 * more, or an epoch of several sources as many blocks. The caller frees with plan_epoch_free(). */
MUST_CHECK int plan_epoch_new(const PlanSpec *spec, const PlanBlocks *blocks, uint64_t epoch,
                              PlanEpoch **ret_epoch);
void plan_epoch_free(PlanEpoch *epoch); /* accepts NULL */

/* Must lengths be read to count pieces? Not when no sequence is dropped or split. `length_min` and
 * `length_max` are the dataset's. (Units of fixed are pieces; those of all other policies are
 * counted from the lengths of each window.) */
bool plan_needs_lengths(const PlanSpec *spec, uint32_t length_min, uint32_t length_max);

/* Is any sequence of a dataset with this longest one cut? */
static inline bool plan_truncates(const PlanSpec *spec, uint32_t length_max) {
    return length_max > spec->length_max && (spec->overflow == PLAN_OVERFLOW_TRUNCATE_RIGHT ||
                                             spec->overflow == PLAN_OVERFLOW_TRUNCATE_LEFT);
}

/* Pieces of some sequences and what was lost, from their lengths; units as with fixed. The caller
 * refuses a window of more than UINT32_MAX pieces. */
void plan_count_pieces(const PlanSpec *spec, const uint32_t *lengths, uint64_t count,
                       PlanTally *ret_tally);

/* The same for one window, with the units that its pieces are grouped into. 0, -ENOMEM, -EBADMSG:
 * a length is above what the plan allows. */
MUST_CHECK int plan_count_window(const PlanSpec *spec, const PlanEpoch *epoch, uint32_t strand,
                                 uint32_t window, const uint32_t *lengths, uint64_t count,
                                 PlanScratch *scratch, PlanTally *ret_tally);

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

/* Steps 4 and 5 for one window: all its units in order. `lengths` are its sequences' lengths in
 * block order, `block_sequences[i]` how many belong to its i-th block. ret_units[] gets the pieces;
 * there is room for `room` of them (plan_count_pieces() says how many are enough). Policies other
 * than fixed also say where units begin: unit u of the window is the pieces ret_firsts[u] ..
 * ret_firsts[u + 1], and ret_firsts has plan_window_units() + 1 numbers; fixed leaves it alone.
 * Returns 0, -ENOMEM, or -EBADMSG when the lengths do not give that many units or one is above
 * length_max with overflow: error: the index has changed under us. */
MUST_CHECK int plan_window_units_make(const PlanSpec *spec, const PlanEpoch *epoch, uint32_t strand,
                                      uint32_t window, const uint32_t *lengths,
                                      const uint32_t *block_sequences, uint64_t room,
                                      PlanScratch *scratch, PlanUnit *ret_units,
                                      uint32_t *ret_firsts);

/* A batch of the epoch. */
typedef struct PlanBatch {
    uint32_t strand;
    uint64_t unit_first; /* within the strand */
    uint32_t unit_count; /* real rows; 1 where a unit is a batch */
    bool repeated;       /* by the strand rule */
} PlanBatch;

/* Rows of a batch of `real` real ones: more with last: pad. */
uint32_t plan_batch_rows(const PlanSpec *spec, uint32_t real);
/* Batches of so many consecutive units. */
uint64_t plan_batches_of_units(const PlanSpec *spec, uint64_t units);
/* Length of the rows of a batch whose longest row has `longest` tokens, before rounding up. */
uint32_t plan_shape_length(const PlanSpec *spec, uint32_t longest);
/* The first bucket that takes a row of this length. */
uint32_t plan_bucket_of(const PlanSpec *spec, uint32_t length);
/* Places that one row of this length occupies in a batch of its own. */
uint64_t plan_row_places(const PlanSpec *spec, uint32_t length);

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
