/* SPDX-License-Identifier: MIT */
/* What takes long before a stream can go on and after it has ended, on threads of its own. Lengths
 * are read by counting only, and here only when the test lets them be read; rings go back to the
 * kernel when it lets them go. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "pipeline/pipeline_internal.h"
#include "pipeline/stream_bench.h"

enum { SLOW_MAX = 6 };

/* Two feeds over one dataset: `train` needs no lengths to count its epochs, `slow` does. */
static const char *const feeds = "    batch: {size: 16}\n"
                                 "  slow:\n"
                                 "    dataset: data\n"
                                 "    order: {window: 64}\n"
                                 "    ring: {slots: 2}\n"
                                 "    batch: {policy: tokens, tokens: 512}\n";

static _Atomic uint32_t reads, allowed; /* further ones wait */
static _Atomic uint32_t each_us;        /* what one takes */

static void allow(uint32_t count) {
    atomic_store(&allowed, count);
}

static void allow_all(void) {
    allow(UINT32_MAX);
}

int __real_catalog_read_lengths(const Catalog *catalog, uint32_t block, uint32_t *ret_lengths,
                                Error *error);
int __wrap_catalog_read_lengths(const Catalog *catalog, uint32_t block, uint32_t *ret_lengths,
                                Error *error);
int __wrap_catalog_read_lengths(const Catalog *catalog, uint32_t block, uint32_t *ret_lengths,
                                Error *error) {
    uint32_t number = atomic_fetch_add(&reads, 1) + 1;

    while (number > atomic_load(&allowed))
        usleep(1000);
    usleep(atomic_load(&each_us));
    return __real_catalog_read_lengths(catalog, block, ret_lengths, error);
}

static _Atomic bool held;     /* no ring goes back */
static _Atomic uint32_t ends; /* rings that are on their way */

void __real_ring_writer_destroy(RingWriter *writer);
void __wrap_ring_writer_destroy(RingWriter *writer);
void __wrap_ring_writer_destroy(RingWriter *writer) {
    atomic_fetch_add(&ends, 1);
    while (atomic_load(&held))
        usleep(1000);
    __real_ring_writer_destroy(writer);
}

static _Atomic int threads_left = INT_MAX; /* that the system grants */

int __real_worker_start(Worker *worker);
int __wrap_worker_start(Worker *worker);
int __wrap_worker_start(Worker *worker) {
    return atomic_fetch_sub(&threads_left, 1) > 0 ? __real_worker_start(worker) : -EAGAIN;
}

typedef struct Slow {
    Bench bench;
    Feed *feed;
    Stream *streams[SLOW_MAX];
    uint32_t count;
} Slow;

static void slow_make(Slow *slow, uint64_t sequences) {
    BenchOptions options = bench_usual(sequences, 1);
    Error error = {0};

    allow_all();
    atomic_store(&held, false);
    atomic_store(&ends, 0);
    atomic_store(&each_us, 0);
    options.extra = feeds;
    options.threads = true;
    *slow = (Slow){0};
    bench_make(&slow->bench, &options);
    ck_assert_msg(
        feed_open(slow->bench.settings, &slow->bench.settings->feeds[1], &slow->feed, &error) == 0,
        "%s", error.text);
    slow->feed->threads = 1;
    atomic_store(&reads, 0);
}

static void slow_end(Slow *slow) {
    allow_all();
    bench_end(&slow->bench);
    feed_unref(slow->feed);
}

/* One more stream of the slow feed, with a seed that nobody has counted. */
static void slow_begin(Slow *slow) {
    static const uint32_t rank = 0;
    StreamRequest request = {.feed = slow->feed,
                             .seed = 100 + slow->count,
                             .world = 1,
                             .ring_count = 1,
                             .ranks = &rank,
                             .members = 1,
                             .owner = &slow->streams[slow->count]};
    uint64_t reserved;
    Error error = {0};

    ck_assert_int_eq(pipeline_reserve(slow->bench.pipeline, slow->feed, 1, 1, &reserved, &error),
                     0);
    ck_assert_int_eq(
        stream_new(slow->bench.pipeline, &request, reserved, &slow->streams[slow->count++], &error),
        0);
}

