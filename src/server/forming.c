/* SPDX-License-Identifier: MIT */
#include "server/forming.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMING_NAMED_MAX = 8 }; /* ranks that a sentence lists before it says "and more" */

int forming_new(const FormingKey *key, uint32_t slots, Forming **ret_forming) {
    size_t seats = (size_t)key->local_ranks * key->members;
    Forming *forming = calloc(1, sizeof *forming);

    assert(key->local_ranks > 0 && key->members > 0);
    if (!forming)
        return -ENOMEM;
    forming->key = *key;
    forming->slots = slots;
    forming->ranks = calloc(key->local_ranks, sizeof *forming->ranks);
    forming->seats = calloc(seats, sizeof *forming->seats);
    if (!forming->ranks || !forming->seats) {
        forming_free(forming);
        return -ENOMEM;
    }
    for (size_t i = 0; i < seats; i++)
        forming->seats[i].place = (uint32_t)(i / key->members);
    *ret_forming = forming;
    return 0;
}

void forming_free(Forming *forming) {
    if (!forming)
        return;
    free(forming->ranks);
    free(forming->seats);
    free(forming);
}

bool forming_matches(const Forming *forming, const FormingKey *key) {
    const FormingKey *own = &forming->key;

    return forming_seat_count(forming) > 1 && own->uid == key->uid && own->feed == key->feed &&
           own->world == key->world && own->local_ranks == key->local_ranks &&
           own->members == key->members && own->seed == key->seed &&
           strcmp(own->group, key->group) == 0;
}

char *forming_format_pid(char to[48], pid_t pid) {
    if (pid > 0)
        snprintf(to, 48, "pid %d", pid);
    else
        snprintf(to, 48, "a process of another container");
    return to;
}

static FormingSeat *seats_of(const Forming *forming, uint32_t place) {
    return &forming->seats[(size_t)place * forming->key.members];
}

/* Ranks in the order of their numbers, for sentences: the next known one at or above `from`. */
static const FormingRank *rank_from(const Forming *forming, uint64_t from) {
    const FormingRank *best = NULL;

    for (uint32_t i = 0; i < forming->key.local_ranks; i++) {
        const FormingRank *rank = &forming->ranks[i];
        if (rank->known && rank->rank >= from && (!best || rank->rank < best->rank))
            best = rank;
    }
    return best;
}

#define FOR_EACH_RANK(rank, forming)                                  \
    for (const FormingRank *(rank) = rank_from((forming), 0); (rank); \
         (rank) = rank_from((forming), (uint64_t)(rank)->rank + 1))

static void add_pids(const Forming *forming, const FormingRank *rank, Text *text) {
    const FormingSeat *seats = seats_of(forming, (uint32_t)(rank - forming->ranks));
    const char *comma = "";
    uint32_t named = 0;
    char pid[48];

    for (uint32_t i = 0; i < forming->key.members; i++) {
        if (!seats[i].taken)
            continue;
        if (named++ == FORMING_NAMED_MAX) {
            text_add(text, " and more");
            return;
        }
        text_add(text, "%s%s", comma, forming_format_pid(pid, seats[i].applicant.pid));
        comma = ", ";
    }
}

static int refuse_surplus(const Forming *forming, uint32_t asked, Error *error) {
    CLEANUP(text_deinit) Text text = {0};
    const char *comma = "";
    uint32_t named = 0;

    FOR_EACH_RANK(rank, forming) {
        if (named++ == FORMING_NAMED_MAX) {
            text_add(&text, " and more");
            break;
        }
        text_add(&text, "%s%u (", comma, rank->rank);
        add_pids(forming, rank, &text);
        text_add(&text, ")");
        comma = ", ";
    }
    return error_set(error, -EBUSY,
                     "rank %u is one too many for group %s: its %u local ranks here are %s", asked,
                     forming->key.group, forming->key.local_ranks, text.bytes ? text.bytes : "");
}

static int refuse_taken(const Forming *forming, const FormingRank *rank, Error *error) {
    CLEANUP(text_deinit) Text text = {0};

    add_pids(forming, rank, &text);
    if (forming->key.members == 1)
        return error_set(error, -EBUSY, "rank %u of group %s is taken by %s", rank->rank,
                         forming->key.group, text.bytes ? text.bytes : "");
    return error_set(error, -EBUSY, "all %u seats of rank %u of group %s are taken, by %s",
                     forming->key.members, rank->rank, forming->key.group,
                     text.bytes ? text.bytes : "");
}

