/* SPDX-License-Identifier: MIT */
/* A seat outlives its session whenever the pipeline still has something to say about it: while the
 * stream is made (READY makes members for all first seats, so those who died meanwhile leave right
 * after it) and while a join is under way (JOINED may bring a member nobody wants any more). So an
 * event never meets a freed seat, and every member that the pipeline made leaves exactly once. */
#include "server/audience.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum { AUDIENCE_JOIN_RETRY_MS = 10, AUDIENCE_WATCH_S = 1 };

static void timer_fired(Timer *timer, int64_t now_ns);
static void ask_to_join(Audience *audience);

static void seat_free(AudienceSeat *seat) {
    if (seat->session)
        seat->session->seat = NULL;
    list_remove(&seat->link);
    free(seat);
}

void audience_free(Audience *audience) {
    LIST_FOR_EACH(link, &audience->seats)
    seat_free(CONTAINER_OF(link, AudienceSeat, link));
    timer_clear(&audience->server->loop.timers, &audience->timer);
    list_remove(&audience->link);
    forming_free(audience->forming);
    feed_unref(audience->feed);
    free(audience->rings);
    free(audience);
}

static void set_timer(Audience *audience, int64_t at_ns) {
    /* Without memory for a timer nothing is told and joins wait for their deadline at the client;
     * the stream itself needs none. */
    (void)!timer_set(&audience->server->loop.timers, &audience->timer, at_ns);
}

static AudienceSeat *seat_new(Audience *audience, Session *session, uint32_t ring,
                              int64_t deadline_ns) {
    AudienceSeat *seat = calloc(1, sizeof *seat);

    if (!seat)
        return NULL;
    *seat = (AudienceSeat){
        .audience = audience, .session = session, .ring = ring, .deadline_ns = deadline_ns};
    list_append(&audience->seats, &seat->link);
    return seat;
}

/* Say the same to everybody, who is gone after that. */
static void refuse_all(Audience *audience, int code, const char *text) {
    LIST_FOR_EACH(link, &audience->seats) {
        AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (seat->session)
            session_refuse(seat->session, code, text); /* leads to audience_leave() */
    }
}

/* Where somebody may wait for somebody else, look now and then whether he does. */
static void watch(Audience *audience) {
    bool shared = audience->key.local_ranks > 1;

    for (uint32_t i = 0; i < audience->key.local_ranks; i++)
        shared = shared || audience->rings[i].present > 1;
    if (shared)
        set_timer(audience, audience->server->loop.now_ns + AUDIENCE_WATCH_S * NS_PER_SECOND);
    else
        timer_clear(&audience->server->loop.timers, &audience->timer);
}

/* --- making -------------------------------------------------------------------------------- */

/* A seat of the audience for each of the forming, and its sessions are told apart from those that
 * still wait. */
static int move_seats(Audience *audience) {
    const Forming *forming = audience->forming;

    for (uint32_t i = 0; i < forming_seat_count(forming); i++) {
        const FormingSeat *from = &forming->seats[i];
        AudienceSeat *seat = seat_new(audience, from->applicant.owner, from->place,
                                      from->applicant.deadline_ns);
        if (!seat)
            return -ENOMEM;
        seat->member = i % forming->key.members;
    }
    return 0;
}

static int start_stream(Audience *audience, uint64_t reserved_bytes, Error *error) {
    uint32_t count = audience->key.local_ranks;
    uint32_t *ranks = calloc(count, sizeof *ranks);
    StreamRequest request = {.feed = audience->feed,
                             .seed = audience->key.seed,
                             .epoch = audience->start_epoch,
                             .index = audience->start_index,
                             .world = audience->key.world,
                             .ring_count = count,
                             .ranks = ranks,
                             .members = audience->key.members,
                             /* NOLINTNEXTLINE(performance-no-int-to-ptr): it may be gone by then */
                             .owner = (void *)(uintptr_t)audience->number};
    int r;

    if (!ranks)
        return error_set(error, -ENOMEM, "no memory for a stream");
    for (uint32_t i = 0; i < count; i++)
        ranks[i] = audience->rings[i].rank;
    memcpy(request.instance, audience->server->instance, sizeof request.instance);
    r = stream_new(audience->server->pipeline, &request, reserved_bytes, &audience->stream, error);
    free(ranks);
    return r;
}

