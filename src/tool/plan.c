/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "feed/feed.h"
#include "settings/settings.h"
#include "tool/plan_padding.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed plan [OPTION...] CONFIG\n"
    "Say what the feeds of a configuration will deliver and cost, without starting anything.\n"
    "\n"
    "      --feed FEED            only this one\n"
    "      --world W              for W ranks: batches of each (default 1)\n"
    "      --set KEY.PATH=VALUE   as if the configuration said so; may be repeated\n"
    "      --json                 {\"feeds\":{\"train\":{\"batches_per_epoch\":…,\"sequences\":…,\n"
    "                             \"tokens\":…,\"padding_share\":…,…}}}\n"
    "\n"
    "padding_share is 1 - real tokens / slots over all batches of epoch 0.\n";

/* A window of fewer batches loses too much at its end; shapes that a table shows. */
enum { BATCHES_OF_A_WINDOW = 64, SHAPES_SHOWN = 4 };

enum { OPTION_JSON = 256, OPTION_FEED, OPTION_WORLD, OPTION_SET, OVERRIDES_MAX = 256 };

typedef struct PlanOptions {
    const char *config, *feed;
    char *overrides[OVERRIDES_MAX];
    uint32_t override_count;
    uint32_t world;
    bool json;
} PlanOptions;

/* All that is said about one feed. */
typedef struct PlanReport {
    const Feed *feed;
    uint32_t world;
    uint64_t batches, batches_per_rank, repeated; /* repeated or, with tail: drop, left out */
    double padding_share;
    PlanPadding padding;
    FeedMemory memory;
    uint64_t memory_limit;
    SeqfeedTensorRecord tensors[SEQFEED_TENSORS_MAX]; /* of the largest batch */
} PlanReport;

static void free_settings(Settings **settings) {
    settings_free(*settings);
}

static void unref_feed(Feed **feed) {
    feed_unref(*feed);
}

