/* SPDX-License-Identifier: MIT */
#include "pipeline/window.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/bytes.h"
#include "base/memory.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"

Window *window_new(Stream *stream) {
    Window *window = stream->free_windows;

    if (window) {
        stream->free_windows = window->next;
        window->next = NULL;
        return window;
    }
    window = calloc(1, sizeof *window);
    if (window)
        window->stream = stream;
    return window;
}

void window_free(Window *window) {
    free(window->units);
    free(window->firsts);
    free(window->packed);
    free(window->blocks);
    free(window->columns);
    free(window);
}

/* Make *memory hold at least `need` bytes; its content is lost. False: no memory. */
static bool grow(void *memory, size_t *capacity, size_t need) {
    void **pointer = memory;

    if (need <= *capacity)
        return true;
    free(*pointer);
    *pointer = malloc(need);
    *capacity = *pointer ? need : 0;
    return *pointer != NULL;
}

size_t window_block_columns(const Window *window) {
    return 2 * (size_t)window->stream->feed->catalog->column_count + 1;
}

/* Of one of several datasets, whose columns have other numbers than those of all together. */
static void set_joined_columns(const CatalogPart *part, uint32_t count, const BlockColumns *block,
                               const uint8_t **columns) {
    for (uint32_t c = 0; c < count; c++) {
        uint32_t own = part->columns[c];
        bool is_there = own != CATALOG_NO_COLUMN;

        columns[c] = is_there ? block->values[own] : NULL;
        columns[count + 1 + c] = is_there ? (const uint8_t *)block->value_ends[own] : NULL;
    }
}

void window_set_columns(Window *window, uint32_t index, const BlockColumns *block) {
    const Catalog *catalog = window->stream->feed->catalog;
    const CatalogPart *part = catalog_find_part(catalog, window->blocks[index].block);
    uint32_t count = catalog->column_count;
    const uint8_t **columns = &window->columns[index * window_block_columns(window)];

    columns[count] = (const uint8_t *)block->token_ends;
    if (part) {
        set_joined_columns(part, count, block, columns);
        return;
    }
    memcpy(columns, block->values, count * sizeof *columns);
    for (uint32_t c = 0; c < count; c++)
        columns[count + 1 + c] = (const uint8_t *)block->value_ends[c];
}

static bool window_make_room(Window *window, uint32_t block_count, size_t packed_bytes) {
    size_t columns = window_block_columns(window);

    if (block_count > window->block_capacity) {
        free(window->blocks);
        free(window->columns);
        window->blocks = calloc(block_count, sizeof *window->blocks);
        window->columns = calloc(block_count * columns, sizeof *window->columns);
        window->block_capacity = window->blocks && window->columns ? block_count : 0;
    }
    return window->block_capacity >= block_count &&
           grow(&window->packed, &window->packed_capacity, packed_bytes) &&
           (!window->is_fixed ||
            grow(&window->units, &window->unit_capacity, window->unit_count * sizeof(PlanUnit)));
}

int window_make_units_room(Window *window, uint64_t pieces) {
    if (window->is_fixed)
        return 0; /* as many as units: made when it was opened */
    return grow(&window->units, &window->unit_capacity, pieces * sizeof(PlanUnit)) &&
                   grow(&window->firsts, &window->first_capacity,
                        (window->unit_count + 1) * sizeof *window->firsts)
               ? 0
               : -ENOMEM;
}

static void lengths_done(FetchRequest *request) {
    WindowBlock *block = CONTAINER_OF(request, WindowBlock, read);
    Window *window = block->window;
    Stream *stream = window->stream;

    if (request->result < 0) {
        Error error;

        (void)catalog_block_unreadable(stream->feed->catalog, block->block, CATALOG_LENGTHS,
                                       request->result, &error);
        stream_fail(stream, &error);
    }
    atomic_fetch_sub(&window->lengths_left, 1);
    stream_end(stream);
}

static void read_lengths(Window *window, const uint32_t *numbers) {
    Stream *stream = window->stream;
    const Catalog *catalog = stream->feed->catalog;
    uint8_t *at = window->packed;
    FetchRequest *chain = NULL, **link = &chain;

    atomic_store(&window->lengths_left, window->block_count);
    for (uint32_t i = 0; i < window->block_count; i++) {
        WindowBlock *block = &window->blocks[i];
        const CatalogBlock *entry = &catalog->blocks[numbers[i]];
        uint32_t bytes = catalog->block_sequences[numbers[i]] * entry->lengths_width;

        *block = (WindowBlock){.window = window, .block = numbers[i], .lengths = at};
        block->read = (FetchRequest){
            .file = &stream->files[entry->shard],
            .memory = at,
            .offset = entry->lengths_offset,
            .size = bytes,
            .done = lengths_done,
        };
        at += bytes;
        stream_begin(stream);
        *link = &block->read;
        link = &block->read.next;
    }
    fetch_submit_chain(stream->pipeline->fetch, chain);
}

