/* SPDX-License-Identifier: MIT */
#include "shard/ordered_jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct Hand {
    OrderedJobs *jobs;
    pthread_t thread;
    uint32_t index;
} Hand;

struct OrderedJobs {
    pthread_mutex_t lock;
    pthread_cond_t work_is_there, job_is_done;
    OrderedJobsWork *work;
    void *shared;
    uint8_t *jobs;
    bool *done; /* [count] */
    size_t job_bytes;
    uint32_t count;
    /* Ever submitted >= ever taken by a thread, and >= ever collected; the ring index is modulo
     * count. Under the lock. */
    uint64_t submitted, taken, collected;
    bool stop;
    Hand *hands;
    uint32_t hand_count;
};

static void *hand_main(void *argument) {
    Hand *hand = argument;
    OrderedJobs *jobs = hand->jobs;

    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        while (!jobs->stop && jobs->taken == jobs->submitted)
            pthread_cond_wait(&jobs->work_is_there, &jobs->lock);
        if (jobs->stop)
            break;
        uint32_t at = (uint32_t)(jobs->taken++ % jobs->count);
        pthread_mutex_unlock(&jobs->lock);
        jobs->work(jobs->shared, hand->index, jobs->jobs + at * jobs->job_bytes);
        pthread_mutex_lock(&jobs->lock);
        jobs->done[at] = true;
        pthread_cond_signal(&jobs->job_is_done);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

static int start_hands(OrderedJobs *jobs, uint32_t threads) {
    for (uint32_t t = 0; t < threads; t++) {
        Hand *hand = &jobs->hands[t];
        *hand = (Hand){.jobs = jobs, .index = t};
        int r = pthread_create(&hand->thread, NULL, hand_main, hand);
        if (r != 0)
            return -r;
        jobs->hand_count++;
    }
    return 0;
}

int ordered_jobs_new(uint32_t threads, uint32_t count, size_t job_bytes, OrderedJobsWork *work,
                     void *shared, OrderedJobs **ret_jobs) {
    OrderedJobs *jobs = calloc(1, sizeof *jobs);
    int r;

    if (!jobs)
        return -ENOMEM;
    jobs->work = work;
    jobs->shared = shared;
    jobs->job_bytes = job_bytes;
    jobs->count = count;
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->work_is_there, NULL);
    pthread_cond_init(&jobs->job_is_done, NULL);
    jobs->jobs = calloc(count, job_bytes);
    jobs->done = calloc(count, sizeof *jobs->done);
    jobs->hands = calloc((size_t)threads + 1, sizeof *jobs->hands);
    r = jobs->jobs && jobs->done && jobs->hands ? start_hands(jobs, threads) : -ENOMEM;
    if (r < 0) {
        ordered_jobs_free(jobs);
        return r;
    }
    *ret_jobs = jobs;
    return 0;
}

void ordered_jobs_stop(OrderedJobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    pthread_cond_broadcast(&jobs->work_is_there);
    pthread_mutex_unlock(&jobs->lock);
    for (uint32_t t = 0; t < jobs->hand_count; t++)
        (void)pthread_join(jobs->hands[t].thread, NULL);
    jobs->hand_count = 0;
}

void ordered_jobs_free(OrderedJobs *jobs) {
    if (!jobs)
        return;
    ordered_jobs_stop(jobs);
    pthread_cond_destroy(&jobs->job_is_done);
    pthread_cond_destroy(&jobs->work_is_there);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs->hands);
    free(jobs->done);
    free(jobs->jobs);
    free(jobs);
}

void *ordered_jobs_claim(OrderedJobs *jobs) {
    if (jobs->submitted - jobs->collected == jobs->count)
        return NULL;
    return jobs->jobs + jobs->submitted % jobs->count * jobs->job_bytes;
}

void ordered_jobs_submit(OrderedJobs *jobs) {
    uint32_t at = (uint32_t)(jobs->submitted % jobs->count);

    if (jobs->hand_count == 0) {
        jobs->work(jobs->shared, 0, jobs->jobs + at * jobs->job_bytes);
        jobs->done[at] = true;
        jobs->submitted++;
        return;
    }
    pthread_mutex_lock(&jobs->lock);
    jobs->submitted++;
    pthread_cond_signal(&jobs->work_is_there);
    pthread_mutex_unlock(&jobs->lock);
}

void *ordered_jobs_collect(OrderedJobs *jobs) {
    uint32_t at = (uint32_t)(jobs->collected % jobs->count);

    if (jobs->collected == jobs->submitted)
        return NULL;
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->done[at])
        pthread_cond_wait(&jobs->job_is_done, &jobs->lock);
    pthread_mutex_unlock(&jobs->lock);
    return jobs->jobs + at * jobs->job_bytes;
}

void ordered_jobs_give_back(OrderedJobs *jobs) {
    jobs->done[jobs->collected % jobs->count] = false;
    jobs->collected++;
}

uint32_t ordered_jobs_count(const OrderedJobs *jobs) {
    return jobs->count;
}

void *ordered_jobs_at(OrderedJobs *jobs, uint32_t index) {
    return jobs->jobs + index * jobs->job_bytes;
}
