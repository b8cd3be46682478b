/* SPDX-License-Identifier: MIT */
/* scripted_server.h: a server on a socket in a folder of its own, over the fake pipeline and a fake
 * clock, and clients that say what a test wants. Everything runs in the test's thread. */
#pragma once

#include "format/protocol_format.h"
#include "server/fake_pipeline.h"
#include "server/server.h"

extern Server *scripted;     /* the server of the running test */
extern Feed *scripted_feed;  /* its feed `train`, 8 slots */
extern int64_t scripted_now; /* what its clock says */

void scripted_start(void);
void scripted_stop(void);

/* Turns until nothing happens any more. Returns whether the server wants to end. */
bool scripted_settle(void);
/* Let time pass and settle. */
bool scripted_wait(int64_t seconds);

/* What a client got. */
typedef struct Answer {
    uint32_t type; /* 0: nothing yet; UINT32_MAX: the connection has ended */
    union {
        SeqfeedMessageHead head;
        SeqfeedWelcome welcome;
        SeqfeedNotice notice;
        SeqfeedText text;
        uint8_t bytes[SEQFEED_MESSAGE_MAX];
    };
    uint32_t descriptors; /* that came along; closed already */
} Answer;
enum { ANSWER_NONE = 0 };
#define ANSWER_END UINT32_MAX

int client_connect(void);
void client_send(int fd, const void *message, size_t size);
Answer client_receive(int fd);
/* The next answer is of this type; its sentence (if it is a notice) contains `words`. */
Answer client_expect(int fd, uint32_t type, const char *words);

/* WELCOME with two descriptors; nothing; the end, after which the client is closed here too. */
void client_expect_welcome(int fd);
void client_expect_nothing(int fd);
void client_expect_end(int fd);
/* Close and settle. */
void client_leave(int fd);

SeqfeedAttach attach_message(uint32_t rank, uint32_t local_ranks, uint32_t members);
void attach_set_cursor(SeqfeedAttach *attach, const char *cursor);
/* Connect, HELLO, ATTACH, settle. */
int client_attach(const SeqfeedAttach *attach);
/* The same, with rank `rank` of a group `sweep` with `seats` local ranks of a world as large. */
int client_attach_rank(uint32_t rank, uint32_t seats);
void client_hello(int fd);
/* REQUEST and its whole answer in malloc'ed memory. */
char *client_request(uint32_t what);
