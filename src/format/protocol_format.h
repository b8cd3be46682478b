/* SPDX-License-Identifier: MIT */
/* protocol_format.h: the control conversation over an AF_UNIX SOCK_SEQPACKET socket, as
 * docs/formats/protocol.md specifies it. One message a packet, fixed sizes, native (little) endian,
 * reserved bytes zero and checked. Part of the client header, like ring_format.h.
 *
 *   trainer  HELLO(version range)      -> daemon HELLO_REPLY(version) | ERROR
 *   trainer  ATTACH                    -> daemon WAITING* then WELCOME + 2 descriptors | ERROR
 *   trainer  one byte                     "released has reached wake_at"; drained, never answered
 *   trainer  closes                       detach
 *   tool     REQUEST(what)             -> daemon TEXT* (last one without SEQFEED_TEXT_MORE) | ERROR
 *   daemon   WAITING                      at any time after ATTACH: a sentence for the person
 *   daemon   CLOSING(code, text)          this member is being disconnected
 *
 * Descriptors travel in WELCOME only, [0] data memfd and [1] this member's ack memfd, and never
 * towards the daemon. A message of the wrong size, type or state ends the connection. */
#ifndef SEQFEED_PROTOCOL_FORMAT_H
#define SEQFEED_PROTOCOL_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#ifndef SEQFEED_STATIC_ASSERT
#ifdef __cplusplus
#define SEQFEED_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define SEQFEED_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif
#endif

#define SEQFEED_PROTOCOL_MAGIC UINT32_C(0x46515331) /* "1SQF" */

enum {
    SEQFEED_PROTOCOL_VERSION = 1,
    SEQFEED_MESSAGE_MAX = 4096,
    SEQFEED_FEED_NAME = 64,   /* with the NUL */
    SEQFEED_GROUP_NAME = 128, /* with the NUL */
    SEQFEED_TEXT_BYTES = 512,
    SEQFEED_CURSOR_TEXT = 520
};

enum {
    SEQFEED_MESSAGE_HELLO = 1,
    SEQFEED_MESSAGE_HELLO_REPLY = 2,
    SEQFEED_MESSAGE_ATTACH = 3,
    SEQFEED_MESSAGE_WELCOME = 4,
    SEQFEED_MESSAGE_ERROR = 5,
    SEQFEED_MESSAGE_WAITING = 6,
    SEQFEED_MESSAGE_CLOSING = 7,
    SEQFEED_MESSAGE_REQUEST = 8,
    SEQFEED_MESSAGE_TEXT = 9
};

typedef struct SeqfeedMessageHead {
    uint32_t type; /* SEQFEED_MESSAGE_* */
    uint32_t size; /* of the whole message, this head included */
} SeqfeedMessageHead;

typedef struct SeqfeedHello {
    SeqfeedMessageHead head;
    uint32_t magic;
    uint32_t version_min;
    uint32_t version_max;
    uint32_t reserved;
} SeqfeedHello;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedHello) == 24, "wire format");

typedef struct SeqfeedHelloReply {
    SeqfeedMessageHead head;
    uint32_t version; /* the one spoken from here on */
    uint32_t reserved;
} SeqfeedHelloReply;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedHelloReply) == 16, "wire format");

/* Flags of ATTACH. */
enum { SEQFEED_ATTACH_HAS_SEED = 1, SEQFEED_ATTACH_JOIN_NEXT = 2, SEQFEED_ATTACH_HAS_CURSOR = 4 };

typedef struct SeqfeedAttach {
    SeqfeedMessageHead head;
    char feed[SEQFEED_FEED_NAME];   /* NUL-terminated, the rest zero */
    char group[SEQFEED_GROUP_NAME]; /* empty: none */
    uint32_t rank;
    uint32_t world;
    uint32_t local_ranks;
    uint32_t members;
    uint64_t seed;
    uint32_t flags;
    uint32_t reserved;
    int64_t deadline_ns;              /* how long to wait for the others, > 0 */
    char cursor[SEQFEED_CURSOR_TEXT]; /* with HAS_CURSOR */
} SeqfeedAttach;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedAttach) == 8 + 64 + 128 + 16 + 16 + 8 + 520, "wire format");

typedef struct SeqfeedWelcome {
    SeqfeedMessageHead head;
    uint64_t ring_bytes;
    uint64_t first;       /* sequence number of the first batch that this member sees */
    uint64_t start_epoch; /* where the stream started; the client releases unseen what is before its
                             cursor */
    uint64_t start_index;
    uint64_t epoch_length; /* batches of start_epoch for this rank, from start_index on */
    uint32_t member;       /* this member's number in its ring */
    uint32_t reserved;
} SeqfeedWelcome;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedWelcome) == 56, "wire format");

/* ERROR, WAITING and CLOSING. */
typedef struct SeqfeedNotice {
    SeqfeedMessageHead head;
    int32_t code; /* negative errno; 0 with WAITING */
    uint32_t reserved;
    char text[SEQFEED_TEXT_BYTES]; /* NUL-terminated */
} SeqfeedNotice;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedNotice) == 528, "wire format");

enum {
    SEQFEED_REQUEST_STATUS = 1,
    SEQFEED_REQUEST_METRICS = 2,
    SEQFEED_REQUEST_DRAIN = 3,
    SEQFEED_REQUEST_RELOAD = 4
};

typedef struct SeqfeedRequest {
    SeqfeedMessageHead head;
    uint32_t what; /* SEQFEED_REQUEST_* */
    uint32_t reserved;
} SeqfeedRequest;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedRequest) == 16, "wire format");

enum { SEQFEED_TEXT_MORE = 1, SEQFEED_TEXT_CHUNK = 4064 };

typedef struct SeqfeedText {
    SeqfeedMessageHead head;
    uint32_t flags; /* SEQFEED_TEXT_MORE: another one follows */
    uint32_t bytes; /* of `text` that count */
    char text[SEQFEED_TEXT_CHUNK];
} SeqfeedText;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedText) <= SEQFEED_MESSAGE_MAX, "wire format");

#endif
