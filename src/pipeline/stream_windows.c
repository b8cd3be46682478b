/* SPDX-License-Identifier: MIT */
/* The windows of a stream on their way from the plan to decoded blocks.
 *
 * Pacing. The first window of a strand is read and decoded at once. The second is decoded at the
 * pace at which rows of the first are claimed, so that it is ready just when it is needed and no
 * batch but a stream's first waits for a whole window; beyond that pace only workers with nothing
 * else to do go on with it, a block at a time each, so that a trainer's release never waits behind
 * a queue of blocks. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/memory.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"
#include "pipeline/stream_parts.h"

static void count_run(SetupJob *job, _Atomic uint64_t *beats) {
    Stream *stream = CONTAINER_OF(job, Stream, count);
    const Heartbeat heartbeat = {.beats = beats, .stop = &stream->cancelled};
    Error *error = &stream->count_error;
    int r = feed_epoch_get(stream->feed, stream->seed, stream->newest_epoch->plan->epoch + 1,
                           &heartbeat, &stream->count_result, error);

    if (r == 0)
        r = stream_check_rounds(stream, stream->count_result, error);
    if (r == 0)
        r = stream_epoch_dropped(stream, stream->count_result, 0, &heartbeat,
                                 &stream->count_dropped, error);
    stream->count_failed = r < 0;
    atomic_store(&stream->count_done, true);
    stream_end_setup(stream);
}

static void count_next_epoch(Stream *stream) {
    if (stream->counting)
        return;
    stream->counting = true;
    stream->count = (SetupJob){.feed = stream->feed, .kind = SETUP_COUNT, .run = count_run};
    stream_begin(stream);
    setup_pool_push(&stream->pipeline->setups, &stream->count);
}

void stream_stop_counting(Stream *stream) {
    atomic_store(&stream->cancelled, true);
    if (stream->counting && setup_pool_take_back(&stream->pipeline->setups, &stream->count))
        stream_end(stream);
}

/* Has every trainer all there is of the newest epoch? */
static bool epoch_is_over(const Stream *stream) {
    for (uint32_t i = 0; i < stream->ring_count; i++) {
        const StreamRing *ring = &stream->rings[i];

        if (!ring->closed &&
            (ring->epoch != stream->newest_epoch || ring->round < ring->epoch->rounds ||
             ring->writer->head < ring->writer->claimed))
            return false;
    }
    return true;
}

void stream_adopt_epoch(Stream *stream) {
    StreamEpoch *epoch;

    if (!atomic_load(&stream->count_done))
        return;
    if (stream->count_failed) { /* the epoch before it is whole all the same */
        if (epoch_is_over(stream))
            stream_fail(stream, &stream->count_error);
        return;
    }
    if (!stream->count_result)
        return;
    epoch = stream_epoch_new(stream, stream->count_result, 0, stream->count_dropped);
    if (!epoch) {
        stream_fail_for_memory(stream, "an epoch");
        return;
    }
    stream->count_result = NULL;
    atomic_store(&stream->count_done, false);
    stream->counting = false;
    stream->newest_epoch->next = stream_epoch_ref(epoch);
    stream_epoch_unref(stream, stream->newest_epoch);
    stream->newest_epoch = epoch;
}

/* Has the strand only a few windows left in the newest epoch? */
static bool strand_near_end(const Stream *stream, const Strand *strand) {
    const StrandCursor *cursor = &strand->cursor;
    uint64_t window_batches = stream->feed->window_batches_max;

    if (cursor->epoch->next)
        return false;
    return cursor->place >= cursor->epoch->limit ||
           cursor->epoch->limit - cursor->place < 4 * window_batches * stream->strand_count;
}

void stream_close_windows(Stream *stream) {
    for (uint32_t s = 0; s < stream->strand_count; s++)
        for (Window *window = stream->strands[s].first, *next; window; window = next) {
            next = window->next;
            if (window_is_done(window))
                window_close(window);
        }
}

/* The epoch that the strand's next window belongs to, or a later one. */
static uint64_t cursor_epoch(const StrandCursor *cursor) {
    return cursor->epoch->plan->epoch + (cursor->place >= cursor->epoch->limit);
}

/* The oldest epoch in which some strand still has windows to open: none may run ahead of it, or its
 * windows would take the places of those that rings wait for. */
static uint64_t oldest_cursor_epoch(const Stream *stream) {
    uint64_t oldest = UINT64_MAX;

    for (uint32_t s = 0; s < stream->strand_count; s++) {
        const StrandCursor *cursor = &stream->strands[s].cursor;
        if (cursor->place < cursor->epoch->limit)
            oldest = MIN(oldest, cursor_epoch(cursor));
    }
    return oldest;
}

enum { STRAND_WINDOWS = FEED_WINDOWS_DECODED + FEED_WINDOWS_PLANNED };

/* Windows that the reservation is for. What a strand holds beyond, to shape a batch that spans many
 * small windows, has units only and must not keep another strand from its first. */
