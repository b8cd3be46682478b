/* SPDX-License-Identifier: MIT */
/* What the CPU backend fills on one core, against plain stores (memset) of the same bytes in the
 * same run: [64, 4096], rows half full on average, tokens u16 in the cache. For each set of tensors
 * the two alternate, and the median of their ratios is told, with the median speeds.
 *
 *     ./dev bench masks */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "base/clock.h"
#include "base/random.h"
#include "mask/fill.h"
#include "mask/token_lists.h"

enum { ROWS = 64, LENGTH = 4096, DENSE_ROWS = 4, PAIRS = 15, VALUES = 4 };

typedef struct Subject {
    const char *name;
    TensorSpec tensors[VALUES];
    MaskStep steps[VALUES];
    uint32_t count, step_count, rows, length;
} Subject;

#define TOKENS \
    { .source = TENSOR_TOKENS, .element = ELEMENT_U16, .width = 1, .dtype = SEQFEED_INT64 }
#define MASK_BOOL \
    { .source = TENSOR_MASK_LENGTHS, .dtype = SEQFEED_BOOL, .polarity = SEQFEED_POLARITY_KEEP }
#define LABELS \
    { .source = TENSOR_LABELS, .element = ELEMENT_U16, .dtype = SEQFEED_INT64, .pad = -100 }
#define SPECIAL \
    { .source = TENSOR_SPECIAL, .dtype = SEQFEED_INT64, .value_count = 3 }
#define STEPS(kind, type, first, count)                                               \
    {                                                                                 \
        .source = kind, .dtype = type, .polarity = SEQFEED_POLARITY_KEEP, .width = 1, \
        .first_step = first, .step_count = count                                      \
    }
#define CAUSAL                                   \
    {.op = MASK_CAUSAL}, {.op = MASK_LENGTHS}, { \
        .op = MASK_AND                           \
    }

static const Subject subjects[] = {
    {"tokens mask labels", {TOKENS, MASK_BOOL, LABELS}, {{0}}, 3, 0, ROWS, LENGTH},
    {"mask bool", {MASK_BOOL}, {{0}}, 1, 0, ROWS, LENGTH},
    {"token_ids bool",
     {STEPS(TENSOR_MASK, SEQFEED_BOOL, 0, 1)},
     {{.op = MASK_TOKEN_IDS, .count = 3}},
     1,
     1,
     ROWS,
     LENGTH},
    {"token_ids x 100 bool",
     {STEPS(TENSOR_MASK, SEQFEED_BOOL, 0, 1)},
     {{.op = MASK_TOKEN_IDS, .count = 100}},
     1,
     1,
     ROWS,
     LENGTH},
    {"special_tokens int64", {SPECIAL}, {{0}}, 1, 0, ROWS, LENGTH},
    {"dense causal bool",
     {STEPS(TENSOR_MASK_DENSE, SEQFEED_BOOL, 0, 3)},
     {CAUSAL},
     1,
     3,
     DENSE_ROWS,
     LENGTH},
    {"dense causal float32",
     {STEPS(TENSOR_MASK_DENSE, SEQFEED_FLOAT32, 0, 3)},
     {CAUSAL},
     1,
     3,
     DENSE_ROWS / 2,
     LENGTH},
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, PAIRS, sizeof *values, compare);
    return values[PAIRS / 2];
}

static double seconds_since(int64_t start) {
    return (double)(clock_now_ns() - start) / 1e9;
}

static void measure(const Subject *subject, const FillRow *rows) {
    static TensorSet set;
    double fill[PAIRS], store[PAIRS], ratio[PAIRS];
    uint64_t places = (uint64_t)subject->rows * subject->length, rounds;
    TensorLayout layout;
    uint8_t *slot;

    set = (TensorSet){.count = subject->count,
                      .rows_max = subject->rows,
                      .length_max = subject->length,
                      .token_element = ELEMENT_U16,
                      .step_count = subject->step_count,
                      .values = {0, 7, 9}};
    memcpy(set.tensors, subject->tensors, sizeof subject->tensors);
    memcpy(set.steps, subject->steps, sizeof subject->steps);
    for (int64_t i = 3; i < 100; i++)
        set.values[i] = 31 * i;
    if (token_lists_make(&set) < 0)
        exit(1);
    tensor_layout(&set, subject->rows, subject->length, &layout);
    slot = aligned_alloc(4096, align_up(layout.bytes, 4096));
    if (!slot)
        exit(1);
    memset(slot, 1, layout.bytes); /* no page is touched for the first time below */
    rounds = MAX((uint64_t)1, (UINT64_C(256) << 20) / layout.bytes);
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        int64_t start = clock_now_ns();

        for (uint64_t i = 0; i < rounds; i++) {
            memset(slot, (int)i, layout.bytes);
            __asm__ volatile("" ::: "memory");
        }
        store[pair] = seconds_since(start) / (double)rounds;
        start = clock_now_ns();
        for (uint64_t i = 0; i < rounds; i++)
            fill_rows(&set, &layout, slot, subject->rows, subject->length, 0, rows, subject->rows);
        fill[pair] = seconds_since(start) / (double)rounds;
        ratio[pair] = store[pair] / fill[pair];
    }
    printf("%-22s %8.3f Gslot/s %8.2f GB/s, plain stores %8.2f GB/s, ratio %.2f\n", subject->name,
           (double)places / median(fill) / 1e9, (double)layout.bytes / median(fill) / 1e9,
           (double)layout.bytes / median(store) / 1e9, median(ratio));
    token_lists_free(&set);
    free(slot);
}

int main(void) {
    static uint16_t tokens[ROWS * LENGTH];
    static uint32_t lengths[ROWS];
    static FillRow rows[ROWS];
    const uint8_t *columns[] = {(const uint8_t *)tokens, (const uint8_t *)lengths, NULL};
    uint32_t start = 0;

    for (size_t i = 0; i < ARRAY_COUNT(tokens); i++)
        tokens[i] = (uint16_t)random_philox(1, (uint32_t)i, 0, 0, 0).word[0];
    for (uint32_t r = 0; r < ROWS; r++) {
        lengths[r] = random_below(random_philox(2, r, 0, 0, 0).word[0], LENGTH + 1);
        rows[r] = (FillRow){
            .columns = columns, .sequence = r, .start = start, .length = lengths[r]};
        start += lengths[r];
    }
    for (size_t i = 0; i < ARRAY_COUNT(subjects); i++)
        measure(&subjects[i], rows);
    return 0;
}
