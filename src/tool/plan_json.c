/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "tool/plan_report.h"

static void add_tensors(Text *text, const PlanReport *report) {
    text_add(text, ",\"tensors\":[");
    for (uint32_t t = 0; t < report->feed->tensors.count; t++) {
        const SeqfeedTensorRecord *tensor = &report->tensors[t];

        text_add(text, "%s{\"name\":", t ? "," : "");
        text_add_json(text, tensor->name);
        text_add(text, ",\"dtype\":\"%s\",\"shape\":[", tensor_dtype_name(tensor->dtype));
        for (uint32_t d = 0; d < tensor->ndim; d++)
            text_add(text, "%s%" PRId64, d ? "," : "", tensor->shape[d]);
        text_add(text, "],\"bytes\":%" PRIu64 "}", tensor->size_bytes);
    }
    text_add(text, "]");
}

static void add_batches(Text *text, const PlanReport *report) {
    const Feed *feed = report->feed;

    text_add(text,
             "\"batches_per_epoch\":%" PRIu64 ",\"sequences\":%" PRIu64 ",\"tokens\":%" PRIu64
             ",\"padding_share\":%.6f",
             report->batches, report->sequences, report->tokens, report->padding_share);
    text_add(text, ",\"world\":%u,\"batches_per_rank\":%" PRIu64 ",\"%s\":%" PRIu64, report->world,
             report->batches_per_rank,
             feed->plan.tail == PLAN_TAIL_REPEAT ? "batches_repeated" : "batches_left_out",
             report->repeated);
    text_add(text, ",\"epoch\":{\"rows\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"slots\":%" PRIu64 "}",
             report->sums.rows, report->sums.tokens, report->sums.slots);
}

static void add_losses(Text *text, const PlanReport *report) {
    const PlanTally *tally = &report->sums.tally;

    text_add(text,
             ",\"losses\":{\"sequences_dropped\":%" PRIu64 ",\"tokens_dropped\":%" PRIu64
             ",\"sequences_truncated\":%" PRIu64 ",\"tokens_truncated\":%" PRIu64
             ",\"sequences_split\":%" PRIu64 "}",
             tally->sequences_dropped, tally->tokens_dropped, tally->sequences_truncated,
             tally->tokens_truncated, tally->sequences_split);
    text_add(text,
             ",\"left_out\":{\"tokens_by_last\":%" PRIu64 ",\"tokens_by_tail\":%" PRIu64
             ",\"batches_by_strands\":%" PRIu64 "}",
             report->dropped_by_last, report->dropped_by_tail, report->batches_cut);
}

static void add_share(Text *text, const char *name, double share) {
    if (share < 0)
        text_add(text, "\"%s\":null", name);
    else
        text_add(text, "\"%s\":%.6f", name, share);
}

static void add_order(Text *text, const PlanReport *report) {
    const PlanSums *sums = &report->sums;
    const PlanSpread *spread = &report->spread;
    SpreadLengths lengths = plan_spread_lengths(spread);

    text_add(text, ",\"windows\":%" PRIu64 ",\"shapes\":[", sums->windows);
    for (uint32_t s = 0; s < sums->shape_count; s++)
        text_add(text, "%s{\"rows\":%u,\"length\":%u,\"batches\":%" PRIu64 "}", s ? "," : "",
                 sums->shapes[s].rows, sums->shapes[s].length, sums->shapes[s].batches);
    text_add(
        text,
        "],\"other_shapes\":%" PRIu64
        ",\"shuffle\":{\"travel\":%.6f,\"same_block\":%.6f,\"side_by_side\":%.6f,\"travels\":[",
        sums->other_batches, spread->travel, spread->same_block, spread->side_by_side);
    for (uint32_t bin = 0; bin < SPREAD_BINS; bin++)
        text_add(text, "%s%" PRIu64, bin ? "," : "", spread->travels[bin]);
    text_add(text,
             "]},\"spread\":{\"parts\":%d,\"mean_length\":%.3f,\"least\":%.3f,\"most\":%.3f,"
             "\"by_chance\":%.3f,\"sources\":[",
             SPREAD_PARTS, lengths.mean, lengths.least, lengths.most, lengths.chance);
    for (uint32_t k = 0; k < spread->source_count; k++) {
        SpreadShare share = plan_spread_source(spread, k);

        text_add(text, "%s{\"share\":%.6f,\"least\":%.6f,\"most\":%.6f}", k ? "," : "", share.share,
                 share.least, share.most);
    }
    text_add(text, "]},\"yardsticks\":{");
    add_share(text, "random_batches_of_64", report->random_padding);
    text_add(text, ",");
    add_share(text, "best_fit_decreasing", report->packed_padding);
    text_add(text, ",\"row\":%u}", report->packed_room);
}

static void add_costs(Text *text, const PlanReport *report) {
    const FeedMemory *memory = &report->memory;
    const Feed *feed = report->feed;

    text_add(text,
             ",\"reads\":{\"nodes\":%u,\"blocks\":%" PRIu64 ",\"decoded\":%" PRIu64
             ",\"decoded_again\":%" PRIu64 ",\"amplification\":%.4f}",
             report->nodes, report->reads.blocks, report->reads.decoded, report->reads.again,
             plan_report_amplification(report));
    text_add(text,
             ",\"seek\":{\"seconds\":%.6f,\"count_seconds\":%.6f,\"reads_lengths\":%s,"
             "\"sequences_per_second\":%.0f,\"threads\":%u}",
             report->seek_seconds, report->count_seconds,
             plan_report_reads_lengths(report) ? "true" : "false", plan_report_count_rate(report),
             feed_count_threads(feed));
    text_add(text, ",\"window_blocks\":%u,\"strands\":%u,\"ring_slots\":%u,\"slot_bytes\":%" PRIu64,
             feed->plan.window, feed->plan.strands, feed->slots, feed->slot_bytes);
    text_add(text,
             ",\"memory\":{\"rings\":%" PRIu64 ",\"windows\":%" PRIu64 ",\"buffers\":%" PRIu64
             ",\"total\":%" PRIu64 ",\"limit\":%" PRIu64 ",\"device_inputs\":%" PRIu64
             ",\"index\":%" PRIu64 "}",
             memory->rings, memory->windows, memory->buffers, memory->total, report->memory_limit,
             report->device_inputs, feed->index_bytes);
}

void plan_json_add(Text *text, const PlanReport *report) {
    text_add_json(text, report->feed->name);
    text_add(text, ":{");
    add_batches(text, report);
    add_losses(text, report);
    plan_sources_add(text, report);
    add_order(text, report);
    add_costs(text, report);
    if (report->compared_count > 0)
        text_add(text, ",\"policies\":[");
    for (uint32_t i = 0; i < report->compared_count; i++) {
        text_add(text, "%s{\"what\":", i ? "," : "");
        text_add_json(text, report->compared[i].what);
        text_add(text, ",\"own\":%s,\"padding_share\":%.6f}",
                 report->compared[i].is_own ? "true" : "false", report->compared[i].padding);
    }
    if (report->compared_count > 0)
        text_add(text, "]");
    text_add(text, ",\"warnings\":[");
    for (uint32_t i = 0; i < report->feed->warning_count; i++) {
        text_add(text, i ? "," : "");
        text_add_json(text, report->feed->warnings[i].text);
    }
    for (uint32_t i = 0; i < report->warning_count; i++) {
        text_add(text, i || report->feed->warning_count ? "," : "");
        text_add_json(text, report->warnings[i]);
    }
    text_add(text, "]");
    add_tensors(text, report);
    text_add(text, "}");
}
