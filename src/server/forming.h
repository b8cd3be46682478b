/* SPDX-License-Identifier: MIT */
/* forming.h: those who attach together, until all are there. Pure: no socket, no clock, no
 * pipeline, so that its rules can be tried without any. Owner: the Admission that made it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "base/error.h"
#include "base/text.h"
#include "format/protocol_format.h"

/* What must be equal for two attaches to belong together. */
typedef struct FormingKey {
    uid_t uid;
    const void *feed; /* compared, never followed */
    char group[SEQFEED_GROUP_NAME];
    uint32_t world, local_ranks, members;
    uint64_t seed;
} FormingKey;

/* One who attaches. */
typedef struct FormingApplicant {
    uint32_t rank;
    pid_t pid;             /* 0: of another PID namespace */
    uint64_t epoch, index; /* its cursor */
    int64_t deadline_ns;   /* when it gives up */
    void *owner;
} FormingApplicant;

typedef struct FormingSeat {
    bool taken;
    uint32_t place; /* its rank's, in Forming.ranks */
    FormingApplicant applicant;
} FormingSeat;

typedef struct FormingRank {
    bool known; /* `rank` is one of the set */
    uint32_t rank;
    uint32_t taken; /* seats */
    bool left;      /* somebody sat here and has gone: */
    pid_t left_pid;
} FormingRank;

typedef struct Forming {
    FormingKey key;
    uint32_t slots;     /* of a ring: how many rounds cursors may lie apart */
    FormingRank *ranks; /* [local_ranks] */
    FormingSeat *seats; /* [local_ranks * members], those of a rank together */
    uint32_t taken;
} Forming;

/* 0 or -ENOMEM. The caller frees. */
MUST_CHECK int forming_new(const FormingKey *key, uint32_t slots, Forming **ret_forming);
void forming_free(Forming *forming); /* accepts NULL */

/* Would an attach with this key belong here? Never where there is one seat. */
bool forming_matches(const Forming *forming, const FormingKey *key);

/* Give the applicant a seat. -EBUSY with a sentence that names who sits there, when the rank's
 * seats are taken or the set of ranks is full; FORMING_E_APART with a sentence for all, when the
 * cursors cannot be one stream's: then nobody of this forming has a future. */
enum { FORMING_E_APART = 1 };
MUST_CHECK int forming_take(Forming *forming, const FormingApplicant *applicant,
                            FormingSeat **ret_seat, Error *error);

/* The one in this seat has gone; somebody else may take it. */
void forming_leave(Forming *forming, FormingSeat *seat);

static inline uint32_t forming_seat_count(const Forming *forming) {
    return forming->key.local_ranks * forming->key.members;
}
static inline bool forming_is_complete(const Forming *forming) {
    return forming->taken == forming_seat_count(forming);
}

/* The earliest deadline of those who wait; INT64_MAX when nobody does. */
int64_t forming_deadline(const Forming *forming);

/* The oldest cursor: where the stream starts. Somebody is there. */
void forming_start(const Forming *forming, uint64_t *ret_epoch, uint64_t *ret_index);

/* Order the ranks, lowest first, seats with them. Somebody is in every seat. Pointers to seats are
 * void afterwards. */
void forming_sort(Forming *forming);

/* Is the newest cursor of a complete forming at most `slots` rounds behind the oldest, when
 * `rounds_left` is the number of rounds from the oldest to the end of its epoch, and a whole epoch
 * has about `epoch_rounds`? What forming_take() cannot know when cursors lie in several epochs. */
bool forming_is_close(const Forming *forming, uint64_t rounds_left, uint64_t epoch_rounds);

/* "rank 3 (never attached)"; "2 of 3 members of rank 0 (pid 4711 left; here: pid 4712)"; "1 more
 * rank of 8 (here: 0, 1, 2)". */
void forming_describe_missing(const Forming *forming, Text *text);
/* "rank 3 asks for index 200, ranks 0–2 for 1000". */
void forming_describe_cursors(const Forming *forming, Text *text);

/* "pid 4711", or words for a process whose number we cannot see. `to` needs 48 bytes. */
char *forming_format_pid(char to[48], pid_t pid);
