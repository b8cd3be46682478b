/* SPDX-License-Identifier: MIT */
#include "server/namesake.h"

#include <string.h>

#include "server/audience.h"

enum { NAMESAKE_GROUPS_MAX = 3, NAMESAKE_PIDS_MAX = 4 }; /* that a sentence names */

/* Several processes in a sentence: the first ones by number. */
typedef struct NamesakePids {
    Text text;
    uint32_t count;
} NamesakePids;

static void pids_deinit(NamesakePids *pids) {
    text_deinit(&pids->text);
}

static void add_pid(NamesakePids *pids, pid_t pid) {
    char words[48];

    if (pids->count++ < NAMESAKE_PIDS_MAX)
        text_add(&pids->text, "%s%s", pids->count > 1 ? ", " : "", forming_format_pid(words, pid));
    else if (pids->count == NAMESAKE_PIDS_MAX + 1)
        text_add(&pids->text, " and more");
}

static bool is_namesake(const FormingKey *own, const FormingKey *other) {
    return own->group[0] != '\0' && own->uid == other->uid && own->feed == other->feed &&
           strcmp(own->group, other->group) == 0;
}

/* " with world 2, not 4 and members 1, not 2"; nothing where they agree. Returns whether. */
static bool add_differences(const FormingKey *own, const FormingKey *other, Text *text) {
    const struct {
        const char *word;
        unsigned long long theirs, ours;
    } fields[] = {{"world", other->world, own->world},
                  {"local ranks", other->local_ranks, own->local_ranks},
                  {"members", other->members, own->members},
                  {"seed", other->seed, own->seed}};
    const char *joint = " with";

    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        if (fields[i].theirs == fields[i].ours)
            continue;
        text_add(text, "%s %s %llu, not %llu", joint, fields[i].word, fields[i].theirs,
                 fields[i].ours);
        joint = " and";
    }
    return joint[1] == 'a';
}

static bool describe_waiting(const FormingKey *own, const Forming *other, Text *text) {
    CLEANUP(pids_deinit) NamesakePids pids = {0};
    CLEANUP(text_deinit) Text differences = {0};

    if (!add_differences(own, &other->key, &differences))
        return false;
    for (uint32_t i = 0; i < forming_seat_count(other); i++)
        if (other->seats[i].taken)
            add_pid(&pids, other->seats[i].applicant.pid);
    if (!pids.text.bytes || !differences.bytes)
        return false;
    text_add(text, "; %s wait%s in group %s%s", pids.text.bytes, pids.count == 1 ? "s" : "",
             own->group, differences.bytes);
    return true;
}

static bool describe_stream(const FormingKey *own, const Audience *other, Text *text) {
    uint32_t seats = other->key.local_ranks * other->key.members;
    CLEANUP(pids_deinit) NamesakePids pids = {0};

    if (other->state == AUDIENCE_DRAINING || other->cancelled)
        return false;
    LIST_FOR_EACH(link, &((Audience *)other)->seats) {
        const AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (seat->session && !seat->joining)
            add_pid(&pids, seat->session->peer.pid);
    }
    if (!pids.text.bytes)
        return false;
    text_add(text, "; group %s", own->group);
    if (add_differences(own, &other->key, text))
        text_add(text, " runs: %s", pids.text.bytes);
    else if (pids.count >= seats)
        text_add(text, " is full and runs: %s (join: next joins it)", pids.text.bytes);
    else
        text_add(text, " runs with %u of %u: %s (join: next joins it)", pids.count, seats,
                 pids.text.bytes);
    return true;
}

void namesake_describe(const AdmissionWait *wait, Text *text) {
    const FormingKey *own = &wait->forming->key;
    Server *server = wait->server;
    uint32_t named = 0;

    LIST_FOR_EACH(link, &server->waits) {
        const AdmissionWait *other = CONTAINER_OF(link, AdmissionWait, link);
        if (other != wait && named < NAMESAKE_GROUPS_MAX && is_namesake(own, &other->forming->key))
            named += describe_waiting(own, other->forming, text);
    }
    LIST_FOR_EACH(link, &server->audiences) {
        const Audience *other = CONTAINER_OF(link, Audience, link);
        if (named < NAMESAKE_GROUPS_MAX && is_namesake(own, &other->key))
            named += describe_stream(own, other, text);
    }
}
