/* SPDX-License-Identifier: MIT */
/* What packed rows allow. Several sequences in a row are safe only where something in the batch
 * tells them apart; a mask that just says what is padding lets each see all before it, and nobody
 * notices. So that is refused here. */
#include "feed/feed_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int refuse(const FeedSource *source, Error *error, const char *name, const char *sentence) {
    const SettingsFeed *settings = source->feed;
    char key[64] = "tensors";
    SettingsPlace place = settings->tensors_place;

    for (uint32_t t = 0; !settings->tensors_preset && t < settings->tensor_count; t++) {
        if (strcmp(settings->tensors[t].name, name) == 0) {
            snprintf(key, sizeof key, "tensors.%s", name);
            place = settings->tensors[t].place;
        }
    }
    return feed_error(source, error, place, key, "%s", sentence);
}

/* Does the tensor tell which places belong together? */
static bool tells_apart(const TensorSet *set, const TensorSpec *spec) {
    switch (spec->source) {
    case TENSOR_PACK_SEGMENTS:
    case TENSOR_PACK_CU_SEQLENS:
    case TENSOR_PACK_CU_PADDED:
        return true;
    case TENSOR_MASK_DENSE:
    case TENSOR_BLOCKS:
        return tensor_has_step(set, spec, MASK_SEGMENTS);
    default:
        return false;
    }
}

static bool is_mask(const TensorSpec *spec) {
    return spec->source == TENSOR_MASK_LENGTHS || spec->source == TENSOR_MASK ||
           spec->source == TENSOR_MASK_DENSE || spec->source == TENSOR_BLOCKS;
}

static int check_masks(const Feed *feed, const FeedSource *source, Error *error) {
    const TensorSet *set = &feed->tensors;
    const TensorSpec *mask = NULL;
    bool apart = false;

    for (uint32_t t = 0; t < set->count; t++) {
        const TensorSpec *spec = &set->tensors[t];

        apart |= tells_apart(set, spec);
        if (is_mask(spec) && !mask)
            mask = spec;
        if ((spec->source == TENSOR_MASK_LENGTHS || spec->source == TENSOR_MASK) &&
            strcmp(spec->name, "attention_mask") == 0)
            return refuse(source, error, spec->name,
                          "models that are given an attention_mask of rows do not look for packed "
                          "rows: the sequences of a row would see each other; leave it out, or use "
                          "the preset hf_packed_lm, or shape: dense with segments");
    }
    if (mask && !apart)
        return refuse(source, error, mask->name,
                      "with this as the only mask the sequences of a packed row would see each "
                      "other; add {make: segments} or {make: cu_seqlens}, or a mask with shape: "
                      "dense and segments");
    return 0;
}

int feed_check_preset(const Feed *feed, const FeedSource *source, Error *error) {
    const SettingsFeed *settings = source->feed;
    bool packed = feed->tensors.packed;

    if (!settings->tensors_preset)
        return 0;
    if (settings->preset == SETTINGS_PRESET_HF_PACKED_LM) {
        if (!packed || feed->plan.size != 1)
            return feed_error(source, error, settings->tensors_place, "tensors",
                              "hf_packed_lm is one long row: it needs batch.policy: pack, size: 1");
        if (settings->pad_left)
            return feed_error(source, error, settings->tensors_place, "tensors",
                              "hf_packed_lm has its padding behind the last sequence; "
                              "pad.side: left does not go with it");
    }
    if (packed && (settings->preset == SETTINGS_PRESET_HF_CLASSIFICATION ||
                   settings->preset == SETTINGS_PRESET_HF_CAUSAL_LM))
        return feed_error(
            source, error, settings->tensors_place, "tensors",
            "this preset's attention_mask would let the sequences of a packed row see "
            "each other; allowed with batch.policy: pack: seed, megatron, "
            "hf_packed_lm, a mapping");
    return 0;
}

int feed_check_packed(const Feed *feed, const FeedSource *source, Error *error) {
    const TensorSet *set = &feed->tensors;

    for (uint32_t t = 0; t < set->count; t++)
        for (uint32_t other = 0; other < t; other++)
            if (strcmp(set->tensors[t].name, set->tensors[other].name) == 0)
                return refuse(source, error, set->tensors[t].name,
                              "has the name of one of the tensors that block_lists are");
    if (set->packed)
        return check_masks(feed, source, error);
    for (uint32_t t = 0; t < set->count; t++)
        if (set->tensors[t].source >= TENSOR_PACK_SEGMENTS)
            return refuse(source, error, set->tensors[t].name,
                          "is for rows of several sequences, batch.policy: pack; other rows have "
                          "lengths");
    return 0;
}

int feed_add_blocks(const Wanted *wanted, TensorSet *set, Error *error) {
    static const struct {
        const char *name;
        TensorSource source;
    } parts[] = {{"kv_num_blocks", TENSOR_BLOCKS_COUNT},
                 {"kv_indices", TENSOR_BLOCKS},
                 {"full_kv_num_blocks", TENSOR_BLOCKS_FULL_COUNT},
                 {"full_kv_indices", TENSOR_BLOCKS_FULL}};
    const SettingsTensor *tensor = wanted->tensor;
    TensorSpec spec = {.width = 1, .dtype = SEQFEED_INT32};
    int r = 0;

    spec.block = tensor->block ? tensor->block : SETTINGS_BLOCK_PLACES;
    spec.first_step = set->step_count;
    if (tensor->step_count) {
        r = feed_make_steps(wanted, set, &spec, error);
    } else { /* causal within each sequence */
        assert(set->step_count + 3 <= TENSOR_STEPS_MAX);
        set->steps[set->step_count++] = (MaskStep){.op = MASK_SEGMENTS};
        set->steps[set->step_count++] = (MaskStep){.op = MASK_CAUSAL};
        set->steps[set->step_count++] = (MaskStep){.op = MASK_AND};
        spec.step_count = 3;
    }
    for (uint32_t p = 0; p < ARRAY_COUNT(parts) && r == 0; p++) {
        TensorSpec *to = &set->tensors[set->count];

        if (set->count == SEQFEED_TENSORS_MAX)
            return feed_tensor_error(wanted, error, tensor->place, "make",
                                     "are four tensors, and a batch has at most 24");
        *to = spec;
        to->source = parts[p].source;
        if ((size_t)snprintf(to->name, sizeof to->name, "%s.%s", tensor->name, parts[p].name) >=
            sizeof to->name)
            return feed_tensor_error(wanted, error, tensor->place, "make",
                                     "makes NAME.full_kv_num_blocks, which has at most 31 "
                                     "characters: give it a name of at most 12");
        set->count++;
    }
    return r;
}
