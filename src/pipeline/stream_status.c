/* SPDX-License-Identifier: MIT */
/* What control may look at while the stream runs: numbers that the baton holder leaves in atomics.
 */
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"
#include "pipeline/stream_device.h"

void stream_counts_add(StreamCounts *sum, const StreamCounts *more) {
    sum->batches += more->batches;
    sum->rows += more->rows;
    sum->sequences += more->sequences;
    sum->slots += more->slots;
    sum->tokens_in += more->tokens_in;
    sum->trained += more->trained;
    sum->ignored += more->ignored;
    sum->truncated += more->truncated;
    sum->dropped += more->dropped;
    sum->tokens += more->tokens;
    sum->repeated += more->repeated;
    sum->repeated_tokens += more->repeated_tokens;
    sum->items += more->items;
    sum->squares += more->squares;
}

static StreamCounts read_counts(Stream *stream) {
    StreamCounts counts;

    pthread_mutex_lock(&stream->counts_lock);
    counts = stream->counts;
    pthread_mutex_unlock(&stream->counts_lock);
    return counts;
}

void stream_status(Stream *stream, StreamStatus *ret_status) {
    *ret_status = (StreamStatus){
        .counts = read_counts(stream),
        .blocks_read = atomic_load(&stream->blocks_read),
        .bytes_read = atomic_load(&stream->bytes_read),
        .blocks_decoded = atomic_load(&stream->blocks_decoded),
        .cache_hits = atomic_load(&stream->cache_hits),
        .reserved_bytes = stream->reserved_bytes,
        .ring_count = stream->ring_count,
        .device_batches = atomic_load(&stream->device_batches),
    };
    ret_status->masks = stream_device_status(stream, &ret_status->masks_reason);
}

void stream_ring_status(const Stream *stream, uint32_t ring, StreamRingStatus *ret_status) {
    StreamRing *at = &stream->rings[ring];

    *ret_status = (StreamRingStatus){
        .rank = at->rank,
        .head = atomic_load(&at->status_head),
        .tail = atomic_load(&at->status_tail),
        .epoch = atomic_load(&at->status_epoch),
        .index = atomic_load(&at->status_index),
        .slowest_member = atomic_load(&at->status_slowest),
    };
}

uint64_t stream_member_behind(const Stream *stream, uint32_t ring, uint32_t member) {
    StreamRing *at = &stream->rings[ring];
    uint64_t released = atomic_load(&at->status_released[member]);
    uint64_t head = atomic_load(&at->status_head);

    return released < head ? head - released : 0; /* UINT64_MAX stands for one that left */
}

static StreamCounts count_all(Pipeline *pipeline) {
    StreamCounts sum;

    pthread_mutex_lock(&pipeline->lock);
    sum = pipeline->ended;
    for (Stream *stream = pipeline->streams; stream; stream = stream->next_stream) {
        StreamCounts counts = read_counts(stream);
        stream_counts_add(&sum, &counts);
    }
    pthread_mutex_unlock(&pipeline->lock);
    return sum;
}

void pipeline_status(Pipeline *pipeline, PipelineStatus *ret_status) {
    ring_remains_collect(pipeline->remains);
    *ret_status = (PipelineStatus){
        .memory_limit = pipeline->options.memory,
        .memory_index = pipeline->options.index,
        .memory_reserved = atomic_load(&pipeline->budget.reserved),
        .memory_kept = ring_remains_bytes(pipeline->remains),
        .memory_cached = block_cache_bytes_held(pipeline->cache),
        .blocks_read = atomic_load(&pipeline->blocks_read),
        .bytes_read = atomic_load(&pipeline->bytes_read),
        .blocks_decoded = atomic_load(&pipeline->blocks_decoded),
        .cache_hits = atomic_load(&pipeline->cache_hits),
        .counts = count_all(pipeline),
        .workers = pipeline->options.workers,
    };
    pthread_mutex_lock(&pipeline->device_lock);
    for (uint32_t i = 0; i < pipeline->accelerator_count; i++)
        ret_status->memory_kept += accelerator_kept_bytes(pipeline->accelerators[i]);
    pthread_mutex_unlock(&pipeline->device_lock);
}
