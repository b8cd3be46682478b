/* SPDX-License-Identifier: MIT */
#include "server/fake_pipeline.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { EVENTS_MAX = 256 };

struct Pipeline {
    int event_fd;
    PipelineEvent events[EVENTS_MAX];
    uint32_t head, tail;
};

FakePipeline fake;
static Pipeline *running;

void fake_reset(void) {
    fake = (FakePipeline){.memory = 1000, .memory_each = 100, .epoch_length = 50};
}

/* --- feeds ----------------------------------------------------------------------------------- */

Feed *fake_feed(const char *name, uint32_t slots) {
    Feed *feed = calloc(1, sizeof *feed);

    assert(feed);
    snprintf(feed->name, sizeof feed->name, "%s", name);
    feed->slots = slots;
    feed->references = 1;
    return feed;
}

const char *feed_backend_part(void) {
    return "";
}

Feed *feed_ref(Feed *feed) {
    feed->references++;
    return feed;
}

void feed_unref(Feed *feed) {
    if (!feed || --feed->references > 0)
        return;
    free(feed->allow_users);
    free(feed);
}

/* Cursors of the fake feed: "EPOCH:INDEX". */
int feed_cursor_parse(const Feed *feed, uint64_t seed, const char *text, uint64_t *ret_epoch,
                      uint64_t *ret_index, Error *error) {
    unsigned long long epoch, index;

    (void)feed;
    (void)seed;
    if (sscanf(text, "%llu:%llu", &epoch, &index) != 2)
        return error_set(error, -EINVAL, "not a cursor: %s", text);
    *ret_epoch = epoch;
    *ret_index = index;
    return 0;
}

/* --- pipeline -------------------------------------------------------------------------------- */

int pipeline_new(const PipelineOptions *options, Pipeline **ret_pipeline, Error *error) {
    (void)options;
    (void)error;
    running = calloc(1, sizeof *running);
    assert(running);
    running->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *ret_pipeline = running;
    return 0;
}

int pipeline_start(Pipeline *pipeline, Error *error) {
    (void)pipeline;
    (void)error;
    return 0;
}

void pipeline_free(Pipeline *pipeline) {
    for (uint32_t i = 0; i < fake.stream_count; i++)
        if (fake.streams[i].used && !fake.streams[i].freed)
            stream_free(&fake.streams[i]);
    close(pipeline->event_fd);
    free(pipeline);
    running = NULL;
}

const char *pipeline_fetch_backend(const Pipeline *pipeline) {
    (void)pipeline;
    return "pread";
}

const char *pipeline_fetch_reason(const Pipeline *pipeline) {
    (void)pipeline;
    return "a \"test\"";
}

int pipeline_event_fd(const Pipeline *pipeline) {
    return pipeline->event_fd;
}

void pipeline_watch_devices(Pipeline *pipeline) {
    (void)pipeline;
}

const char *pipeline_silent_thread(Pipeline *pipeline) {
    (void)pipeline;
    return fake.silent;
}

int pipeline_reserve(Pipeline *pipeline, Feed *feed, uint32_t world, uint32_t ring_count,
                     uint64_t *ret_bytes, Error *error) {
    uint64_t bytes = fake.memory_each * ring_count;

    fake.reserves++;
    (void)pipeline;
    (void)feed;
    (void)world;
    if (bytes > fake.memory)
        return error_set(error, -ENOMEM, "%llu bytes are more than %llu", (unsigned long long)bytes,
                         (unsigned long long)fake.memory);
    *ret_bytes = bytes;
    if (fake.reserved + bytes > fake.memory)
        return PIPELINE_E_WAIT;
    fake.reserved += bytes;
    return 0;
}

void pipeline_cancel(Pipeline *pipeline, uint64_t bytes) {
    (void)pipeline;
    assert(fake.reserved >= bytes);
    fake.reserved -= bytes;
    fake.cancels++;
}

void pipeline_status(Pipeline *pipeline, PipelineStatus *ret_status) {
    (void)pipeline;
    *ret_status = (PipelineStatus){
        .memory_limit = fake.memory, .memory_reserved = fake.reserved, .workers = 1};
}

static PipelineEvent *push(Stream *stream, PipelineEventKind kind) {
    PipelineEvent *event = &running->events[running->tail++ % EVENTS_MAX];
    uint64_t one = 1;

    *event = (PipelineEvent){
        .kind = kind, .stream = stream, .owner = stream ? stream->owner : NULL};
    assert(write(running->event_fd, &one, sizeof one) == sizeof one);
    return event;
}

bool pipeline_next_event(Pipeline *pipeline, PipelineEvent *ret_event) {
    uint64_t count;

    if (pipeline->head == pipeline->tail) {
        (void)!read(pipeline->event_fd, &count, sizeof count);
        return false;
    }
    *ret_event = pipeline->events[pipeline->head++ % EVENTS_MAX];
    return true;
}

