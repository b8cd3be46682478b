/* SPDX-License-Identifier: MIT */
/* What set-up threads do for a stream: make all of it, and give all of it back. Both take as long
 * as the kernel needs for the pages. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"
#include "pipeline/stream_device.h"

int stream_check_rounds(const Stream *stream, const FeedEpoch *counted, Error *error) {
    uint64_t batches = counted->plan->batch_count;

    if (batches > 0 && (stream->plan.tail != PLAN_TAIL_DROP || batches >= stream->world))
        return 0;
    return error_set(error, -EINVAL,
                     "epoch %lu has %lu batches and world %u needs as many with batch.tail: drop: "
                     "lower %s or the world, or set batch.tail to repeat",
                     (unsigned long)counted->plan->epoch, (unsigned long)batches, stream->world,
                     stream->plan.policy == PLAN_POLICY_TOKENS ? "batch.tokens" : "batch.size");
}

static int check_start(const Stream *stream, const FeedEpoch *counted, Error *error) {
    uint64_t batches = counted->plan->batch_count;
    int r = stream_check_rounds(stream, counted, error);

    if (r < 0)
        return r;
    if (stream->start_index >= batches)
        return error_set(error, -ESTALE,
                         "the cursor's index %lu is beyond the %lu batches of epoch %lu",
                         (unsigned long)stream->start_index, (unsigned long)batches,
                         (unsigned long)stream->start_epoch);
    return 0;
}

/* The first epoch, or the one after it when no whole round is left (tail: drop). */
static int make_first_epoch(Stream *stream, const Heartbeat *heartbeat, Error *error) {
    FeedEpoch *counted;
    uint64_t dropped;
    int r;

    r = feed_epoch_get(stream->feed, stream->seed, stream->start_epoch, heartbeat, &counted, error);
    if (r < 0)
        return r;
    r = check_start(stream, counted, error);
    if (r < 0) {
        feed_epoch_unref(stream->feed, counted);
        return r;
    }
    if (plan_round_count(stream->plan.tail, counted->plan->batch_count, stream->start_index,
                         stream->world) == 0) {
        feed_epoch_unref(stream->feed, counted);
        stream->start_epoch++;
        stream->start_index = 0;
        /* Once: a whole epoch has a whole round. */
        return make_first_epoch(stream, heartbeat, error);
    }
    r = stream_epoch_dropped(stream, counted, stream->start_index, heartbeat, &dropped, error);
    if (r < 0) {
        feed_epoch_unref(stream->feed, counted);
        return r;
    }
    stream->newest_epoch = stream_epoch_new(stream, counted, stream->start_index, dropped);
    if (!stream->newest_epoch) {
        feed_epoch_unref(stream->feed, counted);
        return error_set(error, -ENOMEM, "no memory for an epoch of feed %s", stream->feed->name);
    }
    stream->start_rounds = stream->newest_epoch->rounds;
    stream->start_whole_rounds = stream->newest_epoch->whole_rounds;
    return 0;
}

static int make_ring(Stream *stream, StreamRing *ring, const Heartbeat *heartbeat, Error *error) {
    char plan[SEQFEED_PLAN_BYTES], cursor[SEQFEED_CURSOR_BYTES];
    RingOptions options = {
        .slot_count = stream->feed->slots,
        .slot_bytes = stream->feed->slot_bytes,
        .rank = ring->rank,
        .world = stream->world,
        .workers = stream->pipeline->options.workers,
        .whole_length = stream->newest_epoch->whole_rounds,
        .plan = plan,
        .start_cursor = cursor,
        .heartbeat = heartbeat,
    };
    int r;

    feed_plan_text(stream->feed, stream->seed, plan);
    feed_cursor_format(stream->feed, stream->seed, stream->start_epoch, stream->start_index,
                       cursor);
    memcpy(options.instance, stream->instance, sizeof options.instance);
    r = ring_writer_create(&options, &ring->writer, error);
    if (r < 0)
        return r;
    for (uint32_t m = 0; m < stream->members; m++) {
        r = ring_writer_join(ring->writer, &ring->member_first[m]);
        if (r < 0)
            return error_set(error, r, "cannot make the page of member %u: %s", m, strerror(-r));
        assert(r == (int)m);
    }
    ring->epoch = stream_epoch_ref(stream->newest_epoch);
    atomic_store(&ring->status_epoch, stream->start_epoch);
    atomic_store(&ring->status_index, stream->start_index + ring->rank);
    return 0;
}

static int make_files(Stream *stream) {
    const Catalog *catalog = stream->feed->catalog;

    stream->files = calloc(catalog->shard_count, sizeof *stream->files);
    for (uint32_t i = 0; stream->files && i < catalog->shard_count; i++)
        fetch_file_init(&stream->files[i], catalog->shards[i].fd, catalog->shards[i].direct_fd,
                        catalog->shards[i].direct_align);
    return stream->files ? 0 : -ENOMEM;
}

/* All of them or none: what is zeroed would be the kernel's first one, which is another stream's.
 */
static int make_read_buffers(Stream *stream) {
    size_t size = fetch_buffer_bytes(stream->feed->catalog->block_compressed_max);
    FetchBuffer *buffers = calloc(FEED_READS_IN_FLIGHT, sizeof *buffers);
    uint8_t *memory = buffers ? memory_map_many(FEED_READS_IN_FLIGHT * size) : NULL;

    stream->free_buffers = calloc(FEED_READS_IN_FLIGHT, sizeof *stream->free_buffers);
    if (!memory || !stream->free_buffers) {
        if (memory)
            memory_unmap(memory, FEED_READS_IN_FLIGHT * size);
        free(buffers);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < FEED_READS_IN_FLIGHT; i++) {
        fetch_buffer_init(&buffers[i], memory + i * size, size);
        stream->free_buffers[stream->free_buffer_count++] = &buffers[i];
    }
    stream->buffers = buffers;
    return 0;
}

