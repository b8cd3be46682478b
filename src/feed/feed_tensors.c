/* SPDX-License-Identifier: MIT */
/* From names in the configuration to a TensorSet: which column, which type, which padding. */
#include "feed/feed_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"
#include "mask/token_lists.h"
#include "settings/suggest.h"

int feed_tensor_error(const Wanted *wanted, Error *error, SettingsPlace place, const char *key,
                      const char *sentence) {
    char path[64] = "tensors";

    if (wanted->source->feed->tensors_preset)
        return feed_error(wanted->source, error, wanted->source->feed->tensors_place, path,
                          "tensor %s: %s", wanted->tensor->name, sentence);
    snprintf(path, sizeof path, "tensors.%s.%s", wanted->tensor->name, key);
    if (place.line == 0 && place.column == 0)
        place = wanted->tensor->place;
    return feed_error(wanted->source, error, place, path, "%s", sentence);
}

/* The column that was probably meant. */
static void add_meant(const Catalog *catalog, const char *word, Text *text) {
    const char *meant = NULL;
    unsigned nearest = SUGGEST_FAR;

    for (uint32_t c = 0; c < catalog->column_count; c++)
        if (suggest_is_better(word, catalog->columns[c].name, &nearest))
            meant = catalog->columns[c].name;
    if (suggest_is_better(word, "lengths", &nearest))
        meant = "lengths";
    if (meant)
        text_add(text, ", did you mean %s", meant);
}

static int find_column(const Wanted *wanted, TensorSpec *spec, Error *error) {
    const Catalog *catalog = wanted->feed->catalog;
    int index = catalog_find_column(catalog, wanted->tensor->from);
    CLEANUP(text_deinit) Text text = {0};

    if (index < 0) {
        text_add(&text, "%s has no column '%s'", catalog->path, wanted->tensor->from);
        add_meant(catalog, wanted->tensor->from, &text);
        text_add(&text, ", it has:");
        for (uint32_t c = 0; c < catalog->column_count; c++)
            text_add(&text, " %s,", catalog->columns[c].name);
        text_add(&text, " lengths");
    } else if (catalog->columns[index].kind == SHARD_KIND_RAGGED) {
        text_add(&text,
                 "column '%s' is ragged (each sequence has its own count of values): it can give "
                 "indices of masks and spans of labels; tensors are made of tokens, per-token and "
                 "per-sequence columns",
                 wanted->tensor->from);
    } else {
        (void)feed_column_agrees(wanted->feed, (uint32_t)index, &text);
    }
    if (text.size)
        return feed_tensor_error(wanted, error, wanted->tensor->from_place, "from", text.bytes);
    spec->column = (uint32_t)index;
    spec->element = catalog->columns[index].type;
    spec->width = catalog->columns[index].width;
    spec->source = catalog->columns[index].kind == SHARD_KIND_TOKENS  ? TENSOR_TOKENS
                   : catalog->columns[index].kind == SHARD_KIND_TOKEN ? TENSOR_TOKEN_COLUMN
                                                                      : TENSOR_SEQUENCE_COLUMN;
    return 0;
}

/* Integers become int64, floats stay what they are. */
static uint32_t default_dtype(const TensorSpec *spec) {
    switch (spec->element) {
    case ELEMENT_F16:
        return SEQFEED_FLOAT16;
    case ELEMENT_BF16:
        return SEQFEED_BFLOAT16;
    case ELEMENT_F32:
        return SEQFEED_FLOAT32;
    default:
        return SEQFEED_INT64;
    }
}

static int choose_dtype(const Wanted *wanted, TensorSpec *spec, Error *error) {
    CLEANUP(text_deinit) Text text = {0};

    spec->dtype = wanted->tensor->dtype[0] ? tensor_dtype_parse(wanted->tensor->dtype)
                                           : default_dtype(spec);
    if (tensor_dtype_allows(spec->element, spec->dtype))
        return 0;
    text_add(&text, "column '%s' holds %s, which %s does not hold without loss; allowed:",
             wanted->tensor->from, element_name(spec->element), tensor_dtype_name(spec->dtype));
    for (uint32_t dtype = 1; dtype < SEQFEED_DTYPE_COUNT; dtype++)
        if (tensor_dtype_allows(spec->element, dtype))
            text_add(&text, " %s", tensor_dtype_name(dtype));
    return feed_tensor_error(wanted, error, wanted->tensor->dtype_place, "dtype",
                             text.failed ? "no memory" : text.bytes);
}

