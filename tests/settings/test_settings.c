/* SPDX-License-Identifier: MIT */
#include "support/check_main.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attributes.h"
#include "settings/settings.h"
#include "settings/settings_parse.h"

static void free_settings(Settings **settings) {
    settings_free(*settings);
}

static Settings *load(const char *text, const char *override) {
    char *overrides[] = {(char *)(uintptr_t) override};
    Settings *settings = NULL;
    Error error = {0};
    int r = settings_parse(text, strlen(text), "c.yaml", "/etc/feed", overrides, override != NULL,
                           &settings, &error);

    ck_assert_msg(r == 0, "%s", error.text);
    return settings;
}

START_TEST(a_feed_with_a_dataset_has_the_defaults_for_all_else)
{
    CLEANUP(free_settings) Settings *settings = load("feeds: {train: {dataset: corpus}}", NULL);
    const SettingsFeed *feed = settings->feeds;

    ck_assert_uint_le(settings->memory, UINT64_C(2) << 30);
    ck_assert(settings->cache_auto);
    ck_assert_uint_eq(settings->threads, 0);
    ck_assert(!settings->direct);
    ck_assert_ptr_null(settings->socket);
    ck_assert_uint_eq(settings->feed_count, 1);
    ck_assert_str_eq(feed->name, "train");
    ck_assert_str_eq(feed->dataset, "/etc/feed/corpus");
    ck_assert(feed->shuffle);
    ck_assert_uint_eq(feed->seed, 0);
    ck_assert_uint_eq(feed->window, 0);
    ck_assert_uint_eq(feed->strands, 1);
    ck_assert_uint_eq(feed->size, 64);
    ck_assert_int_eq(feed->last, SETTINGS_LAST_KEEP);
    ck_assert_int_eq(feed->tail, SETTINGS_TAIL_REPEAT);
    ck_assert_uint_eq(feed->length_max, 0);
    ck_assert_int_eq(feed->overflow, SETTINGS_OVERFLOW_ERROR);
    ck_assert_int_eq(feed->empty, SETTINGS_EMPTY_KEEP);
    ck_assert_uint_eq(feed->pad_to, 0);
    ck_assert_uint_eq(feed->pad_multiple_of, 1);
    ck_assert(!feed->pad_left && !feed->has_pad_value && !feed->time_first);
    ck_assert(feed->tensors_preset);
    ck_assert_uint_eq(feed->slots, 8);
    ck_assert_uint_eq(feed->allow_user_count + feed->allow_group_count, 0);
    ck_assert_uint_eq(feed->place.line, 1);
    ck_assert_uint_eq(feed->dataset_place.column, 26);
    ck_assert_uint_eq(feed->size_place.line, 0);
}
END_TEST

START_TEST(several_datasets_have_weights_in_millionths)
{
    CLEANUP(free_settings)
    Settings *settings = load(
        "feeds: {t: {datasets: {web: {path: web, weight: 0.75}, c.2: {path: /c},\n"
        "  d: {weight: 1000000, path: ../d}}, mix: {unit: tokens, until: 1200}}}",
        "feeds.t.datasets.d.weight=2.000001");
    const SettingsFeed *feed = settings->feeds;

    ck_assert_ptr_null(feed->dataset);
    ck_assert_uint_eq(feed->dataset_count, 3);
    ck_assert_str_eq(feed->datasets[0].name, "web");
    ck_assert_str_eq(feed->datasets[0].path, "/etc/feed/web");
    ck_assert_uint_eq(feed->datasets[0].weight, 750000);
    ck_assert_str_eq(feed->datasets[1].name, "c.2");
    ck_assert_str_eq(feed->datasets[1].path, "/c");
    ck_assert_uint_eq(feed->datasets[1].weight, 1000000);
    ck_assert_uint_eq(feed->datasets[1].path_place.column, 68);
    ck_assert_uint_eq(feed->datasets[2].weight, 2000001);
    ck_assert_uint_eq(feed->datasets[2].place.line, 2);
    ck_assert_int_eq(feed->unit, SETTINGS_UNIT_TOKENS);
    ck_assert_int_eq(feed->until, SETTINGS_UNTIL_COUNT);
    ck_assert_uint_eq(feed->until_count, 1200);
}
END_TEST