static Audience *allocate(Server *server, Feed *feed, const Forming *forming) {
    Audience *audience = calloc(1, sizeof *audience);
    AudienceRing *rings = calloc(forming->key.local_ranks, sizeof *rings);

    if (!audience || !rings) {
        free(audience);
        free(rings);
        return NULL;
    }
    *audience = (Audience){.server = server,
                           .feed = feed_ref(feed),
                           .number = ++server->audiences_made,
                           .key = forming->key,
                           .rings = rings,
                           .since_ns = server->loop.now_ns,
                           .tell_ns = server->loop.now_ns + SERVER_TELL_FIRST_NS,
                           .timer = {.fire = timer_fired}};
    list_init(&audience->link);
    list_init(&audience->seats);
    for (uint32_t i = 0; i < forming->key.local_ranks; i++)
        rings[i] = (AudienceRing){.rank = forming->ranks[i].rank, .present = forming->key.members};
    return audience;
}

int audience_new(Server *server, Feed *feed, Forming *forming, uint64_t reserved_bytes,
                 Error *error) {
    Audience *audience;
    int r;

    forming_sort(forming);
    audience = allocate(server, feed, forming);
    if (!audience)
        return error_set(error, -ENOMEM, "no memory for a stream");
    forming_start(forming, &audience->start_epoch, &audience->start_index);
    audience->forming = forming;
    r = move_seats(audience);
    if (r < 0)
        (void)error_set(error, r, "no memory for a stream");
    else
        r = start_stream(audience, reserved_bytes, error);
    if (r < 0) {
        audience->forming = NULL; /* stays the caller's, with its sessions */
        LIST_FOR_EACH(link, &audience->seats)
        CONTAINER_OF(link, AudienceSeat, link)->session = NULL;
        audience_free(audience);
        return r;
    }
    LIST_FOR_EACH(link, &audience->seats) {
        AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        seat->session->wait = NULL;
        seat->session->forming_seat = NULL;
        seat->session->seat = seat;
    }
    list_append(&server->audiences, &audience->link);
    set_timer(audience, MIN(audience->tell_ns, forming_deadline(forming)));
    return 0;
}

static void welcome(AudienceSeat *seat) {
    StreamSeat from;
    SeqfeedWelcome message;

    stream_seat(seat->audience->stream, seat->ring, seat->member, &from);
    message = (SeqfeedWelcome){
        .head = {.type = SEQFEED_MESSAGE_WELCOME, .size = sizeof message},
        .ring_bytes = from.ring_bytes,
        .first = from.first,
        .start_epoch = from.start_epoch,
        .start_index = from.start_index,
        .epoch_length = from.epoch_length,
        .member = seat->member,
    };
    session_welcome(seat->session, &message, from.data_fd, from.ack_fd);
}

/* Now that the epoch has been counted: cursors of several epochs may be too far apart. */
static bool cursors_are_close(const Audience *audience) {
    StreamSeat seat;

    stream_seat(audience->stream, 0, 0, &seat);
    /* Where no whole round was left of the oldest cursor's epoch, it starts with the next. */
    return forming_is_close(audience->forming,
                            seat.start_epoch == audience->start_epoch ? seat.epoch_length : 0,
                            seat.whole_length);
}

static void log_start(const Audience *audience) {
    const FormingKey *key = &audience->key;

    server_log_client(audience->server, LOG_LEVEL_INFO,
                      "feed %s%s%s: stream of user %u starts at epoch %llu, index %llu: %u of %u "
                      "ranks, %u member%s each",
                      audience->feed->name, key->group[0] ? ", group " : "", key->group, key->uid,
                      (unsigned long long)audience->start_epoch,
                      (unsigned long long)audience->start_index, key->local_ranks, key->world,
                      key->members, key->members == 1 ? "" : "s");
}

