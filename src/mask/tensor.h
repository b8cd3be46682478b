/* SPDX-License-Identifier: MIT */
/* tensor.h: what each tensor of a batch holds and where it lies in a slot. Pure data and pure
 * functions; the fill backends stand in fill.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "format/element_format.h"
#include "format/ring_format.h"
#include "mask/mask_rule.h"

typedef enum TensorSource {
    TENSOR_TOKENS,          /* [rows, length] (x width): the primary column, padded */
    TENSOR_TOKEN_COLUMN,    /* [rows, length] (x width): a per-token column, padded */
    TENSOR_SEQUENCE_COLUMN, /* [rows] (x width) */
    TENSOR_LENGTHS,         /* [rows]: real tokens of each row */
    TENSOR_MASK_LENGTHS,    /* [rows, length]: arange(length) < lengths */
    TENSOR_MASK,            /* [rows, length]: steps */
    TENSOR_MASK_DENSE,      /* [rows, 1, length, length]: steps, for each query and place */
    TENSOR_APPLY,           /* a padded column, 0 (or times 0) where the steps do not keep */
    TENSOR_POSITIONS,       /* [rows, length]: 0, 1, 2 … over the real tokens of each sequence */
    TENSOR_TYPES,           /* [rows, length]: 0 for real tokens */
    TENSOR_LABELS,          /* [rows, length]: the token, or with `shift` the next; else pad */
    TENSOR_LOSS_MASK,       /* [rows, length]: 1 where such a label stands */
    TENSOR_SPECIAL,         /* [rows, length]: 1 for padding and for the tokens in `values` */
    /* The blocks of queries x places that a mask of SEGMENTS, CAUSAL, WINDOW and LENGTHS, all of
     * them, leaves something of (block_lists.h). Int32. */
    TENSOR_BLOCKS_COUNT,      /* [rows, 1, blocks]: how many it leaves a part of */
    TENSOR_BLOCKS,            /* [rows, 1, blocks, blocks]: which, ascending; then all others */
    TENSOR_BLOCKS_FULL_COUNT, /* the same for those that it leaves whole */
    TENSOR_BLOCKS_FULL,
    /* Packed sets only, where the tensors of rows above have an entry for each sequence and those
     * of places hold several sequences one after another. */
    TENSOR_PACK_SEGMENTS,   /* [rows, length]: 1 for a row's first sequence, 2 …; 0: padding */
    TENSOR_PACK_CU_SEQLENS, /* [sequences + 1]: sums of real lengths, from 0 on */
    TENSOR_PACK_CU_PADDED,  /* [sequences + 1]: where each begins in rows x length; the whole */
    TENSOR_PACK_MAX_SEQLEN  /* [1]: the longest sequence */
} TensorSource;

enum {
    TENSOR_STEPS_MAX = 336,   /* of all masks of a feed, three for each list of blocks … */
    TENSOR_VALUES_MAX = 4096, /* … and indices and token ids that they list */
    TENSOR_DEPTH_MAX = 16     /* answers that a mask's steps may have pending */
};

typedef struct TensorSpec {
    char name[SEQFEED_TENSOR_NAME];
    TensorSource source;
    uint32_t column;   /* catalog column; 0 for tokens; unused for lengths and masks */
    uint8_t element;   /* ElementType of that column */
    uint32_t width;    /* of that column; a last dimension when > 1 */
    uint32_t dtype;    /* SEQFEED_BOOL.. */
    uint32_t polarity; /* SEQFEED_POLARITY_* */
    int64_t pad;       /* value of padding, or of rows that last: pad adds; float types: its bit
                          pattern; additive masks: the bits that mask out; lengths: unused */
    uint32_t first_step, step_count;   /* masks and APPLY: in TensorSet.steps */
    uint32_t first_value, value_count; /* SPECIAL: in TensorSet.values */
    uint32_t shift;                    /* LABELS, LOSS_MASK: 1: about the next token */
    uint32_t block;                    /* BLOCKS*: queries, and places, of a block */
    bool counts_on;                    /* POSITIONS: padding on the right goes on counting */
    bool multiply;                     /* APPLY: data * mask bit by bit, instead of choosing */
    bool has_spans;                    /* LABELS, LOSS_MASK: only tokens inside the spans … */
    uint32_t spans;                    /* … of this ragged column of pairs */
    uint8_t spans_element;
    uint32_t spans_width;
} TensorSpec;