static int make_strands(Stream *stream) {
    uint64_t blocks = (uint64_t)stream->windows_limit * stream->feed->window_blocks_max;

    stream->strands = calloc(stream->strand_count, sizeof *stream->strands);
    stream->free_blocks = calloc(blocks, sizeof *stream->free_blocks);
    if (!stream->strands || !stream->free_blocks)
        return -ENOMEM;
    stream->free_block_capacity = (uint32_t)MIN(blocks, UINT32_MAX);
    for (uint32_t s = 0; s < stream->strand_count; s++) {
        stream->strands[s].number = s;
        strand_enter(stream, &stream->strands[s], stream->newest_epoch);
    }
    return 0;
}

static int make_all(Stream *stream, const Heartbeat *heartbeat, Error *error) {
    int r;

    block_cache_shrink(stream->pipeline->cache); /* what was reserved may still be lent */
    r = make_first_epoch(stream, heartbeat, error);
    for (uint32_t i = 0; r == 0 && i < stream->ring_count; i++)
        r = make_ring(stream, &stream->rings[i], heartbeat, error);
    if (r < 0)
        return r;
    r = make_files(stream);
    if (r == 0)
        r = make_read_buffers(stream);
    if (r == 0)
        r = make_strands(stream);
    if (r == 0)
        stream_device_prepare(stream);
    return r < 0 ? error_set(error, r, "no memory for a stream of feed %s", stream->feed->name) : 0;
}

/* It has held the baton since stream_new(), so that no wake finds a half-made stream. */
void stream_make_run(SetupJob *job, _Atomic uint64_t *beats) {
    Stream *stream = CONTAINER_OF(job, Stream, make);
    const Heartbeat heartbeat = {.beats = beats, .stop = &stream->cancelled};
    PipelineEvent event = {.kind = PIPELINE_EVENT_READY};
    Error error;
    int r = make_all(stream, &heartbeat, &error);

    if (r == -ECANCELED) {
        stream_fail_cancelled(stream);
    } else if (r < 0) {
        stream_fail(stream, &error);
    } else {
        stream->state = STREAM_RUNNING;
        stream_event(stream, &event);
    }
    stream_hand_over(stream);
}

static void free_windows(Stream *stream) {
    for (uint32_t s = 0; stream->strands && s < stream->strand_count; s++) {
        while (stream->strands[s].first)
            window_close(stream->strands[s].first);
        stream_epoch_unref(stream, stream->strands[s].cursor.epoch);
    }
    for (Window *window = stream->free_windows, *next; window; window = next) {
        next = window->next;
        window_free(window);
    }
    stream->free_windows = NULL;
    for (uint32_t i = 0; i < stream->room_count; i++) {
        free(stream->rooms[i].lengths);
        plan_scratch_free(&stream->rooms[i].scratch);
        stream->rooms[i] = (PlanRoom){0};
    }
    for (uint32_t i = 0; i < stream->free_block_count; i++)
        slab_give(&stream->free_blocks[i]);
    stream->free_block_count = 0;
    slab_unref(stream->slab);
    stream->slab = NULL;
}

void stream_teardown(Stream *stream) {
    stream_device_teardown(stream);
    free_windows(stream);
    for (uint32_t i = 0; i < stream->ring_count; i++) {
        StreamRing *ring = &stream->rings[i];
        for (uint32_t slot = 0; slot < SEQFEED_SLOTS_MAX; slot++) {
            stream_epoch_unref(stream, ring->jobs[slot].epoch);
            free(ring->jobs[slot].pieces);
            free(ring->jobs[slot].lengths);
            slate_deinit(&ring->jobs[slot].slate);
            ring->jobs[slot] = (SlotJob){0};
        }
        stream_epoch_unref(stream, ring->epoch);
        ring->epoch = NULL;
        if (ring->writer) {
            stream->kept_bytes += ring->writer->memory_bytes;
            ring_remains_bury(stream->pipeline->remains, ring->writer);
        }
        ring->writer = NULL;
    }
    if (stream->count_result)
        feed_epoch_unref(stream->feed, stream->count_result);
    stream_epoch_unref(stream, stream->newest_epoch);
    if (stream->buffers) /* side by side, see make_read_buffers() */
        memory_unmap(stream->buffers[0].memory, FEED_READS_IN_FLIGHT * stream->buffers[0].size);
    free(stream->strands);
    free(stream->free_blocks);
    free(stream->files);
    free(stream->buffers);
    free(stream->free_buffers);
    pipeline_release(stream->pipeline, stream->reserved_bytes - stream->kept_bytes);
    stream->strands = NULL;
    stream->state = STREAM_CLOSED;
}

/* It has the baton, so that no wake finds a stream that is half taken down. */
void stream_end_run(SetupJob *job, _Atomic uint64_t *beats) {
    Stream *stream = CONTAINER_OF(job, Stream, end);
    PipelineEvent event = {.kind = PIPELINE_EVENT_CLOSED};

    stream_teardown(stream);
    stream_event(stream, &event);
    stream_hand_over(stream);
}