/* The place of a rank: its own, else a free one, else one that everybody has left. */
static FormingRank *place_for(Forming *forming, uint32_t number) {
    FormingRank *unused = NULL, *left = NULL;

    for (uint32_t i = 0; i < forming->key.local_ranks; i++) {
        FormingRank *rank = &forming->ranks[i];
        if (rank->known && rank->rank == number)
            return rank;
        if (!rank->known && !unused)
            unused = rank;
        if (rank->known && rank->taken == 0 && !left)
            left = rank;
    }
    return unused ? unused : left;
}

static int compare_cursors(const FormingApplicant *a, const FormingApplicant *b) {
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static const FormingApplicant *oldest_of(const Forming *forming) {
    const FormingApplicant *oldest = NULL;

    for (uint32_t i = 0; i < forming_seat_count(forming); i++) {
        const FormingSeat *seat = &forming->seats[i];
        if (seat->taken && (!oldest || compare_cursors(&seat->applicant, oldest) < 0))
            oldest = &seat->applicant;
    }
    return oldest;
}

/* Rounds of one stream end at start + k * world and at the end of the epoch, so a cursor in a later
 * epoch is one of the same stream's when its index is a multiple of world. Epochs may be shorter
 * than a ring: those that lie whole in between have a round at least. How many rounds the rest of
 * the old epoch has only counting tells; forming_is_close() asks later. */
static bool are_one_streams(const Forming *forming, const FormingApplicant *a,
                            const FormingApplicant *b) {
    const FormingApplicant *first = compare_cursors(a, b) <= 0 ? a : b;
    const FormingApplicant *later = first == a ? b : a;
    uint64_t epochs = later->epoch - first->epoch;
    uint64_t apart = later->index - (epochs == 0 ? first->index : 0);
    uint64_t rounds = apart / forming->key.world;

    return apart % forming->key.world == 0 && rounds <= forming->slots &&
           (epochs == 0 || epochs - 1 <= forming->slots - rounds);
}

static bool fits_all(const Forming *forming, const FormingApplicant *applicant) {
    for (uint32_t i = 0; i < forming_seat_count(forming); i++)
        if (forming->seats[i].taken &&
            !are_one_streams(forming, &forming->seats[i].applicant, applicant))
            return false;
    return true;
}

int forming_take(Forming *forming, const FormingApplicant *applicant, FormingSeat **ret_seat,
                 Error *error) {
    FormingRank *rank = place_for(forming, applicant->rank);
    FormingSeat *seat;
    bool apart;

    if (!rank)
        return refuse_surplus(forming, applicant->rank, error);
    if (rank->known && rank->rank == applicant->rank && rank->taken == forming->key.members)
        return refuse_taken(forming, rank, error);
    apart = !fits_all(forming, applicant);
    if (!rank->known || rank->rank != applicant->rank)
        *rank = (FormingRank){.known = true, .rank = applicant->rank};
    seat = seats_of(forming, (uint32_t)(rank - forming->ranks));
    while (seat->taken)
        seat++;
    seat->taken = true;
    seat->applicant = *applicant;
    rank->taken++;
    forming->taken++;
    *ret_seat = seat;
    if (apart) {
        CLEANUP(text_deinit) Text text = {0};
        forming_describe_cursors(forming, &text);
        (void)error_set(error, -ESTALE,
                        "%s: together they need cursors of one stream, whole rounds of %u batches "
                        "and at most %u rounds apart",
                        text.bytes ? text.bytes : "cursors", forming->key.world, forming->slots);
        return FORMING_E_APART;
    }
    return 0;
}

void forming_leave(Forming *forming, FormingSeat *seat) {
    FormingRank *rank = &forming->ranks[seat->place];

    assert(seat->taken && rank->taken > 0 && forming->taken > 0);
    rank->left = true;
    rank->left_pid = seat->applicant.pid;
    rank->taken--;
    forming->taken--;
    seat->taken = false;
    seat->applicant = (FormingApplicant){0};
}

int64_t forming_deadline(const Forming *forming) {
    int64_t earliest = INT64_MAX;

    for (uint32_t i = 0; i < forming_seat_count(forming); i++)
        if (forming->seats[i].taken)
            earliest = MIN(earliest, forming->seats[i].applicant.deadline_ns);
    return earliest;
}

void forming_start(const Forming *forming, uint64_t *ret_epoch, uint64_t *ret_index) {
    const FormingApplicant *oldest = oldest_of(forming);

    assert(oldest);
    *ret_epoch = oldest->epoch;
    *ret_index = oldest->index;
}

bool forming_is_close(const Forming *forming, uint64_t rounds_left, uint64_t epoch_rounds) {
    const FormingApplicant *oldest = oldest_of(forming);
    uint64_t slots = forming->slots;
    /* Where lengths decide, epochs differ in their rounds: half as many is the least. */
    uint64_t whole = MAX(MIN(epoch_rounds / 2, slots + 1), UINT64_C(1));

    assert(oldest);
    for (uint32_t i = 0; i < forming_seat_count(forming); i++) {
        const FormingApplicant *one = &forming->seats[i].applicant;
        uint64_t rounds = one->index / forming->key.world;
        if (!forming->seats[i].taken || one->epoch == oldest->epoch)
            continue;
        rounds += (one->epoch - oldest->epoch - 1) * whole;
        if (rounds_left > slots || rounds + rounds_left > slots)
            return false;
    }
    return true;
}

/* What forming_sort() orders: a rank with the number of the place that it had. */
typedef struct PlacedRank {
    FormingRank rank;
    uint32_t place;
} PlacedRank;

static int compare_placed(const void *a, const void *b) {
    uint32_t left = ((const PlacedRank *)a)->rank.rank, right = ((const PlacedRank *)b)->rank.rank;

    return left < right ? -1 : left > right;
}

void forming_sort(Forming *forming) {
    uint32_t ranks = forming->key.local_ranks, members = forming->key.members;
    PlacedRank *placed = calloc(ranks, sizeof *placed);
    FormingSeat *seats = calloc((size_t)ranks * members, sizeof *seats);

    assert(forming_is_complete(forming));
    if (placed && seats) { /* without memory they stay in the order of their coming */
        for (uint32_t i = 0; i < ranks; i++)
            placed[i] = (PlacedRank){.rank = forming->ranks[i], .place = i};
        qsort(placed, ranks, sizeof *placed, compare_placed);
        for (uint32_t i = 0; i < ranks; i++) {
            forming->ranks[i] = placed[i].rank;
            for (uint32_t m = 0; m < members; m++) {
                seats[(size_t)i * members + m] = seats_of(forming, placed[i].place)[m];
                seats[(size_t)i * members + m].place = i;
            }
        }
        free(forming->seats);
        forming->seats = seats;
        seats = NULL;
    }
    free(seats);
    free(placed);
}

static void add_absent(const Forming *forming, uint32_t number, const FormingRank *rank,
                       Text *text) {
    uint32_t members = forming->key.members, taken = rank ? rank->taken : 0;
    char pid[48];

    if (taken > 0)
        text_add(text, "%u of %u members of rank %u", members - taken, members, number);
    else
        text_add(text, "rank %u", number);
    if (rank && rank->left)
        text_add(text, " (%s left", forming_format_pid(pid, rank->left_pid));
    else
        text_add(text, " (never attached");
    if (taken > 0) {
        text_add(text, "; here: ");
        add_pids(forming, rank, text);
    }
    text_add(text, ")");
}

/* Every rank of the world is local, so the absent ones have names. */
static void describe_missing_of_all(const Forming *forming, Text *text) {
    const FormingRank *rank = rank_from(forming, 0);
    uint32_t named = 0;

    for (uint32_t number = 0; number < forming->key.world; number++) {
        bool here = rank && rank->rank == number;
        if (!here || rank->taken < forming->key.members) {
            if (named++ == FORMING_NAMED_MAX) {
                text_add(text, " and more");
                return;
            }
            text_add(text, "%s", named > 1 ? ", " : "");
            add_absent(forming, number, here ? rank : NULL, text);
        }
        if (here)
            rank = rank_from(forming, (uint64_t)number + 1);
    }
}

static void describe_missing_of_some(const Forming *forming, Text *text) {
    const char *comma = "";
    uint32_t known = 0, named = 0;

    FOR_EACH_RANK(rank, forming) {
        known++;
        if (rank->taken == forming->key.members || named++ >= FORMING_NAMED_MAX)
            continue;
        text_add(text, "%s", comma);
        add_absent(forming, rank->rank, rank, text);
        comma = ", ";
    }
    if (known == forming->key.local_ranks)
        return;
    text_add(text, "%s%u more rank%s of %u (here:", comma, forming->key.local_ranks - known,
             forming->key.local_ranks - known == 1 ? "" : "s", forming->key.world);
    comma = " ";
    named = 0;
    FOR_EACH_RANK(rank, forming) {
        if (named++ == FORMING_NAMED_MAX) {
            text_add(text, " and more");
            break;
        }
        text_add(text, "%s%u", comma, rank->rank);
        comma = ", ";
    }
    text_add(text, ")");
}

void forming_describe_missing(const Forming *forming, Text *text) {
    if (forming->key.local_ranks == forming->key.world)
        describe_missing_of_all(forming, text);
    else
        describe_missing_of_some(forming, text);
}

/* Does a member of this rank ask for the same as `one`? */
static bool asks_for(const Forming *forming, const FormingRank *rank, const FormingApplicant *one) {
    const FormingSeat *seats = seats_of(forming, (uint32_t)(rank - forming->ranks));

    for (uint32_t i = 0; i < forming->key.members; i++)
        if (seats[i].taken && compare_cursors(&seats[i].applicant, one) == 0)
            return true;
    return false;
}

/* " 0–2, 5": the ranks that ask for the same as `one`. Returns how many. */
static uint32_t add_ranks_with(const Forming *forming, const FormingApplicant *one, Text *text) {
    int64_t first = -1, last = -2;
    const char *comma = " ";
    uint32_t count = 0;

    FOR_EACH_RANK(rank, forming) {
        if (!asks_for(forming, rank, one))
            continue;
        count++;
        if ((int64_t)rank->rank != last + 1) {
            if (last > first)
                text_add(text, "–%u", (uint32_t)last);
            text_add(text, "%s%u", comma, rank->rank);
            comma = ", ";
            first = rank->rank;
        }
        last = rank->rank;
    }
    if (last > first)
        text_add(text, "–%u", (uint32_t)last);
    return count;
}

static bool spans_epochs(const Forming *forming) {
    const FormingApplicant *oldest = oldest_of(forming);

    for (uint32_t i = 0; i < forming_seat_count(forming); i++)
        if (forming->seats[i].taken && forming->seats[i].applicant.epoch != oldest->epoch)
            return true;
    return false;
}

/* The oldest cursor after `after`, or the very oldest. */
static const FormingApplicant *next_cursor(const Forming *forming, const FormingApplicant *after) {
    const FormingApplicant *best = NULL;

    for (uint32_t i = 0; i < forming_seat_count(forming); i++) {
        const FormingSeat *seat = &forming->seats[i];
        if (seat->taken && (!after || compare_cursors(&seat->applicant, after) > 0) &&
            (!best || compare_cursors(&seat->applicant, best) < 0))
            best = &seat->applicant;
    }
    return best;
}

void forming_describe_cursors(const Forming *forming, Text *text) {
    bool epochs = forming->taken > 0 && spans_epochs(forming);
    const FormingApplicant *one = next_cursor(forming, NULL);
    uint32_t named = 0;

    for (; one && named < FORMING_NAMED_MAX; one = next_cursor(forming, one), named++) {
        CLEANUP(text_deinit) Text ranks = {0};
        bool several = add_ranks_with(forming, one, &ranks) > 1;

        text_add(text, "%srank%s%s", named ? ", " : "", several ? "s" : "",
                 ranks.bytes ? ranks.bytes : "");
        text_add(text, "%s for ", named ? "" : several ? " ask" : " asks");
        if (epochs)
            text_add(text, "epoch %llu ", (unsigned long long)one->epoch);
        text_add(text, "%s%llu", named && !epochs ? "" : "index ", (unsigned long long)one->index);
    }
    if (one)
        text_add(text, " and more");
}
