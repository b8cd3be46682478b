/* SPDX-License-Identifier: MIT */
/* Which rows of a strand this stream takes. Places of an epoch are numbered as docs/formats/plan.md
 * says: place p is the batch p, or beyond the epoch's N batches a repetition. Because the number of
 * strands divides N, place p always belongs to strand p mod S, so one strand's places are found by
 * stepping S, and of these the stream takes those whose rank is one of its rings. */
#include <assert.h>
#include <errno.h>

#include "base/arithmetic.h"
#include "pipeline/stream.h"

PlanBatch strand_batch(const Stream *stream, const StreamEpoch *epoch, uint64_t place,
                       bool *ret_repeated) {
    bool again;
    uint64_t index = plan_round_batch(epoch->plan->batch_count, place, &again);
    PlanBatch batch = plan_epoch_batch(&stream->plan, epoch->plan, index);

    if (ret_repeated)
        *ret_repeated = again || batch.repeated;
    return batch;
}

uint64_t strand_pass(const Stream *stream, const StreamEpoch *epoch, uint64_t place) {
    uint64_t count = epoch->plan->batch_count, strands = stream->strand_count;
    bool again;
    uint64_t index = plan_round_batch(count, place, &again);
    const PlanStrand *strand = &epoch->plan->strands[index % strands];

    return place / count * (count / strands + 1) + index / strands / strand->batch_count;
}

/* The first place >= `place` of this strand that one of the stream's rings takes; limit: none. */
static uint64_t next_place(const Stream *stream, uint32_t strand, const StreamEpoch *epoch,
                           uint64_t place) {
    uint64_t strands = stream->strand_count;

    place += (strand + strands - place % strands) % strands;
    for (; place < epoch->limit; place += strands)
        if (stream->ring_of_rank[(place - epoch->start) % stream->world])
            return place;
    return epoch->limit;
}

static void cursor_set(const Stream *stream, uint32_t strand, StrandCursor *cursor,
                       uint64_t place) {
    cursor->place = next_place(stream, strand, cursor->epoch, place);
    if (cursor->place < cursor->epoch->limit)
        cursor->unit = strand_batch(stream, cursor->epoch, cursor->place, NULL).unit_first;
}

void strand_enter(Stream *stream, Strand *strand, StreamEpoch *epoch) {
    StreamEpoch *old = strand->cursor.epoch;

    strand->cursor.epoch = stream_epoch_ref(epoch);
    cursor_set(stream, strand->number, &strand->cursor, epoch->start);
    stream_epoch_unref(stream, old);
}

/* The next stretch of units before `window_end` that the stream takes; false at the window's end.
 */
static bool cursor_take(const Stream *stream, uint32_t strand, StrandCursor *at, uint64_t pass,
                        uint64_t window_end, uint64_t *ret_from, uint64_t *ret_to) {
    PlanBatch batch;
    uint64_t batch_end;

    if (at->place >= at->epoch->limit || at->unit >= window_end ||
        strand_pass(stream, at->epoch, at->place) != pass)
        return false;
    batch = strand_batch(stream, at->epoch, at->place, NULL);
    batch_end = batch.unit_first + batch.unit_count;
    *ret_from = at->unit;
    *ret_to = MIN(batch_end, window_end);
    if (batch_end > window_end)
        at->unit = window_end;
    else
        cursor_set(stream, strand, at, at->place + 1);
    return true;
}

int strand_open_window(Stream *stream, Strand *strand) {
    StrandCursor *cursor = &strand->cursor;
    StrandCursor begin, at;
    const PlanStrand *plan;
    uint64_t pass, from, to, rows = 0;
    uint32_t number;
    Window *window;
    int r;

    while (cursor->place >= cursor->epoch->limit) {
        if (!cursor->epoch->next)
            return STRAND_E_WAIT;
        strand_enter(stream, strand, cursor->epoch->next);
    }
    begin = at = *cursor;
    plan = &cursor->epoch->plan->strands[strand->number];
    number = plan_window_of_unit(plan, cursor->unit);
    pass = strand_pass(stream, cursor->epoch, cursor->place);
    while (cursor_take(stream, strand->number, &at, pass, plan->unit_sums[number + 1], &from, &to))
        rows += to - from;
    assert(rows > 0);

    window = window_new(stream);
    if (!window)
        return -ENOMEM;
    window->number = number;
    r = window_open(window, strand, &begin, pass, rows);
    if (r < 0)
        return r;
    *cursor = at;
    return 0;
}

uint32_t strand_mark_needed(const Stream *stream, Window *window) {
    const PlanStrand *plan = &window->epoch->plan->strands[window->strand->number];
    StrandCursor at = window->begin;
    uint64_t from, to;
    uint32_t count = 0;

    while (cursor_take(stream, window->strand->number, &at, window->pass,
                       plan->unit_sums[window->number + 1], &from, &to))
        for (uint32_t piece = window_piece(window, from - window->unit_first),
                      end = window_piece(window, to - window->unit_first);
             piece < end; piece++) {
            WindowBlock *block = &window->blocks[window->units[piece].block];
            count += !block->needed;
            block->needed = true;
        }
    return count;
}

Window *strand_find_window(const Strand *strand, const StreamEpoch *epoch, uint64_t pass,
                           uint64_t unit) {
    for (Window *window = strand->first; window; window = window->next)
        if (window->epoch == epoch && window->pass == pass && unit >= window->unit_first &&
            unit - window->unit_first < window->unit_count)
            return window;
    return NULL;
}
