/* SPDX-License-Identifier: MIT */
#include "mask/fill_packed.h"

#include <assert.h>
#include <string.h>

#include "mask/block_lists.h"
#include "mask/compute.h"
#include "mask/convert.h"
#include "mask/dense.h"
#include "mask/mask_rule.h"
#include "mask/row_view.h"

/* One padded tensor of runs, with everything decided that does not depend on the row. */
typedef struct Packing {
    const TensorSpec *spec;
    ConvertFunction *convert; /* NULL: no column */
    uint32_t from_bytes;      /* of one token on disk */
    uint32_t value_bytes, place_bytes;
    uint64_t real_bits, pad_bits;
} Packing;

static Packing packing_new(const TensorSpec *spec) {
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype);
    Packing packing = {.spec = spec,
                       .value_bytes = value_bytes,
                       .place_bytes = value_bytes,
                       .pad_bits = (uint64_t)spec->pad};

    switch (spec->source) {
    case TENSOR_MASK_LENGTHS:
        packing.real_bits = mask_rule_bits(spec->dtype, spec->polarity, packing.pad_bits, 1);
        packing.pad_bits = mask_rule_bits(spec->dtype, spec->polarity, packing.pad_bits, 0);
        break;
    case TENSOR_PACK_SEGMENTS:
        packing.pad_bits = 0;
        break;
    case TENSOR_POSITIONS:
        break;
    default:
        packing.convert = convert_find(spec->element, spec->dtype);
        packing.from_bytes = element_bytes(spec->element) * spec->width;
        packing.place_bytes *= spec->width;
        assert(packing.convert);
    }
    return packing;
}

/* The places of one sequence, the `number`-th of its row. */
static void pack_sequence(const Packing *packing, const FillRow *source, uint32_t number,
                          uint8_t *to) {
    const TensorSpec *spec = packing->spec;

    switch (spec->source) {
    case TENSOR_MASK_LENGTHS:
        convert_repeat(to, packing->real_bits, packing->value_bytes, source->length);
        return;
    case TENSOR_PACK_SEGMENTS:
        convert_repeat(to, number, packing->value_bytes, source->length);
        return;
    case TENSOR_POSITIONS:
        compute_count(to, packing->value_bytes, 0, source->length);
        return;
    default:
        packing->convert(
            to, source->columns[spec->column] + (size_t)source->start * packing->from_bytes,
            (size_t)source->length * spec->width);
    }
}

static void pack_padding(const Packing *packing, uint32_t count, uint8_t *to) {
    convert_repeat(to, packing->pad_bits, packing->value_bytes,
                   (size_t)count * (packing->place_bytes / packing->value_bytes));
}

/* Padding behind the last sequence: positions may go on, from that sequence or as one of its own.
 */
static void pack_tail(const TensorSet *set, const Packing *packing, const FillRow *last,
                      uint32_t count, uint8_t *to) {
    const TensorSpec *spec = packing->spec;

    if (spec->source == TENSOR_POSITIONS && (spec->counts_on || set->tail_segment))
        compute_count(to, packing->value_bytes, spec->counts_on && last ? last->length : 0, count);
    else
        pack_padding(packing, count, to);
}

/* Runs of a column or of one value, sequence by sequence. */
static void pack_runs(const TensorSet *set, const Packing *packing, const FillRow *sources,
                      uint32_t count, uint32_t length, uint8_t *to) {
    uint32_t rest = length - row_tokens(sources, count);

    if (set->side == SEQFEED_SIDE_LEFT) {
        pack_padding(packing, rest, to);
        to += (size_t)rest * packing->place_bytes;
    }
    for (uint32_t s = 0; s < count; s++) {
        pack_sequence(packing, &sources[s], s + 1, to);
        to += (size_t)sources[s].length * packing->place_bytes;
    }
    if (set->side == SEQFEED_SIDE_RIGHT)
        pack_tail(set, packing, count ? &sources[count - 1] : NULL, rest, to);
}

/* Tensors whose rows are all as long as each other. */
static void pack_rows(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                      uint32_t length, const FillPacked *part) {
    bool runs = !block_lists_knows(spec) && spec->source != TENSOR_MASK_DENSE &&
                (spec->source == TENSOR_POSITIONS || !compute_knows(spec));
    Packing packing = runs ? packing_new(spec) : (Packing){0};
    uint64_t row_bytes = tensor_row_bytes(spec, length);
    uint8_t *to = tensor + part->first_row * row_bytes;

    for (uint32_t row = 0; row < part->row_count; row++, to += row_bytes) {
        uint32_t first = part->firsts ? part->firsts[row] - part->firsts[0] : 0;
        uint32_t count = part->firsts ? part->firsts[row + 1] - part->firsts[row] : 0;
        const FillRow *sources = part->firsts ? part->sources + first : NULL;

        assert(row_tokens(sources, count) <= length);
        if (runs)
            pack_runs(set, &packing, sources, count, length, to);
        else if (block_lists_knows(spec))
            block_lists_fill(set, spec, sources, count, length, to);
        else if (spec->source == TENSOR_MASK_DENSE)
            dense_fill(set, spec, sources, count, length, to);
        else
            compute_packed(set, spec, sources, count, length, to);
    }
}