static uint32_t windows_reserved(const Stream *stream) {
    uint32_t count = 0;

    for (uint32_t s = 0; s < stream->strand_count; s++)
        count += MIN(stream->strands[s].live, (uint32_t)STRAND_WINDOWS);
    return count;
}

void stream_open_windows(Stream *stream) {
    uint64_t oldest = oldest_cursor_epoch(stream);

    for (uint32_t s = 0; s < stream->strand_count; s++) {
        Strand *strand = &stream->strands[s];
        const StrandCursor *cursor = &strand->cursor;

        if (strand_near_end(stream, strand))
            count_next_epoch(stream);
        while (strand->wanted || (strand->live < STRAND_WINDOWS &&
                                  windows_reserved(stream) < stream->windows_limit)) {
            int r;
            if (!strand->wanted && cursor_epoch(cursor) > oldest)
                break;
            r = strand_open_window(stream, strand);
            strand->wanted = false;
            if (r < 0)
                stream_fail_for_memory(stream, "a window");
            if (r != 0)
                break;
        }
    }
}

static void block_read_done(FetchRequest *request) {
    WindowBlock *block = CONTAINER_OF(request, WindowBlock, read);
    Stream *stream = block->window->stream;

    if (request->result < 0) {
        Error error;

        (void)catalog_block_unreadable(stream->feed->catalog, block->block, CATALOG_CONTENT,
                                       request->result, &error);
        stream_fail(stream, &error);
    }
    atomic_store(&block->stage, BLOCK_READ);
    stream_end(stream);
}

/* The block from the cache, if it is there. */
static bool take_from_cache(Stream *stream, Window *window, uint32_t index) {
    WindowBlock *block = &window->blocks[index];
    uint32_t number;
    const Catalog *catalog = catalog_part(stream->feed->catalog, block->block, &number);
    BlockColumns columns;

    block->cached = block_cache_pin(stream->pipeline->cache, catalog->id, number);
    if (!block->cached)
        return false;
    block_find_columns(catalog, number, block_cache_bytes(block->cached), &columns);
    window_set_columns(window, index, &columns);
    atomic_fetch_add_explicit(&stream->cache_hits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stream->pipeline->cache_hits, 1, memory_order_relaxed);
    window->decodes_issued++;
    atomic_store(&block->stage, BLOCK_DECODED);
    atomic_fetch_sub(&window->blocks_left, 1);
    return true;
}

/* Into the free buffer that is taken for it. */
static FetchRequest *block_read_begin(Stream *stream, WindowBlock *block) {
    const CatalogBlock *entry = &stream->feed->catalog->blocks[block->block];

    block->buffer = stream->free_buffers[--stream->free_buffer_count];
    block->read = (FetchRequest){
        .file = &stream->files[entry->shard],
        .buffer = block->buffer,
        .offset = entry->offset,
        .size = entry->compressed_bytes,
        .done = block_read_done,
    };
    atomic_store(&block->stage, BLOCK_READING);
    atomic_fetch_add_explicit(&stream->blocks_read, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stream->bytes_read, entry->compressed_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&stream->pipeline->blocks_read, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stream->pipeline->bytes_read, entry->compressed_bytes,
                              memory_order_relaxed);
    stream_begin(stream);
    return &block->read;
}

static void read_blocks(Stream *stream, Window *window) {
    FetchRequest *chain = NULL, **link = &chain;

    /* Several at a time, so that the fetch thread is woken for several. Buffers that are held are
     * being read or decoded, or wait for a worker with nothing else to do: they do come back. */
    if (stream->free_buffer_count < FEED_READS_IN_FLIGHT / 2)
        return;

    for (; window->read_next < window->block_count; window->read_next++) {
        WindowBlock *block = &window->blocks[window->read_next];

        if (!block->needed || take_from_cache(stream, window, window->read_next))
            continue;
        if (stream->free_buffer_count == 0)
            break;
        *link = block_read_begin(stream, block);
        link = &(*link)->next;
    }
    fetch_submit_chain(stream->pipeline->fetch, chain);
}

/* A buffer that was not used before, of a mapping for a window, or for more where windows are
 * small: the cache holds so many mappings at most. There may be more buffers than are reserved,
 * since a new one is taken only when the pool has no used one: of those that the cache did not take
 * never more have been touched than were in use at the same time. */
static bool take_new_buffer(Stream *stream, SlabPiece *ret_piece) {
    uint64_t size = stream->feed->block_buffer_bytes;
    uint64_t window = stream->feed->window_blocks_max * size;
    uint64_t least = stream->pipeline->budget.limit / (BLOCK_CACHE_SLABS_MAX / 2);

    if (stream->slab && slab_take(stream->slab, size, ret_piece))
        return true;
    slab_unref(stream->slab);
    stream->slab = slab_new(MAX(window, align_down(least, size)), window >= MEMORY_HUGE_PAGE);
    return stream->slab && slab_take(stream->slab, size, ret_piece);
}

