/* SPDX-License-Identifier: MIT */
/* What seqfeed_next() and seqfeed_release() promise, against a daemon that is a thread. */
#include <seqfeed/seqfeed.h>

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/fake_daemon.h"
#include "support/check_main.h"

enum { SLOTS = 4 };

#define NOW INT64_C(0)
#define SOON INT64_C(20000000)
#define LONG INT64_C(10000000000)

static FakeDaemon daemon_;
static SeqfeedBatch batches[SLOTS];

static Seqfeed *attach_with(const char *cursor) {
    SeqfeedOptions options = {
        .socket = daemon_.address.sun_path, .feed = "train", .cursor = cursor};
    SeqfeedError error;
    Seqfeed *feed = NULL;
    int r = seqfeed_attach(&feed, &options, &error);

    ck_assert_msg(r == 0, "%s", error.text);
    return feed;
}

static Seqfeed *start_and_attach(void) {
    fake_daemon_start(&daemon_, SLOTS, 4096);
    return attach_with(NULL);
}

static void end(Seqfeed *feed) {
    seqfeed_detach(feed);
    fake_daemon_stop(&daemon_);
}

static void take_all(Seqfeed *feed, uint64_t first) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        ck_assert(fake_daemon_publish(&daemon_));
        ck_assert_int_eq(seqfeed_next(feed, &batches[i], LONG), 0);
        ck_assert_uint_eq(batches[i].index, first + i);
    }
}

START_TEST(a_batch_says_what_it_is)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;
    SeqfeedTensor tensor, same;

    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    ck_assert_uint_eq(batch.epoch, 0);
    ck_assert_uint_eq(batch.index, 0);
    ck_assert_uint_eq(batch.rows, 8);
    ck_assert_uint_eq(batch.tokens, 512);
    ck_assert_uint_eq(batch.flags, SEQFEED_BATCH_FIRST);
    ck_assert_str_eq(seqfeed_cursor(&batch), "sf1;epoch=0;index=1");
    ck_assert_int_eq(seqfeed_tensor(&batch, "tokens", &tensor), 0);
    ck_assert_int_eq(seqfeed_tensor_at(&batch, 0, &same), 0);
    ck_assert_ptr_eq(tensor.data, same.data);
    ck_assert_str_eq(tensor.name, "tokens");
    ck_assert_uint_eq(tensor.dtype, SEQFEED_INT64);
    ck_assert_int_eq(tensor.shape[1], 64);
    ck_assert_uint_eq(tensor.size_bytes, 4096);
    ck_assert_uint_eq((uintptr_t)tensor.data % SEQFEED_TENSOR_ALIGN, 0);
    ck_assert_uint_eq(((const uint64_t *)tensor.data)[511], fake_pattern(0, 511));
    ck_assert_int_eq(seqfeed_tensor(&batch, "mask", &tensor), -ENOENT);
    ck_assert_int_eq(seqfeed_tensor_at(&batch, 1, &tensor), -ENOENT);
    ck_assert_int_eq(seqfeed_release(feed, &batch), 0);
    ck_assert_int_eq(seqfeed_tensor(&batch, "tokens", &tensor), -EINVAL);
    ck_assert_str_eq(seqfeed_cursor(&batch), "sf1;epoch=0;index=1");
    end(feed);
}
END_TEST

START_TEST(an_attachment_says_what_it_is)
{
    Seqfeed *feed = start_and_attach();

    ck_assert_str_eq(seqfeed_plan(feed), "sf1;plan");
    ck_assert_str_eq(seqfeed_start_cursor(feed), "sf1;epoch=0;index=0");
    ck_assert_uint_eq(seqfeed_slots(feed), SLOTS);
    ck_assert_str_eq(seqfeed_message(feed), "");
    end(feed);
}
END_TEST

START_TEST(nothing_there_is_a_time_out)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;
    int64_t before = clock_now_ns();

    ck_assert_int_eq(seqfeed_next(feed, &batch, NOW), -ETIMEDOUT);
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    ck_assert_int_ge(clock_now_ns() - before, SOON);
    ck_assert(seqfeed_message(feed)[0] != '\0');
    end(feed);
}
END_TEST

