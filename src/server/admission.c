/* SPDX-License-Identifier: MIT */
/* The checks stand in the order of the specification: version (session.c), user, limits, cursor,
 * reservation; nothing is allocated for a client before it has passed all but the last. The first
 * seat reserves for the whole stream, so two half-formed streams can never hold half of the memory
 * each and wait for ever: a forming that could not reserve holds nothing. */
#include "server/admission.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/audience.h"
#include "server/namesake.h"

#define ADMISSION_DEADLINE_MAX_NS (INT64_C(30) * 86400 * NS_PER_SECOND)
#define ADMISSION_RETRY_NS NS_PER_SECOND

/* --- those who wait -------------------------------------------------------------------------- */

static void wait_free(AdmissionWait *wait) {
    timer_clear(&wait->server->loop.timers, &wait->timer);
    list_remove(&wait->link);
    if (wait->reserved) {
        pipeline_cancel(wait->server->pipeline, wait->bytes);
        wait->server->memory_freed = true;
    }
    forming_free(wait->forming);
    feed_unref(wait->feed);
    free(wait);
}

static void refuse_wait(AdmissionWait *wait, int code, const char *text) {
    Forming *forming = wait->forming;

    for (uint32_t i = 0; i < forming_seat_count(forming); i++) {
        Session *session = forming->seats[i].taken ? forming->seats[i].applicant.owner : NULL;
        if (!session)
            continue;
        session->wait = NULL;
        session->forming_seat = NULL;
        session_refuse(session, code, text);
    }
    wait_free(wait);
}

void admission_refuse_all(Server *server, int code, const char *text) {
    LIST_FOR_EACH(link, &server->waits)
    refuse_wait(CONTAINER_OF(link, AdmissionWait, link), code, text);
}

static void describe_memory(const AdmissionWait *wait, Text *text) {
    char need[32], reserved[32], limit[32], kept[32];
    PipelineStatus status;

    pipeline_status(wait->server->pipeline, &status);
    text_add(text, "%s of memory: %s of %s are reserved by others",
             text_format_size(need, wait->bytes),
             text_format_size(reserved, status.memory_reserved),
             text_format_size(limit, status.memory_limit - status.memory_index));
    if (status.memory_kept > 0)
        text_add(text, ", %s of that for rings that trainers which have left still have",
                 text_format_size(kept, status.memory_kept));
}

void admission_describe(const AdmissionWait *wait, Text *text) {
    if (forming_is_complete(wait->forming)) {
        describe_memory(wait, text);
        return;
    }
    forming_describe_missing(wait->forming, text);
    namesake_describe(wait, text);
}

static void tell_wait(AdmissionWait *wait) {
    const Forming *forming = wait->forming;
    CLEANUP(text_deinit) Text text = {0};

    text_add(&text, "waiting for ");
    admission_describe(wait, &text);
    if (!text.bytes)
        return;
    server_log_client(wait->server, LOG_LEVEL_INFO, "feed %s%s%s: %s", wait->feed->name,
                      forming->key.group[0] ? ", group " : "", forming->key.group, text.bytes);
    for (uint32_t i = 0; i < forming_seat_count(forming); i++)
        if (forming->seats[i].taken)
            session_tell(forming->seats[i].applicant.owner, text.bytes);
}

static void set_timer(AdmissionWait *wait) {
    int64_t at_ns = MIN(wait->tell_ns, forming_deadline(wait->forming));

    if (timer_set(&wait->server->loop.timers, &wait->timer, at_ns) < 0)
        refuse_wait(wait, -ENOMEM, "no memory for a timer");
}

static void timer_fired(Timer *timer, int64_t now_ns) {
    AdmissionWait *wait = CONTAINER_OF(timer, AdmissionWait, timer);

    if (now_ns >= forming_deadline(wait->forming)) {
        CLEANUP(text_deinit) Text text = {0};
        text_add(&text, "timed out waiting for ");
        admission_describe(wait, &text);
        refuse_wait(wait, -ETIMEDOUT, text.bytes ? text.bytes : "timed out");
        return;
    }
    if (now_ns >= wait->tell_ns) {
        tell_wait(wait);
        wait->tell_ns = now_ns + SERVER_TELL_AGAIN_NS;
    }
    set_timer(wait);
}

/* All are there and the memory is: on to the stream. Else nothing; the timer says what is missing.
 */