/* The bits of the nearest value with `fraction` bits of fraction and `exponent` of exponent,
 * ties to even: float16 (5, 10), bfloat16 (8, 7), float32 (8, 23). */
static uint32_t narrow_float(double value, int exponent, int fraction) {
    const int bias = (1 << (exponent - 1)) - 1;
    const uint32_t infinity = ((1u << exponent) - 1) << fraction;
    uint32_t sign = signbit(value) ? 1u << (exponent + fraction) : 0, bits;
    int power;

    if (isnan(value))
        return sign | infinity | 1u << (fraction - 1);
    if (isinf(value))
        return sign | infinity;
    if (value == 0)
        return sign;
    frexp(value, &power); /* |value| is 0.5 .. 1 times 2^power */
    power = MAX(power - 1, 1 - bias);
    if (power > bias)
        return sign | infinity;
    /* Counts of the last place; a normal number's hidden one carries into the exponent. */
    bits = (uint32_t)nearbyint(ldexp(fabs(value), fraction - power));
    bits += (uint32_t)(power + bias - 1) << fraction;
    return sign | MIN(bits, infinity);
}

/* The bits of a number in a float dtype; false when it is finite and too large for it. */
static bool float_bits(double value, uint32_t dtype, int64_t *ret_bits) {
    uint32_t bits = dtype == SEQFEED_FLOAT16    ? narrow_float(value, 5, 10)
                    : dtype == SEQFEED_BFLOAT16 ? narrow_float(value, 8, 7)
                                                : narrow_float(value, 8, 23);
    uint32_t infinity = dtype == SEQFEED_FLOAT16    ? 0x7c00u
                        : dtype == SEQFEED_BFLOAT16 ? 0x7f80u
                                                    : 0x7f800000u;
    uint32_t magnitude = bits & (dtype == SEQFEED_FLOAT32 ? 0x7fffffffu : 0x7fffu);

    *ret_bits = bits;
    return !isfinite(value) || magnitude != infinity;
}

bool feed_integer_fits(int64_t value, uint32_t dtype) {
    switch (dtype) {
    case SEQFEED_BOOL:
        return value == 0 || value == 1;
    case SEQFEED_UINT8:
        return value >= 0 && value <= UINT8_MAX;
    case SEQFEED_INT32:
        return value >= INT32_MIN && value <= INT32_MAX;
    default:
        return true;
    }
}

static bool is_float(uint32_t dtype) {
    return dtype == SEQFEED_FLOAT16 || dtype == SEQFEED_BFLOAT16 || dtype == SEQFEED_FLOAT32;
}

/* The feed's padding for tokens, and 0 for columns; but a loss must not take padding for labels. */
static int64_t default_pad(const Wanted *wanted, const TensorSpec *spec) {
    bool is_signed = spec->dtype == SEQFEED_INT32 || spec->dtype == SEQFEED_INT64;

    if (spec->source == TENSOR_TOKENS)
        return wanted->feed->pad_value;
    return wanted->tensor->kind == SETTINGS_TENSOR_FROM && is_signed &&
                   strcmp(wanted->tensor->name, "labels") == 0
               ? FEED_LABEL_IGNORE
               : 0;
}

