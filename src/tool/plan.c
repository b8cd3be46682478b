/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "feed/feed.h"
#include "settings/settings.h"
#include "tool/plan_report.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed plan [OPTION...] CONFIG\n"
    "Say what the feeds of a configuration will deliver and cost, without starting anything.\n"
    "\n"
    "      --feed FEED            only this one\n"
    "      --world W              for W ranks: batches of each (default 1, or as many as nodes)\n"
    "      --nodes N              how often blocks are decoded when the ranks stand on N machines\n"
    "      --set KEY.PATH=VALUE   as if the configuration said so; may be repeated\n"
    "      --compare              also the padding of the other policies\n"
    "      --plot FILE.svg        draw padding by policy, shapes of batches and how far they "
    "travel\n"
    "      --json                 {\"feeds\":{\"train\":{\"batches_per_epoch\":…,\"sequences\":…,\n"
    "                             \"tokens\":…,\"padding_share\":…,…}}}\n"
    "\n"
    "padding_share is 1 - real tokens / places over all batches of epoch 0.\n";

enum {
    OPTION_JSON = 256,
    OPTION_FEED,
    OPTION_WORLD,
    OPTION_NODES,
    OPTION_SET,
    OPTION_COMPARE,
    OPTION_PLOT,
    OVERRIDES_MAX = 256
};

typedef struct PlanOptions {
    const char *config, *feed, *plot;
    char *overrides[OVERRIDES_MAX];
    uint32_t override_count;
    uint32_t world, nodes;
    bool json, compare;
} PlanOptions;

/* What all feeds say together. */
typedef struct PlanOutput {
    Text json, picture;
    uint32_t planned;
} PlanOutput;

static void free_settings(Settings **settings) {
    settings_free(*settings);
}

static void unref_feed(Feed **feed) {
    feed_unref(*feed);
}

static void free_report(PlanReport **report) {
    plan_report_free(*report);
}

static void output_deinit(PlanOutput *output) {
    text_deinit(&output->json);
    text_deinit(&output->picture);
}

static int refuse_name(const PlanOptions *options, const Settings *settings, Error *error) {
    CLEANUP(text_deinit) Text names = {0};

    for (uint32_t f = 0; f < settings->feed_count; f++)
        text_add(&names, "%s%s", f ? ", " : "", settings->feeds[f].name);
    return error_set(error, -ENOENT, "%s has no feed '%s', only %s", options->config, options->feed,
                     names.failed ? "others" : names.bytes);
}

/* One feed: printed as a table, or appended as JSON; and drawn. */
static int plan_feed(const PlanOptions *options, const Settings *settings,
                     const SettingsFeed *feed_settings, PlanOutput *output, Error *error) {
    CLEANUP(unref_feed) Feed *feed = NULL;
    CLEANUP(free_report) PlanReport *report = NULL;
    int r = feed_open(settings, feed_settings, &feed, error);

    if (r < 0)
        return r;
    r = plan_report_make(feed, settings->memory, options->world, options->nodes,
                         options->compare || options->plot, &report, error);
    if (r < 0)
        return r;
    if (options->json) {
        text_add(&output->json, output->planned == 0 ? "" : ",");
        plan_json_add(&output->json, report);
    } else {
        plan_table_print(report, output->planned == 0);
    }
    if (options->plot)
        plan_picture_add(&output->picture, report, output->planned);
    output->planned++;
    return 0;
}

static int write_picture(const PlanOptions *options, PlanOutput *output, Error *error) {
    FILE *file;
    bool is_written;

    if (!options->plot)
        return 0;
    plan_picture_end(&output->picture);
    if (output->picture.failed)
        return error_set(error, -ENOMEM, "no memory for the picture");
    file = fopen(options->plot, "we");
    if (!file)
        return error_set(error, -errno, "%s cannot be written: %s", options->plot, strerror(errno));
    is_written = fwrite(output->picture.bytes, 1, output->picture.size, file) ==
                 output->picture.size;
    if (fclose(file) != 0 || !is_written)
        return error_set(error, -EIO, "%s cannot be written", options->plot);
    return 0;
}

