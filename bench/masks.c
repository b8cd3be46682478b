/* SPDX-License-Identifier: MIT */
/* What the CPU backend fills on one core, against plain stores (memset) of the same bytes in the
 * same run: as many, as many of them zero, since some memories take zeros much faster. [64, 4096],
 * rows half full on average, tokens u16 or u32 in the cache; dense masks of few such rows, and of
 * many short ones. For each set of tensors the two alternate, and the median of their ratios is
 * told, with the median speeds. Time is the thread's, so that other work on the machine disturbs
 * less.
 *
 *     ./dev bench masks */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "base/random.h"
#include "mask/fill.h"
#include "mask/fill_packed.h"
#include "mask/token_lists.h"

enum { ROWS = 64, LENGTH = 4096, PAIRS = 31, VALUES = 6 };

typedef struct Subject {
    const char *name;
    TensorSpec tensors[VALUES];
    MaskStep steps[VALUES];
    uint32_t count, step_count, rows, length;
    uint8_t element;
    uint32_t side;
    bool packed;
} Subject;

#define TOKENS \
    { .source = TENSOR_TOKENS, .element = ELEMENT_U16, .width = 1, .dtype = SEQFEED_INT64 }
#define MASK_BOOL \
    { .source = TENSOR_MASK_LENGTHS, .dtype = SEQFEED_BOOL, .polarity = SEQFEED_POLARITY_KEEP }
#define LABELS \
    { .source = TENSOR_LABELS, .element = ELEMENT_U16, .dtype = SEQFEED_INT64, .pad = -100 }
#define SPECIAL \
    { .source = TENSOR_SPECIAL, .dtype = SEQFEED_INT64, .value_count = 3 }
#define PLAIN_ROWS .rows = ROWS, .length = LENGTH, .element = ELEMENT_U16
#define IDS(type, number)                                                                          \
    .tensors = {{.source = TENSOR_MASK,                                                            \
                 .dtype = SEQFEED_BOOL,                                                            \
                 .polarity = SEQFEED_POLARITY_KEEP,                                                \
                 .width = 1,                                                                       \
                 .step_count = 1}},                                                                \
    .steps = {{.op = MASK_TOKEN_IDS, .count = number}}, .step_count = 1, .count = 1, .rows = ROWS, \
    .length = LENGTH, .element = type
#define MASK(from, type, kind, fill, row_count, places, ...)                                    \
    .tensors = {{.source = from,                                                                \
                 .dtype = type,                                                                 \
                 .polarity = kind,                                                              \
                 .pad = fill,                                                                   \
                 .width = 1,                                                                    \
                 .step_count = sizeof((MaskStep[]){__VA_ARGS__}) / sizeof(MaskStep)}},          \
    .steps = {__VA_ARGS__}, .step_count = sizeof((MaskStep[]){__VA_ARGS__}) / sizeof(MaskStep), \
    .count = 1, .rows = row_count, .length = places, .element = ELEMENT_U16
#define BOOL SEQFEED_BOOL, SEQFEED_POLARITY_KEEP, 0
#define FLOAT32 SEQFEED_FLOAT32, SEQFEED_POLARITY_KEEP, 0
#define INT64 SEQFEED_INT64, SEQFEED_POLARITY_KEEP, 0
#define ADDITIVE_FLOAT32 SEQFEED_FLOAT32, SEQFEED_POLARITY_ADDITIVE, 0xff7fffff
#define ADDITIVE_BFLOAT16 SEQFEED_BFLOAT16, SEQFEED_POLARITY_ADDITIVE, 0xff7f
#define ROW_MASK(...) MASK(TENSOR_MASK, __VA_ARGS__)
#define DENSE(...) MASK(TENSOR_MASK_DENSE, __VA_ARGS__)
#define CAUSAL                                   \
    {.op = MASK_CAUSAL}, {.op = MASK_LENGTHS}, { \
        .op = MASK_AND                           \
    }
#define WINDOW                                   \
    CAUSAL, {.op = MASK_WINDOW, .count = 512}, { \
        .op = MASK_AND                           \
    }
#define SEGMENTS                                  \
    {.op = MASK_SEGMENTS}, {.op = MASK_CAUSAL}, { \
        .op = MASK_AND                            \
    }
#define CAUSAL_IDS                                             \
    {.op = MASK_CAUSAL}, {.op = MASK_TOKEN_IDS, .count = 3}, { \
        .op = MASK_AND                                         \
    }
#define LENGTHS_IDS                                             \
    {.op = MASK_LENGTHS}, {.op = MASK_TOKEN_IDS, .count = 3}, { \
        .op = MASK_AND                                          \
    }
#define PREFIX                                                                                \
    {.op = MASK_CAUSAL}, {.op = MASK_INDICES, .count = 3}, {.op = MASK_NOT}, {.op = MASK_OR}, \
        {.op = MASK_LENGTHS}, {                                                               \
        .op = MASK_AND                                                                        \
    }
