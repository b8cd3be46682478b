/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "tool/plan_report.h"

enum { SHAPES_SHOWN = 8, SHAPE_BAR = 30 };

static void print_batches(const PlanReport *report) {
    const Feed *feed = report->feed;
    char tokens[32];

    printf("  sequences  %" PRIu64 "\n", report->sequences);
    printf("  tokens     %" PRIu64, report->tokens);
    if (report->tokens >= 1000)
        printf(" (%s)", text_format_count(tokens, (double)report->tokens));
    printf(", up to %u a sequence\n", feed->catalog->length_max);
    if (feed->plan.policy == PLAN_POLICY_TOKENS)
        printf("  batches    %" PRIu64 " an epoch, of up to %u places\n", report->batches,
               feed->plan.tokens);
    else if (feed->plan.policy == PLAN_POLICY_PACK)
        printf("  batches    %" PRIu64 " an epoch, of %u rows of %u places\n", report->batches,
               feed->plan.size, feed->plan.length);
    else
        printf("  batches    %" PRIu64 " an epoch, of %u rows\n", report->batches, feed->plan.size);
    if (report->world > 1)
        printf("             %" PRIu64 " for each of %u ranks; %" PRIu64 " %s\n",
               report->batches_per_rank, report->world, report->repeated,
               feed->plan.tail == PLAN_TAIL_REPEAT ? "repeated" : "left out");
    printf("  order      windows of %u block%s, %u strand%s%s\n", feed->plan.window,
           feed->plan.window == 1 ? "" : "s", feed->plan.strands,
           feed->plan.strands == 1 ? "" : "s", feed->plan.shuffle ? "" : ", not shuffled");
}

static void print_padding(const PlanReport *report) {
    printf("  padding    %.2f %% of the places in epoch 0", 100 * report->padding_share);
    if (report->random_padding >= 0)
        printf("; random batches of %d: %.2f %%", PLAN_RANDOM_ROWS, 100 * report->random_padding);
    if (report->packed_padding >= 0)
        printf(";\n             best fit decreasing over all of it, in rows of %u: %.2f %%",
               report->packed_room, 100 * report->packed_padding);
    printf("\n");
    for (uint32_t i = 0; i < report->compared_count; i++)
        printf("             %-40s %6.2f %%%s\n", report->compared[i].what,
               100 * report->compared[i].padding,
               report->compared[i].is_own ? "  (this feed)" : "");
}

static void print_losses(const PlanReport *report) {
    const PlanTally *tally = &report->sums.tally;

    if (tally->sequences_dropped)
        printf("  dropped    %" PRIu64 " sequences with %" PRIu64 " tokens\n",
               tally->sequences_dropped, tally->tokens_dropped);
    if (tally->sequences_truncated)
        printf("  truncated  %" PRIu64 " sequences by %" PRIu64 " tokens\n",
               tally->sequences_truncated, tally->tokens_truncated);
    if (tally->sequences_split)
        printf("  split      %" PRIu64 " sequences\n", tally->sequences_split);
    if (report->dropped_by_last || report->dropped_by_tail)
        printf("  left out   %" PRIu64 " tokens by batch.last, %" PRIu64 " by batch.tail\n",
               report->dropped_by_last, report->dropped_by_tail);
}

static void print_shapes(const PlanReport *report) {
    const PlanSums *sums = &report->sums;
    uint64_t shown = 0;

    printf("\n  %s%u shape%s of batches\n", sums->other_batches ? "over " : "", sums->shape_count,
           sums->shape_count == 1 ? "" : "s");
    for (uint32_t s = 0; s < sums->shape_count && s < SHAPES_SHOWN; s++) {
        const PlanShape *shape = &sums->shapes[s];
        uint64_t bar = shape->batches * SHAPE_BAR / MAX(sums->shapes[0].batches, UINT64_C(1));

        shown += shape->batches;
        printf("    %6u x %-7u %10" PRIu64 "  %.*s\n", shape->rows, shape->length, shape->batches,
               (int)MAX(bar, UINT64_C(1)), "##############################");
    }
    if (shown < report->batches)
        printf("    others           %10" PRIu64 "\n", report->batches - shown);
}