/* The next event, within `seconds`. */
static PipelineEvent next_event(Slow *slow, int seconds) {
    int64_t until = clock_now_ns() + seconds * NS_PER_SECOND;
    PipelineEvent event;

    while (!bench_event(&slow->bench, &event)) {
        ck_assert_msg(clock_now_ns() < until, "no event within %d s", seconds);
        usleep(100);
    }
    return event;
}

static void wait_for(_Atomic uint32_t *counter, uint32_t count) {
    int64_t until = clock_now_ns() + 10 * NS_PER_SECOND;

    while (atomic_load(counter) < count) {
        ck_assert_msg(clock_now_ns() < until, "%u of %u", atomic_load(counter), count);
        usleep(100);
    }
}

static void wait_for_reads(uint32_t count) {
    wait_for(&reads, count);
}

static void take_batches(Slow *slow, int count) {
    while (count-- > 0) {
        (void)bench_next(&slow->bench, 0);
        bench_release(&slow->bench, 0);
    }
}

/* More of them than there are workers, and than one feed may have under way at a time. */
START_TEST(slow_counts_hold_up_no_stream_and_no_other_feed)
{
    BenchOptions usual = bench_usual(2000, 1);
    Slow slow;

    slow_make(&slow, 2000);
    bench_start(&slow.bench, &usual);
    take_batches(&slow, 10);
    allow(0);
    for (int i = 0; i < SLOW_MAX; i++)
        slow_begin(&slow);
    wait_for_reads(SETUP_JOBS_EACH);
    take_batches(&slow, 300); /* into the third epoch */
    usleep(20000);
    ck_assert_uint_eq(atomic_load(&reads), SETUP_JOBS_EACH);

    allow_all();
    for (int i = 0; i < SLOW_MAX; i++)
        ck_assert_int_eq(next_event(&slow, 20).kind, PIPELINE_EVENT_READY);
    for (int i = 0; i < SLOW_MAX; i++) {
        stream_leave(slow.streams[i], 0, 0);
        ck_assert_int_eq(next_event(&slow, 20).kind, PIPELINE_EVENT_CLOSED);
        stream_free(slow.streams[i]);
    }
    slow_end(&slow);
}
END_TEST

START_TEST(another_feed_begins_while_one_is_slow)
{
    BenchOptions usual = bench_usual(2000, 1);
    Slow slow;

    slow_make(&slow, 2000);
    allow(0);
    for (int i = 0; i < SLOW_MAX; i++)
        slow_begin(&slow);
    wait_for_reads(SETUP_JOBS_EACH);
    bench_start(&slow.bench, &usual);
    take_batches(&slow, 10);
    allow_all();
    for (int i = 0; i < SLOW_MAX; i++)
        stream_cancel(slow.streams[i]);
    for (uint32_t closed = 0; closed < SLOW_MAX;) {
        PipelineEvent event = next_event(&slow, 20);
        Stream **stream = event.owner;

        closed += event.kind == PIPELINE_EVENT_CLOSED;
        if (event.kind == PIPELINE_EVENT_READY) { /* it was done by then */
            stream_leave(*stream, 0, 0);
        } else if (*stream) {
            stream_free(*stream);
            *stream = NULL;
        }
    }
    slow_end(&slow);
}
END_TEST

/* One that has begun ends with the block it is at, one that has not at once. */
START_TEST(a_stream_that_nobody_waits_for_is_not_made)
{
    PipelineStatus status;
    Slow slow;

    slow_make(&slow, 2000);
    allow(0);
    for (int i = 0; i < SETUP_JOBS_EACH + 1; i++)
        slow_begin(&slow);
    wait_for_reads(SETUP_JOBS_EACH);
    for (int i = SETUP_JOBS_EACH; i >= 0; i--) {
        PipelineEvent event;

        stream_cancel(slow.streams[i]);
        if (i < SETUP_JOBS_EACH)
            allow_all();
        else
            usleep(1000);
        event = next_event(&slow, 10);
        ck_assert_int_eq(event.kind, PIPELINE_EVENT_FAILED);
        ck_assert_int_eq(event.code, -ECANCELED);
        ck_assert_ptr_eq(event.owner, &slow.streams[i]);
        stream_free(slow.streams[i]);
        ck_assert_int_eq(next_event(&slow, 10).kind, PIPELINE_EVENT_CLOSED);
        if (i == SETUP_JOBS_EACH)
            ck_assert_uint_eq(atomic_load(&reads), SETUP_JOBS_EACH);
    }
    pipeline_status(slow.bench.pipeline, &status);
    ck_assert_uint_eq(status.memory_reserved, 0);
    slow_end(&slow);
}
END_TEST