#define LEFT .side = SEQFEED_SIDE_LEFT
#define PACKED .packed = true

static const Subject subjects[] = {
    {"tokens mask labels", {TOKENS, MASK_BOOL, LABELS}, .count = 3, PLAIN_ROWS},
    {"mask bool", {MASK_BOOL}, .count = 1, PLAIN_ROWS},
    {"token_ids bool", IDS(ELEMENT_U16, 3)},
    {"token_ids bool u32", IDS(ELEMENT_U32, 3)},
    {"token_ids x 30 bool", IDS(ELEMENT_U16, 30)},
    {"token_ids x 100 bool", IDS(ELEMENT_U16, 100)},
    {"token_ids x 100 bool u32", IDS(ELEMENT_U32, 100)},
    {"token_ids x 900 bool", IDS(ELEMENT_U16, 900)},
    {"token_ids x 900 bool u32", IDS(ELEMENT_U32, 900)},
    {"lengths and ids bool", ROW_MASK(BOOL, ROWS, LENGTH, LENGTHS_IDS)},
    {"lengths and ids int64", ROW_MASK(INT64, ROWS, LENGTH, LENGTHS_IDS)},
    {"special_tokens int64", {SPECIAL}, .count = 1, PLAIN_ROWS},
    {"dense causal bool", DENSE(BOOL, 4, LENGTH, CAUSAL)},
    {"dense causal float32", DENSE(FLOAT32, 2, LENGTH, CAUSAL)},
    {"dense causal int64", DENSE(INT64, 1, LENGTH, CAUSAL)},
    {"dense additive float32", DENSE(ADDITIVE_FLOAT32, 2, LENGTH, CAUSAL)},
    {"dense additive bfloat16", DENSE(ADDITIVE_BFLOAT16, 2, LENGTH, CAUSAL)},
    {"dense window bool", DENSE(BOOL, 4, LENGTH, WINDOW)},
    {"dense window float32", DENSE(ADDITIVE_FLOAT32, 2, LENGTH, WINDOW)},
    {"dense left bool", DENSE(BOOL, 4, LENGTH, CAUSAL), LEFT},
    {"dense left float32", DENSE(ADDITIVE_FLOAT32, 2, LENGTH, CAUSAL), LEFT},
    {"dense packed bool", DENSE(BOOL, 4, LENGTH, SEGMENTS), PACKED},
    {"dense packed bfloat16", DENSE(ADDITIVE_BFLOAT16, 2, LENGTH, SEGMENTS), PACKED},
    {"dense odd bool", DENSE(BOOL, 4, LENGTH - 86, CAUSAL)},
    {"dense odd float32", DENSE(ADDITIVE_FLOAT32, 2, LENGTH - 86, CAUSAL)},
    {"dense token_ids bool", DENSE(BOOL, 4, LENGTH, CAUSAL_IDS)},
    {"dense token_ids float32", DENSE(FLOAT32, 2, LENGTH, CAUSAL_IDS)},
    {"dense any_of bool", DENSE(BOOL, 4, LENGTH, PREFIX)},
    {"dense any_of float32", DENSE(ADDITIVE_FLOAT32, 2, LENGTH, PREFIX)},
    {"dense 128 bool", DENSE(BOOL, 8, 128, CAUSAL)},
    {"dense 128 float32", DENSE(FLOAT32, 8, 128, CAUSAL)},
    {"dense 512 bool", DENSE(BOOL, 8, 512, CAUSAL)},
    {"dense 512 float32", DENSE(FLOAT32, 8, 512, CAUSAL)},
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, PAIRS, sizeof *values, compare);
    return values[PAIRS / 2];
}

