/* SPDX-License-Identifier: MIT */
#include "pipeline/setup_pool.h"

#include <limits.h>
#include <stddef.h>

static bool may_begin(const SetupPool *pool, const SetupJob *job) {
    uint32_t alike = 0, disks = 0; /* jobs under way; the second: that may wait for one */
    uint32_t threads = pool->refused ? pool->thread_count : SETUP_THREADS_MAX;

    for (uint32_t i = 0; i < SETUP_THREADS_MAX; i++) {
        const SetupThread *thread = &pool->threads[i];
        alike += thread->feed == job->feed && thread->kind == job->kind;
        disks += thread->feed && thread->kind != SETUP_END;
    }
    return alike < SETUP_JOBS_EACH &&
           (job->kind == SETUP_END || threads == 1 || disks < threads - 1);
}

/* Where the oldest job that may begin hangs; *NULL: there is none. */
static SetupJob **find_job(SetupPool *pool) {
    SetupJob **link = &pool->first;

    while (*link && !may_begin(pool, *link))
        link = &(*link)->next;
    return link;
}

static SetupJob *unlink_job(SetupPool *pool, SetupJob **link) {
    SetupJob *job = *link;

    if (!job)
        return NULL;
    *link = job->next;
    if (pool->last == job)
        pool->last = link == &pool->first ? NULL : CONTAINER_OF(link, SetupJob, next);
    return job;
}

static bool another_is_idle(const SetupPool *pool, const SetupThread *but) {
    for (uint32_t i = 0; i < pool->thread_count; i++)
        if (&pool->threads[i] != but && !pool->threads[i].feed)
            return true;
    return false;
}

static int run_job(void *argument);

static int add_thread(SetupPool *pool) {
    SetupThread *thread = &pool->threads[pool->thread_count];
    int r;

    thread->pool = pool;
    thread->worker = (Worker){.name = "seqfeed-setup",
                              .bell = &pool->bell,
                              .step = run_job,
                              .argument = thread,
                              .yields = true};
    r = worker_start(&thread->worker);
    pool->thread_count += r == 0;
    return r;
}

/* Where no more threads are to be had those that are there take one job after another, but for one
 * that is there for ends. */
static void grow(SetupPool *pool) {
    if (pool->started && pool->thread_count < SETUP_THREADS_MAX)
        pool->refused = add_thread(pool) < 0;
}

/* Before a job that may wait for a disk is begun, another thread must be there. */
static SetupJob *take_job(SetupPool *pool, const SetupThread *thread) {
    const SetupJob *next = *find_job(pool);

    if (next && next->kind != SETUP_END && !another_is_idle(pool, thread))
        grow(pool);
    return unlink_job(pool, find_job(pool));
}

static int run_job(void *argument) {
    SetupThread *thread = argument;
    SetupPool *pool = thread->pool;
    SetupJob *job;
    bool more;

    pthread_mutex_lock(&pool->lock);
    job = take_job(pool, thread);
    if (job) {
        thread->feed = job->feed;
        thread->kind = job->kind;
        if (*find_job(pool) && !another_is_idle(pool, NULL))
            grow(pool);
    }
    more = *find_job(pool) != NULL; /* of a feed that has had enough under way until now */
    pthread_mutex_unlock(&pool->lock);
    if (!job)
        return 0;
    if (more)
        bell_ring(&pool->bell, 1);
    job->run(job, &thread->worker.steps);
    pthread_mutex_lock(&pool->lock);
    thread->feed = NULL;
    pthread_mutex_unlock(&pool->lock);
    return 1;
}

void setup_pool_init(SetupPool *pool) {
    *pool = (SetupPool){0};
    pthread_mutex_init(&pool->lock, NULL);
}

void setup_pool_deinit(SetupPool *pool) {
    pthread_mutex_destroy(&pool->lock);
}

int setup_pool_start(SetupPool *pool) {
    int r;

    pthread_mutex_lock(&pool->lock);
    r = add_thread(pool);
    pool->started = r == 0;
    pthread_mutex_unlock(&pool->lock);
    return r;
}

void setup_pool_stop(SetupPool *pool) {
    uint32_t count;

    pthread_mutex_lock(&pool->lock);
    pool->started = false;
    pool->first = pool->last = NULL;
    count = pool->thread_count;
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < count; i++)
        worker_stop(&pool->threads[i].worker);
}

void setup_pool_push(SetupPool *pool, SetupJob *job) {
    bool is_stuck; /* for want of threads, of which there may be more by now */

    pthread_mutex_lock(&pool->lock);
    job->next = NULL;
    if (pool->last)
        pool->last->next = job;
    else
        pool->first = job;
    pool->last = job;
    is_stuck = pool->refused && !*find_job(pool);
    if (is_stuck || !another_is_idle(pool, NULL))
        grow(pool);
    pthread_mutex_unlock(&pool->lock);
    bell_ring(&pool->bell, 1);
}

bool setup_pool_take_back(SetupPool *pool, const SetupJob *job) {
    SetupJob **link;
    bool found;

    pthread_mutex_lock(&pool->lock);
    for (link = &pool->first; *link && *link != job; link = &(*link)->next)
        ;
    found = unlink_job(pool, link) != NULL;
    pthread_mutex_unlock(&pool->lock);
    return found;
}

bool setup_pool_is_silent(SetupPool *pool) {
    bool silent = false;

    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++) {
        SetupThread *thread = &pool->threads[i];
        bool ends = thread->feed && thread->kind == SETUP_END;
        silent |= !worker_has_stepped(&thread->worker) && !ends;
    }
    pthread_mutex_unlock(&pool->lock);
    bell_ring(&pool->bell, INT_MAX); /* who sleeps takes a step before the next look */
    return silent;
}

int setup_pool_step(SetupPool *pool) {
    pool->threads[0].pool = pool;
    return run_job(&pool->threads[0]);
}