static bool take_raw_buffer(Stream *stream, WindowBlock *block) {
    uint64_t ordinary = stream->feed->block_buffer_bytes;
    uint64_t need = align_up(stream->feed->catalog->blocks[block->block].raw_bytes, SEQFEED_PAGE);

    if (need > ordinary)
        return slab_take_whole(need, &block->raw);
    if (stream->free_block_count == 0)
        return take_new_buffer(stream, &block->raw);
    block->raw = stream->free_blocks[--stream->free_block_count];
    return true;
}

/* Give up to `limit` blocks that have been read to the workers. */
static void decode_blocks(Stream *stream, Window *window, uint32_t limit, bool urgent,
                          Pushed *pushed) {
    for (uint32_t i = window->decode_low; i < window->read_next && limit > 0; i++) {
        WindowBlock *block = &window->blocks[i];
        uint32_t stage = atomic_load_explicit(&block->stage, memory_order_acquire);

        if (stage == BLOCK_READ) {
            if (!take_raw_buffer(stream, block)) {
                stream_fail_for_memory(stream, "a block");
                return;
            }
            block->decode.run = window_decode_run;
            atomic_store_explicit(&block->stage, BLOCK_DECODING, memory_order_relaxed);
            atomic_fetch_add(&stream->decodes_in_flight, 1);
            window->decodes_issued++;
            limit--;
            stream_push(stream, &block->decode, urgent, pushed);
        }
        if (i == window->decode_low && stage != BLOCK_READING)
            window->decode_low++;
    }
}

/* Blocks whose decoding has ended no longer need what was read. */
static void recycle_read_buffers(Stream *stream, Window *window) {
    for (uint32_t i = window->recycle_low; i < window->read_next; i++) {
        WindowBlock *block = &window->blocks[i];
        if (block->buffer &&
            atomic_load_explicit(&block->stage, memory_order_acquire) == BLOCK_DECODED) {
            stream->free_buffers[stream->free_buffer_count++] = block->buffer;
            block->buffer = NULL;
        }
        if (i == window->recycle_low && !block->buffer)
            window->recycle_low++;
    }
}

/* How many blocks of the window behind `before` should have been given out by now. */
static uint32_t paced_decodes(const Window *before, const Window *window) {
    uint64_t claimed = before->units_claimed, total = before->units_total;

    return (uint32_t)divide_up((uint64_t)window->blocks_needed * MIN(claimed, total), total);
}

static PlanRoom *free_room(Stream *stream) {
    for (uint32_t i = 0; i < stream->room_count; i++)
        if (!stream->rooms[i].lent)
            return &stream->rooms[i];
    return NULL;
}

/* Have the window planned once its lengths are here. Without a free room it waits until another
 * has been planned, which wakes the stream. */
static void issue_plan(Stream *stream, Window *window, bool urgent, Pushed *pushed) {
    if (window->plan_issued || atomic_load(&window->lengths_left) > 0)
        return;
    window->room = free_room(stream);
    if (!window->room)
        return;
    window->room->lent = true;
    window->plan_issued = true;
    stream_push(stream, &window->plan, urgent, pushed);
}

/* True: the window has become ready here and now, its last blocks came from the cache. Nothing of
 * it is under way then that would wake the stream once more. */
static bool advance_window(Stream *stream, Window *window, const Window *before, Pushed *pushed) {
    uint32_t paced, in_flight, workers = stream->pipeline->options.workers;

    issue_plan(stream, window, true, pushed);
    if (!window_is_planned(window) || window_is_ready(window))
        return false;
    read_blocks(stream, window);
    paced = before ? paced_decodes(before, window) : window->blocks_needed;
    if (paced > window->decodes_issued)
        decode_blocks(stream, window, paced - window->decodes_issued, true, pushed);
    else if ((in_flight = atomic_load(&stream->decodes_in_flight)) < workers)
        decode_blocks(stream, window, workers - in_flight, false, pushed);
    return window_is_ready(window);
}

/* First windows before second ones, so that what rings wait for gets the read buffers. Windows
 * behind these are planned only, to shape a batch that spans many small ones. */
bool stream_advance_windows(Stream *stream, Pushed *pushed) {
    bool ready = false;

    /* All buffers and rooms first: no later event would tell a window that one behind it has freed
     * some. */
    for (uint32_t s = 0; s < stream->strand_count; s++)
        for (Window *window = stream->strands[s].first; window; window = window->next) {
            if (window_is_planned(window))
                window_give_room(window);
            recycle_read_buffers(stream, window);
        }
    for (uint32_t s = 0; s < stream->strand_count; s++)
        if (stream->strands[s].first)
            ready |= advance_window(stream, stream->strands[s].first, NULL, pushed);
    for (uint32_t s = 0; s < stream->strand_count; s++) {
        Window *before = stream->strands[s].first;
        if (!before || !before->next)
            continue;
        ready |= advance_window(stream, before->next, before, pushed);
        for (Window *window = before->next->next; window; window = window->next)
            issue_plan(stream, window, false, pushed);
    }
    return ready;
}
