/* SPDX-License-Identifier: MIT */
/* Masks, labels and what else follows from rules: from settings to specifications, and what a
 * dataset or another setting makes unsafe or meaningless is refused here, with the reason. */
#include "feed/feed_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"

static int refuse(const Wanted *wanted, Error *error, SettingsPlace place, const char *key,
                  const char *format, ...) PRINTF_FORMAT(5, 6);

static int refuse(const Wanted *wanted, Error *error, SettingsPlace place, const char *key,
                  const char *format, ...) {
    char sentence[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return feed_tensor_error(wanted, error, place, key, sentence);
}

/* The shortest padded length that a batch can have. */
static uint32_t shortest_batch(const Feed *feed, const SettingsFeed *settings) {
    uint32_t shortest = MIN(feed->catalog->length_min, feed->plan.length_max);

    if (feed->plan.policy == PLAN_POLICY_PACK)
        return feed->tensors.length_max;
    if (shortest > 0 && settings->overflow == SETTINGS_OVERFLOW_SPLIT)
        shortest = 1; /* a sequence's last piece */
    if (settings->empty == SETTINGS_EMPTY_DROP)
        shortest = MAX(shortest, 1u);
    return (uint32_t)align_up(feed->pad_to ? feed->pad_to : shortest, feed->pad_multiple_of);
}

/* Can a row have no real token? */
static bool has_empty_rows(const Feed *feed, const SettingsFeed *settings) {
    return settings->last == SETTINGS_LAST_PAD ||
           (feed->catalog->length_min == 0 && settings->empty == SETTINGS_EMPTY_KEEP);
}

static int check_tokens(const Wanted *wanted, SettingsPlace place, const char *key, Error *error) {
    const CatalogColumn *tokens = &wanted->feed->catalog->columns[0];

    if (!element_is_float(tokens->type) && tokens->width == 1)
        return 0;
    return refuse(wanted, error, place, key, "column '%s' holds %s%s, which are no token ids",
                  tokens->name, element_name(tokens->type), tokens->width > 1 ? " in vectors" : "");
}

static int find_ragged(const Wanted *wanted, const char *name, SettingsPlace place, const char *key,
                       uint32_t *ret_column, Error *error) {
    const Catalog *catalog = wanted->feed->catalog;
    int index = catalog_find_column(catalog, name);
    CLEANUP(text_deinit) Text text = {0};

    if (index >= 0 && catalog->columns[index].kind == SHARD_KIND_RAGGED &&
        !element_is_float(catalog->columns[index].type)) {
        *ret_column = (uint32_t)index;
        return feed_column_agrees(wanted->feed, (uint32_t)index, &text)
                   ? 0
                   : feed_tensor_error(wanted, error, place, key,
                                       text.failed ? "no memory" : text.bytes);
    }
    text_add(&text, "%s has no ragged column '%s' of whole numbers, it has:", catalog->path, name);
    for (uint32_t c = 0; c < catalog->column_count; c++)
        if (catalog->columns[c].kind == SHARD_KIND_RAGGED)
            text_add(&text, " %s", catalog->columns[c].name);
    return feed_tensor_error(wanted, error, place, key, text.failed ? "no memory" : text.bytes);
}

/* Indices that no batch, or not every batch, has a place for. */
static int check_indices(const Wanted *wanted, const SettingsMaskStep *step, Error *error) {
    const SettingsFeed *settings = wanted->source->feed;
    const Feed *feed = wanted->feed;
    uint32_t longest = feed->tensors.length_max, shortest = shortest_batch(feed, settings), place;

    for (uint32_t i = 0; i < step->count; i++) {
        int64_t index = settings->mask_values[step->first + i];

        if (index < 0 && settings->values == SETTINGS_VALUES_STRICT)
            return refuse(wanted, error, step->place, "mask",
                          "index %" PRId64 " is negative; 'values: parity' counts it from the end",
                          index);
        if (!mask_rule_index(index, longest, &place))
            return refuse(wanted, error, step->place, "mask",
                          "index %" PRId64 " is outside every row: the longest has %" PRIu32
                          " places",
                          index, longest);
        if (settings->values == SETTINGS_VALUES_STRICT && !mask_rule_index(index, shortest, &place))
            return refuse(wanted, error, step->place, "mask",
                          "index %" PRId64 " is outside some rows: a batch can be %" PRIu32
                          " places long; set pad.to, or 'values: parity' and end with an error "
                          "where such a batch comes",
                          index, shortest);
    }
    return 0;
}

static int copy_values(const Wanted *wanted, TensorSet *set, uint32_t first, uint32_t count) {
    uint32_t at = set->value_count;

    if (count)
        memcpy(set->values + at, wanted->source->feed->mask_values + first,
               count * sizeof *set->values);
    set->value_count += count;
    return (int)at;
}

static int add_step(const Wanted *wanted, TensorSet *set, const SettingsMaskStep *from,
                    Error *error) {
    static const uint32_t ops[] = {
        [SETTINGS_MASK_TRUE] = MASK_TRUE,
        [SETTINGS_MASK_FALSE] = MASK_FALSE,
        [SETTINGS_MASK_LENGTHS] = MASK_LENGTHS,
        [SETTINGS_MASK_CAUSAL] = MASK_CAUSAL,
        [SETTINGS_MASK_WINDOW] = MASK_WINDOW,
        [SETTINGS_MASK_INDICES] = MASK_INDICES,
        [SETTINGS_MASK_INDEX_COLUMN] = MASK_INDEX_COLUMN,
        [SETTINGS_MASK_TOKEN_IDS] = MASK_TOKEN_IDS,
        [SETTINGS_MASK_SEGMENTS] = MASK_SEGMENTS,
        [SETTINGS_MASK_AND] = MASK_AND,
        [SETTINGS_MASK_OR] = MASK_OR,
        [SETTINGS_MASK_NOT] = MASK_NOT,
    };
    MaskStep *step = &set->steps[set->step_count];
    int r = 0;

    *step = (MaskStep){.op = ops[from->op], .count = from->count};
    if (from->op == SETTINGS_MASK_INDEX_COLUMN) {
        r = find_ragged(wanted, from->column, from->place, "mask", &step->first, error);
        if (r < 0)
            return r;
        step->count = wanted->feed->catalog->columns[step->first].type;
        if (wanted->feed->catalog->columns[step->first].width > 1)
            return refuse(wanted, error, from->place, "mask",
                          "column '%s' holds vectors, an index is one number", from->column);
    }
    if (from->op == SETTINGS_MASK_INDICES)
        r = check_indices(wanted, from, error);
    else if (from->op == SETTINGS_MASK_TOKEN_IDS)
        r = check_tokens(wanted, from->place, "mask", error);
    if (from->op == SETTINGS_MASK_INDICES || from->op == SETTINGS_MASK_TOKEN_IDS)
        step->first = (uint32_t)copy_values(wanted, set, from->first, from->count);
    set->step_count++;
    return r;
}

int feed_make_steps(const Wanted *wanted, TensorSet *set, TensorSpec *spec, Error *error) {
    static const SettingsMaskStep lengths = {.op = SETTINGS_MASK_LENGTHS};
    const SettingsTensor *tensor = wanted->tensor;
    int r = 0;

    spec->first_step = set->step_count;
    if (tensor->step_count == 0) /* a preset's */
        r = add_step(wanted, set, &lengths, error);
    for (uint32_t s = 0; s < tensor->step_count && r == 0; s++)
        r = add_step(wanted, set, &wanted->source->feed->steps[tensor->step_first + s], error);
    spec->step_count = set->step_count - spec->first_step;
    return r;
}

/* The bits that mask out: the lowest number of the dtype, or minus infinity. */
static int64_t additive_bits(uint32_t dtype, bool infinite) {
    switch (dtype) {
    case SEQFEED_FLOAT16:
        return infinite ? 0xfc00 : 0xfbff;
    case SEQFEED_BFLOAT16:
        return infinite ? 0xff80 : 0xff7f;
    default:
        return infinite ? 0xff800000 : 0xff7fffff;
    }
}

/* softmax over a row that is -inf everywhere is NaN. Such rows cannot come when each query sees
 * itself: with nothing but causal and window, and lengths where padding is on the right and no row
 * is empty. */
static int check_infinite(const Wanted *wanted, const TensorSet *set, const TensorSpec *spec,
                          Error *error) {
    const SettingsFeed *settings = wanted->source->feed;
    const char *reason = NULL;

    for (uint32_t s = 0; s < spec->step_count && !reason; s++) {
        switch (set->steps[spec->first_step + s].op) {
        case MASK_TRUE:
        case MASK_CAUSAL:
        case MASK_AND:
        case MASK_OR:
            break;
        case MASK_WINDOW: /* padding further right than the window sees nothing that is real */
            reason = spec->step_count > 1 ? "a window" : NULL;
            break;
        case MASK_SEGMENTS:
            reason = "segments, which padding sees nothing of,";
            break;
        case MASK_LENGTHS:
            reason = settings->pad_left                       ? "padding on the left"
                     : has_empty_rows(wanted->feed, settings) ? "rows without tokens"
                                                              : NULL;
            break;
        default:
            reason = "this mask";
        }
    }
    if (!reason)
        return 0;
    return refuse(wanted, error, wanted->tensor->fill_place, "fill",
                  "with %s a query may see nothing at all, and softmax over -inf alone is NaN; "
                  "use fill: min",
                  reason);
}

int feed_make_mask(const Wanted *wanted, TensorSet *set, TensorSpec *spec, Error *error) {
    static const uint32_t polarities[] = {
        [SETTINGS_POLARITY_KEEP] = SEQFEED_POLARITY_KEEP,
        [SETTINGS_POLARITY_MASKED] = SEQFEED_POLARITY_MASKED,
        [SETTINGS_POLARITY_ADDITIVE] = SEQFEED_POLARITY_ADDITIVE,
    };
    const SettingsTensor *tensor = wanted->tensor;
    int r;

    spec->dtype = tensor->dtype[0] ? tensor_dtype_parse(tensor->dtype) : SEQFEED_BOOL;
    spec->polarity = polarities[tensor->polarity];
    if (spec->polarity == SEQFEED_POLARITY_ADDITIVE)
        spec->pad = additive_bits(spec->dtype, tensor->fill_infinite);
    r = feed_make_steps(wanted, set, spec, error);
    if (r < 0)
        return r;
    spec->source = tensor->dense ? TENSOR_MASK_DENSE : TENSOR_MASK;
    if (spec->source == TENSOR_MASK && spec->step_count == 1 &&
        set->steps[spec->first_step].op == MASK_LENGTHS)
        spec->source = TENSOR_MASK_LENGTHS; /* the same bytes, faster */
    if (tensor->dense && tensor->fill_infinite)
        return check_infinite(wanted, set, spec, error);
    return 0;
}

int feed_make_apply(const Wanted *wanted, TensorSet *set, TensorSpec *spec, Error *error) {
    if (spec->source == TENSOR_SEQUENCE_COLUMN)
        return refuse(wanted, error, wanted->tensor->from_place, "from",
                      "column '%s' has one value for each sequence; a mask applies to tokens and "
                      "columns with a value for each token",
                      wanted->tensor->from);
    spec->source = TENSOR_APPLY;
    spec->multiply = wanted->tensor->multiply;
    return feed_make_steps(wanted, set, spec, error);
}

static int find_spans(const Wanted *wanted, TensorSpec *spec, Error *error) {
    const SettingsTensor *tensor = wanted->tensor;
    const CatalogColumn *column;
    int r;

    if (!tensor->spans[0])
        return 0;
    r = find_ragged(wanted, tensor->spans, tensor->spans_place, "spans", &spec->spans, error);
    if (r < 0)
        return r;
    column = &wanted->feed->catalog->columns[spec->spans];
    if (column->width > 2)
        return refuse(wanted, error, tensor->spans_place, "spans",
                      "column '%s' holds %" PRIu32 " numbers a value; a span has a beginning and "
                      "an end",
                      tensor->spans, column->width);
    spec->has_spans = true;
    spec->spans_element = column->type;
    spec->spans_width = column->width;
    return 0;
}

static int make_labels(const Wanted *wanted, TensorSpec *spec, Error *error) {
    const SettingsTensor *tensor = wanted->tensor;
    int r = check_tokens(wanted, tensor->make_place, "make", error);

    if (r < 0)
        return r;
    spec->source = TENSOR_LABELS;
    spec->element = wanted->feed->catalog->columns[0].type;
    spec->pad = tensor->has_ignore                         ? tensor->ignore
                : tensor->shift == SETTINGS_SHIFT_MEGATRON ? 0
                                                           : FEED_LABEL_IGNORE;
    if (!tensor_dtype_allows(spec->element, spec->dtype))
        return refuse(wanted, error, tensor->dtype_place, "dtype",
                      "tokens are %s, which %s does not hold without loss",
                      element_name(spec->element), tensor_dtype_name(spec->dtype));
    if (!feed_integer_fits(spec->pad, spec->dtype))
        return refuse(wanted, error, tensor->ignore_place, "ignore", "%" PRId64 " does not fit %s",
                      spec->pad, tensor_dtype_name(spec->dtype));
    return find_spans(wanted, spec, error);
}

int feed_make_other(const Wanted *wanted, TensorSet *set, TensorSpec *spec, Error *error) {
    const SettingsTensor *tensor = wanted->tensor;
    int r = 0;

    spec->dtype = tensor->dtype[0]                          ? tensor_dtype_parse(tensor->dtype)
                  : tensor->make == SETTINGS_MAKE_LOSS_MASK ? SEQFEED_FLOAT32
                  : tensor->make >= SETTINGS_MAKE_SEGMENTS && tensor->make != SETTINGS_MAKE_LENGTHS
                      ? SEQFEED_INT32
                      : SEQFEED_INT64;
    spec->shift = tensor->shift != SETTINGS_SHIFT_NONE;
    switch (tensor->make) {
    case SETTINGS_MAKE_LABELS:
        return make_labels(wanted, spec, error);
    case SETTINGS_MAKE_LOSS_MASK:
        spec->source = TENSOR_LOSS_MASK;
        spec->polarity = SEQFEED_POLARITY_KEEP;
        return find_spans(wanted, spec, error);
    case SETTINGS_MAKE_SPECIAL_TOKENS_MASK:
        spec->source = TENSOR_SPECIAL;
        spec->polarity = SEQFEED_POLARITY_MASKED;
        r = check_tokens(wanted, tensor->make_place, "make", error);
        spec->first_value = (uint32_t)copy_values(wanted, set, tensor->value_first,
                                                  tensor->value_count);
        spec->value_count = tensor->value_count;
        return r;
    case SETTINGS_MAKE_SEGMENTS:
        spec->source = TENSOR_PACK_SEGMENTS;
        return 0;
    case SETTINGS_MAKE_LENGTHS:
        spec->source = TENSOR_LENGTHS;
        return 0;
    case SETTINGS_MAKE_CU_SEQLENS:
        spec->source = TENSOR_PACK_CU_SEQLENS;
        return 0;
    case SETTINGS_MAKE_CU_SEQLENS_PADDED:
        spec->source = TENSOR_PACK_CU_PADDED;
        return 0;
    case SETTINGS_MAKE_MAX_SEQLEN:
        spec->source = TENSOR_PACK_MAX_SEQLEN;
        return 0;
    default:
        spec->source = tensor->make == SETTINGS_MAKE_POSITION_IDS ? TENSOR_POSITIONS : TENSOR_TYPES;
        spec->pad = tensor->has_pad ? tensor->pad_integer : 0;
        spec->counts_on = tensor->pad_counts;
        if (tensor->has_pad && !tensor->pad_counts &&
            (!tensor->pad_is_integer || !feed_integer_fits(spec->pad, spec->dtype)))
            return refuse(wanted, error, tensor->pad_place, "pad", "%g does not fit %s",
                          tensor->pad_float, tensor_dtype_name(spec->dtype));
        return 0;
    }
}