/* A count of many seconds ends with the block it is at: of a stream that is being made when the
 * pipeline ends, and of the next epoch of one that everybody leaves. */
START_TEST(no_end_waits_for_a_count)
{
    int64_t began_ns;
    Slow slow;

    slow_make(&slow, 6000);
    ck_assert_uint_ge(slow.feed->blocks.count, 20);
    allow(slow.feed->blocks.count);
    slow_begin(&slow);
    ck_assert_int_eq(next_event(&slow, 20).kind, PIPELINE_EVENT_READY);
    wait_for_reads(slow.feed->blocks.count + 1);
    atomic_store(&each_us, 100000);
    allow_all();
    began_ns = clock_now_ns();
    stream_leave(slow.streams[0], 0, 0);
    ck_assert_int_eq(next_event(&slow, 20).kind, PIPELINE_EVENT_CLOSED);
    ck_assert_int_lt(clock_now_ns() - began_ns, NS_PER_SECOND);
    stream_free(slow.streams[0]);

    slow_begin(&slow);
    wait_for_reads(slow.feed->blocks.count + 3);
    began_ns = clock_now_ns();
    slow_end(&slow);
    ck_assert_int_lt(clock_now_ns() - began_ns, NS_PER_SECOND);
}
END_TEST

static void all_leave(Slow *slow, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        slow_begin(slow);
    for (uint32_t i = 0; i < count; i++)
        ck_assert_int_eq(next_event(slow, 20).kind, PIPELINE_EVENT_READY);
    atomic_store(&held, true);
    for (uint32_t i = 0; i < count; i++)
        stream_leave(slow->streams[i], 0, 0);
    wait_for(&ends, SETUP_JOBS_EACH);
}

/* The memory counts as in use until the kernel has it, and then somebody else may have it. */
START_TEST(rings_that_go_back_hold_up_no_stream)
{
    BenchOptions usual = bench_usual(2000, 1);
    PipelineStatus before, during;
    PipelineEvent event;
    Slow slow;

    slow_make(&slow, 2000);
    bench_start(&slow.bench, &usual);
    take_batches(&slow, 10);
    pipeline_status(slow.bench.pipeline, &before);
    all_leave(&slow, SLOW_MAX); /* more than there are workers */
    pipeline_status(slow.bench.pipeline, &during);
    take_batches(&slow, 300);
    usleep(20000);
    ck_assert_uint_eq(atomic_load(&ends), SETUP_JOBS_EACH);
    ck_assert(!bench_event(&slow.bench, &event));
    ck_assert_uint_gt(during.memory_reserved, before.memory_reserved);
    for (int i = 0; i < SLOW_MAX; i++)
        stream_leave(slow.streams[i], 0, 0); /* there is nobody any more to leave */

    atomic_store(&held, false);
    for (int i = 0; i < SLOW_MAX; i++)
        ck_assert_int_eq(next_event(&slow, 20).kind, PIPELINE_EVENT_CLOSED);
    pipeline_status(slow.bench.pipeline, &during);
    ck_assert_uint_eq(during.memory_reserved, before.memory_reserved);
    for (int i = 0; i < SLOW_MAX; i++)
        stream_free(slow.streams[i]);
    slow_end(&slow);
}
END_TEST

static void *let_go_soon(void *unused) {
    usleep(100000);
    atomic_store(&held, false);
    return unused;
}

/* Some are on their way then, others have not begun. */
START_TEST(the_pipeline_ends_while_rings_go_back)
{
    pthread_t thread;
    Slow slow;

    slow_make(&slow, 2000);
    all_leave(&slow, SLOW_MAX);
    ck_assert_int_eq(pthread_create(&thread, NULL, let_go_soon, NULL), 0);
    slow_end(&slow);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(atomic_load(&ends), SLOW_MAX);
}
END_TEST

