/* SPDX-License-Identifier: MIT */
/* feed_internal.h: the parts of feed_open(), in the order in which they run. Each fills in its part
 * of a Feed and reports what a person must change. Private to feed/. */
#pragma once

#include "feed/feed.h"

/* What is being opened, for messages with file:line:column and key. */
typedef struct FeedSource {
    const Settings *settings;
    const SettingsFeed *feed;
} FeedSource;

/* Store "FILE:LINE:COLUMN: feeds.NAME.KEY: sentence"; returns -EINVAL. */
int feed_error(const FeedSource *source, Error *error, SettingsPlace place, const char *key,
               const char *format, ...) PRINTF_FORMAT(5, 6);

/* Defaults of order and length, the plan, what overflows. */
MUST_CHECK int feed_check_plan(Feed *feed, const FeedSource *source, Error *error);
/* Units of each block, when lengths decide them: reads all lengths. */
MUST_CHECK int feed_count_units(Feed *feed, Error *error);
/* The TensorSet and slot bytes. */
MUST_CHECK int feed_check_tensors(Feed *feed, const FeedSource *source, Error *error);
/* The worst case of a window. -EOVERFLOW when its units could not be numbered. */
MUST_CHECK int feed_bound_windows(Feed *feed);
/* Every strand has a batch; one ring fits. */
MUST_CHECK int feed_check_strands(Feed *feed, const FeedSource *source, Error *error);
MUST_CHECK int feed_check_memory(const Feed *feed, const FeedSource *source, Error *error);
