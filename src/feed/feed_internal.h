/* SPDX-License-Identifier: MIT */
/* feed_internal.h: the parts of feed_open(), in the order in which they run. Each fills in its part
 * of a Feed and reports what a person must change. Private to feed/. */
#pragma once

#include "base/text.h"
#include "feed/feed.h"

/* What is being opened, for messages with file:line:column and key. */
typedef struct FeedSource {
    const Settings *settings;
    const SettingsFeed *feed;
} FeedSource;

/* Store "FILE:LINE:COLUMN: feeds.NAME.KEY: sentence"; returns -EINVAL. */
int feed_error(const FeedSource *source, Error *error, SettingsPlace place, const char *key,
               const char *format, ...) PRINTF_FORMAT(5, 6);

/* Feed.catalog and blocks; with several datasets the mix and what cursors say of them. */
MUST_CHECK int feed_open_datasets(Feed *feed, const FeedSource *source, Error *error);
/* What the dataset is padded with, or all of them are, unless the settings say otherwise. */
int64_t feed_pad_id(const Feed *feed);
/* Is the column the same in all datasets? Else `text` gets a sentence. */
bool feed_column_agrees(const Feed *feed, uint32_t column, Text *text);

/* Defaults of order and length, the plan, what overflows. */
MUST_CHECK int feed_check_plan(Feed *feed, const FeedSource *source, Error *error);
/* Pieces of each block, when lengths decide them: reads all lengths. */
MUST_CHECK int feed_count_pieces(Feed *feed, Error *error);
/* Policy bucket: Feed.boundaries, and the plan's. May read all lengths. */
MUST_CHECK int feed_settle_boundaries(Feed *feed, const FeedSource *source, Error *error);
/* How a cursor names them; to be freed. NULL: no memory. */
char *feed_boundary_text(const FeedSource *source);
/* No piece is longer: M of docs/formats/plan.md. */
static inline uint32_t feed_longest_piece(const Feed *feed) {
    return MAX(MIN(feed->plan.length_max, feed->catalog->length_max), 1u);
}
/* Policies whose units are counted for each epoch: how many each window has. */
MUST_CHECK int feed_count_windows(const Feed *feed, const PlanSpec *spec, const PlanEpoch *plan,
                                  const Heartbeat *heartbeat, uint32_t *const *units,
                                  PlanTally *ret_tally, Error *error);
/* One tensor of the configuration on its way. */
typedef struct Wanted {
    const FeedSource *source;
    const Feed *feed;
    const SettingsTensor *tensor;
} Wanted;

enum {
    FEED_PRESET_MAX = 8,
    FEED_LABEL_IGNORE = -100 /* loss functions leave these labels out by default */
};

/* An error in tensors.NAME.KEY, or in all of tensors when a preset asked for it. */
int feed_tensor_error(const Wanted *wanted, Error *error, SettingsPlace place, const char *key,
                      const char *sentence);
bool feed_integer_fits(int64_t value, uint32_t dtype);
/* feed_masks.c: tensors that follow from rules; `spec` has its name already, APPLY its column. */
MUST_CHECK int feed_make_mask(const Wanted *wanted, TensorSet *set, TensorSpec *spec, Error *error);
MUST_CHECK int feed_make_apply(const Wanted *wanted, TensorSet *set, TensorSpec *spec,
                               Error *error);
MUST_CHECK int feed_make_steps(const Wanted *wanted, TensorSet *set, TensorSpec *spec,
                               Error *error);
MUST_CHECK int feed_make_other(const Wanted *wanted, TensorSet *set, TensorSpec *spec,
                               Error *error);
/* feed_presets.c: a preset for this dataset, as if it had been written out. Returns the number. */
uint32_t feed_expand_preset(SettingsPreset preset, const Catalog *catalog, bool packed,
                            SettingsTensor ret_tensors[FEED_PRESET_MAX]);
/* feed_packed.c: does the preset go with rows of several sequences, or without? */
MUST_CHECK int feed_check_preset(const Feed *feed, const FeedSource *source, Error *error);
/* May this set of tensors be made of packed rows, or of others? */
MUST_CHECK int feed_check_packed(const Feed *feed, const FeedSource *source, Error *error);
/* The tensors that `wanted`, block_lists, stands for: added to the set as NAME.kv_num_blocks … */
MUST_CHECK int feed_add_blocks(const Wanted *wanted, TensorSet *set, Error *error);

/* The TensorSet and slot bytes. */
MUST_CHECK int feed_check_tensors(Feed *feed, const FeedSource *source, Error *error);
/* The worst case of a window. -EOVERFLOW when its units could not be numbered. */
MUST_CHECK int feed_bound_windows(Feed *feed);
/* Every strand has a batch; one ring fits. */
MUST_CHECK int feed_check_strands(Feed *feed, const FeedSource *source, Error *error);
/* What Feed.index_bytes is; the windows have their bounds. */
uint64_t feed_index_bytes(const Feed *feed);
MUST_CHECK int feed_check_memory(const Feed *feed, const FeedSource *source, Error *error);
/* Feed.warnings, of a feed that is open in all else. */
void feed_find_warnings(Feed *feed, const FeedSource *source);
