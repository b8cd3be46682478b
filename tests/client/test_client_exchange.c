/* SPDX-License-Identifier: MIT */
/* Many batches through one ring to several members at once: every word of every batch arrives, in
 * order, once; and nobody sleeps for ever. */
#include <seqfeed/seqfeed.h>

#include "base/random.h"
#include "client/fake_daemon.h"
#include "support/check_main.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { BATCHES = 30000 };
#else
enum { BATCHES = 100000 };
#endif
enum { MEMBERS_MAX = 4, HANDS = 3, SLOT_BYTES = 4096, WORDS_LOOKED_AT = 64 };

typedef struct Member {
    FakeDaemon *daemon;
    Seqfeed *feed;
    pthread_t thread;
    uint64_t seen, torn;
    int outcome;
} Member;

/* Some words of the batch, others each time; all would only test the memory bus. */
static bool is_whole(const SeqfeedBatch *batch, uint64_t sequence) {
    SeqfeedTensor tensor;
    const uint64_t *words;

    if (batch->index != sequence || seqfeed_tensor(batch, "tokens", &tensor) != 0)
        return false;
    words = tensor.data;
    for (uint64_t i = 0; i < WORDS_LOOKED_AT; i++) {
        uint64_t place = (i * 8 + sequence) % (SLOT_BYTES / 8);
        if (words[place] != fake_pattern(sequence, place))
            return false;
    }
    return true;
}

static void *consume(void *argument) {
    Member *member = argument;
    SeqfeedBatch batch;

    while ((member->outcome = seqfeed_next(member->feed, &batch, -1)) == 0) {
        member->torn += !is_whole(&batch, member->seen++);
        seqfeed_release(member->feed, &batch);
    }
    return NULL;
}

static void attach(FakeDaemon *daemon, Member *member) {
    SeqfeedOptions options = {.socket = daemon->address.sun_path, .feed = "train"};
    SeqfeedError error;

    *member = (Member){.daemon = daemon};
    ck_assert_msg(seqfeed_attach(&member->feed, &options, &error) == 0, "%s", error.text);
}

START_TEST(every_member_gets_every_batch_whole)
{
    const uint32_t counts[] = {1, 2, MEMBERS_MAX};
    uint32_t count = counts[_i];
    Member members[MEMBERS_MAX];
    FakeDaemon daemon;

    fake_daemon_start(&daemon, 8, SLOT_BYTES);
    for (uint32_t i = 0; i < count; i++)
        attach(&daemon, &members[i]);
    for (uint32_t i = 0; i < count; i++)
        pthread_create(&members[i].thread, NULL, consume, &members[i]);
    for (uint64_t i = 0; i < BATCHES; i++)
        ck_assert_msg(fake_daemon_publish_wait(&daemon), "nobody released before batch %llu",
                      (unsigned long long)i);
    fake_daemon_set_state(&daemon, SEQFEED_RING_DRAIN, 0, NULL);
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(members[i].thread, NULL);
        ck_assert_int_eq(members[i].outcome, SEQFEED_DRAINED);
        ck_assert_uint_eq(members[i].seen, BATCHES);
        ck_assert_uint_eq(members[i].torn, 0);
        seqfeed_detach(members[i].feed);
    }
    fake_daemon_stop(&daemon);
}
END_TEST

/* One thread takes batches, others release them in whatever order they come by them. */
typedef struct Table {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    SeqfeedBatch batches[8];
    uint32_t count;
    bool ended;
    Seqfeed *feed;
    uint64_t released, refused;
} Table;

static void *release_at_random(void *argument) {
    Table *table = argument;
    uint32_t draw = 0;

    pthread_mutex_lock(&table->lock);
    for (;;) {
        while (table->count == 0 && !table->ended)
            pthread_cond_wait(&table->changed, &table->lock);
        if (table->count == 0)
            break;
        uint32_t word = random_philox((uintptr_t)&draw, draw, 0, 0, 0).word[0];
        uint32_t pick = random_below(word, table->count);
        SeqfeedBatch batch = table->batches[pick];
        table->batches[pick] = table->batches[--table->count];
        draw++;
        pthread_mutex_unlock(&table->lock);
        int r = seqfeed_release(table->feed, &batch);
        pthread_mutex_lock(&table->lock);
        table->released++;
        table->refused += r != 0;
        pthread_cond_broadcast(&table->changed);
    }
    pthread_mutex_unlock(&table->lock);
    return NULL;
}

