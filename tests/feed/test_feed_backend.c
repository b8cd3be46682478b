/* SPDX-License-Identifier: MIT */
/* Which feeds a device gets, and why not, with devices that exist only here. */
#include <errno.h>

#include "feed/feed_support.h"
#include "mask/mask_backend.h"
#include "support/check_main.h"

static char asked[64];

static int find_one(const char *device, char ret_reason[MASK_REASON_BYTES]) {
    snprintf(asked, sizeof asked, "%s", device ? device : "(first)");
    snprintf(ret_reason, MASK_REASON_BYTES, "Test GPU, device %s", device ? device : "0");
    return 0;
}

static int find_none(const char *device, char ret_reason[MASK_REASON_BYTES]) {
    snprintf(ret_reason, MASK_REASON_BYTES, "no CUDA device: driver not installed");
    return -ENODEV;
}

static const MaskBackend with_device = {.name = "test", .find = find_one};
static const MaskBackend without_device = {.name = "test", .find = find_none};

static Fixture fixture;

static void set_up(void) {
    fixture_init(&fixture);
    fixture_pack(&fixture, 400, NULL, 60);
}

/* Open, choose, and compare the reason; a feed that is refused is NULL. */
static Feed *choose(const char *global, const char *keys, const MaskBackend *backend,
                    bool on_device, const char *reason) {
    Feed *feed = NULL;
    Error error = {0};
    int r = fixture_open(&fixture, global, keys, &feed, &error);

    ck_assert_msg(r == 0, "%s", error.text);
    ck_assert(!feed->on_device);
    r = feed_choose_backend(feed, fixture.settings, &fixture.settings->feeds[0], backend, &error);
    if (r == 0) {
        if (reason)
            ck_assert_str_eq(feed->backend_reason, reason);
        ck_assert_int_eq(feed->on_device, on_device);
        return feed;
    }
    ck_assert_int_eq(r, -EINVAL);
    ck_assert_msg(strstr(error.text, reason) != NULL, "'%s' does not say '%s'", error.text, reason);
    ck_assert_msg(strncmp(error.text, fixture.yaml, strlen(fixture.yaml)) == 0, "%s", error.text);
    feed_unref(feed);
    return NULL;
}

START_TEST(auto_takes_a_device_where_one_is_usable)
{
    set_up();
    feed_unref(choose("", "", &with_device, true, "Test GPU, device 0"));
    ck_assert_str_eq(asked, "(first)");
    feed_unref(choose("", "device: 3\n", &with_device, true, "Test GPU, device 3"));
    ck_assert_str_eq(asked, "3");
    feed_unref(choose("", "device: GPU-12ab\n", &with_device, true, "Test GPU, device GPU-12ab"));
    feed_unref(choose("", "", &without_device, false, "no CUDA device: driver not installed"));
    asked[0] = '\0';
    feed_unref(choose("", "backend: cpu\n", &with_device, false, "no feed asks for CUDA"));
    ck_assert_str_eq(asked, "");
    fixture_deinit(&fixture);
}
END_TEST

START_TEST(cuda_is_refused_where_it_cannot_be)
{
    set_up();
    feed_unref(choose("", "backend: cuda\n", &with_device, true, "Test GPU, device 0"));
    ck_assert_ptr_null(choose("", "backend: cuda\n", &without_device, false,
                              ":4:14: feeds.train.backend: cuda cannot be used: no CUDA device: "
                              "driver not installed; set it to auto or cpu"));
    fixture_deinit(&fixture);
}
END_TEST

/* Packed, with segments and lists of blocks: there is room for as many sequences as places. */
START_TEST(packed_feeds_are_a_devices_too)
{
    static const char *const feeds[] = {
        "batch: {policy: pack, size: 2, length: 64}\n",
        "batch: {policy: pack, size: 1, length: 4096}\ntensors: hf_packed_lm\n",
        "batch: {policy: pack, size: 32, length: 640}\ntensors: megatron\n",
        "tensors: {own: {mask: segments, shape: dense}, blocks: {make: block_lists}}\n"};
    static const uint64_t places[] = {128, 4096, 32 * 640, 0};

    set_up();
    for (size_t i = 0; i < ARRAY_COUNT(feeds); i++) {
        Feed *feed = choose("", feeds[i], &with_device, true, "Test GPU, device 0");

        ck_assert_uint_ge(feed->device_input_bytes, places[i] * (2 + 4));
        ck_assert_uint_le(feed->device_input_bytes, places[i] * (2 + 4 + 8) + 16384);
        feed_unref(feed);
    }
    fixture_deinit(&fixture);
}
END_TEST

