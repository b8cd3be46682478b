/* SPDX-License-Identifier: MIT */
/* pipeline_internal.h: what streams use of the pipeline that owns them. */
#pragma once

#include "base/task.h"
#include "base/worker.h"
#include "mask/fill.h"
#include "pipeline/accelerator.h"
#include "pipeline/block_cache.h"
#include "pipeline/fetch.h"
#include "pipeline/pipeline.h"
#include "pipeline/ring_remains.h"
#include "pipeline/setup_pool.h"
#include "shard/block.h"

/* One worker thread and what it keeps between tasks. */
typedef struct PipelineWorker {
    Worker worker;
    Pipeline *pipeline;
    BlockDecoder *decoder;
    FillRow *rows; /* scratch */
    size_t rows_capacity;
} PipelineWorker;

typedef struct EventNode EventNode;

enum { PIPELINE_DEVICES_MAX = 16 };

struct Pipeline {
    PipelineOptions options;
    MemoryBudget budget;
    _Atomic bool memory_wanted; /* somebody waits for a release */
    BlockCache *cache;
    RingRemains *remains;
    Fetch *fetch;
    PipelineWorker *workers;
    TaskQueue urgent; /* what a trainer may be waiting for */
    TaskQueue ahead;  /* what is done when nothing is urgent */
    Bell bell;
    SetupPool setups; /* what takes long, for streams that begin or come to another epoch */
    bool started;
    int event_fd;
    pthread_mutex_t lock; /* of events and the list of streams */
    EventNode *first_event, *last_event;
    Stream *streams;
    const MaskBackend *masks;                      /* NULL: none */
    pthread_mutex_t device_lock, device_open_lock; /* the first: of the next two */
    Accelerator *accelerators[PIPELINE_DEVICES_MAX];
    uint32_t accelerator_count;
    StreamCounts ended; /* of streams that are no more */
    _Atomic uint64_t blocks_read, bytes_read, blocks_decoded, cache_hits;
};

/* Give a task to the workers. They are woken by pipeline_wake(), once for many tasks. */
void pipeline_push(Pipeline *pipeline, Task *task, bool urgent);
/* Wake workers for `count` tasks; a worker that pushed them takes one of them itself. */
void pipeline_wake(Pipeline *pipeline, uint32_t count);
/* Any worker. The device that the feed is for, taken into use if nobody has it yet; NULL: no
 * memory, or too many. */
Accelerator *pipeline_accelerator(Pipeline *pipeline, const Feed *feed);
void pipeline_remember_stream(Pipeline *pipeline, Stream *stream);
void pipeline_forget_stream(Pipeline *pipeline, Stream *stream);
/* Give a reservation back; who waits for one is told. */
void pipeline_release(Pipeline *pipeline, uint64_t bytes);
void pipeline_post(Pipeline *pipeline, const PipelineEvent *event);