/* The order beside a full permutation. */
static void print_order(const PlanReport *report) {
    const PlanSpread *spread = &report->spread;
    const Feed *feed = report->feed;
    SpreadLengths lengths = plan_spread_lengths(spread);

    if (!feed->plan.shuffle)
        return;
    printf("\n  mixing                               this order   a full permutation\n");
    printf("    a sequence travels, of the epoch   %10.3f   %10.3f\n", spread->travel, 1.0 / 3);
    printf("    neighbours from one block          %8.2f %%   %8.2f %%\n", 100 * spread->same_block,
           100.0 / MAX(feed->blocks.count, 1u));
    printf("    neighbours side by side before     %8.3f %%   %8.3f %%\n",
           100 * spread->side_by_side, 200.0 / (double)MAX(report->sequences, UINT64_C(1)));
    printf("    mean length, %d parts of the epoch %10.1f   %.1f .. %.1f, by chance +- %.1f\n",
           SPREAD_PARTS, lengths.mean, lengths.least, lengths.most, lengths.chance);
    for (uint32_t k = 0; spread->source_count > 1 && k < spread->source_count; k++) {
        SpreadShare share = plan_spread_source(spread, k);

        printf("    tokens of %-25.25s%8.2f %%   %.2f .. %.2f %% of a part\n",
               feed->source_names[k], 100 * share.share, 100 * share.least, 100 * share.most);
    }
}

static void print_reads(const PlanReport *report) {
    char rate[32], seconds[32], counted[128] = "counts of blocks alone";

    if (plan_report_reads_lengths(report))
        snprintf(counted, sizeof counted, "%s to count an epoch (%s sequences/s, %u thread%s)",
                 text_format_seconds(seconds, report->count_seconds),
                 text_format_count(rate, plan_report_count_rate(report)),
                 feed_count_threads(report->feed),
                 feed_count_threads(report->feed) == 1 ? "" : "s");
    printf("\n  reads      %" PRIu64 " block%s an epoch, %sdecoded %.2f times",
           report->reads.blocks, report->reads.blocks == 1 ? "" : "s",
           report->reads.blocks == 1 ? "" : "each ", plan_report_amplification(report));
    if (report->nodes > 1)
        printf(" in all by %u nodes", report->nodes);
    if (report->reads.again)
        printf("\n             (%" PRIu64 " once more for repeated batches)", report->reads.again);
    printf("\n  seek       %s to any batch: %s\n"
           "             and a window to plan; the lengths of a cold disk come on top\n",
           text_format_seconds(seconds, report->seek_seconds), counted);
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
    printf("    index    %10s  of the feed itself, beside all its streams\n",
           text_format_size(a, report->feed->index_bytes));
    if (report->device_inputs)
        printf(
            "    on a GPU %10s  more for each ring, and as much as the rings and this on the GPU\n",
            text_format_size(a, report->device_inputs));
}

void plan_table_print(const PlanReport *report, bool is_first) {
    printf("%s%s: %s\n", is_first ? "" : "\n", report->feed->name, report->feed->catalog->path);
    print_batches(report);
    print_padding(report);
    print_losses(report);
    plan_sources_print(report);
    print_shapes(report);
    print_order(report);
    print_reads(report);
    print_tensors(report);
    print_memory(report);
    if (report->feed->warning_count + report->warning_count > 0)
        printf("\n");
    for (uint32_t i = 0; i < report->feed->warning_count; i++)
        printf("  warning: %s\n", report->feed->warnings[i].text);
    for (uint32_t i = 0; i < report->warning_count; i++)
        printf("  warning: %s\n", report->warnings[i]);
}
