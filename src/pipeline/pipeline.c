/* SPDX-License-Identifier: MIT */
#include "pipeline/pipeline.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream.h"

enum { WORKER_SPIN_NS = 20000 };
#define DEVICE_PATIENCE_NS (10 * NS_PER_SECOND)

struct EventNode {
    EventNode *next;
    PipelineEvent event;
};

/* The worker that this thread is, if any: it takes one of the tasks that it pushes itself. */
static _Thread_local const Pipeline *own_pipeline;

static int worker_step(void *argument) {
    PipelineWorker *worker = argument;
    Pipeline *pipeline = worker->pipeline;
    Task *task = task_queue_pop(&pipeline->urgent);

    if (!task)
        task = task_queue_pop(&pipeline->ahead);
    if (!task)
        return 0;
    own_pipeline = pipeline;
    task->run(task, worker);
    own_pipeline = NULL; /* a test's thread may step one pipeline and then wake another */
    return 1;
}

void pipeline_push(Pipeline *pipeline, Task *task, bool urgent) {
    task_queue_push(urgent ? &pipeline->urgent : &pipeline->ahead, task);
}

void pipeline_wake(Pipeline *pipeline, uint32_t count) {
    if (own_pipeline == pipeline)
        count--;
    if (count > 0)
        bell_ring(&pipeline->bell, MIN(count, pipeline->options.workers));
}

static int make_workers(Pipeline *pipeline) {
    pipeline->workers = calloc(pipeline->options.workers, sizeof *pipeline->workers);
    if (!pipeline->workers)
        return -ENOMEM;
    for (uint32_t i = 0; i < pipeline->options.workers; i++) {
        PipelineWorker *worker = &pipeline->workers[i];
        worker->pipeline = pipeline;
        worker->worker = (Worker){.name = "seqfeed-worker",
                                  .bell = &pipeline->bell,
                                  .step = worker_step,
                                  .argument = worker,
                                  .spin_ns = WORKER_SPIN_NS};
        if (block_decoder_new(&worker->decoder) < 0)
            return -ENOMEM;
        block_decoder_trust_crc(worker->decoder);
    }
    return 0;
}

static void warn_of_remains(Pipeline *pipeline) {
    PipelineEvent event = {.kind = PIPELINE_EVENT_WARNING,
                           .text = "the kernel does not tell when a ring is no longer in use "
                                   "(inotify, /proc): rings that trainers keep after they have "
                                   "left are not counted as memory"};

    pipeline_post(pipeline, &event);
}

int pipeline_new(const PipelineOptions *options, Pipeline **ret_pipeline, Error *error) {
    FetchOptions fetch = {.force_pread = options->force_pread};
    Pipeline *pipeline = calloc(1, sizeof *pipeline);
    int r;

    assert(options->workers > 0);
    assert(options->index <= options->memory);
    if (!pipeline)
        return error_set(error, -ENOMEM, "no memory for the pipeline");
    pipeline->options = *options;
    memory_budget_init(&pipeline->budget, options->memory - options->index);
    task_queue_init(&pipeline->urgent);
    task_queue_init(&pipeline->ahead);
    setup_pool_init(&pipeline->setups);
    pthread_mutex_init(&pipeline->lock, NULL);
    pthread_mutex_init(&pipeline->device_lock, NULL);
    pthread_mutex_init(&pipeline->device_open_lock, NULL);
    pipeline->masks = options->masks ? options->masks : mask_backend_cuda();
    pipeline->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pipeline->cache = block_cache_new(&pipeline->budget, options->cache);
    pipeline->remains = ring_remains_new(&pipeline->budget);
    r = pipeline->event_fd < 0
            ? error_set(error, -errno, "cannot make an eventfd: %s", strerror(errno))
            : fetch_new(&fetch, &pipeline->fetch, error);
    if (r == 0 && (!pipeline->cache || !pipeline->remains || make_workers(pipeline) < 0))
        r = error_set(error, -ENOMEM, "no memory for %u workers", options->workers);
    if (r < 0) {
        pipeline_free(pipeline);
        return r;
    }
    if (!ring_remains_are_seen(pipeline->remains))
        warn_of_remains(pipeline);
    *ret_pipeline = pipeline;
    return 0;
}

/* Go on with the first `count` workers. The others have never run. */
static void keep_workers(Pipeline *pipeline, uint32_t count) {
    for (uint32_t i = count; i < pipeline->options.workers; i++)
        block_decoder_free(pipeline->workers[i].decoder);
    pipeline->options.workers = count;
}