static const char everything[] =
    "memory: 256MiB\n"
    "cache: 0\n"
    "threads: 3\n"
    "socket: run/s.sock\n"
    "direct: true\n"
    "feeds:\n"
    "  eval: {dataset: /data/x, backend: cuda, device: GPU-5c8d0f3e-12ab-34cd-56ef-0123456789ab}\n"
    "  a.b-c_9:\n"
    "    dataset: 'x'\n"
    "    order: {shuffle: false, seed: 18446744073709551615, window: 7, strands: 1024}\n"
    "    batch: {policy: fixed, size: \"3\", last: pad, tail: drop}\n"
    "    length: {max: 100, overflow: split, empty: drop}\n"
    "    pad: {to: 128, multiple_of: 8, side: left, value: -1}\n"
    "    layout: time_first\n"
    "    backend: cpu\n"
    "    tensors:\n"
    "      ids: {from: tokens, dtype: int32, pad: -7}\n"
    "      keep: {mask: lengths, dtype: float32}\n"
    "      w: {from: weight, pad: 0.5}\n"
    "      n: {from: lengths, dtype: int64}\n"
    "      low: {from: score, pad: -.inf}\n"
    "    ring: {slots: 64}\n"
    "    allow: {users: [root, 1001], groups: [0]}\n";

START_TEST(every_key_is_stored_with_its_place)
{
    CLEANUP(free_settings) Settings *settings = load(everything, NULL);
    const SettingsFeed *feed = &settings->feeds[1];

    ck_assert_uint_eq(settings->memory, 256 << 20);
    ck_assert(!settings->cache_auto);
    ck_assert_uint_eq(settings->cache, 0);
    ck_assert_uint_eq(settings->threads, 3);
    ck_assert_str_eq(settings->socket, "/etc/feed/run/s.sock");
    ck_assert(settings->direct);
    ck_assert_str_eq(settings->feeds[0].dataset, "/data/x");
    ck_assert_str_eq(feed->name, "a.b-c_9");
    ck_assert(!feed->shuffle);
    ck_assert_uint_eq(feed->seed, UINT64_MAX);
    ck_assert_uint_eq(feed->window, 7);
    ck_assert_uint_eq(feed->strands, 1024);
    ck_assert_uint_eq(feed->size, 3);
    ck_assert_int_eq(feed->last, SETTINGS_LAST_PAD);
    ck_assert_int_eq(feed->tail, SETTINGS_TAIL_DROP);
    ck_assert_uint_eq(feed->length_max, 100);
    ck_assert_int_eq(feed->overflow, SETTINGS_OVERFLOW_SPLIT);
    ck_assert_int_eq(feed->empty, SETTINGS_EMPTY_DROP);
    ck_assert_uint_eq(feed->pad_to, 128);
    ck_assert_uint_eq(feed->pad_multiple_of, 8);
    ck_assert(feed->pad_left && feed->has_pad_value && feed->time_first);
    ck_assert_int_eq(feed->pad_value, -1);
    ck_assert_int_eq(feed->backend, SETTINGS_BACKEND_CPU);
    ck_assert_str_eq(feed->device, "");
    ck_assert_int_eq(settings->feeds[0].backend, SETTINGS_BACKEND_CUDA);
    ck_assert_str_eq(settings->feeds[0].device, "GPU-5c8d0f3e-12ab-34cd-56ef-0123456789ab");
    ck_assert_uint_eq(settings->feeds[0].device_place.column, 51);
    ck_assert_uint_eq(feed->slots, 64);
    ck_assert_uint_eq(feed->allow_user_count, 2);
    ck_assert_uint_eq(feed->allow_users[0], 0);
    ck_assert_uint_eq(feed->allow_users[1], 1001);
    ck_assert_uint_eq(feed->allow_group_count, 1);
    ck_assert_uint_eq(feed->overflow_place.line, 12);
    ck_assert_uint_eq(feed->overflow_place.column, 34);
    ck_assert_uint_eq(settings->memory_place.line, 1);
}
END_TEST

