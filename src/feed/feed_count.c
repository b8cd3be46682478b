/* SPDX-License-Identifier: MIT */
/* Units of every window of an epoch, where they depend on which sequences meet in a window: lengths
 * are read and each window is planned without its results. Windows have nothing in common, so as
 * many threads as the feed may use take one after another. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "feed/feed_internal.h"

enum { THREADS_MAX = 64, WORTH_A_THREAD = 200000 /* sequences */ };

typedef struct Count {
    const Feed *feed;
    const PlanSpec *spec;
    const PlanEpoch *plan;
    uint32_t *const *units;
    const Heartbeat *heartbeat;
    _Atomic uint64_t next; /* window, counted over all strands */
    _Atomic bool stop;
    pthread_mutex_t lock; /* of what follows */
    PlanTally tally;
    Error error;
    int result;
} Count;

/* What one thread keeps from window to window. */
typedef struct Hand {
    uint32_t *lengths;
    PlanScratch scratch;
    PlanTally tally;
} Hand;

/* The strand and number of window `index` of all; false: there is none. */
static bool find_window(const PlanEpoch *plan, uint64_t index, uint32_t *ret_strand,
                        uint32_t *ret_window) {
    for (uint32_t s = 0; s < plan->strand_count; s++) {
        if (index < plan->strands[s].window_count) {
            *ret_strand = s;
            *ret_window = (uint32_t)index;
            return true;
        }
        index -= plan->strands[s].window_count;
    }
    return false;
}

int feed_read_window(const Feed *feed, const PlanStrand *strand, uint32_t number,
                     const Heartbeat *heartbeat, uint32_t *ret_lengths,
                     uint32_t *ret_block_sequences, uint64_t *ret_count, Error *error) {
    const Catalog *catalog = feed->catalog;
    const PlanWindow *window = &strand->windows[number];
    uint64_t at = 0;

    for (uint32_t i = 0; i < window->block_count; i++) {
        uint32_t block = strand->blocks[window->block_first + i];
        int r = catalog_read_lengths(catalog, block, ret_lengths + at, error);

        if (r < 0)
            return r;
        if (!heartbeat_goes_on(heartbeat))
            return error_set(error, -ECANCELED, "feed %s: nobody waits for this any more",
                             feed->name);
        at += catalog->block_sequences[block];
        if (ret_block_sequences)
            ret_block_sequences[i] = catalog->block_sequences[block];
    }
    *ret_count = at;
    return 0;
}

static int count_one(const Count *count, Hand *hand, uint32_t strand, uint32_t number,
                     Error *error) {
    uint64_t at = 0;
    PlanTally tally;
    int r = feed_read_window(count->feed, &count->plan->strands[strand], number, count->heartbeat,
                             hand->lengths, NULL, &at, error);

    if (r < 0)
        return r;
    r = plan_count_window(count->spec, count->plan, strand, number, hand->lengths, at,
                          &hand->scratch, &tally);
    if (r < 0)
        return error_set(error, r, "feed %s: window %u of strand %u cannot be counted: %s",
                         count->feed->name, number, strand,
                         r == -ENOMEM ? "no memory" : "its lengths are not those of the index");
    count->units[strand][number] = (uint32_t)tally.units;
    plan_tally_add(&hand->tally, &tally);
    return 0;
}

static void *count_run(void *argument) {
    Count *count = argument;
    Hand hand = {.lengths = malloc((count->feed->window_sequences_max + 1) * sizeof(uint32_t))};
    uint32_t strand, number;
    Error error = {0};
    int r = hand.lengths
                ? 0
                : error_set(&error, -ENOMEM, "no memory to count feed %s", count->feed->name);

    while (r == 0 && !atomic_load_explicit(&count->stop, memory_order_relaxed) &&
           find_window(count->plan, atomic_fetch_add(&count->next, 1), &strand, &number))
        r = count_one(count, &hand, strand, number, &error);

    pthread_mutex_lock(&count->lock);
    plan_tally_add(&count->tally, &hand.tally);
    if (r < 0 && count->result == 0) {
        count->result = r;
        count->error = error;
        atomic_store(&count->stop, true);
    }
    pthread_mutex_unlock(&count->lock);
    plan_scratch_free(&hand.scratch);
    free(hand.lengths);
    return NULL;
}

uint32_t feed_count_threads(const Feed *feed) {
    uint64_t worth = feed->catalog->sequences / WORTH_A_THREAD + 1;

    uint32_t allowed = MAX(feed->threads, 1u);

    allowed = MIN(allowed, (uint32_t)THREADS_MAX);
    return (uint32_t)MIN(worth, (uint64_t)allowed);
}

int feed_count_windows(const Feed *feed, const PlanSpec *spec, const PlanEpoch *plan,
                       const Heartbeat *heartbeat, uint32_t *const *units, PlanTally *ret_tally,
                       Error *error) {
    Count count = {
        .feed = feed, .spec = spec, .plan = plan, .units = units, .heartbeat = heartbeat};
    uint32_t wanted = feed_count_threads(feed), started = 0;
    pthread_t threads[THREADS_MAX];

    if (pthread_mutex_init(&count.lock, NULL) != 0)
        return error_set(error, -ENOMEM, "no lock to count feed %s", feed->name);
    /* This thread counts too; one that cannot be started is one less. */
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, count_run, &count) == 0)
        started++;
    count_run(&count);
    for (uint32_t t = 0; t < started; t++)
        pthread_join(threads[t], NULL);
    pthread_mutex_destroy(&count.lock);
    if (count.result < 0) {
        if (error)
            *error = count.error;
        return count.result;
    }
    *ret_tally = count.tally;
    return 0;
}
