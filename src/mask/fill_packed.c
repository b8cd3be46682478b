/* SPDX-License-Identifier: MIT */
#include "mask/fill_packed.h"

#include <assert.h>
#include <string.h>

#include "mask/convert.h"
#include "mask/mask_rule.h"

enum { LABEL_IGNORE = -100 };

/* One padded tensor, with everything decided that does not depend on the row. */
typedef struct Packing {
    const TensorSpec *spec;
    ConvertFunction *convert; /* NULL: no column */
    uint32_t from_bytes;      /* of one token on disk */
    uint32_t value_bytes, place_bytes;
    uint64_t real_bits, pad_bits;
    bool tail_segment; /* the padding of a row is numbered like one more sequence */
} Packing;

static Packing packing_new(const TensorSet *set, const TensorSpec *spec) {
    uint32_t value_bytes = tensor_dtype_bytes(spec->dtype);
    Packing packing = {.spec = spec,
                       .value_bytes = value_bytes,
                       .place_bytes = value_bytes,
                       .pad_bits = (uint64_t)spec->pad,
                       .tail_segment = set->tail_segment};

    switch (spec->source) {
    case TENSOR_TOKENS:
    case TENSOR_TOKEN_COLUMN:
    case TENSOR_PACK_LABELS:
        packing.convert = convert_find(spec->element, spec->dtype);
        packing.from_bytes = element_bytes(spec->element) * spec->width;
        packing.place_bytes *= spec->width;
        assert(packing.convert);
        break;
    case TENSOR_MASK_LENGTHS:
        packing.real_bits = mask_rule_bits(spec->dtype, spec->polarity, packing.pad_bits, 1);
        packing.pad_bits = mask_rule_bits(spec->dtype, spec->polarity, packing.pad_bits, 0);
        break;
    default:
        packing.pad_bits = 0;
    }
    return packing;
}

static void count_up(uint8_t *to, uint32_t value_bytes, uint32_t count) {
    if (value_bytes == sizeof(uint64_t)) {
        uint64_t *values = (uint64_t *)(void *)to;
        for (uint32_t i = 0; i < count; i++)
            values[i] = i;
    } else {
        uint32_t *values = (uint32_t *)(void *)to;
        assert(value_bytes == sizeof(uint32_t));
        for (uint32_t i = 0; i < count; i++)
            values[i] = i;
    }
}

/* The places of one sequence, the `number`-th of its row. */
static void pack_sequence(const Packing *packing, const FillRow *source, uint32_t number,
                          uint8_t *to) {
    const TensorSpec *spec = packing->spec;
    const uint8_t *from;

    switch (spec->source) {
    case TENSOR_MASK_LENGTHS:
        convert_repeat(to, packing->real_bits, packing->value_bytes, source->length);
        return;
    case TENSOR_PACK_SEGMENTS:
        convert_repeat(to, number + 1, packing->value_bytes, source->length);
        return;
    case TENSOR_PACK_POSITIONS:
        count_up(to, packing->value_bytes, source->length);
        return;
    default:
        from = source->columns[spec->column] + (size_t)source->start * packing->from_bytes;
        packing->convert(to, from, (size_t)source->length * spec->width);
        /* Nothing predicts a sequence's first token. */
        if (spec->source == TENSOR_PACK_LABELS && source->length > 0)
            convert_repeat(to, (uint64_t)(int64_t)LABEL_IGNORE, packing->value_bytes, 1);
    }
}

static void pack_padding(const Packing *packing, uint32_t count, uint8_t *to) {
    if (packing->spec->source == TENSOR_PACK_POSITIONS && packing->tail_segment)
        count_up(to, packing->value_bytes, count);
    else
        convert_repeat(to, packing->pad_bits, packing->value_bytes,
                       (size_t)count * (packing->place_bytes / packing->value_bytes));
}

static void pack_rows(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                      uint32_t length, const FillPacked *part) {
    const Packing packing = packing_new(set, spec);
    size_t row_bytes = (size_t)length * packing.place_bytes;
    uint8_t *to = tensor + part->first_row * row_bytes;

    for (uint32_t row = 0; row < part->row_count; row++, to += row_bytes) {
        uint32_t first = part->firsts ? part->firsts[row] - part->firsts[0] : 0;
        uint32_t end = part->firsts ? part->firsts[row + 1] - part->firsts[0] : 0;
        uint32_t real = 0;
        uint8_t *at = to;

        for (uint32_t s = first; s < end; s++)
            real += part->sources[s].length;
        assert(real <= length);
        if (set->side == SEQFEED_SIDE_LEFT) {
            pack_padding(&packing, length - real, at);
            at += (size_t)(length - real) * packing.place_bytes;
        }
        for (uint32_t s = first; s < end; s++) {
            pack_sequence(&packing, &part->sources[s], s - first, at);
            at += (size_t)part->sources[s].length * packing.place_bytes;
        }
        if (set->side == SEQFEED_SIDE_RIGHT)
            pack_padding(&packing, length - real, at);
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

/* The longest sequence, or the tail where that is longer. */
static void pack_longest(const TensorSet *set, const TensorSpec *spec, uint8_t *tensor,
                         uint32_t length, const FillPacked *part) {
    uint64_t longest = 0, sum = 0;

    for (uint32_t s = 0; s < part->sequence_count; s++) {
        longest = MAX(longest, (uint64_t)part->sources[s].length);
        sum += part->sources[s].length;
    }
    store(tensor, tensor_dtype_bytes(spec->dtype), 0, MAX(longest, length - sum));
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

void fill_packed(const TensorSet *set, const TensorLayout *layout, void *slot, uint32_t length,
                 const FillPacked *part) {
    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];
        uint8_t *tensor = (uint8_t *)slot + layout->offset[t];

        switch (spec->source) {
        case TENSOR_LENGTHS:
        case TENSOR_SEQUENCE_COLUMN:
            pack_values(spec, tensor, part);
            break;
        case TENSOR_PACK_CU_SEQLENS:
            pack_sums(set, spec, tensor, length, part);
            break;
        case TENSOR_PACK_MAX_SEQLEN:
            if (part->firsts)
                pack_longest(set, spec, tensor, length, part);
            break;
        default:
            pack_rows(set, spec, tensor, length, part);
        }
    }
}