static void stream_is_ready(Audience *audience) {
    CLEANUP(text_deinit) Text apart = {0};

    if (!cursors_are_close(audience)) {
        forming_describe_cursors(audience->forming, &apart);
        refuse_all(audience, -ESTALE, apart.bytes ? apart.bytes : "cursors lie too far apart");
    }
    audience->state = AUDIENCE_RUNNING;
    forming_free(audience->forming);
    audience->forming = NULL;
    log_start(audience);
    LIST_FOR_EACH(link, &audience->seats) {
        AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (seat->joining)
            continue;
        if (seat->session)
            welcome(seat);
        else
            audience_leave(seat);
    }
    for (uint32_t i = 0; i < audience->key.local_ranks; i++)
        audience->rings[i].tail_ns = audience->server->loop.now_ns;
    watch(audience);
    ask_to_join(audience);
    if (audience->server->draining)
        audience_drain(audience);
}

/* --- joining and leaving --------------------------------------------------------------------- */

Audience *audience_find(Server *server, const FormingKey *key, bool has_seed, uint32_t rank,
                        uint32_t *ret_ring) {
    Audience *found = NULL;

    LIST_FOR_EACH(link, &server->audiences) {
        Audience *audience = CONTAINER_OF(link, Audience, link);
        const FormingKey *own = &audience->key;
        if (audience->state == AUDIENCE_DRAINING || audience->cancelled || own->uid != key->uid ||
            own->feed != key->feed || own->world != key->world ||
            strcmp(own->group, key->group) != 0 || (has_seed && own->seed != key->seed))
            continue;
        for (uint32_t i = 0; i < own->local_ranks; i++) {
            if (audience->rings[i].rank == rank && audience->rings[i].present > 0) {
                found = audience;
                *ret_ring = i;
            }
        }
    }
    return found;
}

/* Tell the pipeline of those who want to join; a full queue takes them later. */
static void ask_to_join(Audience *audience) {
    Server *server = audience->server;

    if (audience->state == AUDIENCE_MAKING)
        return;
    LIST_FOR_EACH(link, &audience->seats) {
        AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (!seat->joining || seat->asked)
            continue;
        if (server->loop.now_ns >= seat->deadline_ns) {
            session_refuse(seat->session, -ETIMEDOUT, "timed out while joining a busy stream");
            continue;
        }
        if (stream_join(audience->stream, seat->ring, seat) < 0) {
            set_timer(audience, server->loop.now_ns + AUDIENCE_JOIN_RETRY_MS * NS_PER_MS);
            return;
        }
        seat->asked = true;
    }
}

void audience_join(Audience *audience, uint32_t ring, Session *session, int64_t deadline_ns) {
    AudienceSeat *seat = seat_new(audience, session, ring, deadline_ns);

    if (!seat) {
        session_refuse(session, -ENOMEM, "no memory for a seat");
        return;
    }
    seat->joining = true;
    session->seat = seat;
    ask_to_join(audience);
}

/* All who waited for the stream have gone: it need not be made. */
static void cancel_if_empty(Audience *audience) {
    if (audience->state != AUDIENCE_MAKING || audience->cancelled)
        return;
    LIST_FOR_EACH(link, &audience->seats)
    if (CONTAINER_OF(link, AudienceSeat, link)->session)
        return;
    audience->cancelled = true;
    stream_cancel(audience->stream);
}

void audience_leave(AudienceSeat *seat) {
    Audience *audience = seat->audience;
    bool is_kept = audience->state == AUDIENCE_MAKING ? !seat->joining
                                                      : seat->joining && seat->asked;

    if (seat->session)
        seat->session->seat = NULL;
    seat->session = NULL;
    if (!is_kept) { /* else the pipeline is about to make a member of it */
        if (!seat->joining) {
            audience->rings[seat->ring].present--;
            stream_leave(audience->stream, seat->ring, seat->member);
        }
        seat_free(seat);
    }
    cancel_if_empty(audience);
}