static uint32_t greatest_divisor(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int count_epoch(Feed *feed, PlanReport *report, Error *error) {
    FeedEpoch *epoch = NULL;
    int r = feed_epoch_get(feed, feed->plan.seed, 0, &epoch, error);

    if (r < 0)
        return r;
    report->batches = epoch->plan->batch_count;
    r = plan_padding_count(feed, epoch->plan, &report->padding, error);
    feed_epoch_unref(feed, epoch);
    return r;
}

/* Plan epoch 0 of the feed for a world of ranks, each with one ring of its own. */
static int make_report(Feed *feed, const Settings *settings, uint32_t world, PlanReport *report,
                       Error *error) {
    uint32_t strands = feed->plan.strands, rows = feed->tensors.rows_max;
    uint32_t length = feed->tensors.length_max;
    TensorLayout layout;
    uint64_t rounds;
    int r;

    *report = (PlanReport){.feed = feed, .world = world, .memory_limit = settings->memory};
    r = count_epoch(feed, report, error);
    if (r < 0)
        return r;
    rounds = plan_round_count(feed->plan.tail, report->batches, 0, world);
    report->batches_per_rank = rounds;
    report->repeated = feed->plan.tail == PLAN_TAIL_REPEAT ? rounds * world - report->batches
                                                           : report->batches - rounds * world;
    if (report->padding.slots > 0)
        report->padding_share = 1.0 -
                                (double)report->padding.tokens / (double)report->padding.slots;
    report->memory = feed_memory(feed, 1, strands / greatest_divisor(strands, world));
    /* With a budget of places the longest rows are the fewest. */
    if (feed->tensors.places_max && length)
        rows = (uint32_t)MIN((uint64_t)rows, feed->tensors.places_max / length);
    if (feed->tensors.packed)
        tensor_layout_packed(&feed->tensors, rows, length, feed->tensors.sequences_max, 0,
                             &layout);
    else
        tensor_layout(&feed->tensors, rows, length, &layout);
    tensor_describe(&feed->tensors, rows, length, &layout,
                    report->tensors);
    return 0;
}

static void add_tensors_json(Text *text, const PlanReport *report) {
    for (uint32_t t = 0; t < report->feed->tensors.count; t++) {
        const SeqfeedTensorRecord *tensor = &report->tensors[t];

        text_add(text, "%s{\"name\":", t ? "," : "");
        text_add_json(text, tensor->name);
        text_add(text, ",\"dtype\":\"%s\",\"shape\":[", tensor_dtype_name(tensor->dtype));
        for (uint32_t d = 0; d < tensor->ndim; d++)
            text_add(text, "%s%" PRId64, d ? "," : "", tensor->shape[d]);
        text_add(text, "],\"bytes\":%" PRIu64 "}", tensor->size_bytes);
    }
}

static void add_order_json(Text *text, const PlanReport *report) {
    const PlanPadding *padding = &report->padding;

    text_add(text, ",\"windows\":%" PRIu64 ",\"shapes\":[", padding->windows);
    for (uint32_t s = 0; s < padding->shape_count; s++)
        text_add(text, "%s{\"rows\":%u,\"length\":%u,\"batches\":%" PRIu64 "}", s ? "," : "",
                 padding->shapes[s].rows, padding->shapes[s].length, padding->shapes[s].batches);
    text_add(text,
             "],\"other_shapes\":%" PRIu64
             ",\"shuffle\":{\"travel\":%.6f,\"same_block\":%.6f,\"side_by_side\":%.6f}",
             padding->other_batches, padding->travel, padding->same_block, padding->side_by_side);
}

static void add_json(Text *text, const PlanReport *report) {
    const Feed *feed = report->feed;
    const PlanTally *tally = &report->padding.tally;
    const FeedMemory *memory = &report->memory;

    text_add_json(text, feed->name);
    text_add(text,
             ":{\"batches_per_epoch\":%" PRIu64 ",\"sequences\":%" PRIu64 ",\"tokens\":%" PRIu64
             ",\"padding_share\":%.6f",
             report->batches, feed->catalog->sequences, feed->catalog->tokens,
             report->padding_share);
    text_add(text, ",\"world\":%u,\"batches_per_rank\":%" PRIu64 ",\"%s\":%" PRIu64, report->world,
             report->batches_per_rank,
             feed->plan.tail == PLAN_TAIL_REPEAT ? "batches_repeated" : "batches_left_out",
             report->repeated);
    text_add(text, ",\"epoch\":{\"rows\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"slots\":%" PRIu64 "}",
             report->padding.rows, report->padding.tokens, report->padding.slots);
    text_add(text,
             ",\"losses\":{\"sequences_dropped\":%" PRIu64 ",\"tokens_dropped\":%" PRIu64
             ",\"sequences_truncated\":%" PRIu64 ",\"tokens_truncated\":%" PRIu64
             ",\"sequences_split\":%" PRIu64 "}",
             tally->sequences_dropped, tally->tokens_dropped, tally->sequences_truncated,
             tally->tokens_truncated, tally->sequences_split);
    add_order_json(text, report);
    text_add(text, ",\"window_blocks\":%u,\"strands\":%u,\"ring_slots\":%u,\"slot_bytes\":%" PRIu64,
             feed->plan.window, feed->plan.strands, feed->slots, feed->slot_bytes);
    text_add(text,
             ",\"memory\":{\"rings\":%" PRIu64 ",\"windows\":%" PRIu64 ",\"buffers\":%" PRIu64
             ",\"total\":%" PRIu64 ",\"limit\":%" PRIu64 "},\"tensors\":[",
             memory->rings, memory->windows, memory->buffers, memory->total, report->memory_limit);
    add_tensors_json(text, report);
    text_add(text, "]}");
}

static void print_batches(const PlanReport *report) {
    const Feed *feed = report->feed;
    char tokens[32];

    printf("  sequences  %" PRIu64 "\n", feed->catalog->sequences);
    printf("  tokens     %" PRIu64 " (%s), up to %u a sequence\n", feed->catalog->tokens,
           text_format_count(tokens, (double)feed->catalog->tokens), feed->catalog->length_max);
    if (feed->plan.policy == PLAN_POLICY_TOKENS)
        printf("  batches    %" PRIu64 " an epoch, of up to %u places\n", report->batches,
               feed->plan.tokens);
    else if (feed->plan.policy == PLAN_POLICY_PACK)
        printf("  batches    %" PRIu64 " an epoch, of %u rows of %u places\n", report->batches,
               feed->plan.size, feed->plan.length);
    else
        printf("  batches    %" PRIu64 " an epoch, of %u rows\n", report->batches,
               feed->plan.size);
    if (report->world > 1)
        printf("             %" PRIu64 " for each of %u ranks; %" PRIu64 " %s\n",
               report->batches_per_rank, report->world, report->repeated,
               feed->plan.tail == PLAN_TAIL_REPEAT ? "repeated" : "left out");
    printf("  order      windows of %u blocks, %u strand%s%s\n", feed->plan.window,
           feed->plan.strands, feed->plan.strands == 1 ? "" : "s",
           feed->plan.shuffle ? "" : ", not shuffled");
    printf("  padding    %.2f %% of the slots in epoch 0\n", 100 * report->padding_share);
}

/* Shapes, and the order beside a full permutation. */
static void print_order(const PlanReport *report) {
    const PlanPadding *padding = &report->padding;
    const Feed *feed = report->feed;
    bool grouped = plan_units_are_batches(&feed->plan);

    printf("  shapes     %s%u, most often", padding->other_batches ? "over " : "",
           padding->shape_count);
    for (uint32_t s = 0; s < padding->shape_count && s < SHAPES_SHOWN; s++)
        printf("%s %u x %u (%" PRIu64 ")", s ? "," : "", padding->shapes[s].rows,
               padding->shapes[s].length, padding->shapes[s].batches);
    printf("\n");
    if (feed->plan.shuffle)
        printf("  mixing     sequences travel %.3f of the epoch (a full permutation: 0.333); "
               "neighbours from\n             one block %.2f %% (%.2f %%), side by side before "
               "%.3f %% (%.3f %%)\n",
               padding->travel, 100 * padding->same_block, 100.0 / feed->blocks.count,
               100 * padding->side_by_side,
               200.0 / (double)MAX(feed->catalog->sequences, UINT64_C(1)));
    if (grouped && padding->windows > feed->plan.strands &&
        report->batches < BATCHES_OF_A_WINDOW * padding->windows)
        printf("  warning    a window gives about %" PRIu64 " batches, and each window ends with "
               "one that\n             is not whole: a larger order.window pads less\n",
               report->batches / padding->windows);
}

static void print_losses(const PlanReport *report) {
    const PlanTally *tally = &report->padding.tally;

    if (tally->sequences_dropped)
        printf("  dropped    %" PRIu64 " sequences with %" PRIu64 " tokens\n",
               tally->sequences_dropped, tally->tokens_dropped);
    if (tally->sequences_truncated)
        printf("  truncated  %" PRIu64 " sequences by %" PRIu64 " tokens\n",
               tally->sequences_truncated, tally->tokens_truncated);
    if (tally->sequences_split)
        printf("  split      %" PRIu64 " sequences\n", tally->sequences_split);
}

static void print_tensors(const PlanReport *report) {
    char size[32];

    printf("\n  %-31s  %-8s  %10s  %s\n", "tensor", "dtype", "bytes", "shape of the largest batch");
    for (uint32_t t = 0; t < report->feed->tensors.count; t++) {
        const SeqfeedTensorRecord *tensor = &report->tensors[t];

        printf("  %-31s  %-8s  %10s  [", tensor->name, tensor_dtype_name(tensor->dtype),
               text_format_size(size, tensor->size_bytes));
        for (uint32_t d = 0; d < tensor->ndim; d++)
            printf("%s%" PRId64, d ? ", " : "", tensor->shape[d]);
        printf("]\n");
    }
}

static void print_memory(const PlanReport *report) {
    const FeedMemory *memory = &report->memory;
    char a[32], b[32], c[32];

    printf("\n  memory of a stream with one ring\n");
    printf("    ring     %10s  %u slots of %s\n", text_format_size(a, memory->rings),
           report->feed->slots, text_format_size(b, report->feed->slot_bytes));
    printf("    windows  %10s  two for each strand that is served\n",
           text_format_size(a, memory->windows));
    printf("    buffers  %10s\n", text_format_size(a, memory->buffers));
    printf("    in all   %10s  of %s; each further rank of this machine %s\n",
           text_format_size(a, memory->total), text_format_size(b, report->memory_limit),
           text_format_size(c, memory->rings));
}

static void print_table(const PlanReport *report, bool is_first) {
    printf("%s%s: %s\n", is_first ? "" : "\n", report->feed->name, report->feed->catalog->path);
    print_batches(report);
    print_order(report);
    print_losses(report);
    print_tensors(report);
    print_memory(report);
}

static int refuse_name(const PlanOptions *options, const Settings *settings, Error *error) {
    CLEANUP(text_deinit) Text names = {0};

    for (uint32_t f = 0; f < settings->feed_count; f++)
        text_add(&names, "%s%s", f ? ", " : "", settings->feeds[f].name);
    return error_set(error, -ENOENT, "%s has no feed '%s', only %s", options->config, options->feed,
                     names.failed ? "others" : names.bytes);
}

/* One feed: printed as a table, or appended as JSON. */
static int plan_feed(const PlanOptions *options, const Settings *settings,
                     const SettingsFeed *feed_settings, bool is_first, Text *json, Error *error) {
    CLEANUP(unref_feed) Feed *feed = NULL;
    PlanReport report;
    int r = feed_open(settings, feed_settings, &feed, error);

    if (r < 0)
        return r;
    r = make_report(feed, settings, options->world, &report, error);
    if (r < 0)
        return r;
    if (options->json) {
        text_add(json, is_first ? "" : ",");
        add_json(json, &report);
    } else {
        print_table(&report, is_first);
    }
    return 0;
}

static int plan_all(const PlanOptions *options) {
    CLEANUP(free_settings) Settings *settings = NULL;
    CLEANUP(text_deinit) Text json = {0};
    uint32_t planned = 0;
    Error error = {0};
    int r = settings_load(options->config, options->overrides, options->override_count, &settings,
                          &error);

    text_add(&json, "{\"feeds\":{");
    for (uint32_t f = 0; r == 0 && f < settings->feed_count; f++) {
        if (options->feed && strcmp(options->feed, settings->feeds[f].name) != 0)
            continue;
        r = plan_feed(options, settings, &settings->feeds[f], planned == 0, &json, &error);
        planned++;
    }
    if (r == 0 && planned == 0)
        r = refuse_name(options, settings, &error);
    if (r < 0)
        return tool_refuse("plan", &error);
    text_add(&json, "}}");
    if (options->json)
        puts(json.failed ? "{}" : json.bytes);
    return tool_finish("plan");
}

int plan_main(int argc, char **argv) {
    static const struct option long_options[] = {{"json", no_argument, NULL, OPTION_JSON},
                                                 {"feed", required_argument, NULL, OPTION_FEED},
                                                 {"world", required_argument, NULL, OPTION_WORLD},
                                                 {"set", required_argument, NULL, OPTION_SET},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {0}};
    PlanOptions options = {.world = 1};
    uint64_t world;
    int option;

    while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        switch (option) {
        case OPTION_JSON:
            options.json = true;
            break;
        case OPTION_FEED:
            options.feed = optarg;
            break;
        case OPTION_WORLD:
            if (!text_parse_u64(optarg, 1, UINT32_MAX, &world))
                return tool_usage("plan", "--world %s: a whole number from 1 on", optarg);
            options.world = (uint32_t)world;
            break;
        case OPTION_SET:
            if (options.override_count == OVERRIDES_MAX)
                return tool_usage("plan", "--set more than %d times", OVERRIDES_MAX);
            options.overrides[options.override_count++] = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return tool_finish("plan");
        default:
            return tool_usage("plan", "wrong option");
        }
    }
    if (argc - optind != 1)
        return tool_usage("plan", "name one configuration file");
    options.config = argv[optind];
    return plan_all(&options);
}