/* Seconds of CPU of this thread. */
static double seconds(void) {
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Rows and, of a packed batch, where each one's sequences begin among them. */
typedef struct Batch {
    FillRow rows[ROWS];
    uint32_t firsts[ROWS + 1], count;
} Batch;

/* As the subject needs its rows: a dense mask that is short has short ones; sequences of a packed
 * row are a fifth of it at most. */
static void batch_make(Batch *batch, const Subject *subject, const uint8_t *const *columns) {
    uint32_t most = subject->packed ? subject->length / 5 : subject->length, row = 0, used = 0;

    *batch = (Batch){0};
    while (batch->count < ROWS) {
        FillRow *source = &batch->rows[batch->count];
        uint32_t number = random_philox(2, batch->count, 0, 0, 0).word[0];

        *source = (FillRow){.columns = columns,
                            .sequence = batch->count,
                            .start = batch->count * LENGTH,
                            .length = random_below(number, most + 1)};
        if (subject->packed && used + source->length > subject->length) {
            if (row + 1 == subject->rows)
                break;
            batch->firsts[++row] = batch->count;
            used = 0;
        }
        used += source->length;
        batch->count++;
    }
    while (row < subject->rows)
        batch->firsts[++row] = batch->count;
}

static void fill_once(const Subject *subject, const TensorSet *set, const TensorLayout *layout,
                      const Batch *batch, uint8_t *slot) {
    FillPacked part = {.row_count = subject->rows,
                       .sequence_count = batch->count,
                       .sources = batch->rows,
                       .firsts = batch->firsts};

    if (subject->packed)
        fill_packed(set, layout, slot, subject->length, &part);
    else
        fill_rows(set, layout, slot, subject->rows, subject->length, 0, batch->rows, subject->rows);
}

static void set_make(TensorSet *set, const Subject *subject) {
    *set = (TensorSet){.count = subject->count,
                       .rows_max = subject->rows,
                       .length_max = subject->length,
                       .side = subject->side,
                       .packed = subject->packed,
                       .sequences_max = ROWS,
                       .token_element = subject->element,
                       .step_count = subject->step_count,
                       .values = {0, 7, 9}};
    memcpy(set->tensors, subject->tensors, sizeof subject->tensors);
    memcpy(set->steps, subject->steps, sizeof subject->steps);
    for (int64_t i = 3; i < 1000; i++)
        set->values[i] = 31 * i;
    if (token_lists_make(set) < 0)
        exit(1);
}

/* Bytes of the blocks of memory in which anything is not zero. */
static uint64_t stored_bytes(const uint8_t *slot, uint64_t bytes) {
    static const uint8_t zeros[CACHE_LINE];
    uint64_t sum = 0;

    for (uint64_t at = 0; at < bytes; at += CACHE_LINE)
        sum += memcmp(slot + at, zeros, MIN(bytes - at, (uint64_t)CACHE_LINE)) ? CACHE_LINE : 0;
    return MIN(sum, bytes);
}

static void measure(const Subject *subject, const Batch *batch) {
    static TensorSet set;
    double fill[PAIRS], store[PAIRS], ratio[PAIRS];
    uint64_t places = (uint64_t)subject->rows * subject->length, rounds, stored;
    TensorLayout layout;
    uint8_t *slot;

    set_make(&set, subject);
    tensor_layout(&set, subject->rows, subject->length, &layout);
    slot = aligned_alloc(4096, align_up(layout.bytes, 4096));
    if (!slot)
        exit(1);
    memset(slot, 0, layout.bytes); /* no page is touched for the first time below */
    fill_once(subject, &set, &layout, batch, slot);
    stored = stored_bytes(slot, layout.bytes);
    rounds = MAX((uint64_t)1, (UINT64_C(64) << 20) / layout.bytes);
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        double start = seconds(), middle;

        for (uint64_t i = 0; i < rounds; i++) {
            memset(slot, 1, stored);
            memset(slot + stored, 0, layout.bytes - stored);
            __asm__ volatile("" ::: "memory");
        }
        middle = seconds();
        for (uint64_t i = 0; i < rounds; i++)
            fill_once(subject, &set, &layout, batch, slot);
        store[pair] = (middle - start) / (double)rounds;
        fill[pair] = (seconds() - middle) / (double)rounds;
        ratio[pair] = store[pair] / fill[pair];
    }
    printf("%-24s %8.3f Gslot/s %8.2f GB/s, plain stores %8.2f GB/s, ratio %.2f\n", subject->name,
           (double)places / median(fill) / 1e9, (double)layout.bytes / median(fill) / 1e9,
           (double)layout.bytes / median(store) / 1e9, median(ratio));
    token_lists_free(&set);
    free(slot);
}

/* Tokens of four bytes are spread like those of two. */
int main(int count, char **words) {
    static uint16_t tokens[ROWS * LENGTH];
    static uint32_t wide[ROWS * LENGTH], ends[ROWS];
    const uint8_t *columns[] = {(const uint8_t *)tokens, (const uint8_t *)ends, NULL};
    const uint8_t *wide_columns[] = {(const uint8_t *)wide, (const uint8_t *)ends, NULL};

    for (size_t i = 0; i < ARRAY_COUNT(tokens); i++)
        wide[i] = tokens[i] = (uint16_t)random_philox(1, (uint32_t)i, 0, 0, 0).word[0];
    for (size_t i = 0; i < ARRAY_COUNT(subjects); i++) {
        const Subject *subject = &subjects[i];
        static Batch batch;

        if (count > 1 && !strstr(subject->name, words[1]))
            continue;
        batch_make(&batch, subject, subject->element == ELEMENT_U32 ? wide_columns : columns);
        for (uint32_t r = 0; r < ROWS; r++)
            ends[r] = (r ? ends[r - 1] : 0) + batch.rows[r].length;
        measure(subject, &batch);
    }
    return 0;
}