void audience_wake(AudienceSeat *seat) {
    if (seat->audience->state != AUDIENCE_MAKING)
        stream_poke(seat->audience->stream);
}

void audience_drain(Audience *audience) {
    if (audience->state == AUDIENCE_MAKING) {
        refuse_all(audience, -ESHUTDOWN, "the daemon is ending: it takes no more trainers");
    } else if (audience->state == AUDIENCE_RUNNING) {
        audience->state = AUDIENCE_DRAINING;
        stream_drain(audience->stream);
    }
}

/* --- waiting --------------------------------------------------------------------------------- */

/* Who has taken everything that there is: a full ring holds up others whose rings are empty, and
 * the slowest member of a ring holds up those who have released all. */
static bool others_wait(const Audience *audience, uint32_t slow_ring, uint32_t slow_member) {
    LIST_FOR_EACH(link, &((Audience *)audience)->seats) {
        const AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (seat->session && !seat->joining &&
            (seat->ring != slow_ring || seat->member != slow_member) &&
            stream_member_behind(audience->stream, seat->ring, seat->member) == 0)
            return true;
    }
    return false;
}

static const AudienceSeat *find_seat(const Audience *audience, uint32_t ring, uint32_t member) {
    LIST_FOR_EACH(link, &((Audience *)audience)->seats) {
        const AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (!seat->joining && seat->ring == ring && seat->member == member)
            return seat;
    }
    return NULL;
}

bool audience_describe_slow(const Audience *audience, uint32_t ring, Text *text) {
    const AudienceRing *own = &audience->rings[ring];
    const Server *server = audience->server;
    const AudienceSeat *seat;
    StreamRingStatus status;
    char pid[48];

    if (audience->state == AUDIENCE_MAKING || own->present == 0)
        return false;
    stream_ring_status(audience->stream, ring, &status);
    if (status.head - status.tail < audience->feed->slots || status.tail != own->tail ||
        server->loop.now_ns - own->tail_ns < SERVER_TELL_FIRST_NS)
        return false;
    seat = find_seat(audience, ring, status.slowest_member);
    if (!seat || !seat->session || !others_wait(audience, ring, status.slowest_member))
        return false;
    if (audience->key.group[0])
        text_add(text, "group %s: ", audience->key.group);
    else
        text_add(text, "feed %s: ", audience->feed->name);
    text_add(text, "%s is %llu batches behind", forming_format_pid(pid, seat->session->peer.pid),
             (unsigned long long)(status.head - status.tail));
    return true;
}

static void tell_others(const Audience *audience, const AudienceSeat *slow, const char *text) {
    LIST_FOR_EACH(link, &((Audience *)audience)->seats) {
        const AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (seat != slow && seat->session && !seat->joining)
            session_tell(seat->session, text);
    }
}

static void watch_ring(Audience *audience, uint32_t ring) {
    AudienceRing *own = &audience->rings[ring];
    int64_t now_ns = audience->server->loop.now_ns;
    CLEANUP(text_deinit) Text text = {0};
    StreamRingStatus status;

    stream_ring_status(audience->stream, ring, &status);
    /* Members of a full ring release without a word until half of it is free, so what is known of
     * them is as old as the last step: let a worker look before the next time. */
    if (status.head - status.tail >= audience->feed->slots)
        stream_poke(audience->stream);
    if (status.tail != own->tail) {
        own->tail = status.tail;
        own->tail_ns = now_ns;
        own->told_ns = 0;
        return;
    }
    if (own->told_ns != 0 && now_ns - own->told_ns < SERVER_TELL_AGAIN_NS)
        return;
    if (!audience_describe_slow(audience, ring, &text) || !text.bytes)
        return;
    own->told_ns = now_ns;
    server_log_client(audience->server, LOG_LEVEL_INFO, "feed %s: %s", audience->feed->name,
                      text.bytes);
    tell_others(audience, find_seat(audience, ring, status.slowest_member), text.bytes);
}

static void watch_running(Audience *audience) {
    for (uint32_t i = 0; i < audience->key.local_ranks; i++)
        watch_ring(audience, i);
    watch(audience);
    ask_to_join(audience);
}

