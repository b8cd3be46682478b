/* SPDX-License-Identifier: MIT */
/* Who writes a feed's batches: a device where one is wanted, usable, and able to. In a file of its
 * own, so that only programs that ask are linked with what drives devices. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/text.h"
#include "feed/feed_internal.h"
#include "mask/mask_backend.h"

static_assert((int)FEED_REASON >= (int)MASK_REASON_BYTES, "a backend's reason fits");

/* Do the device's inputs fit beside indexes of so many bytes? -ENOTSUP and why. */
static int check_inputs(Feed *feed, uint64_t index_bytes, const Settings *settings,
                        char ret_reason[FEED_REASON]) {
    bool before = feed->on_device;
    char need[32], limit[32];
    FeedMemory memory;

    feed->on_device = true;
    memory = feed_memory(feed, 1, feed->plan.strands);
    feed->on_device = before;
    memory.total += index_bytes;
    if (memory.total <= settings->memory)
        return 0;
    snprintf(ret_reason, FEED_REASON, "memory is %s and %s would be needed with pinned inputs",
             text_format_size(limit, settings->memory), text_format_size(need, memory.total));
    return -ENOTSUP;
}

/* What the feed itself has against a device. -ENOTSUP and why. */
static int check_set(Feed *feed, const Settings *settings, char ret_reason[FEED_REASON]) {
    int r;

    r = feed_bound_input(feed, &feed->device_input_bytes);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        snprintf(ret_reason, FEED_REASON, "its tensors look at more than a device is told");
        return -ENOTSUP;
    }
    return check_inputs(feed, feed->index_bytes, settings, ret_reason);
}

static int cannot_use(const FeedSource *source, const Feed *feed, Error *error) {
    return feed_error(source, error, source->feed->backend_place, "backend",
                      "cuda cannot be used: %s; set it to auto or cpu", feed->backend_reason);
}

int feed_choose_backend(Feed *feed, const Settings *settings, const SettingsFeed *feed_settings,
                        const MaskBackend *backend, Error *error) {
    const FeedSource source = {.settings = settings, .feed = feed_settings};
    int r = -ENODEV;

    if (!backend)
        backend = mask_backend_cuda();
    if (!backend)
        snprintf(feed->backend_reason, FEED_REASON, "built without CUDA");
    else if (!feed->wants_device)
        snprintf(feed->backend_reason, FEED_REASON, "no feed asks for CUDA");
    else
        r = backend->find(feed->device[0] ? feed->device : NULL, feed->backend_reason);
    if (r == 0)
        r = check_set(feed, settings, feed->backend_reason);
    if (r == -ENOMEM)
        return error_set(error, r, "no memory to open feed %s", feed->name);
    if (r < 0 && feed_settings->backend == SETTINGS_BACKEND_CUDA)
        return cannot_use(&source, feed, error);
    feed->on_device = r == 0;
    return 0;
}

int feed_choose_together(Feed *const *feeds, const Settings *settings, Error *error) {
    uint64_t index_bytes = 0;

    for (uint32_t i = 0; i < settings->feed_count; i++)
        index_bytes += feeds[i]->index_bytes;
    for (uint32_t i = 0; i < settings->feed_count; i++) {
        const FeedSource source = {.settings = settings, .feed = &settings->feeds[i]};

        if (!feeds[i]->on_device ||
            check_inputs(feeds[i], index_bytes, settings, feeds[i]->backend_reason) == 0)
            continue;
        if (source.feed->backend == SETTINGS_BACKEND_CUDA)
            return cannot_use(&source, feeds[i], error);
        feeds[i]->on_device = false;
    }
    return 0;
}

const char *feed_backend_part(void) {
    return mask_backend_cuda() ? "cuda" : "";
}