int window_open(Window *window, Strand *strand, const StrandCursor *begin, uint64_t pass,
                uint64_t units_total) {
    Stream *stream = window->stream;
    const Catalog *catalog = stream->feed->catalog;
    const PlanStrand *plan = &begin->epoch->plan->strands[strand->number];
    const PlanWindow *plan_window = &plan->windows[window->number];
    const uint32_t *numbers = plan->blocks + plan_window->block_first;
    size_t packed = 0;

    for (uint32_t i = 0; i < plan_window->block_count; i++)
        packed += (size_t)catalog->block_sequences[numbers[i]] *
                  catalog->blocks[numbers[i]].lengths_width;
    window->unit_first = plan->unit_sums[window->number];
    window->unit_count = plan_window_units(plan, window->number);
    window->is_fixed = stream->plan.policy == PLAN_POLICY_FIXED;
    if (!window_make_room(window, plan_window->block_count, packed)) {
        window_free(window);
        return -ENOMEM;
    }
    window->strand = strand;
    window->begin = *begin;
    window->epoch = stream_epoch_ref(begin->epoch);
    window->pass = pass;
    window->units_total = units_total;
    window->units_claimed = 0;
    atomic_store(&window->units_left, units_total);
    window->plan_issued = false;
    atomic_store(&window->planned, false);
    window->plan.run = window_plan_run;
    window->block_count = plan_window->block_count;
    window->read_next = window->decode_low = window->recycle_low = 0;
    window->decodes_issued = window->blocks_needed = 0;
    atomic_store(&window->blocks_left, 0);

    window->next = NULL;
    if (strand->last)
        strand->last->next = window;
    else
        strand->first = window;
    strand->last = window;
    strand->live++;
    read_lengths(window, numbers);
    return 0;
}

uint32_t window_sequence_length(const Window *window, const PlanUnit *piece) {
    const WindowBlock *block = &window->blocks[piece->block];
    uint32_t width = window->stream->feed->catalog->blocks[block->block].lengths_width;
    const uint8_t *at = block->lengths + (size_t)piece->sequence * width;

    return width == 1 ? *at : width == 2 ? bytes_get_u16(at) : bytes_get_u32(at);
}

void window_give_room(Window *window) {
    if (window->room)
        window->room->lent = false;
    window->room = NULL;
}

bool window_is_planned(const Window *window) {
    return atomic_load_explicit(&((Window *)window)->planned, memory_order_acquire);
}

bool window_is_ready(const Window *window) {
    return window_is_planned(window) &&
           atomic_load_explicit(&((Window *)window)->blocks_left, memory_order_acquire) == 0;
}

bool window_is_done(const Window *window) {
    return window_is_ready(window) &&
           atomic_load_explicit(&((Window *)window)->units_left, memory_order_acquire) == 0;
}

/* Ordinary buffers are pooled; a block that needs more has memory of its own. */
static void give_raw_back(Stream *stream, WindowBlock *block) {
    uint32_t number;
    const Catalog *catalog = catalog_part(stream->feed->catalog, block->block, &number);
    bool ordinary = block->raw.size == stream->feed->block_buffer_bytes;

    if (block_cache_offer(stream->pipeline->cache, catalog->id, number, &block->raw))
        return;
    if (ordinary && stream->free_block_count < stream->free_block_capacity)
        stream->free_blocks[stream->free_block_count++] = block->raw;
    else
        slab_give(&block->raw);
}

void window_close(Window *window) {
    Stream *stream = window->stream;
    Strand *strand = window->strand;
    Window **link = &strand->first, *before = NULL;

    window_give_room(window);
    for (uint32_t i = 0; i < window->block_count; i++) {
        WindowBlock *block = &window->blocks[i];
        if (block->cached)
            block_cache_unpin(stream->pipeline->cache, block->cached);
        else if (block->raw.slab)
            give_raw_back(stream, block);
        if (block->buffer)
            stream->free_buffers[stream->free_buffer_count++] = block->buffer;
        block->cached = NULL;
        block->raw = (SlabPiece){0};
        block->buffer = NULL;
    }
    for (; *link != window; link = &(*link)->next)
        before = *link;
    *link = window->next;
    if (strand->last == window)
        strand->last = before;
    strand->live--;
    stream_epoch_unref(stream, window->epoch);
    window->next = stream->free_windows;
    stream->free_windows = window;
}
