/* SPDX-License-Identifier: MIT */
#include "server/forming.h"

#include <errno.h>
#include <string.h>

#include "support/check_main.h"

static int feed;

static Forming *make(uint32_t world, uint32_t local_ranks, uint32_t members) {
    FormingKey key = {.uid = 1000,
                      .feed = &feed,
                      .group = "sweep",
                      .world = world,
                      .local_ranks = local_ranks,
                      .members = members};
    Forming *forming;

    ck_assert_int_eq(forming_new(&key, 8, &forming), 0);
    return forming;
}

/* Process 100 + rank, cursor (epoch, index). */
static int take_at(Forming *forming, uint32_t rank, uint64_t epoch, uint64_t index,
                   FormingSeat **ret_seat, Error *error) {
    FormingApplicant applicant = {.rank = rank,
                                  .pid = (pid_t)(100 + rank),
                                  .epoch = epoch,
                                  .index = index,
                                  .deadline_ns = 1000 - rank};

    return forming_take(forming, &applicant, ret_seat, error);
}

static FormingSeat *take(Forming *forming, uint32_t rank) {
    FormingSeat *seat;

    ck_assert_int_eq(take_at(forming, rank, 0, 0, &seat, NULL), 0);
    return seat;
}

static void expect_missing(const Forming *forming, const char *expected) {
    CLEANUP(text_deinit) Text text = {0};

    forming_describe_missing(forming, &text);
    ck_assert_str_eq(text.bytes ? text.bytes : "", expected);
}

START_TEST(it_is_complete_when_every_seat_is_taken)
{
    Forming *forming = make(4, 2, 2);

    take(forming, 3);
    take(forming, 1);
    take(forming, 3);
    ck_assert(!forming_is_complete(forming));
    take(forming, 1);
    ck_assert(forming_is_complete(forming));
    forming_sort(forming);
    ck_assert_uint_eq(forming->ranks[0].rank, 1);
    ck_assert_uint_eq(forming->ranks[1].rank, 3);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(forming->seats[i].applicant.rank, i < 2 ? 1 : 3);
        ck_assert_uint_eq(forming->seats[i].place, i / 2);
    }
    forming_free(forming);
}
END_TEST

START_TEST(only_attaches_with_the_same_key_belong_together)
{
    Forming *forming = make(4, 2, 1);
    FormingKey same = forming->key, other;
    int other_feed;

    ck_assert(forming_matches(forming, &same));
#define DIFFERS(change)                               \
    do {                                              \
        other = same;                                 \
        change;                                       \
        ck_assert(!forming_matches(forming, &other)); \
    } while (0)
    DIFFERS(other.uid++);
    DIFFERS(other.feed = &other_feed);
    DIFFERS(strcpy(other.group, "swee"));
    DIFFERS(other.world++);
    DIFFERS(other.local_ranks++);
    DIFFERS(other.members++);
    DIFFERS(other.seed++);
#undef DIFFERS
    forming_free(forming);
}
END_TEST

START_TEST(where_there_is_one_seat_nobody_is_matched)
{
    Forming *forming = make(4, 1, 1);

    ck_assert(!forming_matches(forming, &forming->key));
    forming_free(forming);
}
END_TEST

START_TEST(a_taken_seat_is_refused_with_the_pid_in_it)
{
    Forming *forming = make(4, 4, 1);
    FormingSeat *seat = NULL;
    Error error = {0};

    take(forming, 2);
    ck_assert_int_eq(take_at(forming, 2, 0, 0, &seat, &error), -EBUSY);
    ck_assert_str_eq(error.text, "rank 2 of group sweep is taken by pid 102");
    ck_assert_ptr_null(seat);
    ck_assert_uint_eq(forming->taken, 1);
    forming_free(forming);
}
END_TEST

START_TEST(a_surplus_rank_is_refused_with_those_who_are_there)
{
    Forming *forming = make(4, 2, 1);
    FormingSeat *seat = NULL;
    Error error = {0};

    take(forming, 2);
    take(forming, 0);
    ck_assert_int_eq(take_at(forming, 3, 0, 0, &seat, &error), -EBUSY);
    ck_assert_str_eq(error.text, "rank 3 is one too many for group sweep: its 2 local ranks here "
                                 "are 0 (pid 100), 2 (pid 102)");
    forming_free(forming);
}
END_TEST

