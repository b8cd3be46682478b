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
#include "mask/cell_pack.h"
#include "mask/mask_backend.h"

static_assert((int)FEED_REASON >= (int)MASK_REASON_BYTES, "a backend's reason fits");

/* Room for a batch's lists: so many numbers of a column for each row, and one more for each
 * sixteenth place. A batch with more is written by the CPU. */
enum { LIST_VALUES = 64, LIST_PLACES = 16 };

/* The packed form of the largest batch, with as many sequences as its rows hold. */
static int bound_input(const Feed *feed, uint64_t *ret_bytes) {
    const TensorSet *set = &feed->tensors;
    uint64_t places = set->places_max ? set->places_max : (uint64_t)set->rows_max * set->length_max;
    const CellExtent extent = {.rows = set->rows_max,
                               .sequences = set->packed ? set->sequences_max : set->rows_max,
                               .tokens = places,
                               .list_entries = (uint64_t)set->rows_max * LIST_VALUES +
                                               places / LIST_PLACES};
    CellPlan *plan = malloc(sizeof *plan);
    int r;

    if (!plan)
        return -ENOMEM;
    r = places > UINT32_MAX ? -E2BIG : cell_plan_make(set, plan);
    if (r == 0)
        *ret_bytes = align_up(cell_pack_bytes(set, plan, &extent), SEQFEED_PAGE);
    free(plan);
    return r;
}

/* What the feed itself has against a device. -ENOTSUP and why. */
static int check_set(Feed *feed, const Settings *settings, char ret_reason[FEED_REASON]) {
    char need[32], limit[32];
    FeedMemory memory;
    int r;

    r = bound_input(feed, &feed->device_input_bytes);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        snprintf(ret_reason, FEED_REASON, "its tensors look at more than a device is told");
        return -ENOTSUP;
    }
    feed->on_device = true;
    memory = feed_memory(feed, 1, feed->plan.strands);
    feed->on_device = false;
    if (memory.total <= settings->memory)
        return 0;
    snprintf(ret_reason, FEED_REASON, "memory is %s and %s would be needed with pinned inputs",
             text_format_size(limit, settings->memory), text_format_size(need, memory.total));
    return -ENOTSUP;
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
        return feed_error(&source, error, feed_settings->backend_place, "backend",
                          "cuda cannot be used: %s; set it to auto or cpu", feed->backend_reason);
    feed->on_device = r == 0;
    return 0;
}

const char *feed_backend_part(void) {
    return mask_backend_cuda() ? "cuda" : "";
}