static int plan_all(const PlanOptions *options) {
    CLEANUP(free_settings) Settings *settings = NULL;
    CLEANUP(output_deinit) PlanOutput output = {0};
    uint32_t count = 0;
    Error error = {0};
    int r = settings_load(options->config, options->overrides, options->override_count, &settings,
                          &error);

    for (uint32_t f = 0; r == 0 && f < settings->feed_count; f++)
        count += !options->feed || strcmp(options->feed, settings->feeds[f].name) == 0;
    text_add(&output.json, "{\"feeds\":{");
    if (options->plot)
        plan_picture_begin(&output.picture, count);
    for (uint32_t f = 0; r == 0 && f < settings->feed_count; f++)
        if (!options->feed || strcmp(options->feed, settings->feeds[f].name) == 0)
            r = plan_feed(options, settings, &settings->feeds[f], &output, &error);
    if (r == 0 && output.planned == 0)
        r = refuse_name(options, settings, &error);
    if (r == 0)
        r = write_picture(options, &output, &error);
    if (r < 0)
        return tool_refuse("plan", &error);
    text_add(&output.json, "}}");
    if (options->json)
        puts(output.json.failed ? "{}" : output.json.bytes);
    return tool_finish("plan");
}

/* A whole number from 1 to `most`; false: `value` is none. */
static bool parse_count(const char *value, uint32_t most, uint32_t *ret_number) {
    uint64_t number;

    if (!text_parse_u64(value, 1, most, &number))
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

/* TOOL_OK, or what the command returns. */
static int take_option(PlanOptions *options, int option) {
    switch (option) {
    case OPTION_JSON:
        options->json = true;
        return TOOL_OK;
    case OPTION_COMPARE:
        options->compare = true;
        return TOOL_OK;
    case OPTION_PLOT:
        options->plot = optarg;
        return TOOL_OK;
    case OPTION_FEED:
        options->feed = optarg;
        return TOOL_OK;
    case OPTION_WORLD:
        if (!parse_count(optarg, UINT32_MAX, &options->world))
            return tool_usage("plan", "--world %s: a whole number from 1 on", optarg);
        return TOOL_OK;
    case OPTION_NODES:
        if (!parse_count(optarg, READS_NODES_MAX, &options->nodes))
            return tool_usage("plan", "--nodes %s: a whole number from 1 to %d", optarg,
                              READS_NODES_MAX);
        return TOOL_OK;
    default: /* OPTION_SET */
        if (options->override_count == OVERRIDES_MAX)
            return tool_usage("plan", "--set more than %d times", OVERRIDES_MAX);
        options->overrides[options->override_count++] = optarg;
        return TOOL_OK;
    }
}

int plan_main(int argc, char **argv) {
    static const struct option long_options[] = {{"json", no_argument, NULL, OPTION_JSON},
                                                 {"feed", required_argument, NULL, OPTION_FEED},
                                                 {"world", required_argument, NULL, OPTION_WORLD},
                                                 {"nodes", required_argument, NULL, OPTION_NODES},
                                                 {"set", required_argument, NULL, OPTION_SET},
                                                 {"compare", no_argument, NULL, OPTION_COMPARE},
                                                 {"plot", required_argument, NULL, OPTION_PLOT},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {0}};
    PlanOptions options = {0};
    int option, r;

    while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return tool_finish("plan");
        }
        if (option == '?' || option == ':')
            return tool_wrong_option("plan", option, argv);
        r = take_option(&options, option);
        if (r != TOOL_OK)
            return r;
    }
    if (argc - optind != 1)
        return tool_usage("plan", "name one configuration file");
    options.nodes = MAX(options.nodes, 1u);
    options.world = options.world ? options.world : options.nodes;
    if (options.world % options.nodes != 0)
        return tool_usage("plan", "--world %u is no multiple of --nodes %u", options.world,
                          options.nodes);
    options.config = argv[optind];
    (void)file_raise_limit();
    return plan_all(&options);
}