START_TEST(holding_all_slots_is_said_at_once)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    take_all(feed, 0);
    ck_assert(!fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), -ENOBUFS);
    ck_assert_str_eq(seqfeed_message(feed),
                     "this process holds all 4 batches: give one back first, or raise "
                     "ring.slots");
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    ck_assert_uint_eq(batch.index, SLOTS);
    end(feed);
}
END_TEST

START_TEST(slots_return_in_order_whatever_the_order_of_release)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    take_all(feed, 0);
    for (uint32_t i = SLOTS - 1; i > 0; i--) {
        ck_assert_int_eq(seqfeed_release(feed, &batches[i]), 0);
        ck_assert(!fake_daemon_publish(&daemon_));
    }
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), -ENOBUFS);
    ck_assert_ptr_nonnull(strstr(seqfeed_message(feed), "the oldest of 4"));
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    take_all(feed, SLOTS);
    end(feed);
}
END_TEST

START_TEST(a_batch_is_released_once)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch copy;

    take_all(feed, 0);
    copy = batches[0];
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), -EINVAL);
    ck_assert_int_eq(seqfeed_release(feed, &copy), -EINVAL);
    /* Nor may an old copy take the slot from its next tenant. */
    copy.private_slot = batches[1].private_slot;
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batches[0], LONG), 0);
    ck_assert_int_eq(seqfeed_release(feed, &copy), -EINVAL);
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    end(feed);
}
END_TEST

START_TEST(the_end_of_an_epoch_is_told_once_and_length_is_exact)
{
    Seqfeed *feed;
    SeqfeedBatch batch;

    fake_daemon_start(&daemon_, SLOTS, 4096);
    daemon_.rounds_per_epoch = 2;
    feed = attach_with(NULL);
    ck_assert_int_eq(seqfeed_length(feed), 2);
    for (uint64_t i = 0; i < 6; i++) {
        ck_assert(fake_daemon_publish(&daemon_));
        ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
        ck_assert_uint_eq(batch.epoch, i / 2);
        ck_assert_int_eq(seqfeed_length(feed), 2);
        if (i >= 2)
            ck_assert_int_eq(seqfeed_epoch_length(feed), 5); /* in the first, what the ring says */
        ck_assert_int_eq(seqfeed_release(feed, &batch), 0);
        if (i % 2 == 1)
            ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), SEQFEED_END_OF_EPOCH);
    }
    ck_assert_int_eq(seqfeed_next(feed, &batch, NOW), -ETIMEDOUT);
    end(feed);
}
END_TEST

START_TEST(a_drain_comes_after_the_last_batch)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    ck_assert(fake_daemon_publish(&daemon_));
    fake_daemon_set_state(&daemon_, SEQFEED_RING_DRAIN, 0, NULL);
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), SEQFEED_DRAINED);
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), SEQFEED_DRAINED);
    end(feed);
}
END_TEST

START_TEST(a_failure_comes_after_the_last_batch_with_its_reason)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    ck_assert(fake_daemon_publish(&daemon_));
    fake_daemon_set_state(&daemon_, SEQFEED_RING_FAILED, -EBADMSG, "shard-00000.zst: damaged");
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), -EBADMSG);
    ck_assert_str_eq(seqfeed_message(feed), "shard-00000.zst: damaged");
    end(feed);
}
END_TEST

START_TEST(a_daemon_that_hangs_up_has_still_published_what_it_published)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert(fake_daemon_publish(&daemon_));
    fake_daemon_hang_up(&daemon_);
    ck_assert_int_eq(seqfeed_next(feed, &batches[0], -1), 0);
    ck_assert_int_eq(seqfeed_next(feed, &batches[1], -1), 0);
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), -ECONNRESET);
    ck_assert_int_eq(seqfeed_next(feed, &batch, NOW), -ECONNRESET);
    ck_assert_ptr_nonnull(strstr(seqfeed_message(feed), "gone"));
    ck_assert_int_eq(seqfeed_release(feed, &batches[1]), 0);
    end(feed);
}
END_TEST