int pipeline_start(Pipeline *pipeline, Error *error) {
    uint32_t count = 0;
    int r = fetch_start(pipeline->fetch);

    if (r == 0)
        r = setup_pool_start(&pipeline->setups);
    pipeline->started = true;
    if (r < 0)
        return error_set(error, r, "cannot start the threads beside the workers: %s", strerror(-r));
    while (r == 0 && count < pipeline->options.workers) {
        r = worker_start(&pipeline->workers[count].worker);
        count += r == 0;
    }
    if (r < 0 && pipeline->options.fewer_workers && count > 0)
        keep_workers(pipeline, count);
    else if (r < 0)
        return error_set(error, r,
                         "cannot start worker thread %u of %u: %s: lower threads, or raise the "
                         "limit (TasksMax=, ulimit -u)",
                         count + 1, pipeline->options.workers, strerror(-r));
    return 0;
}

static void drop_tasks(TaskQueue *queue) {
    while (task_queue_pop(queue))
        ;
}

static void free_events(Pipeline *pipeline) {
    PipelineEvent event;

    while (pipeline_next_event(pipeline, &event))
        ;
}

/* With the threads gone nothing is under way; what counters say about it no longer matters. */
static void free_streams(Pipeline *pipeline) {
    while (pipeline->streams) {
        Stream *stream = pipeline->streams;
        if (stream->state != STREAM_CLOSED)
            stream_teardown(stream);
        atomic_store(&stream->references, 1);
        stream_unref(stream);
    }
}

static void cancel_setups(Pipeline *pipeline) {
    pthread_mutex_lock(&pipeline->lock);
    for (Stream *stream = pipeline->streams; stream; stream = stream->next_stream)
        atomic_store(&stream->cancelled, true);
    pthread_mutex_unlock(&pipeline->lock);
    setup_pool_stop(&pipeline->setups);
}

void pipeline_free(Pipeline *pipeline) {
    if (!pipeline)
        return;
    cancel_setups(pipeline);
    if (pipeline->started)
        for (uint32_t i = 0; i < pipeline->options.workers; i++)
            worker_stop(&pipeline->workers[i].worker);
    if (pipeline->fetch)
        fetch_stop(pipeline->fetch);
    for (uint32_t i = 0; i < pipeline->accelerator_count; i++)
        accelerator_stop(pipeline->accelerators[i]); /* devices are done with all memory … */
    drop_tasks(&pipeline->urgent);
    drop_tasks(&pipeline->ahead);
    fetch_free(pipeline->fetch); /* … and the kernel is, after this */
    free_streams(pipeline);
    for (uint32_t i = 0; i < pipeline->accelerator_count; i++)
        accelerator_free(pipeline->accelerators[i]);
    free_events(pipeline);
    block_cache_free(pipeline->cache);
    ring_remains_free(pipeline->remains);
    for (uint32_t i = 0; pipeline->workers && i < pipeline->options.workers; i++) {
        block_decoder_free(pipeline->workers[i].decoder);
        free(pipeline->workers[i].rows);
    }
    free(pipeline->workers);
    file_close(&pipeline->event_fd);
    task_queue_deinit(&pipeline->urgent);
    task_queue_deinit(&pipeline->ahead);
    setup_pool_deinit(&pipeline->setups);
    pthread_mutex_destroy(&pipeline->lock);
    pthread_mutex_destroy(&pipeline->device_lock);
    pthread_mutex_destroy(&pipeline->device_open_lock);
    free(pipeline);
}

const char *pipeline_fetch_backend(const Pipeline *pipeline) {
    return fetch_backend(pipeline->fetch);
}

const char *pipeline_fetch_reason(const Pipeline *pipeline) {
    return fetch_reason(pipeline->fetch);
}

MemoryBudget *pipeline_budget(Pipeline *pipeline) {
    return &pipeline->budget;
}

int pipeline_event_fd(const Pipeline *pipeline) {
    return pipeline->event_fd;
}

const char *pipeline_silent_thread(Pipeline *pipeline) {
    const char *silent = NULL;

    for (uint32_t i = 0; i < pipeline->options.workers; i++)
        if (!worker_has_stepped(&pipeline->workers[i].worker))
            silent = "a worker";
    bell_ring(&pipeline->bell, INT_MAX);
    if (setup_pool_is_silent(&pipeline->setups))
        silent = "a set-up thread";
    if (!fetch_has_stepped(pipeline->fetch))
        silent = "the fetch thread";
    return silent;
}

void pipeline_post(Pipeline *pipeline, const PipelineEvent *event) {
    EventNode *node = calloc(1, sizeof *node);
    uint64_t one = 1;

    if (!node)
        abort(); /* a lost event would leave trainers waiting for ever: let the service restart */
    node->event = *event;
    pthread_mutex_lock(&pipeline->lock);
    if (pipeline->last_event)
        pipeline->last_event->next = node;
    else
        pipeline->first_event = node;
    pipeline->last_event = node;
    pthread_mutex_unlock(&pipeline->lock);
    if (write(pipeline->event_fd, &one, sizeof one) < 0)
        return; /* already readable */
}

