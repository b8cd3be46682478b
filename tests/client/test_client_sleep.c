/* SPDX-License-Identifier: MIT */
/* No publish is slept through, however late its wake comes. Every sleep passes through here. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <seqfeed/seqfeed.h>

#include "client/fake_daemon.h"
#include "support/check_main.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { BATCHES = 20000 };
#else
enum { BATCHES = 100000 };
#endif
enum { SLOTS = 8, SLOT_BYTES = 4096, MEMBERS = 3 };

static FakeDaemon daemon_;
static void (*before_sleep)(void); /* once */
static int slept;                  /* what came of it: 0 or errno */
static atomic_uint lost;           /* sleeps that ended by themselves though a batch was there */
static _Thread_local uint64_t taken;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, void *word, long operation, unsigned long value,
                    const struct timespec *limit, void *word2, long value3);

long __wrap_syscall(long number, void *word, long operation, unsigned long value,
                    const struct timespec *limit, void *word2, long value3) {
    bool sleeps = number == SYS_futex && operation == FUTEX_WAIT;
    void (*before)(void) = before_sleep;
    long r;

    if (sleeps && before) {
        before_sleep = NULL;
        before();
    }
    r = __real_syscall(number, word, operation, value, limit, word2, value3);
    if (!sleeps)
        return r;
    if (before)
        slept = r < 0 ? errno : 0;
    if (r < 0 && errno == ETIMEDOUT) {
        const uint8_t *header = (const uint8_t *)word - offsetof(SeqfeedRingHeader, bell);
        uint64_t head = __atomic_load_n(&((const SeqfeedRingHeader *)(const void *)header)->head,
                                        __ATOMIC_SEQ_CST);
        atomic_fetch_add(&lost, head > taken);
        errno = ETIMEDOUT;
    }
    return r;
}

static Seqfeed *attach(void) {
    SeqfeedOptions options = {.socket = daemon_.address.sun_path, .feed = "train"};
    SeqfeedError error;
    Seqfeed *feed = NULL;

    ck_assert_msg(seqfeed_attach(&feed, &options, &error) == 0, "%s", error.text);
    return feed;
}

/* The wake for a batch that the trainer has long had takes back its wish for the next one. */
static void wake_late_then_publish(void) {
    pthread_mutex_lock(&daemon_.lock);
    ring_writer_wake(daemon_.writer);
    pthread_mutex_unlock(&daemon_.lock);
    ck_assert(fake_daemon_publish(&daemon_));
}

START_TEST(a_late_wake_does_not_take_the_next_one_away)
{
    SeqfeedBatch batch;
    Seqfeed *feed;

    fake_daemon_start(&daemon_, SLOTS, SLOT_BYTES);
    daemon_.wake_every = 100;
    feed = attach();
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, 1000000000), 0);
    daemon_.wake_every = 1;
    slept = -1;
    before_sleep = wake_late_then_publish;
    ck_assert_int_eq(seqfeed_next(feed, &batch, 1000000000), 0);
    ck_assert_ptr_null(before_sleep);
    ck_assert_int_eq(slept, EAGAIN);
    seqfeed_detach(feed);
    fake_daemon_stop(&daemon_);
}
END_TEST

static void nothing_more(void) {
}

/* The wish is the first word that a trainer writes when nothing is there: until now its page cannot
 * be written. A wake of this moment may already take the wish back. */
static Seqfeed *wishing;

static void wake_at_the_wish(int signal) {
    uint32_t *bell = &daemon_.writer->header->bell;

    (void)signal;
    __atomic_store_n(bell, ++daemon_.writer->bell, __ATOMIC_SEQ_CST);
    if (mprotect((void *)wishing->ack, 4096, PROT_READ | PROT_WRITE) < 0)
        _exit(1);
    wishing = NULL;
}

START_TEST(bell_is_looked_at_before_the_wish_is_told)
{
    struct sigaction action = {.sa_handler = wake_at_the_wish}, old;
    SeqfeedBatch batch;
    Seqfeed *feed;

    fake_daemon_start(&daemon_, SLOTS, SLOT_BYTES);
    daemon_.wake_every = 100;
    wishing = feed = attach();
    ck_assert_int_eq(sigaction(SIGSEGV, &action, &old), 0);
    ck_assert_int_eq(mprotect((void *)feed->ack, 4096, PROT_READ), 0);
    slept = -1;
    before_sleep = nothing_more;
    ck_assert_int_eq(seqfeed_next(feed, &batch, 20000000), -ETIMEDOUT);
    ck_assert_int_eq(sigaction(SIGSEGV, &old, NULL), 0);
    ck_assert_ptr_null(wishing);
    ck_assert_ptr_null(before_sleep);
    ck_assert_int_eq(slept, EAGAIN);
    seqfeed_detach(feed);
    fake_daemon_stop(&daemon_);
}
END_TEST

static void *consume(void *argument) {
    Seqfeed *feed = argument;
    SeqfeedBatch batch;

    while (seqfeed_next(feed, &batch, -1) == 0) {
        taken++;
        seqfeed_release(feed, &batch);
    }
    return NULL;
}

static void exchange(uint32_t wake_every) {
    Seqfeed *feeds[MEMBERS];
    pthread_t threads[MEMBERS];

    fake_daemon_start(&daemon_, SLOTS, SLOT_BYTES);
    daemon_.wake_every = wake_every;
    for (uint32_t i = 0; i < MEMBERS; i++)
        feeds[i] = attach();
    for (uint32_t i = 0; i < MEMBERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, consume, feeds[i]), 0);
    for (uint64_t i = 0; i < BATCHES; i++)
        ck_assert_msg(fake_daemon_publish_wait(&daemon_), "nobody released before batch %llu",
                      (unsigned long long)i);
    fake_daemon_set_state(&daemon_, SEQFEED_RING_DRAIN, 0, NULL);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        pthread_join(threads[i], NULL);
        seqfeed_detach(feeds[i]);
    }
    fake_daemon_stop(&daemon_);
}

START_TEST(nobody_sleeps_though_a_batch_is_there)
{
    for (uint32_t wake_every = 1; wake_every <= 4; wake_every++) {
        exchange(wake_every);
        ck_assert_msg(atomic_load(&lost) == 0, "%u sleeps with a wake for every %u batches",
                      atomic_load(&lost), wake_every);
    }
}
END_TEST

CHECK_MAIN("client_sleep", a_late_wake_does_not_take_the_next_one_away,
           bell_is_looked_at_before_the_wish_is_told, nobody_sleeps_though_a_batch_is_there)