static void start_if_ready(AdmissionWait *wait) {
    Error error = {0};
    int r;

    if (!wait->reserved || !forming_is_complete(wait->forming))
        return;
    r = audience_new(wait->server, wait->feed, wait->forming, wait->bytes, &error);
    if (r < 0) {
        refuse_wait(wait, r, error.text);
        return;
    }
    wait->forming = NULL; /* both have passed to the audience */
    wait->reserved = false;
    wait_free(wait);
}

/* Releases are told, but for what a hanging device kept: all who wait look once a second. */
static int retry_later(Server *server, Error *error) {
    if (timer_is_set(&server->memory))
        return 0;
    if (timer_set(&server->loop.timers, &server->memory, server->loop.now_ns + ADMISSION_RETRY_NS) <
        0)
        return error_set(error, -ENOMEM, "no memory for a timer");
    return 0;
}

/* 0: reserved, or must wait for it. */
static int reserve(AdmissionWait *wait, Error *error) {
    const FormingKey *key = &wait->forming->key;
    int r;

    r = pipeline_reserve(wait->server->pipeline, wait->feed, key->world, key->local_ranks,
                         &wait->bytes, error);
    if (r < 0)
        return r;
    wait->reserved = r != PIPELINE_E_WAIT;
    return wait->reserved ? 0 : retry_later(wait->server, error);
}

void admission_retry(Server *server) {
    LIST_FOR_EACH(link, &server->waits) {
        AdmissionWait *wait = CONTAINER_OF(link, AdmissionWait, link);
        Error error = {0};
        int r;

        if (wait->reserved)
            continue;
        r = reserve(wait, &error);
        if (r < 0)
            refuse_wait(wait, r, error.text);
        else
            start_if_ready(wait);
    }
}

/* --- attach ---------------------------------------------------------------------------------- */

bool admission_allows(const Credentials *peer, const Feed *feed) {
    return peer->uid == geteuid() ||
           credentials_match(peer, feed->allow_users, feed->allow_user_count, feed->allow_groups,
                             feed->allow_group_count);
}

static void refuse_feed(Session *session, const char *name) {
    const Server *server = session->context;
    CLEANUP(text_deinit) Text text = {0};
    uint32_t allowed = 0;

    for (uint32_t i = 0; i < server->feed_count; i++) {
        if (!admission_allows(&session->peer, server->feeds[i]))
            continue;
        text_add(&text, "%s%s", allowed++ ? ", " : "", server->feeds[i]->name);
    }
    if (allowed > 0) {
        CLEANUP(text_deinit) Text sentence = {0};
        text_add(&sentence, "there is no feed %s for user %u; this daemon has: %s", name,
                 session->peer.uid, text.bytes ? text.bytes : "");
        session_refuse(session, -ENOENT, sentence.bytes ? sentence.bytes : "no such feed");
        return;
    }
    text_add(&text, "user %u may not use feed %s: its owner adds you under allow",
             session->peer.uid, name);
    server_log_client(session->context, LOG_LEVEL_WARNING, "user %u, pid %d: refused: feed %s",
                      session->peer.uid, session->peer.pid, name);
    session_refuse(session, -EACCES, text.bytes ? text.bytes : "not allowed");
}

/* The feed, if it is there and this user may use it; what others have is none of his business. */
static Feed *find_feed(Session *session, const char *name) {
    const Server *server = session->context;

    for (uint32_t i = 0; i < server->feed_count; i++)
        if (strcmp(server->feeds[i]->name, name) == 0)
            return admission_allows(&session->peer, server->feeds[i]) ? server->feeds[i] : NULL;
    return NULL;
}

/* Seats: this one now, and as many as its forming will have must be possible at all. */
static bool charge_seat(Session *session, const SeqfeedAttach *attach) {
    Server *server = session->context;
    uint64_t wanted = (uint64_t)attach->local_ranks * attach->members;
    uint32_t share = quota_share(&server->seats, session->peer.uid);
    CLEANUP(text_deinit) Text text = {0};

    if (wanted <= share && quota_take(&server->seats, session->peer.uid)) {
        session->charged = true;
        return true;
    }
    text_add(&text, "%llu seats are more than user %u may have now: %u, of %u in all",
             (unsigned long long)wanted, session->peer.uid, share, server->seats.limit);
    session_refuse(session, -EDQUOT, text.bytes ? text.bytes : "too many seats");
    return false;
}

static AdmissionWait *find_wait(Server *server, const FormingKey *key) {
    LIST_FOR_EACH(link, &server->waits) {
        AdmissionWait *wait = CONTAINER_OF(link, AdmissionWait, link);
        if (forming_matches(wait->forming, key))
            return wait;
    }
    return NULL;
}