/* Where tensors look at lists there is room for what is usual. */
START_TEST(lists_have_room)
{
    Feed *without, *with;

    set_up();
    without = choose("", "batch: {size: 50}\ntensors: {m: {mask: lengths}}\n", &with_device, true,
                     NULL);
    with = choose("", "batch: {size: 50}\ntensors: {m: {mask: {indices: notes}}}\n", &with_device,
                  true, NULL);
    ck_assert_uint_lt(without->device_input_bytes, 50 * 64 * 4);
    ck_assert_uint_ge(with->device_input_bytes, 50 * 64 * 4);
    feed_unref(without);
    feed_unref(with);
    fixture_deinit(&fixture);
}
END_TEST

/* Pinned inputs are part of the reservation, and no reason to refuse a feed that fits without. */
START_TEST(inputs_are_reserved)
{
    FeedMemory without, with, two;
    char global[64];
    Feed *feed;

    set_up();
    feed = choose("", "ring: {slots: 64}\n", &with_device, true, "Test GPU, device 0");
    with = feed_memory(feed, 1, 1);
    two = feed_memory(feed, 2, 1);
    ck_assert_uint_gt(feed->device_input_bytes, 64 * 60 * 2);
    ck_assert_uint_eq(with.inputs, 64 * feed->device_input_bytes);
    ck_assert_uint_eq(two.inputs, 2 * with.inputs);
    feed->on_device = false;
    without = feed_memory(feed, 1, 1);
    ck_assert_uint_eq(without.inputs, 0);
    ck_assert_uint_eq(with.total, without.total + with.inputs);
    feed_unref(feed);
    ck_assert_uint_gt(with.total, 1 << 20); /* the least that settings allow */
    snprintf(global, sizeof global, "memory: %lu\n", (unsigned long)with.total - 1);
    feed = choose(global, "ring: {slots: 64}\n", &with_device, false, NULL);
    ck_assert_msg(strstr(feed->backend_reason, "would be needed with pinned inputs"), "%s",
                  feed->backend_reason);
    feed_unref(feed);
    fixture_deinit(&fixture);
}
END_TEST

/* Beside the indexes of all feeds, which is known when the last one is open. */
START_TEST(inputs_must_fit_beside_all_indexes)
{
    SettingsFeed two[2];
    Feed *feeds[2];
    Settings settings;
    Error error;

    set_up();
    feeds[0] = feeds[1] = choose("", "", &with_device, true, NULL);
    two[0] = two[1] = fixture.settings->feeds[0];
    settings = *fixture.settings;
    settings.feeds = two;
    settings.feed_count = 2;
    settings.memory = feed_memory(feeds[0], 1, 1).total + 2 * feeds[0]->index_bytes;
    ck_assert_int_eq(feed_choose_together(feeds, &settings, &error), 0);
    ck_assert(feeds[0]->on_device);
    settings.memory--;
    two[0].backend = two[1].backend = SETTINGS_BACKEND_CUDA;
    ck_assert_int_eq(feed_choose_together(feeds, &settings, &error), -EINVAL);
    ck_assert_msg(strstr(error.text, "cuda cannot be used: memory is "), "%s", error.text);
    two[0].backend = two[1].backend = SETTINGS_BACKEND_AUTO;
    ck_assert_int_eq(feed_choose_together(feeds, &settings, &error), 0);
    ck_assert(!feeds[0]->on_device);
    ck_assert_int_eq(feed_check_together(feeds, 2, &settings, &error), 0);
    feed_unref(feeds[0]);
    fixture_deinit(&fixture);
}
END_TEST

CHECK_MAIN("feed_backend", auto_takes_a_device_where_one_is_usable,
           cuda_is_refused_where_it_cannot_be, packed_feeds_are_a_devices_too, lists_have_room,
           inputs_are_reserved, inputs_must_fit_beside_all_indexes)
