/* SPDX-License-Identifier: MIT */
/* The picture of `seqfeed plan --plot`: for each feed one line of three drawings. Plain SVG, which
 * every browser shows and every converter takes. */
#include <inttypes.h>
#include <math.h>

#include "tool/plan_report.h"

enum {
    WIDTH = 1180,
    HEIGHT = 310, /* of one feed */
    TOP = 62,     /* of the drawings in it */
    TALL = 200,
    BINS = 40,
    BARS_LEFT = 250, /* padding by policy: names end here */
    BARS_WIDE = 150,
    SHAPES_LEFT = 520,
    TRAVEL_LEFT = 870,
    WIDE = 260
};

static const char own_colour[] = "#1f5f99", other_colour[] = "#9db7cd", line_colour[] = "#c0392b";

static void add_label(Text *text, double x, double y, const char *anchor, const char *colour,
                      const char *string) {
    text_add(text, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">", x, y, anchor,
             colour);
    for (; *string; string++)
        switch (*string) {
        case '<':
            text_add(text, "&lt;");
            break;
        case '&':
            text_add(text, "&amp;");
            break;
        default:
            text_add(text, "%c", *string);
        }
    text_add(text, "</text>\n");
}

static void add_box(Text *text, double x, double y, double wide, double tall, const char *colour) {
    text_add(text, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x,
             y, wide, MAX(tall, 0.0), colour);
}

static void add_axis(Text *text, double x, double y) {
    text_add(text, "<path d=\"M%.1f %.1f h%d\" stroke=\"#888\" fill=\"none\"/>\n", x, y, WIDE);
}

/* ---- padding by policy ---- */

static double add_padding_bar(Text *text, double y, double most, const char *what, double padding,
                              bool is_own) {
    char number[32];
    double wide = padding / most * BARS_WIDE;

    snprintf(number, sizeof number, "%.2f %%", 100 * padding);
    add_label(text, BARS_LEFT - 8, y + 13, "end", is_own ? own_colour : "#333", what);
    add_box(text, BARS_LEFT, y, MAX(wide, 1.0), 18, is_own ? own_colour : other_colour);
    add_label(text, BARS_LEFT + MAX(wide, 1.0) + 6, y + 13, "start", "#333", number);
    return y + 30;
}

static void add_padding(Text *text, const PlanReport *report, double top) {
    double y = top + TOP, most = MAX(report->padding_share, 0.01);
    char packed[64];

    for (uint32_t i = 0; i < report->compared_count; i++)
        most = MAX(most, report->compared[i].padding);
    most = MAX(most, report->random_padding);
    add_label(text, BARS_LEFT, top + TOP - 14, "start", "#000", "padding");
    if (report->random_padding >= 0)
        y = add_padding_bar(text, y, most, "random batches of 64 rows", report->random_padding,
                            false);
    for (uint32_t i = 0; i < report->compared_count; i++)
        y = add_padding_bar(text, y, most, report->compared[i].what, report->compared[i].padding,
                            report->compared[i].is_own);
    snprintf(packed, sizeof packed, "best fit of all, rows of %u", report->packed_room);
    if (report->packed_padding >= 0)
        (void)add_padding_bar(text, y, most, packed, report->packed_padding, false);
}

/* ---- shapes ---- */