static uint64_t take_until_drained(Table *table) {
    uint64_t taken = 0;
    SeqfeedBatch batch;
    int r;

    while ((r = seqfeed_next(table->feed, &batch, -1)) != SEQFEED_DRAINED) {
        pthread_mutex_lock(&table->lock);
        if (r == 0) {
            ck_assert(is_whole(&batch, taken));
            taken++;
            table->batches[table->count++] = batch;
            pthread_cond_broadcast(&table->changed);
        } else {
            /* -ENOBUFS: the others have the oldest in hand. */
            ck_assert_int_eq(r, -ENOBUFS);
            if (table->released < taken)
                pthread_cond_wait(&table->changed, &table->lock);
        }
        pthread_mutex_unlock(&table->lock);
    }
    return taken;
}

static void *publish_all(void *argument) {
    FakeDaemon *daemon = argument;

    for (uint64_t i = 0; i < BATCHES / 4; i++)
        if (!fake_daemon_publish_wait(daemon))
            break;
    fake_daemon_set_state(daemon, SEQFEED_RING_DRAIN, 0, NULL);
    return NULL;
}

START_TEST(threads_may_release_in_any_order)
{
    static Table table;
    pthread_t publisher, hands[HANDS];
    FakeDaemon daemon;
    Member member;
    uint64_t taken;

    fake_daemon_start(&daemon, 8, SLOT_BYTES);
    attach(&daemon, &member);
    pthread_mutex_init(&table.lock, NULL);
    pthread_cond_init(&table.changed, NULL);
    table.feed = member.feed;
    pthread_create(&publisher, NULL, publish_all, &daemon);
    for (uint32_t i = 0; i < HANDS; i++)
        pthread_create(&hands[i], NULL, release_at_random, &table);
    taken = take_until_drained(&table);
    pthread_mutex_lock(&table.lock);
    table.ended = true;
    pthread_cond_broadcast(&table.changed);
    pthread_mutex_unlock(&table.lock);
    for (uint32_t i = 0; i < HANDS; i++)
        pthread_join(hands[i], NULL);
    pthread_join(publisher, NULL);
    ck_assert_uint_eq(taken, BATCHES / 4);
    ck_assert_uint_eq(table.released, taken);
    ck_assert_uint_eq(table.refused, 0);
    pthread_mutex_lock(&daemon.lock);
    ck_assert_int_eq(ring_writer_accept(daemon.writer), -1);
    ck_assert_uint_eq(daemon.writer->tail, taken);
    pthread_mutex_unlock(&daemon.lock);
    seqfeed_detach(member.feed);
    fake_daemon_stop(&daemon);
}
END_TEST

/* Members come and go while batches flow: whoever is there sees no gap. */
START_TEST(members_come_and_go_without_a_gap)
{
    Member staying;
    FakeDaemon daemon;
    pthread_t publisher;

    fake_daemon_start(&daemon, 8, SLOT_BYTES);
    attach(&daemon, &staying);
    pthread_create(&publisher, NULL, publish_all, &daemon);
    pthread_create(&staying.thread, NULL, consume, &staying);
    for (uint32_t i = 0; i < 200; i++) {
        Member guest;
        SeqfeedBatch batch;
        uint64_t expected = 0;
        attach(&daemon, &guest);
        for (uint32_t taken = 0; taken < 20; taken++) {
            if (seqfeed_next(guest.feed, &batch, -1) != 0)
                break;
            ck_assert(is_whole(&batch, taken == 0 ? batch.index : expected));
            expected = batch.index + 1;
            if (taken < 15)
                seqfeed_release(guest.feed, &batch);
        }
        seqfeed_detach(guest.feed);
    }
    pthread_join(publisher, NULL);
    pthread_join(staying.thread, NULL);
    ck_assert_uint_eq(staying.seen, BATCHES / 4);
    ck_assert_uint_eq(staying.torn, 0);
    seqfeed_detach(staying.feed);
    fake_daemon_stop(&daemon);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_exchange");
    TCase *test_case = tcase_create("client_exchange");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(test_case, 300);
    tcase_add_loop_test(test_case, every_member_gets_every_batch_whole, 0, 3);
    tcase_add_test(test_case, threads_may_release_in_any_order);
    tcase_add_test(test_case, members_come_and_go_without_a_gap);
    suite_add_tcase(suite, test_case);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
