/* SPDX-License-Identifier: MIT */
#include "mask/tensor.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/arithmetic.h"
#include "mask/convert.h"

/* No slot is larger, whatever the settings multiply to. */
#define SLOT_BYTES_MAX (UINT64_C(1) << 40)

static const struct {
    const char *name;
    uint32_t bytes;
} dtypes[SEQFEED_DTYPE_COUNT] = {
    [0] = {"none", 0},
    [SEQFEED_BOOL] = {"bool", 1},
    [SEQFEED_UINT8] = {"uint8", 1},
    [SEQFEED_INT32] = {"int32", 4},
    [SEQFEED_INT64] = {"int64", 8},
    [SEQFEED_FLOAT16] = {"float16", 2},
    [SEQFEED_BFLOAT16] = {"bfloat16", 2},
    [SEQFEED_FLOAT32] = {"float32", 4},
};

uint32_t tensor_dtype_bytes(uint32_t dtype) {
    return dtype < SEQFEED_DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

const char *tensor_dtype_name(uint32_t dtype) {
    return dtypes[dtype < SEQFEED_DTYPE_COUNT ? dtype : 0].name;
}

uint32_t tensor_dtype_parse(const char *word) {
    for (uint32_t dtype = 1; dtype < SEQFEED_DTYPE_COUNT; dtype++)
        if (strcmp(word, dtypes[dtype].name) == 0)
            return dtype;
    return 0;
}

bool tensor_dtype_allows(uint8_t element, uint32_t dtype) {
    return convert_find(element, dtype) != NULL;
}

typedef enum TensorForm {
    FORM_ROWS,   /* one place a row */
    FORM_PLACES, /* one for each token, padded ones included */
    FORM_BLOCKS, /* one for each block of queries, or each pair of blocks */
    FORM_DENSE   /* one for each pair of them */
} TensorForm;

static TensorForm tensor_form(const TensorSpec *spec) {
    switch (spec->source) {
    case TENSOR_SEQUENCE_COLUMN:
    case TENSOR_LENGTHS:
    case TENSOR_PACK_CU_SEQLENS:
    case TENSOR_PACK_CU_PADDED:
    case TENSOR_PACK_MAX_SEQLEN:
        return FORM_ROWS;
    case TENSOR_BLOCKS_COUNT:
    case TENSOR_BLOCKS:
    case TENSOR_BLOCKS_FULL_COUNT:
    case TENSOR_BLOCKS_FULL:
        return FORM_BLOCKS;
    case TENSOR_MASK_DENSE:
        return FORM_DENSE;
    default:
        return FORM_PLACES;
    }
}

/* Numbers that one token, or one sequence, has in the tensor. */
static uint32_t tensor_width(const TensorSpec *spec) {
    switch (spec->source) {
    case TENSOR_TOKENS:
    case TENSOR_TOKEN_COLUMN:
    case TENSOR_SEQUENCE_COLUMN:
    case TENSOR_APPLY:
        return spec->width;
    default:
        return 1;
    }
}

/* Entries of a tensor that has none for each place. */
static uint32_t tensor_entries(const TensorSpec *spec, const TensorLayout *layout) {
    switch (spec->source) {
    case TENSOR_PACK_CU_SEQLENS:
        return layout->sums;
    case TENSOR_PACK_CU_PADDED:
        return layout->sequences + 1;
    case TENSOR_PACK_MAX_SEQLEN:
        return 1;
    default:
        return layout->sequences;
    }
}

static bool counts_blocks(const TensorSpec *spec) {
    return spec->source == TENSOR_BLOCKS_COUNT || spec->source == TENSOR_BLOCKS_FULL_COUNT;
}

/* Places that one row has in the tensor, or one. */
static uint64_t row_places(const TensorSpec *spec, uint32_t length) {
    switch (tensor_form(spec)) {
    case FORM_ROWS:
        return 1;
    case FORM_PLACES:
        return length;
    case FORM_BLOCKS: {
        uint64_t blocks = tensor_blocks(spec, length);

        return counts_blocks(spec) ? blocks : blocks * blocks;
    }
    default:
        return length * tensor_dense_stride(length);
    }
}

uint64_t tensor_row_bytes(const TensorSpec *spec, uint32_t length) {
    return row_places(spec, length) * tensor_width(spec) * tensor_dtype_bytes(spec->dtype);
}

bool tensor_has_step(const TensorSet *set, const TensorSpec *spec, uint32_t op) {
    for (uint32_t s = 0; s < spec->step_count; s++)
        if (set->steps[spec->first_step + s].op == op)
            return true;
    return false;
}

uint32_t tensor_constant(const TensorSet *set) {
    uint32_t bits = 0;

    if (set->packed) /* where a tensor lies follows from the number of sequences too */
        return 0;
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        bool constant = spec->source == TENSOR_MASK || tensor_form(spec) >= FORM_BLOCKS ||
                        (spec->source == TENSOR_TYPES && spec->pad == 0) ||
                        (spec->source == TENSOR_POSITIONS && spec->counts_on &&
                         set->side == SEQFEED_SIDE_RIGHT);

        for (uint32_t s = 0; s < spec->step_count; s++) {
            uint32_t op = set->steps[spec->first_step + s].op;

            constant &= op != MASK_LENGTHS && op != MASK_INDEX_COLUMN && op != MASK_TOKEN_IDS &&
                        op != MASK_SEGMENTS;
        }
        bits |= (uint32_t)constant << t;
    }
    return bits;
}