static void watch_making(Audience *audience, int64_t now_ns) {
    int64_t deadline_ns = forming_deadline(audience->forming);

    if (now_ns >= deadline_ns) {
        refuse_all(
            audience, -ETIMEDOUT,
            "timed out while the stream was being made: counting a large dataset takes time");
        return;
    }
    if (now_ns >= audience->tell_ns) {
        LIST_FOR_EACH(link, &audience->seats) {
            AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
            if (seat->session)
                session_tell(seat->session, "waiting for the stream to be made");
        }
        audience->tell_ns = now_ns + SERVER_TELL_AGAIN_NS;
    }
    set_timer(audience, MIN(audience->tell_ns, deadline_ns));
}

static void timer_fired(Timer *timer, int64_t now_ns) {
    Audience *audience = CONTAINER_OF(timer, Audience, timer);

    if (audience->state == AUDIENCE_MAKING)
        watch_making(audience, now_ns);
    else
        watch_running(audience);
}

/* --- events ---------------------------------------------------------------------------------- */

static void member_joined(Audience *audience, const PipelineEvent *event) {
    AudienceSeat *seat = event->token;

    assert(seat->audience == audience && seat->joining && seat->asked);
    if (event->code < 0) {
        Session *session = seat->session;
        seat_free(seat);
        if (session)
            session_refuse(session, event->code,
                           event->text[0] ? event->text : "the ring takes no more members");
        return;
    }
    seat->joining = false;
    seat->member = event->member;
    audience->rings[seat->ring].present++;
    if (!seat->session)
        audience_leave(seat);
    else
        welcome(seat);
    watch(audience);
    ask_to_join(audience);
}

static void member_violated(Audience *audience, const PipelineEvent *event) {
    const AudienceSeat *seat = find_seat(audience, event->ring, event->member);

    if (!seat || !seat->session)
        return;
    server_log_client(
        audience->server, LOG_LEVEL_WARNING,
        "user %u, pid %d: its count of released batches is out of range: disconnected",
        seat->session->peer.uid, seat->session->peer.pid);
    session_refuse(seat->session, -EPROTO,
                   "the count of released batches in your page is out of range");
}

/* The stream has no future; what waits for its answer gets it here. */
static void stream_is_over(Audience *audience, int code, const char *text) {
    Server *server = audience->server;

    LIST_FOR_EACH(link, &audience->seats) {
        AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        Session *session = seat->session;
        seat_free(seat);
        if (session)
            session_refuse(session, code, text);
    }
    stream_free(audience->stream);
    server->memory_freed = true;
    audience_free(audience);
}

static Audience *owner_of(Server *server, const PipelineEvent *event) {
    LIST_FOR_EACH(link, &server->audiences) {
        Audience *audience = CONTAINER_OF(link, Audience, link);
        if (audience->number == (uintptr_t)event->owner)
            return audience;
    }
    return NULL;
}

void audience_handle_event(Server *server, const PipelineEvent *event) {
    Audience *audience = owner_of(server, event);

    if (!audience)
        return;
    switch (event->kind) {
    case PIPELINE_EVENT_READY:
        stream_is_ready(audience);
        break;
    case PIPELINE_EVENT_FAILED:
        if (!audience->cancelled)
            server_log_client(server, LOG_LEVEL_ERROR, "feed %s: %s", audience->feed->name,
                              event->text);
        stream_is_over(audience, event->code, event->text);
        break;
    case PIPELINE_EVENT_JOINED:
        member_joined(audience, event);
        break;
    case PIPELINE_EVENT_VIOLATION:
        member_violated(audience, event);
        break;
    case PIPELINE_EVENT_CLOSED:
        stream_is_over(audience, -ECONNRESET, "the stream has ended");
        break;
    case PIPELINE_EVENT_DEVICE: /* no streams' */
    case PIPELINE_EVENT_MEMORY:
    case PIPELINE_EVENT_WARNING:
        break;
    }
}