/* The tensor's own padding, else the default. */
static int choose_pad(const Wanted *wanted, TensorSpec *spec, Error *error) {
    const SettingsTensor *tensor = wanted->tensor;
    const SettingsFeed *settings = wanted->source->feed;
    int64_t integer = tensor->has_pad ? tensor->pad_integer : default_pad(wanted, spec);
    bool is_integer = !tensor->has_pad || tensor->pad_is_integer;
    double number = is_integer ? (double)integer : tensor->pad_float;
    char sentence[128];

    spec->pad = integer;
    if (is_float(spec->dtype) ? float_bits(number, spec->dtype, &spec->pad)
                              : is_integer && feed_integer_fits(integer, spec->dtype))
        return 0;
    if (is_integer)
        snprintf(sentence, sizeof sentence, "padding value %" PRId64 " does not fit %s", integer,
                 tensor_dtype_name(spec->dtype));
    else
        snprintf(sentence, sizeof sentence, "padding value %g does not fit %s", number,
                 tensor_dtype_name(spec->dtype));
    if (!tensor->has_pad && settings->has_pad_value)
        return feed_error(wanted->source, error, settings->pad_value_place, "pad.value",
                          "tensor %s: %s", tensor->name, sentence);
    return feed_tensor_error(wanted, error, tensor->pad_place, "pad", sentence);
}

static int make_tensor(const Wanted *wanted, TensorSet *set, TensorSpec *spec, Error *error) {
    const SettingsTensor *tensor = wanted->tensor;
    int r;

    *spec = (TensorSpec){.width = 1};
    memcpy(spec->name, tensor->name, sizeof spec->name);
    if (tensor->kind == SETTINGS_TENSOR_MASK)
        return feed_make_mask(wanted, set, spec, error);
    if (tensor->kind == SETTINGS_TENSOR_MAKE)
        return feed_make_other(wanted, set, spec, error);
    if (tensor->kind == SETTINGS_TENSOR_FROM && strcmp(tensor->from, "lengths") == 0) {
        spec->source = TENSOR_LENGTHS;
        spec->dtype = tensor->dtype[0] ? tensor_dtype_parse(tensor->dtype) : SEQFEED_INT64;
        return 0;
    }
    r = find_column(wanted, spec, error);
    if (r == 0)
        r = choose_dtype(wanted, spec, error);
    if (r == 0)
        r = choose_pad(wanted, spec, error);
    if (r == 0 && tensor->kind == SETTINGS_TENSOR_APPLY)
        r = feed_make_apply(wanted, set, spec, error);
    return r;
}

/* One entry is one tensor, but for block_lists. */
static int add_tensor(const Wanted *wanted, TensorSet *set, Error *error) {
    int r;

    if (wanted->tensor->kind == SETTINGS_TENSOR_MAKE &&
        wanted->tensor->make == SETTINGS_MAKE_BLOCK_LISTS)
        return feed_add_blocks(wanted, set, error);
    if (set->count == SEQFEED_TENSORS_MAX)
        return feed_tensor_error(wanted, error, wanted->tensor->place, "make",
                                 "is one tensor too many: a batch has at most 24, and block_lists "
                                 "are four of them");
    r = make_tensor(wanted, set, &set->tensors[set->count], error);
    if (r == 0)
        set->count++;
    return r;
}

/* The padded length of the longest batch that can occur. */
static int bound_length(Feed *feed, const FeedSource *source, Error *error) {
    uint32_t longest = MIN(feed->plan.length_max, feed->catalog->length_max);
    uint32_t shape = plan_shape_length(&feed->plan, longest);
    uint64_t padded = align_up(feed->pad_to ? feed->pad_to : shape, feed->pad_multiple_of);

    if (padded > UINT32_MAX)
        return feed_error(source, error, source->feed->pad_to_place, "pad",
                          "%" PRIu32 " rounded up to a multiple of %" PRIu32
                          " is more than rows can have",
                          feed->pad_to ? feed->pad_to : shape, feed->pad_multiple_of);
    feed->tensors.length_max = (uint32_t)padded;
    return 0;
}

/* The most rows of a batch: with tokens as many as its shortest rows allow, which truncation may
 * have made shorter than any sequence is. */
