/* SPDX-License-Identifier: MIT */
/* session.h: one connection: its socket and process, what it may say next, and its deadlines. It
 * knows the conversation, not what an attach means; that is its handler's. Owner: the Server.
 *
 *   HELLO -> READY -> WAITING -> ATTACHED        a trainer
 *                  -> REPLYING -> READY          a tool
 * Everything else that a client does ends the connection. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"
#include "base/text.h"
#include "format/protocol_format.h"
#include "server/credentials.h"
#include "server/event_loop.h"
#include "server/list.h"
#include "server/rate_limit.h"

typedef enum SessionState {
    SESSION_HELLO,
    SESSION_READY,
    SESSION_WAITING,  /* the handler works on its ATTACH */
    SESSION_ATTACHED, /* WELCOME is sent */
    SESSION_REPLYING, /* an answer is being sent */
    SESSION_CLOSED    /* descriptors closed; freed by its owner after this turn */
} SessionState;

typedef struct Session Session;

/* Called with the session in the state that the call is about. Any of these may close it. */
typedef struct SessionHandler {
    void (*attach)(Session *session, const SeqfeedAttach *attach);
    void (*request)(Session *session, uint32_t what);
    void (*wake)(Session *session);   /* a trainer asks to look at what it released */
    void (*closed)(Session *session); /* the last call; the peer's credentials still stand */
} SessionHandler;

struct Session {
    List link;
    SessionState state;
    const SessionHandler *handler;
    void *context; /* the handler's */
    EventLoop *loop;
    RateLimit *complaints; /* log lines that clients can cause; shared */
    EventSource socket, process;
    int fd, pidfd;
    Timer timer;
    bool muted;         /* sent too many wake-ups at once: not read until the timer fires */
    int64_t read_by_ns; /* WELCOME must have been read by then; 0: it has been */
    Credentials peer;
    RateLimit messages;
    Text reply;
    size_t reply_sent;
    /* The handler's: what it holds, and where it waits or sits. */
    bool charged;
    struct AdmissionWait *wait;
    struct FormingSeat *forming_seat;
    struct AudienceSeat *seat;
};

/* Take over a connection. 0, or a negative errno and the descriptor is closed: -ESRCH when its
 * process has gone. */
MUST_CHECK int session_new(EventLoop *loop, int fd, const SessionHandler *handler, void *context,
                           RateLimit *complaints, Session **ret_session);
void session_free(Session *session); /* closed before, or never listed; accepts NULL */

/* End the connection: without a word; with ERROR; or, of an attached one, with CLOSING. Nothing on
 * a closed one. */
void session_close(Session *session);
void session_refuse(Session *session, int code, const char *text) __attribute__((nonnull(3)));

/* A sentence for the person who waits. */
void session_tell(Session *session, const char *text);
/* WELCOME with its two descriptors; the session is ATTACHED, or closed when it could not be sent.
 */
void session_welcome(Session *session, const SeqfeedWelcome *welcome, int data_fd, int ack_fd);
/* Answer a request with `text`, which passes to the session and is left empty. */
void session_reply(Session *session, Text *text);