static int wait_new(Server *server, Feed *feed, const FormingKey *key, AdmissionWait **ret_wait,
                    Error *error) {
    AdmissionWait *wait = calloc(1, sizeof *wait);
    int r;

    if (!wait)
        return error_set(error, -ENOMEM, "no memory for a forming");
    *wait = (AdmissionWait){.server = server,
                            .feed = feed_ref(feed),
                            .since_ns = server->loop.now_ns,
                            .tell_ns = server->loop.now_ns + SERVER_TELL_FIRST_NS,
                            .timer = {.fire = timer_fired}};
    list_init(&wait->link);
    r = forming_new(key, feed->slots, &wait->forming);
    if (r < 0)
        (void)error_set(error, r, "no memory for a forming");
    else
        r = reserve(wait, error);
    if (r < 0) {
        wait_free(wait);
        return r;
    }
    list_append(&server->waits, &wait->link);
    *ret_wait = wait;
    return 0;
}

static void take_seat(Session *session, Feed *feed, const FormingKey *key,
                      const FormingApplicant *applicant) {
    AdmissionWait *wait = find_wait(session->context, key);
    FormingSeat *seat;
    Error error = {0};
    int r = 0;

    if (!wait)
        r = wait_new(session->context, feed, key, &wait, &error);
    if (r < 0) {
        session_refuse(session, r, error.text);
        return;
    }
    assert(wait);
    r = forming_take(wait->forming, applicant, &seat, &error);
    if (r < 0) {
        session_refuse(session, r, error.text);
        return;
    }
    session->wait = wait;
    session->forming_seat = seat;
    if (r == FORMING_E_APART) {
        refuse_wait(wait, -ESTALE, error.text);
        return;
    }
    set_timer(wait);
    if (session->wait)
        start_if_ready(wait);
}

/* Where the client wants to begin. */
static int read_cursor(const Feed *feed, const SeqfeedAttach *attach, uint64_t seed,
                       FormingApplicant *applicant, Error *error) {
    if (!(attach->flags & SEQFEED_ATTACH_HAS_CURSOR))
        return 0;
    return feed_cursor_parse(feed, seed, attach->cursor, &applicant->epoch, &applicant->index,
                             error);
}

static FormingKey key_of(const Session *session, const Feed *feed, const SeqfeedAttach *attach) {
    FormingKey key = {
        .uid = session->peer.uid,
        .feed = feed,
        .world = attach->world,
        .local_ranks = attach->local_ranks,
        .members = attach->members,
        .seed = attach->flags & SEQFEED_ATTACH_HAS_SEED ? attach->seed : feed->plan.seed,
    };

    memcpy(key.group, attach->group, sizeof key.group);
    return key;
}

void admission_attach(Session *session, const SeqfeedAttach *attach) {
    Server *server = session->context;
    Feed *feed = find_feed(session, attach->feed);
    FormingApplicant applicant = {.rank = attach->rank, .pid = session->peer.pid, .owner = session};
    Audience *audience = NULL;
    FormingKey key;
    Error error = {0};
    uint32_t ring = 0;
    int r;

    if (!feed) {
        refuse_feed(session, attach->feed);
        return;
    }
    if (server->draining) {
        session_refuse(session, -ESHUTDOWN, "the daemon is ending: it takes no more trainers");
        return;
    }
    if (!charge_seat(session, attach))
        return;
    key = key_of(session, feed, attach);
    r = read_cursor(feed, attach, key.seed, &applicant, &error);
    if (r < 0) {
        session_refuse(session, r, error.text);
        return;
    }
    applicant.deadline_ns = server->loop.now_ns +
                            MIN(attach->deadline_ns, ADMISSION_DEADLINE_MAX_NS);
    if (attach->flags & SEQFEED_ATTACH_JOIN_NEXT)
        audience = audience_find(server, &key, attach->flags & SEQFEED_ATTACH_HAS_SEED,
                                 attach->rank, &ring);
    if (audience)
        audience_join(audience, ring, session, applicant.deadline_ns);
    else
        take_seat(session, feed, &key, &applicant);
}

void admission_leave(Session *session) {
    AdmissionWait *wait = session->wait;

    if (!wait)
        return;
    session->wait = NULL;
    forming_leave(wait->forming, session->forming_seat);
    session->forming_seat = NULL;
    if (wait->forming->taken == 0)
        wait_free(wait);
    else
        set_timer(wait);
}
