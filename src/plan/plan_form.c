/* SPDX-License-Identifier: MIT */
/* Policies whose batches are made of rows of similar length: bucket and tokens. */
#include "plan/plan_form.h"

#include <assert.h>
#include <string.h>

#include "base/arithmetic.h"

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, TABLE_LENGTHS = 4096 };

/* One pass of a counting sort by bits shift .. shift + DIGIT_BITS of the lengths. */
static void sort_pass(const uint32_t *lengths, const uint32_t *from, uint32_t *to, uint32_t count,
                      uint32_t shift) {
    uint32_t places[DIGITS] = {0}, sum = 0;

    for (uint32_t i = 0; i < count; i++)
        places[lengths[from[i]] >> shift & (DIGITS - 1)]++;
    for (uint32_t d = 0; d < DIGITS; d++) {
        uint32_t here = places[d];

        places[d] = sum;
        sum += here;
    }
    for (uint32_t i = 0; i < count; i++)
        to[places[lengths[from[i]] >> shift & (DIGITS - 1)]++] = from[i];
}

void plan_form_sort(const uint32_t *lengths, uint32_t *pieces, uint32_t *spare, uint32_t count) {
    uint32_t longest = 0, *from = pieces, *to = spare;

    for (uint32_t i = 0; i < count; i++)
        longest = MAX(longest, lengths[pieces[i]]);
    for (uint32_t shift = 0; shift < 32 && longest >> shift; shift += DIGIT_BITS) {
        uint32_t *sorted = to;

        sort_pass(lengths, from, to, count, shift);
        to = from;
        from = sorted;
    }
    if (from != pieces)
        memcpy(pieces, from, count * sizeof *pieces);
}

size_t plan_form_words(const PlanSpec *spec, size_t count) {
    size_t levels = 0;

    switch (spec->policy) {
    case PLAN_POLICY_FIXED:
        return 0;
    case PLAN_POLICY_BUCKET:
        return 3 * count + 3 * (size_t)spec->boundary_count;
    case PLAN_POLICY_TOKENS:
        return 2 * count;
    case PLAN_POLICY_PACK:
        for (size_t bits = (size_t)spec->length + 1; bits > 1; bits = (bits + 63) / 64)
            levels += 2 * ((bits + 63) / 64);
        return count + count / 32 + 2 * ((size_t)spec->length + 1) + levels + 8;
    }
    return 0;
}

/* A batch's rows of one run of sorted pieces. */
static void add_run(PlanForm *form, const uint32_t *pieces, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        plan_form_add(form, pieces[i]);
    plan_form_close(form);
}

static void cut_run(PlanForm *form, const uint32_t *pieces, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        form->tokens_cut += form->lengths[pieces[i]];
}

uint32_t plan_bucket_of(const PlanSpec *spec, uint32_t length) {
    uint32_t low = 0, high = spec->boundary_count - 1;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (spec->boundaries[middle] < length)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Pieces go to the bucket of their length; a full bucket becomes a batch at once. */
void plan_form_bucket(const PlanSpec *spec, PlanForm *form, uint32_t *words) {
    uint32_t *next = words, *rest = next + form->count, *spare = rest + form->count;
    uint32_t *first = spare + form->count, *last = first + spec->boundary_count;
    uint32_t *held = last + spec->boundary_count, count = 0, at = 0;

    memset(held, 0, spec->boundary_count * sizeof *held);
    for (uint32_t piece = 0; piece < form->count; piece++) {
        uint32_t bucket = plan_bucket_of(spec, form->lengths[piece]);

        if (held[bucket]++ == 0)
            first[bucket] = piece;
        else
            next[last[bucket]] = piece;
        last[bucket] = piece;
        if (held[bucket] < spec->size)
            continue;
        for (uint32_t p = first[bucket]; held[bucket] > 0; p = next[p], held[bucket]--)
            plan_form_add(form, p);
        plan_form_close(form);
    }
    for (uint32_t bucket = 0; bucket < spec->boundary_count; bucket++)
        for (uint32_t p = first[bucket]; held[bucket] > 0; p = next[p], held[bucket]--)
            rest[count++] = p;
    plan_form_sort(form->lengths, rest, spare, count);
    for (; count - at >= spec->size; at += spec->size)
        add_run(form, rest + at, spec->size);
    if (at == count)
        return;
    if (spec->last == PLAN_LAST_DROP)
        cut_run(form, rest + at, count - at);
    else
        add_run(form, rest + at, count - at);
}

uint32_t plan_form_count_bucket(const PlanSpec *spec, const uint32_t *lengths, uint32_t count,
                                uint32_t *words) {
    uint16_t buckets[TABLE_LENGTHS]; /* of the lengths that nearly all pieces have */
    uint32_t units = 0, rest = 0;

    for (uint32_t length = 0, bucket = 0; length < TABLE_LENGTHS; length++) {
        bucket += bucket + 1 < spec->boundary_count && length > spec->boundaries[bucket];
        buckets[length] = (uint16_t)bucket;
    }
    memset(words, 0, spec->boundary_count * sizeof *words);
    for (uint32_t i = 0; i < count; i++)
        words[lengths[i] < TABLE_LENGTHS ? buckets[lengths[i]]
                                         : plan_bucket_of(spec, lengths[i])]++;
    for (uint32_t bucket = 0; bucket < spec->boundary_count; bucket++) {
        units += words[bucket] / spec->size;
        rest += words[bucket] % spec->size;
    }
    return units + (uint32_t)divide_up(rest, spec->size);
}

uint64_t plan_row_places(const PlanSpec *spec, uint32_t length) {
    return align_up(spec->pad_to ? spec->pad_to : MAX(length, 1u), MAX(spec->pad_multiple_of, 1u));
}

/* Pieces by length; a batch ends where one more row of the next length would exceed the budget. */
void plan_form_tokens(const PlanSpec *spec, PlanForm *form, uint32_t *words) {
    uint32_t *pieces = words, *spare = pieces + form->count, first = 0, rest;

    assert(spec->multiple_of > 0);
    for (uint32_t i = 0; i < form->count; i++)
        pieces[i] = i;
    plan_form_sort(form->lengths, pieces, spare, form->count);
    for (uint32_t end = 0; end < form->count; end++) {
        uint64_t places = (uint64_t)(end - first + 1) *
                          plan_row_places(spec, form->lengths[pieces[end]]);
        uint32_t rows = end - first;

        if (places <= spec->tokens)
            continue;
        rows -= rows % spec->multiple_of;
        assert(rows > 0); /* multiple_of rows of the longest fit, the feed has seen to it */
        add_run(form, pieces + first, rows);
        first += rows;
        end = first - 1; /* rows that went over may already be too many */
    }
    rest = form->count - first;
    if (rest >= spec->multiple_of) {
        add_run(form, pieces + first, rest - rest % spec->multiple_of);
        first += rest - rest % spec->multiple_of;
        rest = form->count - first;
    }
    if (rest == 0)
        return;
    if (spec->last == PLAN_LAST_DROP)
        cut_run(form, pieces + first, rest);
    else
        add_run(form, pieces + first, rest);
}