/* --- streams --------------------------------------------------------------------------------- */

int stream_new(Pipeline *pipeline, const StreamRequest *request, uint64_t reserved_bytes,
               Stream **ret_stream, Error *error) {
    Stream *stream = &fake.streams[fake.stream_count];

    (void)pipeline;
    if (fake.new_code < 0)
        return error_set(error, fake.new_code, "no stream today");
    assert(fake.stream_count < FAKE_STREAMS_MAX);
    assert(request->ring_count <= FAKE_RINGS_MAX);
    fake.stream_count++;
    *stream = (Stream){.used = true,
                       .feed = feed_ref(request->feed),
                       .owner = request->owner,
                       .seed = request->seed,
                       .epoch = request->epoch,
                       .index = request->index,
                       .bytes = reserved_bytes,
                       .world = request->world,
                       .ring_count = request->ring_count,
                       .members = request->members};
    for (uint32_t i = 0; i < request->ring_count; i++) {
        stream->ranks[i] = request->ranks[i];
        stream->rings[i].rank = request->ranks[i];
        stream->member_next[i] = request->members;
    }
    stream->fd = memfd_create("fake-ring", MFD_CLOEXEC);
    assert(stream->fd >= 0);
    if (!fake.hold)
        fake_ready(stream);
    *ret_stream = stream;
    return 0;
}

int stream_join(Stream *stream, uint32_t ring, void *token) {
    if (fake.queue_full)
        return -EAGAIN;
    stream->joins++;
    stream->join_token = token;
    stream->join_ring = ring;
    return 0;
}

void stream_leave(Stream *stream, uint32_t ring, uint32_t member) {
    (void)member;
    assert(!stream->freed);
    stream->left[ring]++;
}

void stream_drain(Stream *stream) {
    stream->drained = true;
}

void stream_poke(Stream *stream) {
    stream->pokes++;
}

void stream_cancel(Stream *stream) {
    assert(!stream->cancelled && !stream->freed);
    stream->cancelled = true;
}

void stream_free(Stream *stream) {
    assert(!stream->freed);
    stream->freed = true;
    fake.reserved -= stream->bytes;
    close(stream->fd);
    feed_unref(stream->feed);
}

void stream_seat(const Stream *stream, uint32_t ring, uint32_t member, StreamSeat *ret_seat) {
    *ret_seat = (StreamSeat){.data_fd = stream->fd,
                             .ack_fd = stream->fd,
                             .ring_bytes = 4096,
                             .first = member >= stream->members ? 7 : 0,
                             .start_epoch = stream->epoch,
                             .start_index = stream->index,
                             .epoch_length = fake.epoch_length,
                             .whole_length = fake.epoch_length};
    assert(ring < stream->ring_count);
}

void stream_status(Stream *stream, StreamStatus *ret_status) {
    *ret_status = (StreamStatus){.reserved_bytes = stream->bytes, .ring_count = stream->ring_count};
}

void stream_ring_status(const Stream *stream, uint32_t ring, StreamRingStatus *ret_status) {
    *ret_status = stream->rings[ring];
}

uint64_t stream_member_behind(const Stream *stream, uint32_t ring, uint32_t member) {
    return stream->behind[ring][member % 8];
}

void fake_ready(Stream *stream) {
    push(stream, PIPELINE_EVENT_READY);
}

void fake_failed(Stream *stream, int code, const char *text) {
    PipelineEvent *event = push(stream, PIPELINE_EVENT_FAILED);

    event->code = code;
    snprintf(event->text, sizeof event->text, "%s", text);
}

void fake_device_gone(const char *text) {
    PipelineEvent *event = push(NULL, PIPELINE_EVENT_DEVICE);

    snprintf(event->text, sizeof event->text, "%s", text);
}

void fake_memory_returned(void) {
    push(NULL, PIPELINE_EVENT_MEMORY);
}

void fake_closed(Stream *stream) {
    push(stream, PIPELINE_EVENT_CLOSED);
}

void fake_closed_late(const Stream *stream, Stream *at) {
    push(at, PIPELINE_EVENT_CLOSED)->owner = stream->owner;
}

void fake_joined(Stream *stream, void *token, uint32_t ring, int code) {
    PipelineEvent *event = push(stream, PIPELINE_EVENT_JOINED);

    event->token = token;
    event->ring = ring;
    event->code = code;
    event->member = stream->member_next[ring]++;
}

void fake_violation(Stream *stream, uint32_t ring, uint32_t member) {
    PipelineEvent *event = push(stream, PIPELINE_EVENT_VIOLATION);

    event->ring = ring;
    event->member = member;
}