typedef struct Held {
    SetupJob job;
    uint8_t feed; /* nobody looks into it */
} Held;

static _Atomic uint32_t begun;

static void wait_until_let_go(SetupJob *job, _Atomic uint64_t *beats) {
    (void)job;
    (void)beats;
    atomic_fetch_add(&begun, 1);
    while (atomic_load(&held))
        usleep(1000);
}

START_TEST(slow_disks_hold_up_no_end)
{
    enum { SLOW_JOBS = SETUP_THREADS_MAX + 4 };
    Held slow[SLOW_JOBS], end = {.job = {.run = wait_until_let_go, .kind = SETUP_END}};
    SetupPool pool;

    atomic_store(&begun, 0);
    atomic_store(&held, true);
    setup_pool_init(&pool);
    ck_assert_int_eq(setup_pool_start(&pool), 0);
    for (uint32_t i = 0; i < SLOW_JOBS; i++) {
        slow[i] = (Held){
            .job = {.run = wait_until_let_go, .kind = i % 2 ? SETUP_MAKE : SETUP_COUNT}};
        slow[i].job.feed = (const Feed *)(const void *)&slow[i].feed;
        setup_pool_push(&pool, &slow[i].job);
    }
    wait_for(&begun, SETUP_THREADS_MAX - 1);
    usleep(20000);
    ck_assert_uint_eq(atomic_load(&begun), SETUP_THREADS_MAX - 1);
    end.job.feed = (const Feed *)(const void *)&end.feed;
    setup_pool_push(&pool, &end.job);
    wait_for(&begun, SETUP_THREADS_MAX);
    atomic_store(&held, false);
    wait_for(&begun, SLOW_JOBS + 1);
    setup_pool_stop(&pool);
    setup_pool_deinit(&pool);
}
END_TEST

/* Nor where the system grants two threads; with more of them more goes on. */
START_TEST(of_few_threads_one_is_there_for_ends)
{
    Held slow[4], end = {.job = {.run = wait_until_let_go, .kind = SETUP_END}};
    SetupPool pool;

    atomic_store(&begun, 0);
    atomic_store(&held, true);
    atomic_store(&threads_left, 2);
    setup_pool_init(&pool);
    ck_assert_int_eq(setup_pool_start(&pool), 0);
    for (uint32_t i = 0; i < ARRAY_COUNT(slow); i++) {
        slow[i] = (Held){.job = {.run = wait_until_let_go, .kind = SETUP_MAKE}};
        slow[i].job.feed = (const Feed *)(const void *)&slow[i].feed;
    }
    setup_pool_push(&pool, &slow[0].job);
    wait_for(&begun, 1);
    setup_pool_push(&pool, &slow[1].job);
    setup_pool_push(&pool, &slow[2].job);
    usleep(20000);
    ck_assert_uint_eq(atomic_load(&begun), 1);
    end.job.feed = (const Feed *)(const void *)&end.feed;
    setup_pool_push(&pool, &end.job);
    wait_for(&begun, 2);
    atomic_store(&threads_left, INT_MAX);
    setup_pool_push(&pool, &slow[3].job);
    wait_for(&begun, 5);
    atomic_store(&held, false);
    setup_pool_stop(&pool);
    setup_pool_deinit(&pool);
}
END_TEST

/* A single one does all. */
START_TEST(one_thread_is_enough)
{
    Held jobs[3];
    SetupPool pool;

    atomic_store(&begun, 0);
    atomic_store(&held, false);
    atomic_store(&threads_left, 1);
    setup_pool_init(&pool);
    ck_assert_int_eq(setup_pool_start(&pool), 0);
    for (uint32_t i = 0; i < ARRAY_COUNT(jobs); i++) {
        jobs[i] = (Held){.job = {.run = wait_until_let_go, .kind = (SetupKind)i}};
        jobs[i].job.feed = (const Feed *)(const void *)&jobs[i].feed;
        setup_pool_push(&pool, &jobs[i].job);
    }
    wait_for(&begun, ARRAY_COUNT(jobs));
    setup_pool_stop(&pool);
    setup_pool_deinit(&pool);
    atomic_store(&threads_left, INT_MAX); /* tests may share a process */
}
END_TEST

static atomic_bool hung, is_forgotten;