/* All tensors of a feed, with the layout that they share. */
typedef struct TensorSet {
    TensorSpec tensors[SEQFEED_TENSORS_MAX];
    uint32_t count;
    bool time_first; /* [length, rows] instead of [rows, length] */
    uint32_t side;   /* SEQFEED_SIDE_* */
    uint32_t rows_max;
    uint32_t length_max;    /* after rounding up: the longest padded length of any batch */
    bool packed;            /* rows hold several sequences (fill_packed.h) */
    bool tail_segment;      /* packed, one row: its padding counts as one more sequence */
    uint32_t sequences_max; /* packed: of a batch */
    uint64_t places_max;    /* no batch has more rows x length; 0: rows_max x length_max */
    /* What masks over tokens look at. */
    uint8_t token_element;
    int64_t token_pad;
    /* A row's columns[column_count] are the ends of its block's sequences in tokens, and
     * columns[column_count + 1 + c] their ends in the values of ragged column c (u32 each). */
    uint32_t column_count;
    bool parity; /* negative indices and spans that leave the sequence are taken as PyTorch does */
    MaskStep steps[TENSOR_STEPS_MAX];
    int64_t values[TENSOR_VALUES_MAX];
    uint32_t step_count, value_count;
    struct TokenLists *token_lists; /* token_lists.h; NULL: lists of tokens are looked through */
} TensorSet;

/* Bytes of one element of a dtype, and its word ("int64"). 0 and "none" for codes that do not
 * exist. */
uint32_t tensor_dtype_bytes(uint32_t dtype);
const char *tensor_dtype_name(uint32_t dtype);
/* SEQFEED_* of a word, or 0. */
uint32_t tensor_dtype_parse(const char *word);

/* May values of this on-disk type be delivered as this dtype without losing any? These may:
 *
 *   u8    uint8  int32  int64  float16  bfloat16  float32
 *   u16          int32  int64                     float32
 *   u24          int32  int64                     float32
 *   u32                 int64
 *   i32          int32  int64
 *   i64                 int64
 *   f16                        float16            float32
 *   bf16                                bfloat16  float32
 *   f32                                           float32 */
bool tensor_dtype_allows(uint8_t element, uint32_t dtype);

typedef struct TensorLayout {
    uint64_t offset[SEQFEED_TENSORS_MAX]; /* from the start of the slot; multiples of
                                             SEQFEED_TENSOR_ALIGN */
    uint64_t size_bytes[SEQFEED_TENSORS_MAX];
    uint64_t bytes;     /* of the slot in use */
    uint32_t sequences; /* entries of tensors that have one for each sequence; rows unless packed */
    uint32_t sums;      /* entries of cumulative lengths */
    uint32_t rows;
    uint32_t longest; /* for PACK_MAX_SEQLEN: tokens of the longest sequence; the caller's */
    uint32_t zeroed;  /* bit t: the padding of tensor t is zero without fill's doing (slate.h) */
    uint32_t kept; /* bit t: the slot holds all of tensor t from an earlier batch of this shape */
} TensorLayout;

/* Does the tensor's mask look at `op`, a MASK_* of mask_rule.h? */
bool tensor_has_step(const TensorSet *set, const TensorSpec *spec, uint32_t op);

/* The tensors (bit t: tensor t) whose bytes follow from a batch's shape alone. For
 * TensorLayout.kept. */
uint32_t tensor_constant(const TensorSet *set);

/* Blocks that a row of places falls into. */
static inline uint32_t tensor_blocks(const TensorSpec *spec, uint32_t length) {
    return (uint32_t)(((uint64_t)length + spec->block - 1) / spec->block);
}

/* Elements between the rows of a dense mask: a multiple of 16, so that attention kernels take it
 * as it is. The elements between are zero. */
static inline uint64_t tensor_dense_stride(uint32_t length) {
    return ((uint64_t)length + 15) & ~UINT64_C(15);
}

/* Bytes of one row of a tensor that has as many of them for each row. */
uint64_t tensor_row_bytes(const TensorSpec *spec, uint32_t length);

/* Where the tensors of a batch of `rows` x `length` lie: contiguous, those of fixed shape first,
 * each at a multiple of SEQFEED_TENSOR_ALIGN. The same answer for every backend. */
void tensor_layout(const TensorSet *set, uint32_t rows, uint32_t length, TensorLayout *ret_layout);

/* The same for rows that hold `sequences` sequences with `tokens` tokens in all. */
void tensor_layout_packed(const TensorSet *set, uint32_t rows, uint32_t length, uint32_t sequences,
                          uint64_t tokens, TensorLayout *ret_layout);

/* Elements of a tensor in the largest batch, but for its width. False: absurdly many. */
bool tensor_elements_max(const TensorSet *set, const TensorSpec *spec, uint64_t *ret_elements);

/* Bytes that a slot needs for any batch of the set, rounded up to whole pages. -EOVERFLOW with the
 * arithmetic when it is absurd. */
MUST_CHECK int tensor_slot_bytes(const TensorSet *set, uint64_t *ret_bytes, Error *error);

/* Describe the tensors of a batch for its trainers (name, dtype, shape, stride, offset, fill …). */
void tensor_describe(const TensorSet *set, uint32_t rows, uint32_t length,
                     const TensorLayout *layout,
                     SeqfeedTensorRecord ret_records[SEQFEED_TENSORS_MAX]);