START_TEST(a_mapping_of_tensors_keeps_its_order_and_its_pads)
{
    CLEANUP(free_settings) Settings *settings = load(everything, NULL);
    const SettingsTensor *tensors = settings->feeds[1].tensors;

    ck_assert(!settings->feeds[1].tensors_preset);
    ck_assert_uint_eq(settings->feeds[1].tensor_count, 5);
    ck_assert_str_eq(tensors[0].name, "ids");
    ck_assert_str_eq(tensors[0].from, "tokens");
    ck_assert_str_eq(tensors[0].dtype, "int32");
    ck_assert(tensors[0].has_pad && tensors[0].pad_is_integer);
    ck_assert_int_eq(tensors[0].pad_integer, -7);
    ck_assert_int_eq(tensors[1].kind, SETTINGS_TENSOR_MASK);
    ck_assert(!tensors[1].has_pad);
    ck_assert_str_eq(tensors[2].dtype, "");
    ck_assert(tensors[2].has_pad && !tensors[2].pad_is_integer);
    ck_assert_double_eq(tensors[2].pad_float, 0.5);
    ck_assert_str_eq(tensors[3].from, "lengths");
    ck_assert(isinf(tensors[4].pad_float) && tensors[4].pad_float < 0);
    ck_assert_uint_eq(tensors[2].place.line, 19);
    ck_assert_uint_eq(tensors[2].pad_place.column, 30);
}
END_TEST

#define MIX(text) "feeds: {t: {datasets: " text "}}"
#define FEED(text) "feeds: {t: {dataset: d, " text "}}"