static void hang(FetchRequest *request) {
    (void)request;
    while (atomic_load(&hung))
        usleep(1000);
}

static void forgotten(FetchForget *forget) {
    (void)forget;
    atomic_store(&is_forgotten, true);
}

/* Long enough that who sleeps has been woken, and short beside a hang. */
static const char *silent_after_a_while(Pipeline *pipeline) {
    (void)pipeline_silent_thread(pipeline);
    usleep(200000);
    return pipeline_silent_thread(pipeline);
}

START_TEST(a_thread_is_silent_that_gets_on_with_nothing)
{
    Pipeline *pipeline;
    Slow slow;

    slow_make(&slow, 6000);
    pipeline = slow.bench.pipeline;
    ck_assert_ptr_null(pipeline_silent_thread(pipeline)); /* they may not have run yet */
    ck_assert_ptr_null(silent_after_a_while(pipeline));

    atomic_store(&each_us, 20000);
    slow_begin(&slow); /* one step, but a long one */
    wait_for_reads(2);
    ck_assert_ptr_null(silent_after_a_while(pipeline));
    allow(0);
    usleep(40000);
    ck_assert_str_eq(silent_after_a_while(pipeline), "a set-up thread");
    stream_cancel(slow.streams[0]);
    allow_all();
    ck_assert_int_eq(next_event(&slow, 10).kind, PIPELINE_EVENT_FAILED);
    stream_free(slow.streams[0]);
    ck_assert_int_eq(next_event(&slow, 10).kind, PIPELINE_EVENT_CLOSED);
    ck_assert_ptr_null(silent_after_a_while(pipeline));

    atomic_store(&each_us, 0);
    slow.count = 0;
    all_leave(&slow, SETUP_JOBS_EACH);
    ck_assert_ptr_null(silent_after_a_while(pipeline)); /* it is the kernel that takes its time */
    atomic_store(&held, false);
    for (int i = 0; i < SETUP_JOBS_EACH; i++)
        ck_assert_int_eq(next_event(&slow, 10).kind, PIPELINE_EVENT_CLOSED);
    for (int i = 0; i < SETUP_JOBS_EACH; i++)
        stream_free(slow.streams[i]);
    slow_end(&slow);
}
END_TEST

START_TEST(the_fetch_thread_is_looked_at_too)
{
    for (int pread = 0; pread < 2; pread++) {
        PipelineOptions options = {.workers = 1, .memory = 1 << 20, .force_pread = pread};
        int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        uint8_t bytes[16];
        Pipeline *pipeline;
        FetchFile file;
        FetchRequest request = {.file = &file, .memory = bytes, .size = sizeof bytes, .done = hang};
        FetchForget forget = {.files = &file, .file_count = 1, .done = forgotten};
        Error error = {0};

        ck_assert_int_eq(pipeline_new(&options, &pipeline, &error), 0);
        ck_assert_int_eq(pipeline_start(pipeline, &error), 0);
        ck_assert_ptr_null(silent_after_a_while(pipeline));
        atomic_store(&hung, true);
        fetch_file_init(&file, fd, FILE_NONE, 1);
        fetch_submit(pipeline->fetch, &request);
        usleep(40000);
        ck_assert_str_eq(silent_after_a_while(pipeline), "the fetch thread");
        atomic_store(&hung, false);
        usleep(40000);
        ck_assert_ptr_null(silent_after_a_while(pipeline));
        atomic_store(&is_forgotten, false);
        fetch_forget(pipeline->fetch, &forget);
        while (!atomic_load(&is_forgotten))
            usleep(1000);
        pipeline_free(pipeline);
        close(fd);
    }
}
END_TEST

CHECK_MAIN("setup", slow_counts_hold_up_no_stream_and_no_other_feed,
           another_feed_begins_while_one_is_slow, a_stream_that_nobody_waits_for_is_not_made,
           no_end_waits_for_a_count, rings_that_go_back_hold_up_no_stream,
           the_pipeline_ends_while_rings_go_back, slow_disks_hold_up_no_end,
           of_few_threads_one_is_there_for_ends, one_thread_is_enough,
           a_thread_is_silent_that_gets_on_with_nothing, the_fetch_thread_is_looked_at_too)