static void lay_out(const TensorSet *set, uint32_t rows, uint32_t length, TensorLayout *layout) {
    uint64_t end = 0;

    assert(set->count <= SEQFEED_TENSORS_MAX);
    for (TensorForm form = FORM_ROWS; form <= FORM_DENSE; form++) {
        for (uint32_t t = 0; t < set->count; t++) {
            const TensorSpec *spec = &set->tensors[t];
            uint64_t count = form == FORM_ROWS ? tensor_entries(spec, layout)
                                               : rows * row_places(spec, length);

            if (tensor_form(spec) != form)
                continue;
            layout->offset[t] = align_up(end, SEQFEED_TENSOR_ALIGN);
            layout->size_bytes[t] = count * tensor_width(spec) * tensor_dtype_bytes(spec->dtype);
            end = layout->offset[t] + layout->size_bytes[t];
        }
    }
    layout->bytes = end;
    layout->rows = rows;
    layout->longest = 0;
    layout->zeroed = 0;
    layout->kept = 0;
}

void tensor_layout(const TensorSet *set, uint32_t rows, uint32_t length, TensorLayout *ret_layout) {
    ret_layout->sequences = rows;
    ret_layout->sums = rows + 1;
    lay_out(set, rows, length, ret_layout);
}

void tensor_layout_packed(const TensorSet *set, uint32_t rows, uint32_t length, uint32_t sequences,
                          uint64_t tokens, TensorLayout *ret_layout) {
    ret_layout->sequences = sequences;
    ret_layout->sums = sequences + 1;
    if (set->tail_segment && tokens < (uint64_t)rows * length)
        ret_layout->sums++;
    lay_out(set, rows, length, ret_layout);
}

static uint64_t places_max(const TensorSet *set) {
    uint64_t all = (uint64_t)set->rows_max * set->length_max;

    return set->places_max ? MIN(set->places_max, all) : all;
}

bool tensor_elements_max(const TensorSet *set, const TensorSpec *spec, uint64_t *ret_elements) {
    uint64_t blocks;

    switch (tensor_form(spec)) {
    case FORM_ROWS:
        *ret_elements = set->packed ? set->sequences_max + UINT64_C(2) : set->rows_max;
        return true;
    case FORM_PLACES:
        *ret_elements = places_max(set);
        return true;
    case FORM_DENSE:
        return multiply_checked(places_max(set), tensor_dense_stride(set->length_max),
                                ret_elements);
    default:
        /* A row of one block, or of less than twice its places' share of blocks. */
        blocks = places_max(set) / spec->block * 2 + set->rows_max;
        return multiply_checked(
            blocks, counts_blocks(spec) ? 1 : tensor_blocks(spec, set->length_max), ret_elements);
    }
}