static void store(uint8_t *tensor, uint32_t value_bytes, uint64_t index, uint64_t value) {
    memcpy(tensor + index * value_bytes, &value, value_bytes); /* little-endian */
}

/* Sums of the lengths up to each sequence. */
static void pack_sums(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                      uint32_t length, const FillPacked *part) {
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype);
    uint64_t sum = part->first_token;

    if (part->first_sequence == 0)
        store(tensor, value_bytes, 0, 0);
    for (uint32_t s = 0; s < part->sequence_count; s++) {
        sum += part->sources[s].length;
        store(tensor, value_bytes, part->first_sequence + s + 1, sum);
    }
    if (set->tail_segment && part->sequence_count > 0 && sum < length)
        store(tensor, value_bytes, part->first_sequence + part->sequence_count + 1, length);
}

/* The longest sequence, or the tail where that counts as one and is longer. */
static void pack_longest(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                         const TensorLayout *layout, uint32_t length, const FillPacked *part) {
    uint32_t tail = set->tail_segment ? length - row_tokens(part->sources, part->sequence_count)
                                      : 0;

    store(tensor, tensor_dtype_bytes(spec->dtype), 0, MAX(layout->longest, tail));
}

/* Where each sequence begins in rows x length, and behind the last the whole. */
static void pack_begins(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                        const TensorLayout *layout, uint32_t length, const FillPacked *part) {
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype), sequence = part->first_sequence;

    for (uint32_t row = 0; row < part->row_count; row++) {
        const FillRow *sources = part->sources + (part->firsts[row] - part->firsts[0]);
        uint32_t count = part->firsts[row + 1] - part->firsts[row];
        uint64_t at = (uint64_t)(part->first_row + row) * length +
                      mask_rule_begin(set->side, length, row_tokens(sources, count));

        for (uint32_t s = 0; s < count; at += sources[s++].length)
            store(tensor, value_bytes, sequence++, at);
    }
    if (part->first_sequence == 0)
        store(tensor, value_bytes, layout->sequences, (uint64_t)layout->rows * length);
}

static void pack_values(const TensorSpec *spec, uint8_t *tensor, const FillPacked *part) {
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype);
    bool is_length = spec->source == TENSOR_LENGTHS;
    uint32_t width = is_length ? 1 : spec->width;
    ConvertFunction *convert = is_length ? NULL : convert_find(spec->element, spec->dtype);
    size_t from_bytes = is_length ? 0 : (size_t)element_bytes(spec->element) * width;
    uint8_t *to = tensor + (size_t)part->first_sequence * width * value_bytes;

    for (uint32_t s = 0; s < part->sequence_count; s++, to += (size_t)width * value_bytes) {
        const FillRow *source = &part->sources[s];

        if (is_length)
            convert_repeat(to, source->length, value_bytes, 1);
        else
            convert(to, source->columns[spec->column] + source->sequence * from_bytes, width);
    }
}

/* Tensors whose entries are the sequences'. Only one part has the first of them. */
static void pack_entries(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                         const TensorLayout *layout, uint32_t length, const FillPacked *part) {
    if (!part->firsts)
        return;
    switch (spec->source) {
    case TENSOR_PACK_CU_SEQLENS:
        pack_sums(set, spec, tensor, length, part);
        break;
    case TENSOR_PACK_CU_PADDED:
        pack_begins(set, spec, tensor, layout, length, part);
        break;
    case TENSOR_PACK_MAX_SEQLEN:
        if (part->first_sequence == 0)
            pack_longest(set, spec, tensor, layout, length, part);
        break;
    default:
        pack_values(spec, tensor, part);
    }
}

void fill_packed(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t length,
                 const FillPacked *part) {
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        uint8_t *tensor = (uint8_t *)slot + layout->offset[t];

        switch (spec->source) {
        case TENSOR_LENGTHS:
        case TENSOR_SEQUENCE_COLUMN:
        case TENSOR_PACK_CU_SEQLENS:
        case TENSOR_PACK_CU_PADDED:
        case TENSOR_PACK_MAX_SEQLEN:
            pack_entries(set, spec, tensor, layout, length, part);
            break;
        default:
            pack_rows(set, spec, tensor, length, part);
        }
    }
}