static const struct {
    const char *text, *sentence;
} refusals[] = {
    {"a", "c.yaml:1:1: must be a mapping"},
    {"[]", "c.yaml:1:1: must be a mapping"},
    {"memory: 1GiB", "c.yaml: feeds: is required"},
    {"feeds:", "c.yaml:1:7: feeds: must be a mapping"},
    {"feeds: {}", "feeds: must be a mapping"},
    {"feeds: {t: {}}", "c.yaml:1:9: feeds.t.dataset: is required"},
    {"feeds: {t: }", "feeds.t: must be a mapping with keys of: dataset, datasets, mix, order"},
    {"feeds: {t: {dataset: ''}}", "c.yaml:1:22: feeds.t.dataset: is empty"},
    {"feeds: {t: {dataset: [a]}}", "feeds.t.dataset: must be one value"},
    {"feeds: {t u: {dataset: d}}", "c.yaml:1:9: feeds: 't u' is no name for a feed"},
    {"feeds: {'': {dataset: d}}", "is no name for a feed"},
    {"feed: {}", "c.yaml:1:1: feed: unknown key, did you mean feeds, allowed: memory, cache"},
    {FEED("bacth: {size: 3}"),
     "1:25: feeds.t.bacth: unknown key, did you mean batch, allowed: dat"},
    {FEED("batch: {Size: 3}"), "feeds.t.batch.Size: unknown key, did you mean size, allowed: pol"},
    {FEED("size: 3"), "feeds.t.size: unknown key, did you mean batch.size"},
    {FEED("batch_size: 3"), "feeds.t.batch_size: unknown key, did you mean batch.size"},
    {FEED("batchsize: 3"), "feeds.t.batchsize: unknown key, did you mean batch.size"},
    {FEED("batchSize: 3"), "feeds.t.batchSize: unknown key, did you mean batch.size"},
    {FEED("max_length: 3"), "feeds.t.max_length: unknown key, did you mean length.max"},
    {"batch_size: 3", "c.yaml:1:1: batch_size: unknown key, did you mean feeds.*.batch.size"},
    {FEED("datasets: {a: {path: x}}"), "feeds.t.datasets: stands beside dataset, allowed: one of"},
    {MIX("{}"), "feeds.t.datasets: must be a mapping of names to datasets"},
    {MIX("[a]"), "feeds.t.datasets: must be a mapping of names to datasets"},
    {MIX("{a: x}"), "feeds.t.datasets.a: must be a mapping such as {path: x, weight: 1}"},
    {MIX("{a: {weight: 2}}"), "feeds.t.datasets.a: has no path: a directory with dataset.json"},
    {MIX("{a: {path: x, wieght: 2}}"), "datasets.a.wieght: unknown key, allowed: path, weight"},
    {MIX("{a b: {path: x}}"), "feeds.t.datasets: 'a b' is no name for a dataset"},
    {MIX("{a: {path: x, weight: 0}}"),
     "1:45: feeds.t.datasets.a.weight: '0' is no weight, allowed"},
    {MIX("{a: {path: x, weight: -1}}"), "'-1' is no weight"},
    {MIX("{a: {path: x, weight: 0.0000001}}"), "'0.0000001' is no weight"},
    {MIX("{a: {path: x, weight: 1000000.1}}"), "'1000000.1' is no weight"},
    {MIX("{a: {path: x, weight: 01}}"), "'01' is no weight"},
    {MIX("{a: {path: x, weight: 1.}}"), "'1.' is no weight"},
    {MIX("{a: {path: x, weight: .5}}"), "'.5' is no weight"},
    {MIX("{a: {path: x, weight: 1e2}}"), "'1e2' is no weight"},
    {MIX("{a: {path: x}}, mix: {until: some}"), "mix.until: 'some' is not known, allowed: first, "
                                                "all, or a number of sequences or tokens from 1 to "
                                                "2^62 - 1"},
    {MIX("{a: {path: x}}, mix: {until: 0}"), "mix.until: '0' is not known"},
    {MIX("{a: {path: x}}, mix: {unit: rows}"), "'rows' is not known, allowed: sequences, tokens"},
    {FEED("mix: {until: all}"), "feeds.t.mix.until: means nothing without datasets"},
    {FEED("mix: {unit: tokens}"), "feeds.t.mix.unit: means nothing without datasets"},
    {FEED("batch: {grupp: 4}"),
     "feeds.t.batch.grupp: unknown key, did you mean group, allowed: policy"},
    {FEED("batch: {policy: tokens}"), "batch.tokens: is required with batch.policy: tokens"},
    {FEED("batch: {boundaries: [4, 9]}"),
     "batch.boundaries: means nothing with batch.policy: fixed"},
    {FEED("batch: {policy: pack}"), "batch.length: is required with batch.policy: pack"},
    {FEED("batch: {policy: pack, length: 8}, length: {max: 9}"),
     "length.max: is 9, allowed: at most"},
    {FEED("batch: {policy: pack, length: 8}, pad: {to: 9}"), "pad.to: means nothing with"},
    {FEED("batch: {size: 8, length: 128}"),
     "batch.length: means nothing with batch.policy: fixed, did you mean length.max"},
    {FEED("batch: {policy: bucket, length: 128}"),
     "batch.length: means nothing with batch.policy: bucket"},
    {FEED("batch: {tokens: 4096}"),
     "batch.tokens: means nothing with batch.policy: fixed, did you mean batch.policy: tokens"},
    {FEED("batch: {policy: pack, length: 8, tokens: 3}"),
     "batch.tokens: means nothing with batch.policy: pack"},
    {FEED("batch: {policy: tokens, tokens: 64, size: 8}"),
     "batch.size: means nothing with batch.policy: tokens, did you mean batch.tokens"},
    {FEED("batch: {group: 4}"), "batch.group: means nothing with batch.policy: fixed"},
    {FEED("batch: {multiple_of: 4}"), "batch.multiple_of: means nothing with batch.policy: fixed"},
    {FEED("batch: {policy: bucket, boundaries: [9, 4]}"), "4 comes after 9: boundaries rise"},
    {FEED("batch: {policy: bucket, boundaries: []}"), "has 0 boundaries, allowed: 1 to 256"},
    {FEED("batch: {policy: bucket, boundaries: {geometric: 1}}"), "is no factor, allowed: 1.01 to"},
    {FEED("batch: {policy: bucket, boundaries: {quantile: 4}}"), "unknown key, allowed: geometric"},
    {FEED("batch: {policy: bucket, boundaries: {quantiles: 1}}"), "is no number of buckets"},
    {FEED("batch: {policy: bucket, boundaries: many}"), "is not known, allowed: auto, a list"},
    {FEED("'*': 4"), "feeds.t.*: unknown key"},
    {"feeds.*.dataset: 4", "feeds.*.dataset: unknown key"},
    {FEED("batch: 3"), "feeds.t.batch: must be a mapping with keys of: policy, size, bound"},
    {FEED("batch: {size: 0}"), "feeds.t.batch.size: 0 is out of range, allowed: 1 to 1048576"},
    {FEED("batch: {size: 1048577}"), "feeds.t.batch.size: 1048577 is out of range"},
    {FEED("batch: {size: 0x10}"), "'0x10' is no whole number in range, allowed: 1 to 1048576"},
    {FEED("batch: {size: 010}"), "'010' is no whole number"},
    {FEED("batch: {size: 1_000}"), "'1_000' is no whole number"},
    {FEED("batch: {size: 1e3}"), "'1e3' is no whole number"},
    {FEED("batch: {size: 3.0}"), "'3.0' is no whole number"},
    {FEED("batch: {size: +3}"), "'+3' is no whole number"},
    {FEED("batch: {size: -3}"), "'-3' is no whole number"},
    {FEED("batch: {size: ~}"), "'~' is no whole number"},
    {FEED("batch: {size: 99999999999999999999}"), "is no whole number in range"},
    {FEED("batch: {policy: buckets}"), "c.yaml:1:41: feeds.t.batch.policy: 'buckets' is not known, "
                                       "did you mean bucket, allowed: fixed"},
    {FEED("batch: {last: kepe}"),
     "'kepe' is not known, did you mean keep, allowed: keep, drop, pad"},
    {FEED("backend: rocm"), "feeds.t.backend: 'rocm' is not known, allowed: auto, cpu, cuda"},
    {FEED("backend: cpu, device: 1"), "feeds.t.device: means nothing with backend: cpu"},
    {FEED("device: first"),
     "feeds.t.device: 'first' names no device, allowed: a number from 0, or GPU-UUID"},
    {FEED("device: GPU-XYZ"), "feeds.t.device: 'GPU-XYZ' names no device"},
    {FEED("device: -1"), "feeds.t.device: '-1' names no device"},
    {FEED("device: GPU-"), "feeds.t.device: 'GPU-' names no device"},
    {FEED("order: {shuffle: yes}"), "'yes' is no boolean, allowed: true, false"},
    {FEED("order: {shuffle: True}"), "'True' is no boolean"},
    {FEED("order: {window: all}"),
     "'all' is no whole number in range, allowed: 1 to 16777216, auto"},
    {FEED("order: {seed: 18446744073709551616}"), "is no whole number in range"},
    {FEED("pad: {value: 1.5}"), "feeds.t.pad.value: '1.5' is no whole number of 64 bits"},
    {FEED("pad: {value: 9223372036854775808}"), "is no whole number of 64 bits"},
    {FEED("pad: {value: -0}"), "is no whole number of 64 bits"},
    {FEED("pad: {to: 64}, length: {max: 65}"), "feeds.t.pad.to: is 64, allowed: longest, or at "
                                               "least length.max (65)"},
    {FEED("layout: rows"), "allowed: batch_first, time_first"},
    {FEED("ring: {slots: 65}"), "feeds.t.ring.slots: 65 is out of range, allowed: 1 to 64"},
    {FEED("allow: {users: root}"), "feeds.t.allow.users: must be a list"},
    {FEED("allow: {users: [no-such-user-here]}"),
     "feeds.t.allow.users[0]: this machine has no user"},
    {FEED("allow: {groups: [0, no-such-group]}"),
     "feeds.t.allow.groups[1]: this machine has no gro"},
    {FEED("allow: {users: [4294967295]}"), "this machine has no user"},
    {FEED("allow: {users: [[a]]}"), "feeds.t.allow.users[0]: must be one value"},
    {FEED("tensors: hf_causal"),
     "'hf_causal' is no preset, did you mean hf_causal_lm, allowed: seed,"},
    {FEED("tensors: HF-classification"), "is no preset, did you mean hf_classification, allowed: "},
    {FEED("tensors: bert"), "'bert' is no preset, allowed: seed, hf_classification"},
    {FEED("tensors: {x: {mask: length}}"),
     "'length' is not known, did you mean lengths, allowed: "},
    {FEED("tensors: {x: {make: position_id}}"),
     "'position_id' is not known, did you mean position_ids"},
    {FEED("tensors: {x: {from: a, dtype: flaot32}}"),
     "'flaot32' is not known, did you mean float32"},
    {FEED("tensors: [a]"), "must not be a list, allowed: seed"},
    {FEED("tensors: {}"), "feeds.t.tensors: has 0 tensors, allowed: 1 to 24"},
    {FEED("tensors: {x: tokens}"), "feeds.t.tensors.x: must be a mapping, allowed: {from: tokens}"},
    {FEED("tensors: {x: {}}"), "feeds.t.tensors.x: has neither from nor mask"},
    {FEED("tensors: {x: {from: a, mask: lengths}}"), "has both from and mask"},
    {FEED("tensors: {x: {mask: causal}}"),
     "tensors.x: causal says which place sees which and means nothing for rows"},
    {FEED("tensors: {x: {mask: future}}"),
     "tensors.x.mask: 'future' is not known, allowed: lengths, causal"},
    {FEED("tensors: {x: {mask: {all: [lengths, {widow: 3}]}}}"),
     "tensors.x.mask.all[1].widow: unknown key, did you mean window"},
    {FEED("tensors: {x: {mask: {window: 0}, shape: dense}}"), "'0' is no number of places"},
    {FEED("tensors: {x: {mask: {token_ids: 3}}}"), "must be a list of whole numbers"},
    {FEED("tensors: {x: {mask: {token_ids: [a]}}}"), "'a' is no whole number"},
    {FEED("tensors: {x: {mask: {all: lengths}}}"), "must be a list of lengths, causal"},
    {FEED("tensors: {x: {mask: [lengths]}}"), "is no mask, allowed: lengths"},
    {FEED("tensors: {x: {mask: lengths, fill: min}}"), "is for masks with polarity: additive"},
    {FEED("tensors: {x: {mask: lengths, polarity: add}}"), "allowed: keep, masked, additive"},
    {FEED("tensors: {x: {mask: lengths, polarity: additive}}"), "needs their dtype"},
    {FEED("tensors: {x: {from: a, polarity: keep}}"), "tensors.x.polarity: is for masks"},
    {FEED("tensors: {x: {from: a, shift: next}}"), "is for labels and loss masks"},
    {FEED("tensors: {x: {make: labels, dtype: bool}}"), "this tensor cannot be bool"},
    {FEED("tensors: {x: {make: labels, mask: lengths}}"), "has two of from, mask, apply and make"},
    {FEED("tensors: {x: {make: special_tokens_mask}}"), "special_tokens_mask needs ids"},
    {FEED("tensors: {x: {make: labels, shift: megatron, ignore: 1}}"), "shift: next takes any"},
    {FEED("tensors: {x: {apply: {mode: mul}}}"), "tensors.x.apply: has no mask"},
    {FEED("tensors: {x: {apply: {mask: lengths, mode: add}}}"), "allowed: select, mul"},
    {FEED("values: loose"), "feeds.t.values: 'loose' is not known, allowed: strict, parity"},
    {FEED("tensors: {x: {form: a}}"),
     "tensors.x.form: unknown key, did you mean from, allowed: fro"},
    {FEED("tensors: {x: {from: a, dtype: complex64}}"),
     "'complex64' is not known, allowed: bool, uint8"},
    {FEED("tensors: {x: {from: lengths, dtype: bool}}"), "lengths cannot be bool"},
    {FEED("tensors: {x: {from: lengths, pad: 1}}"),
     "is for tokens, columns and positions: lengths are not"},
    {FEED("tensors: {x: {mask: lengths, pad: 1}}"), "is for tokens, columns and positions"},
    {FEED("tensors: {x: {from: a, pad: 1e309}}"), "'1e309' is no number"},
    {FEED("tensors: {x: {from: a, pad: 0x1p3}}"), "'0x1p3' is no number"},
    {FEED("tensors: {'a b': {from: a}}"), "a tensor's name has 1 to 31"},
    {FEED("tensors: {x12345678901234567890123456789012: {from: a}}"),
     "a tensor's name has 1 to 31"},
    {"memory: 2Gib\n" FEED(""),
     "c.yaml:1:9: memory: '2Gib' is no size, allowed: a size of at least"},
    {"memory: 1KiB\n" FEED(""), "memory: 1KiB is out of range"},
    {"memory: -1\n" FEED(""), "memory: '-1' is no size"},
    {"threads: 0\n" FEED(""), "threads: 0 is out of range, allowed: 1 to 1024, auto"},
    {"cache: lots\n" FEED(""), "cache: 'lots' is no size, allowed: 0, a size such as 512MiB, auto"},
    {"socket: \"a\\nb\"\n" FEED(""), "socket: a path without control characters"},
};