static void bound_rows(Feed *feed) {
    const PlanSpec *plan = &feed->plan;
    bool is_split = plan->overflow == PLAN_OVERFLOW_SPLIT &&
                    feed->catalog->length_max > plan->length_max;
    uint32_t shortest;

    feed->tensors.rows_max = plan->size;
    if (plan->policy != PLAN_POLICY_TOKENS)
        return;
    shortest = is_split ? 1 : MIN(feed->catalog->length_min, plan->length_max);
    feed->tensors.rows_max = (uint32_t)(plan->tokens / plan_row_places(plan, shortest));
    feed->tensors.places_max = plan->tokens;
}

/* The most sequences of a packed batch: rows full of the shortest ones, of which an empty one takes
 * a place too. */
static int bound_sequences(Feed *feed, const FeedSource *source, Error *error) {
    const PlanSpec *plan = &feed->plan;
    bool is_split = plan->overflow == PLAN_OVERFLOW_SPLIT &&
                    feed->catalog->length_max > plan->length_max;
    uint32_t shortest = is_split ? 1 : MAX(MIN(feed->catalog->length_min, plan->length_max), 1u);
    uint64_t most = (uint64_t)plan->size * (plan->length / shortest);

    feed->tensors.packed = plan->policy == PLAN_POLICY_PACK;
    if (!feed->tensors.packed)
        return 0;
    if (most >= INT32_MAX || (uint64_t)plan->size * plan->length > INT32_MAX)
        return feed_error(source, error, source->feed->size_place, "batch.size",
                          "%" PRIu32 " rows of %" PRIu32 " places are more than cu_seqlens can "
                          "count",
                          plan->size, plan->length);
    feed->tensors.sequences_max = (uint32_t)most;
    feed->tensors.tail_segment = source->feed->tensors_preset &&
                                 source->feed->preset == SETTINGS_PRESET_HF_PACKED_LM;
    if (source->feed->time_first)
        return feed_error(source, error, source->feed->tensors_place, "layout",
                          "time_first means nothing with batch.policy: pack");
    return 0;
}

int feed_check_tensors(Feed *feed, const FeedSource *source, Error *error) {
    const SettingsFeed *settings = source->feed;
    const SettingsTensor *tensors = settings->tensors;
    uint32_t count = settings->tensor_count;
    SettingsTensor preset[FEED_PRESET_MAX];
    Error reason = {0};
    int r;

    if (settings->tensors_preset) {
        count = feed_expand_preset(settings->preset, feed->catalog,
                                   feed->plan.policy == PLAN_POLICY_PACK, preset);
        tensors = preset;
    }
    feed->tensors.token_element = feed->catalog->columns[0].type;
    feed->tensors.token_pad = feed->pad_value;
    feed->tensors.column_count = feed->catalog->column_count;
    feed->tensors.parity = settings->values == SETTINGS_VALUES_PARITY;
    feed->tensors.time_first = settings->time_first;
    feed->tensors.side = settings->pad_left ? SEQFEED_SIDE_LEFT : SEQFEED_SIDE_RIGHT;
    bound_rows(feed);
    r = bound_length(feed, source, error);
    if (r == 0)
        r = bound_sequences(feed, source, error);
    if (r == 0)
        r = feed_check_preset(feed, source, error);
    if (r < 0)
        return r;
    for (uint32_t t = 0; t < count && r == 0; t++) {
        const Wanted wanted = {.source = source, .feed = feed, .tensor = &tensors[t]};

        r = add_tensor(&wanted, &feed->tensors, error);
    }
    if (r == 0)
        r = feed_check_packed(feed, source, error);
    if (r == 0 && token_lists_make(&feed->tensors) < 0)
        r = error_set(error, -ENOMEM, "no memory for the lists of tokens of feed %s", feed->name);
    if (r < 0)
        return r;
    r = tensor_slot_bytes(&feed->tensors, &feed->slot_bytes, &reason);
    if (r < 0)
        return feed->plan.policy == PLAN_POLICY_TOKENS
                   ? feed_error(source, error, settings->tokens_place, "batch.tokens", "%s",
                                reason.text)
                   : feed_error(source, error, settings->size_place, "batch.size", "%s",
                                reason.text);
    return 0;
}