START_TEST(who_dies_while_it_forms_frees_the_seat)
{
    Forming *forming = make(2, 2, 1);

    take(forming, 0);
    forming_leave(forming, take(forming, 1));
    expect_missing(forming, "rank 1 (pid 101 left)");
    take(forming, 1);
    ck_assert(forming_is_complete(forming));
    forming_free(forming);
}
END_TEST

START_TEST(a_rank_that_was_left_makes_room_for_another)
{
    Forming *forming = make(8, 2, 1);

    take(forming, 0);
    forming_leave(forming, take(forming, 1));
    take(forming, 5);
    ck_assert(forming_is_complete(forming));
    forming_free(forming);
}
END_TEST

START_TEST(the_missing_are_named)
{
    Forming *forming = make(4, 4, 1);

    take(forming, 0);
    take(forming, 2);
    expect_missing(forming, "rank 1 (never attached), rank 3 (never attached)");
    forming_free(forming);

    forming = make(2, 2, 3);
    take(forming, 0);
    take(forming, 1);
    take(forming, 1);
    take(forming, 1);
    expect_missing(forming, "2 of 3 members of rank 0 (never attached; here: pid 100)");
    take(forming, 0);
    expect_missing(forming, "1 of 3 members of rank 0 (never attached; here: pid 100, pid 100)");
    forming_free(forming);

    forming = make(16, 4, 1);
    take(forming, 8);
    take(forming, 9);
    expect_missing(forming, "2 more ranks of 16 (here: 8, 9)");
    take(forming, 10);
    expect_missing(forming, "1 more rank of 16 (here: 8, 9, 10)");
    forming_free(forming);

    forming = make(64, 64, 1);
    expect_missing(forming, "rank 0 (never attached), rank 1 (never attached), rank 2 (never "
                            "attached), rank 3 (never attached), rank 4 (never attached), rank 5 "
                            "(never attached), rank 6 (never attached), rank 7 (never attached) "
                            "and more");
    forming_free(forming);
}
END_TEST

START_TEST(the_earliest_deadline_counts)
{
    Forming *forming = make(4, 4, 1);

    ck_assert_int_eq(forming_deadline(forming), INT64_MAX);
    take(forming, 0);
    ck_assert_int_eq(forming_deadline(forming), 1000);
    forming_leave(forming, take(forming, 3));
    ck_assert_int_eq(forming_deadline(forming), 1000);
    take(forming, 2);
    ck_assert_int_eq(forming_deadline(forming), 998);
    forming_free(forming);
}
END_TEST

/* A world of 4, rings of 8 slots. */
static const struct {
    uint64_t epoch, index; /* of rank 1; rank 0 asks for epoch 3, index 100 */
    bool together;
    uint64_t start_epoch, start_index;
} cursors[] = {
    {3, 100, true, 3, 100}, {3, 104, true, 3, 100}, {3, 96, true, 3, 96},
    {3, 132, true, 3, 100}, {3, 136, false, 0, 0},  {3, 68, true, 3, 68},
    {3, 64, false, 0, 0},   {3, 102, false, 0, 0},  {4, 0, true, 3, 100},
    {4, 8, true, 3, 100},   {4, 2, false, 0, 0},    {4, 36, false, 0, 0},
    {5, 0, true, 3, 100},   {12, 0, true, 3, 100},  {13, 0, false, 0, 0},
    {11, 4, true, 3, 100},  {11, 8, false, 0, 0},   {5, 2, false, 0, 0},
    {2, 4000, false, 0, 0}, {1, 0, false, 0, 0},    {UINT64_MAX, 0, false, 0, 0},
    {0, 0, false, 0, 0},
};

START_TEST(cursors_whole_rounds_apart_start_at_the_oldest)
{
    for (size_t i = 0; i < sizeof cursors / sizeof cursors[0]; i++) {
        Forming *forming = make(4, 2, 1);
        uint64_t epoch, index;
        FormingSeat *seat;
        Error error = {0};
        int r;

        ck_assert_int_eq(take_at(forming, 0, 3, 100, &seat, NULL), 0);
        r = take_at(forming, 1, cursors[i].epoch, cursors[i].index, &seat, &error);
        ck_assert_int_eq(r, cursors[i].together ? 0 : FORMING_E_APART);
        if (cursors[i].together) {
            forming_start(forming, &epoch, &index);
            ck_assert_uint_eq(epoch, cursors[i].start_epoch);
            ck_assert_uint_eq(index, cursors[i].start_index);
        } else {
            ck_assert_int_eq(error.code, -ESTALE);
        }
        forming_free(forming);
    }
}
END_TEST