static void add_shapes(Text *text, const PlanReport *report, double top) {
    const PlanSums *sums = &report->sums;
    double bins[BINS] = {0}, most = 1, bottom = top + TOP + TALL;
    uint32_t longest = 1;
    char title[128];

    for (uint32_t s = 0; s < sums->shape_count; s++)
        longest = MAX(longest, sums->shapes[s].length);
    for (uint32_t s = 0; s < sums->shape_count; s++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): it began with 1 */
        uint64_t bin = (uint64_t)(MAX(sums->shapes[s].length, 1u) - 1) * BINS / longest;

        bins[bin] += (double)sums->shapes[s].batches;
        most = MAX(most, bins[bin]);
    }
    snprintf(title, sizeof title, "batches by the length of their rows (%s%u shape%s)",
             sums->other_batches ? "over " : "", sums->shape_count,
             sums->shape_count == 1 ? "" : "s");
    add_label(text, SHAPES_LEFT, top + TOP - 14, "start", "#000", title);
    for (uint32_t bin = 0; bin < BINS; bin++) {
        double tall = bins[bin] / most * TALL, step = (double)WIDE / BINS;

        if (bins[bin] > 0)
            add_box(text, SHAPES_LEFT + bin * step, bottom - MAX(tall, 1.0), step - 1,
                    MAX(tall, 1.0), own_colour);
    }
    add_axis(text, SHAPES_LEFT, bottom);
    snprintf(title, sizeof title, "%u tokens", longest);
    add_label(text, SHAPES_LEFT, bottom + 18, "start", "#333", "1");
    add_label(text, SHAPES_LEFT + WIDE, bottom + 18, "end", "#333", title);
    snprintf(title, sizeof title, "tallest: %.0f batches", most);
    add_label(text, SHAPES_LEFT + WIDE / 2.0 - 20, bottom + 18, "middle", "#777", title);
}

/* ---- travel ---- */

/* Two places drawn at random lie x apart with density 2 (1 - x). */
static double by_chance(double from, double to) {
    return 2 * (to - from) - (to * to - from * from);
}

static void add_travel(Text *text, const PlanReport *report, double top) {
    const PlanSpread *spread = &report->spread;
    double all = (double)MAX(spread->pieces, UINT64_C(1)), bottom = top + TOP + TALL;
    double step = (double)WIDE / SPREAD_BINS, most = by_chance(0, 1.0 / SPREAD_BINS);

    for (uint32_t bin = 0; bin < SPREAD_BINS; bin++)
        most = MAX(most, (double)spread->travels[bin] / all);
    add_label(text, TRAVEL_LEFT, top + TOP - 14, "start", "#000",
              "how far sequences travel, in parts of the epoch");
    for (uint32_t bin = 0; bin < SPREAD_BINS; bin++) {
        double tall = (double)spread->travels[bin] / all / most * TALL;

        add_box(text, TRAVEL_LEFT + bin * step, bottom - tall, step - 1, tall, own_colour);
    }
    text_add(text, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", line_colour);
    for (uint32_t bin = 0; bin < SPREAD_BINS; bin++) {
        double share = by_chance((double)bin / SPREAD_BINS, (bin + 1.0) / SPREAD_BINS);

        text_add(text, "%s%.1f %.1f", bin ? " L" : "M", TRAVEL_LEFT + (bin + 0.5) * step,
                 bottom - share / most * TALL);
    }
    text_add(text, "\"/>\n");
    add_axis(text, TRAVEL_LEFT, bottom);
    add_label(text, TRAVEL_LEFT, bottom + 18, "start", "#333", "0");
    add_label(text, TRAVEL_LEFT + WIDE, bottom + 18, "end", "#333", "1");
    add_label(text, TRAVEL_LEFT + WIDE, top + TOP + 10, "end", line_colour, "a full permutation");
}

/* ---- the whole ---- */

void plan_picture_begin(Text *text, uint32_t count) {
    uint32_t tall = MAX(count, 1u) * HEIGHT;

    text_add(text,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
             "viewBox=\"0 0 %d %u\" font-family=\"sans-serif\" font-size=\"12\">\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
             WIDTH, tall, WIDTH, tall);
}

void plan_picture_add(Text *text, const PlanReport *report, uint32_t place) {
    double top = (double)place * HEIGHT;
    char title[256];

    snprintf(title, sizeof title,
             "%s: %" PRIu64 " batches an epoch, %.2f %% padding, windows of %u blocks, %u strand%s",
             report->feed->name, report->batches, 100 * report->padding_share,
             report->feed->plan.window, report->feed->plan.strands,
             report->feed->plan.strands == 1 ? "" : "s");
    text_add(text, "<g font-size=\"15\">\n");
    add_label(text, 20, top + 24, "start", "#000", title);
    text_add(text, "</g>\n");
    add_padding(text, report, top);
    add_shapes(text, report, top);
    add_travel(text, report, top);
}

void plan_picture_end(Text *text) {
    text_add(text, "</svg>\n");
}