/* Somebody who only ever looks, and never waits, hears of the daemon's death as well. */
START_TEST(a_caller_that_never_waits_sees_the_hang_up)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    ck_assert_int_eq(seqfeed_next(feed, &batch, NOW), -ETIMEDOUT);
    fake_daemon_hang_up(&daemon_);
    ck_assert_int_eq(seqfeed_next(feed, &batch, NOW), -ECONNRESET);
    end(feed);
}
END_TEST

START_TEST(a_disconnected_member_is_told_why)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    fake_daemon_notify(&daemon_, SEQFEED_MESSAGE_WAITING, 0, "group sweep: pid 7 is behind");
    fake_daemon_notify(&daemon_, SEQFEED_MESSAGE_CLOSING, -EPROTO, "released what it never had");
    fake_daemon_hang_up(&daemon_);
    ck_assert_int_eq(seqfeed_next(feed, &batch, -1), -EPROTO);
    ck_assert_str_eq(seqfeed_message(feed), "released what it never had");
    end(feed);
}
END_TEST

START_TEST(who_joins_a_running_stream_sees_the_batches_from_there_on)
{
    Seqfeed *first, *second;

    fake_daemon_start(&daemon_, SLOTS, 4096);
    daemon_.rounds_per_epoch = 6;
    first = attach_with(NULL);
    take_all(first, 0);
    ck_assert_int_eq(seqfeed_release(first, &batches[0]), 0);
    second = attach_with(NULL);
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_length(second), 2);
    ck_assert_int_eq(seqfeed_next(second, &batches[0], LONG), 0);
    ck_assert_uint_eq(batches[0].index, SLOTS);
    ck_assert_int_eq(seqfeed_length(second), 2);
    ck_assert_int_eq(seqfeed_length(first), 6);
    seqfeed_detach(second);
    end(first);
}
END_TEST

/* A stream that several ranks formed begins at the oldest cursor of all; this one is further. */
START_TEST(batches_before_the_own_cursor_are_released_unseen)
{
    Seqfeed *feed;
    SeqfeedBatch batch;

    fake_daemon_start(&daemon_, SLOTS, 4096);
    daemon_.rounds_per_epoch = 20;
    feed = attach_with("sf1;data=00;epoch=0;index=6;crc=0");
    ck_assert_str_eq(seqfeed_start_cursor(feed), "sf1;data=00;epoch=0;index=6;crc=0");
    for (uint32_t i = 0; i < SLOTS; i++)
        ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, NOW), -ETIMEDOUT);
    for (uint32_t i = 0; i < SLOTS; i++)
        ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_length(feed), 14);
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    ck_assert_uint_eq(batch.index, 6);
    ck_assert_int_eq(seqfeed_length(feed), 14);
    end(feed);
}
END_TEST

START_TEST(a_cursor_at_the_next_epoch_skips_the_end_of_the_last)
{
    Seqfeed *feed;
    SeqfeedBatch batch;

    fake_daemon_start(&daemon_, SLOTS, 4096);
    daemon_.rounds_per_epoch = 2;
    feed = attach_with("sf1;epoch=1");
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    ck_assert_uint_eq(batch.epoch, 1);
    ck_assert_uint_eq(batch.index, 0);
    end(feed);
}
END_TEST

/* The daemon may set wake_at further away than a process that holds on to batches can ever get. */
START_TEST(who_waits_says_what_it_has_released)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;

    take_all(feed, 0);
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    pthread_mutex_lock(&daemon_.lock);
    ring_writer_set_wake(daemon_.writer, 3, RING_MEMBERS_MAX);
    pthread_mutex_unlock(&daemon_.lock);
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    pthread_mutex_lock(&daemon_.lock);
    while (daemon_.nudges == 0)
        pthread_cond_wait(&daemon_.nudged, &daemon_.lock);
    pthread_mutex_unlock(&daemon_.lock);
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    end(feed);
}
END_TEST

static void ask(uint64_t wake_at, uint32_t waker) {
    pthread_mutex_lock(&daemon_.lock);
    ring_writer_set_wake(daemon_.writer, wake_at, waker);
    pthread_mutex_unlock(&daemon_.lock);
}

/* Bytes come in the order in which they were sent: had the first two questions been answered, there
 * would be more than one by the time that the third is. */