START_TEST(cursors_of_two_epochs_are_looked_at_again_when_the_epoch_is_counted)
{
    Forming *forming = make(4, 2, 1);
    FormingSeat *seat;

    ck_assert_int_eq(take_at(forming, 0, 3, 100, &seat, NULL), 0);
    ck_assert_int_eq(take_at(forming, 1, 4, 8, &seat, NULL), 0);
    ck_assert(forming_is_close(forming, 1, 1000));
    ck_assert(forming_is_close(forming, 6, 1000));
    ck_assert(!forming_is_close(forming, 7, 1000));
    ck_assert(!forming_is_close(forming, UINT64_MAX, UINT64_MAX));
    forming_free(forming);
}
END_TEST

/* Of epochs with about two rounds each a ring of 8 slots holds several. */
START_TEST(epochs_that_are_shorter_than_a_ring_lie_between_cursors)
{
    Forming *forming = make(4, 2, 1);
    FormingSeat *seat;

    ck_assert_int_eq(take_at(forming, 0, 3, 4, &seat, NULL), 0);
    ck_assert_int_eq(take_at(forming, 1, 6, 4, &seat, NULL), 0);
    ck_assert(forming_is_close(forming, 1, 2));
    ck_assert(forming_is_close(forming, 1, 0));
    ck_assert(forming_is_close(forming, 1, 7));
    ck_assert(!forming_is_close(forming, 1, 8));
    ck_assert(!forming_is_close(forming, 6, 2));
    ck_assert(!forming_is_close(forming, 1, UINT64_MAX));
    forming_free(forming);
}
END_TEST

START_TEST(cursors_too_far_apart_are_said_rank_by_rank)
{
    Forming *forming = make(4, 4, 1);
    FormingSeat *seat;
    Error error = {0};

    for (uint32_t rank = 0; rank < 3; rank++)
        ck_assert_int_eq(take_at(forming, rank, 0, 1000, &seat, NULL), 0);
    ck_assert_int_eq(take_at(forming, 3, 0, 200, &seat, &error), FORMING_E_APART);
    ck_assert_ptr_nonnull(strstr(error.text, "rank 3 asks for index 200, ranks 0–2 for 1000"));
    forming_free(forming);

    forming = make(4, 4, 1);
    ck_assert_int_eq(take_at(forming, 0, 1, 0, &seat, NULL), 0);
    ck_assert_int_eq(take_at(forming, 2, 17, 4, &seat, &error), FORMING_E_APART);
    ck_assert_ptr_nonnull(
        strstr(error.text, "rank 0 asks for epoch 1 index 0, rank 2 for epoch 17 index 4"));
    forming_free(forming);
}
END_TEST

START_TEST(a_process_without_a_number_here_has_words)
{
    char text[48];

    ck_assert_str_eq(forming_format_pid(text, 4711), "pid 4711");
    ck_assert_str_eq(forming_format_pid(text, 0), "a process of another container");
}
END_TEST

CHECK_MAIN("forming", it_is_complete_when_every_seat_is_taken,
           only_attaches_with_the_same_key_belong_together,
           where_there_is_one_seat_nobody_is_matched, a_taken_seat_is_refused_with_the_pid_in_it,
           a_surplus_rank_is_refused_with_those_who_are_there,
           who_dies_while_it_forms_frees_the_seat, a_rank_that_was_left_makes_room_for_another,
           the_missing_are_named, the_earliest_deadline_counts,
           cursors_whole_rounds_apart_start_at_the_oldest,
           cursors_of_two_epochs_are_looked_at_again_when_the_epoch_is_counted,
           epochs_that_are_shorter_than_a_ring_lie_between_cursors,
           cursors_too_far_apart_are_said_rank_by_rank, a_process_without_a_number_here_has_words)
