/* SPDX-License-Identifier: MIT */
/* What an epoch of several datasets takes from each. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arithmetic.h"
#include "tool/plan_report.h"

int plan_sources_take(PlanReport *report, const PlanEpoch *plan) {
    uint32_t count = report->feed->mix.source_count;

    report->sequences = plan->tally.sequences_in;
    report->tokens = plan->tally.tokens_in;
    if (count == 0)
        return 0;
    report->sources = calloc(count, sizeof *report->sources);
    if (!report->sources)
        return -1;
    for (uint32_t s = 0; s < count; s++)
        report->sources[s] = plan->sources[s];
    return 0;
}

/* As the configuration would say it: no exponent, no zeros at the end. */
static const char *weight_text(const PlanReport *report, uint32_t source, char ret_text[32]) {
    uint64_t weight = report->feed->mix.sources[source].weight;
    int length = snprintf(ret_text, 32, "%" PRIu64 ".%06" PRIu64, weight / SETTINGS_WEIGHT_ONE,
                          weight % SETTINGS_WEIGHT_ONE);

    while (ret_text[length - 1] == '0')
        ret_text[--length] = '\0';
    if (ret_text[length - 1] == '.')
        ret_text[--length] = '\0';
    return ret_text;
}

static double weight_of(const PlanReport *report, uint32_t source) {
    return (double)report->feed->mix.sources[source].weight / SETTINGS_WEIGHT_ONE;
}

double plan_sources_wanted(const PlanReport *report, uint32_t source, double *ret_kept) {
    const PlanMix *mix = &report->feed->mix;
    double weights = 0, held = 0, own = 0;

    for (uint32_t s = 0; s < mix->source_count; s++) {
        const PlanSource *of = &mix->sources[s];
        double here = (double)of->share * (double)of->total / of->block_count;

        weights += (double)of->weight;
        held += here;
        own = s == source ? here : own;
    }
    *ret_kept = own / held;
    return (double)mix->sources[source].weight / weights;
}

/* In epochs of its own. */
static double epochs_of(const PlanReport *report, uint32_t source) {
    return (double)report->sources[source].blocks /
           (double)report->feed->mix.sources[source].block_count;
}

static double part(uint64_t some, uint64_t all) {
    return 100.0 * (double)some / (double)MAX(all, UINT64_C(1));
}

void plan_sources_print(const PlanReport *report) {
    const Feed *feed = report->feed;
    char weight[32];

    if (feed->mix.source_count == 0)
        return;
    printf("\n  sources, %-22s %10s %22s %22s  %s\n", feed->mix_text, "weight", "sequences",
           "tokens", "own epochs");
    for (uint32_t s = 0; s < feed->mix.source_count; s++) {
        const PlanSourceSpan *span = &report->sources[s];

        printf("    %-29s %10s %12" PRIu64 " %7.2f %% %12" PRIu64 " %7.2f %%  %.3f",
               feed->source_names[s], weight_text(report, s, weight), span->sequences,
               part(span->sequences, report->sequences), span->tokens,
               part(span->tokens, report->tokens), epochs_of(report, s));
        if (span->sequences_again)
            printf(" (%" PRIu64 " sequences again)", span->sequences_again);
        printf("\n");
    }
}

void plan_sources_add(Text *text, const PlanReport *report) {
    const Feed *feed = report->feed;

    if (feed->mix.source_count == 0)
        return;
    text_add(text, ",\"mix\":\"%s\",\"sources\":[", feed->mix_text);
    for (uint32_t s = 0; s < feed->mix.source_count; s++) {
        const PlanSourceSpan *span = &report->sources[s];

        text_add(text, "%s{\"name\":\"%s\",\"weight\":%.10g,\"share\":%.6f,\"blocks\":%" PRIu32,
                 s ? "," : "", feed->source_names[s], weight_of(report, s),
                 (double)feed->mix.sources[s].share / PLAN_MIX_PERIOD, span->blocks);
        text_add(text,
                 ",\"sequences\":%" PRIu64 ",\"sequences_again\":%" PRIu64 ",\"tokens\":%" PRIu64
                 ",\"tokens_again\":%" PRIu64 ",\"epochs\":%.6f}",
                 span->sequences, span->sequences_again, span->tokens, span->tokens_again,
                 epochs_of(report, s));
    }
    text_add(text, "]");
}
