/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/file.h"
#include "base/processors.h"
#include "base/progress.h"
#include "base/text.h"
#include "shard/catalog.h"
#include "shard/dataset_verify.h"
#include "shard/manifest.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed verify [OPTION...] DIR\n"
    "Check every bit of a dataset (or of a single shard): checksums, sizes, and that all numbers\n"
    "that are stored twice agree. Exit status 1 when something is damaged.\n"
    "\n"
    "      --jobs N   threads that decode (default: one for each CPU)\n"
    "      --json     {\"ok\":…,\"damage\":[{\"file\":…,\"block\":…,\"offset\":…,\"what\":…}]}\n";

enum { OPTION_JOBS = 256, OPTION_JSON, JOBS_MAX = 1024, SAID_MAX = 100 };

typedef struct Findings {
    bool json;
    uint64_t count;
    Text text; /* the JSON list */
    Progress progress;
} Findings;

static void add_json(Findings *findings, const VerifyDamage *damage) {
    Text *text = &findings->text;

    text_add(text, findings->count ? ",{\"file\":" : "{\"file\":");
    text_add_json(text, damage->file);
    if (damage->block >= 0)
        text_add(text, ",\"block\":%" PRId64, damage->block);
    else
        text_add(text, ",\"block\":null");
    if (damage->offset >= 0)
        text_add(text, ",\"offset\":%" PRId64, damage->offset);
    else
        text_add(text, ",\"offset\":null");
    text_add(text, ",\"what\":");
    text_add_json(text, damage->what);
    text_add(text, "}");
}

static void on_damage(void *context, const VerifyDamage *damage) {
    Findings *findings = context;

    if (findings->json)
        add_json(findings, damage);
    else if (findings->count == SAID_MAX)
        printf("… and more; --json has all\n");
    else if (findings->count < SAID_MAX && damage->block >= 0)
        printf("%s: block %" PRId64 " at offset %" PRId64 ": %s\n", damage->file, damage->block,
               damage->offset, damage->what);
    else if (findings->count < SAID_MAX)
        printf("%s: %s\n", damage->file, damage->what);
    findings->count++;
}

static void on_progress(void *context, uint64_t bytes) {
    Findings *findings = context;

    progress_update(&findings->progress, bytes);
}

/* How much there will be to read; 0 when that is unclear. */
static uint64_t total_bytes(const char *path) {
    Catalog *catalog = NULL;
    uint64_t bytes = 0;

    if (catalog_open(path, &catalog, NULL) == 0)
        for (uint32_t b = 0; b < catalog->block_count; b++)
            bytes += catalog->blocks[b].compressed_bytes;
    catalog_free(catalog);
    return bytes;
}

static int print_json(const Findings *findings) {
    printf("{\"ok\":%s,\"damage\":[%s]}\n", findings->count ? "false" : "true",
           findings->text.bytes ? findings->text.bytes : "");
    return tool_finish("verify");
}

static int print_verdict(const Findings *findings, const char *path, const VerifyTotals *totals) {
    char size[32];

    if (findings->count == 0)
        printf("%s: every bit is as it was written: %" PRIu64 " shard%s, %" PRIu64 " block%s, %s\n",
               path, totals->shards, totals->shards == 1 ? "" : "s", totals->blocks,
               totals->blocks == 1 ? "" : "s", text_format_size(size, totals->bytes));
    else if (totals->shards == 0) /* nothing says which shards there are */
        printf(
            "%s is damaged. Copy its %s again from where it came from, or keep its shards one by "
            "one with 'seqfeed salvage %s/shard-00000.zst -o NEW/' and so on.\n",
            path, MANIFEST_NAME, path);
    else
        printf("%s is damaged. Copy it again from where it came from, or keep what is left with "
               "'seqfeed salvage %s -o NEW'.\n",
               path, path);
    return tool_finish("verify");
}

static int verify(const char *path, uint32_t jobs, bool json) {
    Findings findings = {.json = json};
    VerifyOptions options = {
        .jobs = jobs, .context = &findings, .damage = on_damage, .progress = on_progress};
    VerifyTotals totals;
    Error error = {0};
    int r;

    progress_start(&findings.progress, "verifying", "bytes", total_bytes(path));
    r = dataset_verify(path, &options, &totals, &error);
    progress_end(&findings.progress, r == 0 ? totals.bytes : 0);
    /* Nothing there, no shard, of a newer version: for programs it is damaged, too. */
    if ((r == -ENOENT || r == -ENOEXEC || r == -ENOTSUP) && json) {
        on_damage(&findings, &(VerifyDamage){path, -1, -1, error.text});
        r = 0;
    }
    if (r == 0 && findings.text.failed)
        r = error_set(&error, -ENOMEM, "too much damage to list");
    if (r < 0)
        return tool_refuse("verify", &error);
    r = json ? print_json(&findings) : print_verdict(&findings, path, &totals);
    text_deinit(&findings.text);
    return r != TOOL_OK || findings.count == 0 ? r : TOOL_REFUSED;
}

int verify_main(int argc, char **argv) {
    static const struct option options[] = {{"jobs", required_argument, NULL, OPTION_JOBS},
                                            {"json", no_argument, NULL, OPTION_JSON},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    uint64_t jobs = processors_count();
    bool json = false;
    int option;

    while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (option) {
        case OPTION_JOBS:
            if (!text_parse_u64(optarg, 1, JOBS_MAX, &jobs))
                return tool_usage("verify", "--jobs %s is not 1 to %d", optarg, JOBS_MAX);
            break;
        case OPTION_JSON:
            json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return tool_finish("verify");
        default:
            return tool_wrong_option("verify", option, argv);
        }
    }
    if (argc - optind != 1)
        return tool_usage("verify", "name one dataset");
    (void)file_raise_limit();
    return verify(argv[optind], (uint32_t)MIN(jobs, (uint64_t)JOBS_MAX), json);
}