START_TEST(mistakes_are_named_with_their_place_and_what_is_allowed)
{
    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        const char *text = refusals[i].text;
        Settings *settings = NULL;
        Error error = {0};

        ck_assert_msg(settings_parse(text, strlen(text), "c.yaml", "/", NULL, 0, &settings,
                                     &error) == -EINVAL,
                      "accepted: %s", text);
        ck_assert_msg(strstr(error.text, refusals[i].sentence) != NULL, "'%s' gave: %s", text,
                      error.text);
        ck_assert_ptr_null(settings);
    }
}
END_TEST

START_TEST(a_socket_path_that_no_socket_can_have_is_refused)
{
    char text[256];
    Settings *settings = NULL;
    Error error = {0};

    snprintf(text, sizeof text, "socket: /%0106d\n" FEED("layout: batch_first"), 0);
    settings_free(load(text, NULL));
    snprintf(text, sizeof text, "socket: /%0107d\n" FEED("layout: batch_first"), 0);
    ck_assert_int_eq(settings_parse(text, strlen(text), "c.yaml", "/", NULL, 0, &settings, &error),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "is 108 bytes long, allowed: at most 107"));
}
END_TEST

START_TEST(too_many_feeds_are_refused)
{
    char text[4096] = "feeds:\n";
    Settings *settings = NULL;
    Error error = {0};

    for (int i = 0; i < 65; i++)
        sprintf(text + strlen(text), " f%d: {dataset: d}\n", i);
    ck_assert_int_eq(settings_parse(text, strlen(text), "c.yaml", "/", NULL, 0, &settings, &error),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "has 65 feeds, allowed: at most 64"));
}
END_TEST

