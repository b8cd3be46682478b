/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "shard/catalog.h"
#include "shard/column.h"
#include "tool/length_summary.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed inspect [OPTION...] PATH\n"
    "Show what a dataset (or a single shard) holds, and a minimal configuration that feeds it.\n"
    "\n"
    "      --json   {\"sequences\":…,\"tokens\":…,\"shards\":…,\"bytes\":…,\"token_type\":…,\n"
    "                \"columns\":[…],\"lengths\":{\"min\":…,\"median\":…,\"max\":…}}\n";

enum { OPTION_JSON = 256, LABELS_SHOWN = 12 };

static void catalog_cleanup(Catalog **catalog) {
    catalog_free(*catalog);
}

/* "17" or "17.5": the median of an even number of lengths may lie between two. */
static char *format_median(char to[32], uint64_t twice) {
    snprintf(to, 32, twice % 2 ? "%" PRIu64 ".5" : "%" PRIu64, twice / 2);
    return to;
}

static int print_json(const Catalog *catalog, const LengthSummary *lengths) {
    CLEANUP(text_deinit) Text text = {0};
    char median[32], id[33];

    text_format_hex(id, catalog->id, sizeof catalog->id);
    text_add(&text,
             "{\"sequences\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"shards\":%u,\"bytes\":%" PRIu64
             ",\"token_type\":\"%s\",\"columns\":[",
             catalog->sequences, catalog->tokens, catalog->shard_count, catalog->file_bytes,
             element_name(catalog->columns[0].type));
    for (uint32_t c = 0; c < catalog->column_count; c++) {
        const CatalogColumn *column = &catalog->columns[c];
        text_add(&text, "%s{\"name\":\"%s\",\"kind\":\"%s\",\"type\":\"%s\",\"width\":%u}",
                 c ? "," : "", column->name, column_kind_name(column->kind),
                 element_name(column->type), column->width);
    }
    text_add(&text, "],\"lengths\":{\"min\":%u,\"median\":%s,\"max\":%u}", catalog->length_min,
             format_median(median, lengths->median_twice), catalog->length_max);
    text_add(&text, ",\"blocks\":%u,\"raw_bytes\":%" PRIu64 ",\"id\":\"%s\",\"pad_id\":",
             catalog->block_count, catalog->raw_bytes, id);
    if (catalog->has_pad_id)
        text_add(&text, "%" PRId64, catalog->pad_id);
    else
        text_add(&text, "null");
    text_add(&text, ",\"label_names\":[");
    for (uint32_t i = 0; i < catalog->label_count; i++) {
        text_add(&text, i ? "," : "");
        text_add_json(&text, catalog->label_names[i]);
    }
    text_add(&text, "]}");
    puts(text.failed ? "{}" : text.bytes);
    return tool_finish("inspect");
}

static void print_sizes(const Catalog *catalog) {
    char a[32], b[32], c[32];

    printf("  shards     %u, %s on disk\n", catalog->shard_count,
           text_format_size(a, catalog->file_bytes));
    printf("  blocks     %u, up to %s raw and %s compressed\n", catalog->block_count,
           text_format_size(a, catalog->block_raw_max),
           text_format_size(b, catalog->block_compressed_max));
    printf("  raw        %s, %.2f times the size on disk", text_format_size(c, catalog->raw_bytes),
           (double)catalog->raw_bytes / (double)catalog->file_bytes);
    if (catalog->tokens > 0) {
        double each = (double)catalog->file_bytes / (double)catalog->tokens;

        printf(each < 10 ? "; %.3f bytes a token on disk" : "; %.0f bytes a token on disk", each);
    }
    printf("\n");
}

static void print_columns(const Catalog *catalog) {
    char count[32];

    printf("\n  %-23s  %-8s  %-4s  %5s  %s\n", "column", "kind", "type", "width", "values");
    for (uint32_t c = 0; c < catalog->column_count; c++) {
        const CatalogColumn *column = &catalog->columns[c];
        printf("  %-23s  %-8s  %-4s  %5u  %s", column->name, column_kind_name(column->kind),
               element_name(column->type), column->width,
               text_format_count(count, (double)column->values));
        if (column->kind == SHARD_KIND_RAGGED)
            printf(", up to %u a sequence", column->count_max);
        printf("\n");
    }
}

static void print_labels(const Catalog *catalog) {
    if (catalog->label_count == 0)
        return;
    printf("\n  labels:");
    for (uint32_t i = 0; i < catalog->label_count && i < LABELS_SHOWN; i++) {
        CLEANUP(text_deinit) Text name = {0};
        text_add(&name, "%s", catalog->label_names[i]);
        if (name.bytes)
            text_mask_controls(name.bytes);
        printf("%s %u %s", i ? "," : "", i, name.bytes ? name.bytes : "");
    }
    if (catalog->label_count > LABELS_SHOWN)
        printf(", and %u more", catalog->label_count - LABELS_SHOWN);
    printf("\n");
}

/* A double-quoted YAML string is a JSON string. */
static void print_yaml(const char *path) {
    CLEANUP(text_deinit) Text name = {0};
    char *absolute = realpath(path, NULL);

    text_add_json(&name, absolute ? absolute : path);
    printf("\nfeeds:\n  train:\n    dataset: %s\n    batch: {size: 64}\n",
           name.bytes ? name.bytes : path);
    free(absolute);
}

static int print_table(const char *path, const Catalog *catalog, const LengthSummary *lengths,
                       bool is_dataset) {
    char tokens[32], median[32], id[33];

    text_format_hex(id, catalog->id, sizeof catalog->id);
    printf("%s\n", path);
    printf("  id         %s\n", id);
    printf("  sequences  %" PRIu64 "\n", catalog->sequences);
    printf("  tokens     %" PRIu64 " (", catalog->tokens);
    if (catalog->tokens >= 1000)
        printf("%s, ", text_format_count(tokens, (double)catalog->tokens));
    printf("%s)\n", element_name(catalog->columns[0].type));
    printf("  lengths    %u to %u, median %s, mean %.1f\n", catalog->length_min,
           catalog->length_max, format_median(median, lengths->median_twice),
           (double)catalog->tokens / (double)catalog->sequences);
    print_sizes(catalog);
    if (catalog->has_pad_id)
        printf("  pad id     %" PRId64 "\n", catalog->pad_id);
    print_columns(catalog);
    print_labels(catalog);
    if (is_dataset)
        print_yaml(path);
    return tool_finish("inspect");
}

static int inspect(const char *path, bool json) {
    CLEANUP(catalog_cleanup) Catalog *catalog = NULL;
    LengthSummary lengths = {0};
    struct stat status;
    Error error = {0};
    bool is_shard = stat(path, &status) == 0 && S_ISREG(status.st_mode);
    int r = is_shard ? catalog_open_shard(path, &catalog, &error)
                     : catalog_open(path, &catalog, &error);

    if (r == 0)
        r = length_summary_count(catalog, &lengths, &error);
    if (r < 0)
        return tool_refuse("inspect", &error);
    return json ? print_json(catalog, &lengths) : print_table(path, catalog, &lengths, !is_shard);
}

int inspect_main(int argc, char **argv) {
    static const struct option options[] = {
        {"json", no_argument, NULL, OPTION_JSON}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false;
    int option;

    while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (option) {
        case OPTION_JSON:
            json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return tool_finish("inspect");
        default:
            return tool_wrong_option("inspect", option, argv);
        }
    }
    if (argc - optind != 1)
        return tool_usage("inspect", "name one dataset or shard");
    (void)file_raise_limit();
    return inspect(argv[optind], json);
}
