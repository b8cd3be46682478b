/* SPDX-License-Identifier: MIT */
/* audience.h: one stream and the sessions that attend it, from the moment all are there until the
 * last has left. Owner: the Server's list; it frees itself after the stream's last event. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/text.h"
#include "pipeline/pipeline.h"
#include "server/forming.h"
#include "server/list.h"
#include "server/server_state.h"

typedef enum AudienceState {
    AUDIENCE_MAKING, /* the epoch is counted, the rings are made */
    AUDIENCE_RUNNING,
    AUDIENCE_DRAINING
} AudienceState;

typedef struct AudienceSeat {
    List link;
    struct Audience *audience;
    Session *session; /* NULL: it has gone, and the pipeline does not know yet */
    uint32_t ring, member;
    bool joining; /* not yet a member; `asked`: the pipeline has been told */
    bool asked;
    int64_t deadline_ns; /* of its attach */
} AudienceSeat;

typedef struct AudienceRing {
    uint32_t rank;
    uint32_t present; /* members that have not left; 0: the ring is closed */
    uint64_t tail;    /* as seen at the last look … */
    int64_t tail_ns;  /* … and since when */
    int64_t told_ns;  /* when somebody was last told about it; 0: never */
} AudienceRing;

typedef struct Audience {
    List link;
    Server *server;
    Feed *feed;
    Stream *stream;
    uint64_t number; /* no other has had it: events know their audience by it, since one that is
                        late may find another audience, and another stream, at the same address */
    AudienceState state;
    bool cancelled; /* while it was made all had gone */
    FormingKey key;
    Forming *forming; /* until the stream is made */
    uint64_t start_epoch, start_index;
    int64_t since_ns; /* when making began */
    int64_t tell_ns;
    AudienceRing *rings; /* [key.local_ranks] */
    List seats;
    Timer timer;
} Audience;

/* Begin the stream of a complete forming, whose memory is reserved; both pass on success. 0 or
 * negative errno with a sentence. */
MUST_CHECK int audience_new(Server *server, Feed *feed, Forming *forming, uint64_t reserved_bytes,
                            Error *error);

/* A running stream with this key (but for members and local ranks; any seed unless `has_seed`)
 * whose ring of `rank` is open: the newest one. NULL: none. */
Audience *audience_find(Server *server, const FormingKey *key, bool has_seed, uint32_t rank,
                        uint32_t *ret_ring);
/* The session becomes one more member of a ring; it is answered later. */
void audience_join(Audience *audience, uint32_t ring, Session *session, int64_t deadline_ns);

/* The session of this seat has gone. */
void audience_leave(AudienceSeat *seat);
/* A trainer has released batches. */
void audience_wake(AudienceSeat *seat);
/* Publish what is complete and say that nothing follows. */
void audience_drain(Audience *audience);

/* What the pipeline has to tell. */
void audience_handle_event(Server *server, const PipelineEvent *event);

/* "group sweep: pid 4711 is 8 batches behind" where a ring has been full and still for 5 s while
 * others wait for it; false when there is nothing to say. */
bool audience_describe_slow(const Audience *audience, uint32_t ring, Text *text);

/* At the server's end: forget everything, the pipeline goes with its streams. */
void audience_free(Audience *audience);