START_TEST(masks_list_as_many_numbers_as_there_is_room_for)
{
    char *text = malloc(128 + 8 * SETTINGS_MASK_VALUES_MAX), *at;
    Settings *settings = NULL;
    Error error = {0};

    for (uint32_t more = 0; more < 2; more++) {
        at = text + sprintf(text, "feeds: {t: {dataset: d, tensors: {x: {mask: {token_ids: [");
        for (uint32_t i = 0; i < SETTINGS_MASK_VALUES_MAX + more; i++)
            at += sprintf(at, "%u,", i);
        strcpy(at, "]}}}}}");
        if (more == 0) {
            settings = load(text, NULL);
            ck_assert_uint_eq(settings->feeds[0].mask_value_count, SETTINGS_MASK_VALUES_MAX);
            settings_free(settings);
            settings = NULL;
        }
    }
    ck_assert_int_eq(settings_parse(text, strlen(text), "c.yaml", "/", NULL, 0, &settings, &error),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "list more than 4096 numbers"));
    free(text);
}
END_TEST

START_TEST(overrides_replace_values_and_add_keys)
{
    CLEANUP(free_settings) Settings *size = load(everything, "feeds.a.b-c_9.batch.size=12");
    CLEANUP(free_settings) Settings *batch = load(everything, "feeds.eval.batch={size: 5}");
    CLEANUP(free_settings) Settings *whole = load(everything, "feeds.a.b-c_9.batch={size: 5}");
    CLEANUP(free_settings) Settings *added = load(everything, "feeds.new.dataset=/n");
    CLEANUP(free_settings) Settings *users = load(everything, "feeds.eval.allow.users=[0, 5]");
    CLEANUP(free_settings) Settings *memory = load(everything, "memory='1GiB'");

    ck_assert_uint_eq(size->feeds[1].size, 12);
    ck_assert_int_eq(size->feeds[1].last, SETTINGS_LAST_PAD);
    ck_assert_uint_eq(size->feeds[1].size_place.line, 0);
    ck_assert_uint_eq(size->feeds[1].size_place.column, 1);
    ck_assert_uint_eq(batch->feeds[0].size, 5);
    ck_assert_uint_eq(whole->feeds[1].size, 5);
    ck_assert_int_eq(whole->feeds[1].last, SETTINGS_LAST_KEEP);
    ck_assert_uint_eq(added->feed_count, 3);
    ck_assert_str_eq(added->feeds[2].dataset, "/n");
    ck_assert_uint_eq(users->feeds[0].allow_user_count, 2);
    ck_assert_uint_eq(memory->memory, 1 << 30);
}
END_TEST

