/* SPDX-License-Identifier: MIT */
#include "base/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/attributes.h"
#include "base/clock.h"
#include "base/text.h"

enum { BAR_EVERY_MS = 100, LINE_EVERY_MS = 5000, QUIET_MS = 1000 };

static char *format_amount(const Progress *progress, char to[32], double amount) {
    if (strcmp(progress->unit, "bytes") == 0)
        return text_format_size(to, (uint64_t)amount);
    return text_format_count(to, amount);
}

void progress_start(Progress *progress, const char *label, const char *unit, uint64_t total) {
    *progress = (Progress){
        .label = label,
        .unit = unit,
        .total = total,
        .started_ns = clock_now_ns(),
        .shown_ns = clock_now_ns(),
        .terminal = isatty(STDERR_FILENO) == 1,
    };
}

static void describe(const Progress *progress, uint64_t done, char *to, size_t size) {
    double seconds = (double)(clock_now_ns() - progress->started_ns) / NS_PER_SECOND;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    bool bytes = strcmp(progress->unit, "bytes") == 0;
    char a[32], b[32], c[32], left[48] = "";

    if (progress->total > done && rate > 0)
        snprintf(left, sizeof left, ", %.0f s left", (double)(progress->total - done) / rate);
    snprintf(to, size, "%s%s%s%s%s, %s%s%s/s%s", format_amount(progress, a, (double)done),
             progress->total ? " of " : "",
             progress->total ? format_amount(progress, b, (double)progress->total) : "",
             bytes ? "" : " ", bytes ? "" : progress->unit, format_amount(progress, c, rate),
             bytes ? "" : " ", bytes ? "" : progress->unit, left);
}

static void draw_bar(Progress *progress, uint64_t done) {
    struct winsize window = {0};
    char text[160], bar[64];
    int width = 24, filled;

    describe(progress, done, text, sizeof text);
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 && window.ws_col < 80)
        width = 8;
    filled = progress->total ? (int)((double)width * (double)MIN(done, progress->total) /
                                     (double)progress->total)
                             : 0;
    memset(bar, '#', (size_t)filled);
    memset(bar + filled, '.', (size_t)(width - filled));
    bar[width] = '\0';
    if (progress->total)
        fprintf(stderr, "\r\033[K%s [%s] %3.0f %%  %s", progress->label, bar,
                100.0 * (double)MIN(done, progress->total) / (double)progress->total, text);
    else
        fprintf(stderr, "\r\033[K%s %s", progress->label, text);
    fflush(stderr);
    progress->drawn = true;
}

void progress_update(Progress *progress, uint64_t done) {
    int64_t now = clock_now_ns();
    int64_t every = progress->terminal ? BAR_EVERY_MS : LINE_EVERY_MS;

    if (now - progress->shown_ns < every * NS_PER_MS ||
        now - progress->started_ns < QUIET_MS * NS_PER_MS)
        return;
    progress->shown_ns = now;
    if (progress->terminal) {
        draw_bar(progress, done);
    } else {
        char text[160];
        describe(progress, done, text, sizeof text);
        fprintf(stderr, "%s: %s\n", progress->label, text);
        progress->drawn = true;
    }
}

void progress_end(Progress *progress, uint64_t done) {
    char text[160];

    if (!progress->drawn)
        return;
    if (progress->terminal) {
        fprintf(stderr, "\r\033[K");
        fflush(stderr);
        return;
    }
    describe(progress, done, text, sizeof text);
    fprintf(stderr, "%s: %s\n", progress->label, text);
}