void pipeline_release(Pipeline *pipeline, uint64_t bytes) {
    const PipelineEvent event = {.kind = PIPELINE_EVENT_MEMORY};

    memory_budget_release(&pipeline->budget, bytes);
    if (atomic_exchange(&pipeline->memory_wanted, false))
        pipeline_post(pipeline, &event);
}

bool pipeline_next_event(Pipeline *pipeline, PipelineEvent *ret_event) {
    EventNode *node;
    uint64_t count;

    pthread_mutex_lock(&pipeline->lock);
    node = pipeline->first_event;
    if (node) {
        pipeline->first_event = node->next;
        if (!node->next)
            pipeline->last_event = NULL;
    } else if (pipeline->event_fd >= 0 && read(pipeline->event_fd, &count, sizeof count) < 0) {
        count = 0; /* it was not readable */
    }
    pthread_mutex_unlock(&pipeline->lock);
    if (!node)
        return false;
    *ret_event = node->event;
    free(node);
    return true;
}

/* ---- devices ---- */

static void device_tell(void *argument, const char *sentence) {
    PipelineEvent event = {.kind = PIPELINE_EVENT_DEVICE};

    snprintf(event.text, sizeof event.text, "%.500s", sentence);
    pipeline_post(argument, &event);
}

static void device_push(void *argument, Task *task) {
    Pipeline *pipeline = argument;

    pipeline_push(pipeline, task, true);
    pipeline_wake(pipeline, 1);
}

static Accelerator *make_accelerator(Pipeline *pipeline, const Feed *feed) {
    const AcceleratorOptions options = {.backend = pipeline->masks,
                                        .device = feed->device[0] ? feed->device : NULL,
                                        .name = feed->backend_reason,
                                        .budget = &pipeline->budget,
                                        .tell = device_tell,
                                        .push = device_push,
                                        .argument = pipeline,
                                        .open_lock = &pipeline->device_open_lock,
                                        .patience_ns = pipeline->options.device_patience_ns
                                                           ? pipeline->options.device_patience_ns
                                                           : DEVICE_PATIENCE_NS};
    Accelerator *accelerator;

    if (pipeline->accelerator_count == PIPELINE_DEVICES_MAX)
        return NULL;
    accelerator = accelerator_new(&options);
    if (accelerator && pipeline->started && accelerator_start(accelerator) < 0) {
        accelerator_free(accelerator);
        return NULL;
    }
    if (accelerator)
        pipeline->accelerators[pipeline->accelerator_count++] = accelerator;
    return accelerator;
}

Accelerator *pipeline_accelerator(Pipeline *pipeline, const Feed *feed) {
    Accelerator *found = NULL;

    if (!pipeline->masks)
        return NULL;
    pthread_mutex_lock(&pipeline->device_lock);
    for (uint32_t i = 0; i < pipeline->accelerator_count && !found; i++)
        if (accelerator_is(pipeline->accelerators[i], feed->backend_reason))
            found = pipeline->accelerators[i];
    if (!found)
        found = make_accelerator(pipeline, feed);
    pthread_mutex_unlock(&pipeline->device_lock);
    return found;
}

void pipeline_watch_devices(Pipeline *pipeline) {
    int64_t now_ns = clock_now_ns();

    pthread_mutex_lock(&pipeline->device_lock);
    for (uint32_t i = 0; i < pipeline->accelerator_count; i++)
        accelerator_watch(pipeline->accelerators[i], now_ns);
    pthread_mutex_unlock(&pipeline->device_lock);
}

void pipeline_remember_stream(Pipeline *pipeline, Stream *stream) {
    pthread_mutex_lock(&pipeline->lock);
    stream->next_stream = pipeline->streams;
    if (stream->next_stream)
        stream->next_stream->previous = stream;
    pipeline->streams = stream;
    pthread_mutex_unlock(&pipeline->lock);
}

void pipeline_forget_stream(Pipeline *pipeline, Stream *stream) {
    pthread_mutex_lock(&pipeline->lock);
    stream_counts_add(&pipeline->ended, &stream->counts);
    if (stream->previous)
        stream->previous->next_stream = stream->next_stream;
    else
        pipeline->streams = stream->next_stream;
    if (stream->next_stream)
        stream->next_stream->previous = stream->previous;
    pthread_mutex_unlock(&pipeline->lock);
}

int pipeline_step_devices(Pipeline *pipeline) {
    int done = 0;

    for (uint32_t i = 0; i < pipeline->accelerator_count; i++)
        done += accelerator_step(pipeline->accelerators[i], false);
    return done;
}

int pipeline_step_fetch(Pipeline *pipeline) {
    return fetch_step(pipeline->fetch);
}

int pipeline_step_setup(Pipeline *pipeline) {
    return setup_pool_step(&pipeline->setups);
}

int pipeline_step_worker(Pipeline *pipeline, uint32_t worker) {
    return worker_step(&pipeline->workers[worker]);
}
