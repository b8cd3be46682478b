/* SPDX-License-Identifier: MIT */
/* admission.h: from ATTACH to a stream: the checks, the reservation, and those who wait for each
 * other or for memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/text.h"
#include "format/protocol_format.h"
#include "server/forming.h"
#include "server/server_state.h"

/* A forming with what it has reserved. Owner: Server.waits, until an Audience takes over. */
typedef struct AdmissionWait {
    List link;
    Server *server;
    Feed *feed;
    Forming *forming;
    bool reserved;
    uint64_t bytes; /* reserved, or asked for */
    int64_t since_ns, tell_ns;
    Timer timer;
} AdmissionWait;

/* The session's ATTACH: it is seated, told to wait, or refused. */
void admission_attach(Session *session, const SeqfeedAttach *attach);

/* The session has gone: its seat is free again. */
void admission_leave(Session *session);

/* Reservations may have been returned: try again for those who wait for memory, oldest first. */
void admission_retry(Server *server);

/* Refuse everybody who waits. */
void admission_refuse_all(Server *server, int code, const char *text);

/* What this one waits for: "rank 3 (never attached)", with what namesake.h has to add; "1.2 GiB of
 * memory: …". */
void admission_describe(const AdmissionWait *wait, Text *text);

/* May this user use the feed? */
bool admission_allows(const Credentials *peer, const Feed *feed);