static const struct {
    const char *override, *sentence;
} bad_overrides[] = {
    {"", "--set : must be KEY.PATH=VALUE"},
    {"memory", "--set memory: must be KEY.PATH=VALUE"},
    {"=3", "must be KEY.PATH=VALUE"},
    {".a=3", "--set .a: not the path of a key"},
    {"feeds..x=3", "not the path of a key"},
    {"feeds.eval.batch.size=abc", "--set feeds.eval.batch.size: 'abc' is no whole number"},
    {"feeds.eval.batch.size=", "--set feeds.eval.batch.size: is empty"},
    {"feeds.eval.batch={size: 0}", "--set feeds.eval.batch.size: 0 is out of range"},
    {"feeds.eval.bacth.size=3", "--set feeds.eval.bacth: unknown key, did you mean batch"},
    {"memory.x=3", "--set memory.x: memory has no keys below it"},
    {"feeds.new.batch.size=3", "--set feeds.new: there is no feed 'new', the file has: eval, "
                               "a.b-c_9; a new one needs a dataset"},
    {"feeds.eval.batch=[1", "--set feeds.eval.batch:2:1: not valid YAML"},
    {"feeds.eval.batch=&a 3", "--set feeds.eval.batch:1:1: anchors"},
    {"feeds.eval.pad={to: 3, to: 4}", "--set feeds.eval.pad:1:9: to: is given twice"},
    {"feeds=x", "--set feeds: must be a mapping"},
    {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1", "not the path of a key"},
};

START_TEST(mistakes_in_overrides_are_named_by_the_option)
{
    for (size_t i = 0; i < ARRAY_COUNT(bad_overrides); i++) {
        char *overrides[] = {(char *)(uintptr_t)bad_overrides[i].override};
        Settings *settings = NULL;
        Error error = {0};

        ck_assert_int_eq(settings_parse(everything, sizeof everything - 1, "c.yaml", "/", overrides,
                                        1, &settings, &error),
                         -EINVAL);
        ck_assert_msg(strncmp(error.text, "--set ", 6) == 0 &&
                          strstr(error.text, bad_overrides[i].sentence),
                      "'%s' gave: %s", bad_overrides[i].override, error.text);
    }
}
END_TEST

START_TEST(errors_name_the_file_the_option_or_the_default)
{
    Error error = {0};

    ck_assert_int_eq(
        settings_error(&error, "c.yaml", (SettingsPlace){3, 5}, "feeds.t.length.max", "is %d", 7),
        -EINVAL);
    ck_assert_str_eq(error.text, "c.yaml:3:5: feeds.t.length.max: is 7");
    settings_error(&error, "c.yaml", (SettingsPlace){0, 0}, "memory", "too small");
    ck_assert_str_eq(error.text, "c.yaml: memory: too small");
    settings_error(&error, "c.yaml", (SettingsPlace){0, 1}, "memory", "too small");
    ck_assert_str_eq(error.text, "--set memory: too small");
    settings_error(&error, "c.yaml", (SettingsPlace){1, 2}, NULL, "odd");
    ck_assert_str_eq(error.text, "c.yaml:1:2: odd");
}
END_TEST

static void remove_file(char **path) {
    unlink(*path);
}

static void expect_refused(const char *path, const char *sentence) {
    Settings *settings = NULL;
    Error error = {0};

    ck_assert_int_lt(settings_load(path, NULL, 0, &settings, &error), 0);
    ck_assert_msg(strstr(error.text, path) && strstr(error.text, sentence), "%s", error.text);
}

START_TEST(only_a_small_regular_file_that_not_everybody_can_write_is_read)
{
    char name[] = "/tmp/seqfeed-test-XXXXXX", other[PATH_MAX];
    CLEANUP(remove_file) char *path = name;
    CLEANUP(free_settings) Settings *settings = NULL;
    static const char text[] = "feeds: {t: {dataset: d}}\n";
    int fd = mkstemp(name);
    Error error = {0};

    ck_assert_int_eq(write(fd, text, sizeof text - 1), (ssize_t)sizeof text - 1);
    ck_assert_int_eq(settings_load(path, NULL, 0, &settings, &error), 0);
    ck_assert_str_eq(settings->feeds[0].dataset, "/tmp/d");
    ck_assert_str_eq(settings->path, path);
    ck_assert_int_eq(fchmod(fd, 0646), 0);
    expect_refused(path, "everybody may write it: chmod o-w");
    ck_assert_int_eq(fchmod(fd, 0640), 0);
    ck_assert_int_eq(ftruncate(fd, SETTINGS_FILE_MAX + 1), 0);
    expect_refused(path, "has 262145 bytes, allowed: at most 262144");
    close(fd);
    expect_refused("/tmp", "is a directory");
    expect_refused("/dev/null", "is not a regular file");
    snprintf(other, sizeof other, "%s-absent", name);
    expect_refused(other, "cannot be opened: No such file");
}
END_TEST

CHECK_MAIN("settings", a_feed_with_a_dataset_has_the_defaults_for_all_else,
           several_datasets_have_weights_in_millionths, every_key_is_stored_with_its_place,
           a_mapping_of_tensors_keeps_its_order_and_its_pads,
           mistakes_are_named_with_their_place_and_what_is_allowed,
           a_socket_path_that_no_socket_can_have_is_refused, too_many_feeds_are_refused,
           masks_list_as_many_numbers_as_there_is_room_for, overrides_replace_values_and_add_keys,
           mistakes_in_overrides_are_named_by_the_option,
           errors_name_the_file_the_option_or_the_default,
           only_a_small_regular_file_that_not_everybody_can_write_is_read)