int tensor_slot_bytes(const TensorSet *set, uint64_t *ret_bytes, Error *error) {
    TensorLayout layout;
    uint64_t sum = 0;

    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        uint64_t size;

        if (!tensor_elements_max(set, spec, &size) ||
            !multiply_checked(size, (uint64_t)tensor_width(spec), &size) ||
            !multiply_checked(size, (uint64_t)tensor_dtype_bytes(spec->dtype), &size) ||
            !add_checked(sum, size, &sum) || sum > SLOT_BYTES_MAX)
            return error_set(error, -EOVERFLOW,
                             "a batch is too large: tensor %s alone needs %" PRIu32
                             " rows x %" PRIu64 " places x %" PRIu32 " values x %" PRIu32
                             " bytes; a slot may have at most 1 TiB",
                             spec->name, set->rows_max, row_places(spec, set->length_max),
                             tensor_width(spec), tensor_dtype_bytes(spec->dtype));
    }
    /* Sizes grow with rows and with length, so the largest batch is the one with most of both.
     * Where a budget bounds their product, no batch needs more than the most rows in the tensors of
     * rows and the whole budget in those of places. */
    if (set->places_max == 0) {
        if (set->packed)
            tensor_layout_packed(set, set->rows_max, set->length_max, set->sequences_max, 0,
                                 &layout);
        else
            tensor_layout(set, set->rows_max, set->length_max, &layout);
        sum = layout.bytes;
    } else {
        sum += set->count * (uint64_t)SEQFEED_TENSOR_ALIGN;
    }
    *ret_bytes = align_up(sum, SEQFEED_PAGE);
    return 0;
}

/* The shape, its strides and the number of dimensions. */
static void describe_shape(const TensorSet *set, const TensorSpec *spec, uint32_t rows,
                           uint32_t length, const TensorLayout *layout,
                           SeqfeedTensorRecord *record) {
    uint32_t width = tensor_width(spec);
    TensorForm form = tensor_form(spec);
    int64_t stride = 1;

    if (form == FORM_DENSE) {
        int64_t row = (int64_t)tensor_dense_stride(length);

        record->ndim = 4;
        memcpy(record->shape, (int64_t[4]){rows, 1, length, length}, sizeof record->shape);
        memcpy(record->stride, (int64_t[4]){row * length, row * length, row, 1},
               sizeof record->stride);
        return;
    }
    if (form == FORM_BLOCKS) {
        uint32_t blocks = tensor_blocks(spec, length);

        record->shape[record->ndim++] = rows;
        record->shape[record->ndim++] = 1;
        record->shape[record->ndim++] = blocks;
        if (!counts_blocks(spec))
            record->shape[record->ndim++] = blocks;
    } else if (form == FORM_PLACES) {
        record->shape[record->ndim++] = set->time_first ? length : rows;
        record->shape[record->ndim++] = set->time_first ? rows : length;
    } else {
        record->shape[record->ndim++] = tensor_entries(spec, layout);
    }
    if (width > 1)
        record->shape[record->ndim++] = width;
    for (uint32_t d = record->ndim; d-- > 0;) {
        record->stride[d] = stride;
        stride *= record->shape[d];
    }
}

void tensor_describe(const TensorSet *set, uint32_t rows, uint32_t length,
                     const TensorLayout *layout,
                     SeqfeedTensorRecord ret_records[SEQFEED_TENSORS_MAX]) {
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        SeqfeedTensorRecord *record = &ret_records[t];

        *record = (SeqfeedTensorRecord){
            .dtype = spec->dtype,
            .polarity = spec->polarity,
            .side = set->side,
            .fill = spec->source == TENSOR_LENGTHS ? 0 : spec->pad,
            .ignore = spec->source == TENSOR_LABELS ? spec->pad : 0,
            .offset = layout->offset[t],
            .size_bytes = layout->size_bytes[t],
        };
        memcpy(record->name, spec->name, sizeof record->name);
        describe_shape(set, spec, rows, length, layout, record);
    }
}