START_TEST(who_is_not_asked_says_nothing)
{
    Seqfeed *feed = start_and_attach(); /* member 0 */
    SeqfeedBatch batch;

    take_all(feed, 0);
    ask(1, 1);
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    ask(3, 1);
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT); /* nor before it sleeps */
    ask(2, 0);
    ck_assert_int_eq(seqfeed_release(feed, &batches[1]), 0);
    pthread_mutex_lock(&daemon_.lock);
    while (daemon_.nudges == 0)
        pthread_cond_wait(&daemon_.nudged, &daemon_.lock);
    ck_assert_uint_eq(daemon_.nudges, 1);
    pthread_mutex_unlock(&daemon_.lock);
    /* What was said once when it was reached is not said again before a sleep. */
    ck_assert_int_eq(seqfeed_release(feed, &batches[2]), 0);
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    ask(4, RING_MEMBERS_MAX);
    ck_assert_int_eq(seqfeed_release(feed, &batches[3]), 0);
    pthread_mutex_lock(&daemon_.lock);
    while (daemon_.nudges == 1)
        pthread_cond_wait(&daemon_.nudged, &daemon_.lock);
    ck_assert_uint_eq(daemon_.nudges, 2);
    pthread_mutex_unlock(&daemon_.lock);
    end(feed);
}
END_TEST

/* By the ring at once, by the daemon's own words as soon as it has said them in this wait. */
START_TEST(who_holds_the_slots_is_named_at_the_time_out)
{
    static const char words[] = "group sweep: pid 4711 is 4 batches behind";
    Seqfeed *feed = start_and_attach(); /* member 0 */
    int64_t before = clock_now_ns();
    SeqfeedBatch batch;

    ask(2, 0); /* this one */
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    ck_assert_str_eq(seqfeed_message(feed), "no batch came in time");
    ask(2, 2);
    fake_daemon_notify(&daemon_, SEQFEED_MESSAGE_WAITING, 0, words); /* of an older wait */
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    ck_assert_ptr_nonnull(strstr(seqfeed_message(feed), "this process is member 0 of its ring, and "
                                                        "member 2 has yet to release"));
    while (clock_now_ns() - before < 3 * NS_PER_SECOND / 2)
        ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    fake_daemon_notify(&daemon_, SEQFEED_MESSAGE_WAITING, 0, words);
    ck_assert_int_eq(seqfeed_next(feed, &batch, SOON), -ETIMEDOUT);
    ck_assert_str_eq(seqfeed_message(feed),
                     "no batch came in time: group sweep: pid 4711 is 4 batches behind");
    end(feed);
}
END_TEST

START_TEST(a_forked_child_may_only_detach)
{
    Seqfeed *feed = start_and_attach();
    SeqfeedBatch batch;
    int status;
    pid_t child;

    take_all(feed, 0);
    child = fork();
    if (child == 0) {
        bool right = seqfeed_next(feed, &batch, NOW) == -ECHILD &&
                     seqfeed_release(feed, &batches[0]) == -ECHILD;
        seqfeed_detach(feed);
        _exit(right ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(seqfeed_release(feed, &batches[0]), 0);
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, LONG), 0);
    end(feed);
}
END_TEST

CHECK_MAIN("client_batches", a_batch_says_what_it_is, an_attachment_says_what_it_is,
           nothing_there_is_a_time_out, holding_all_slots_is_said_at_once,
           slots_return_in_order_whatever_the_order_of_release, a_batch_is_released_once,
           the_end_of_an_epoch_is_told_once_and_length_is_exact, a_drain_comes_after_the_last_batch,
           a_failure_comes_after_the_last_batch_with_its_reason,
           a_daemon_that_hangs_up_has_still_published_what_it_published,
           a_caller_that_never_waits_sees_the_hang_up, a_disconnected_member_is_told_why,
           who_joins_a_running_stream_sees_the_batches_from_there_on,
           batches_before_the_own_cursor_are_released_unseen,
           a_cursor_at_the_next_epoch_skips_the_end_of_the_last,
           who_waits_says_what_it_has_released, who_is_not_asked_says_nothing,
           who_holds_the_slots_is_named_at_the_time_out, a_forked_child_may_only_detach)
