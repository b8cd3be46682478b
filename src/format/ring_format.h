/* SPDX-License-Identifier: MIT */
/* ring_format.h: the shared memory of one ring, as docs/formats/ring.md specifies it. Part of the
 * client header, so C11 and C++17, with the prefix of the public interface, plain integers and
 * __atomic builtins only.
 *
 *   data memfd, sealed, read-only for trainers:
 *     0                       SeqfeedRingHeader (one page)
 *     descriptors_offset      SeqfeedDescriptor[slot_count], each descriptor_bytes long
 *     slots_offset            slot_count slots of slot_bytes each
 *   ack memfd, one per member, the only page that a trainer can write: SeqfeedAck
 *
 * Sequence numbers count batches of the ring from 0 and never wrap; batch n lies in slot
 * n % slot_count. head is one past the newest published batch. Publishing a batch leases it to all
 * members: the daemon does not touch its slot again until every member's `released` is above n. */
#ifndef SEQFEED_RING_FORMAT_H
#define SEQFEED_RING_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#ifndef SEQFEED_STATIC_ASSERT
#ifdef __cplusplus
#define SEQFEED_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define SEQFEED_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif
#endif

#define SEQFEED_RING_MAGIC UINT64_C(0x31474E4952465153) /* "SQFRING1" */

enum {
    SEQFEED_RING_VERSION = 1,
    SEQFEED_PAGE = 4096,
    SEQFEED_SLOTS_MAX = 64,
    SEQFEED_TENSORS_MAX = 24,
    SEQFEED_TENSOR_NAME = 32, /* with the NUL */
    SEQFEED_TENSOR_ALIGN = 256,
    SEQFEED_CURSOR_BYTES = 520, /* 512 and the NUL, rounded up */
    SEQFEED_PLAN_BYTES = 1024
};

/* Types of tensor elements; the words are the same in YAML, JSON and Python. */
enum {
    SEQFEED_BOOL = 1, /* one byte, 0 or 1 */
    SEQFEED_UINT8 = 2,
    SEQFEED_INT32 = 3,
    SEQFEED_INT64 = 4,
    SEQFEED_FLOAT16 = 5,
    SEQFEED_BFLOAT16 = 6,
    SEQFEED_FLOAT32 = 7,
    SEQFEED_DTYPE_COUNT
};

/* What a mask's values mean; part of its type. */
enum {
    SEQFEED_POLARITY_NONE = 0,    /* not a mask */
    SEQFEED_POLARITY_KEEP = 1,    /* 1 keeps */
    SEQFEED_POLARITY_MASKED = 2,  /* 1 masks out */
    SEQFEED_POLARITY_ADDITIVE = 3 /* 0 keeps, `fill` masks out */
};

/* Where the padding is. */
enum { SEQFEED_SIDE_RIGHT = 0, SEQFEED_SIDE_LEFT = 1 };

/* State of the ring. */
enum {
    SEQFEED_RING_RUN = 0,
    SEQFEED_RING_DRAIN = 1,  /* nothing follows the batches up to head */
    SEQFEED_RING_FAILED = 2, /* nothing follows; error_code and error_text say why */
    SEQFEED_RING_CLOSED = 3  /* this member was disconnected, or the stream ended */
};

/* Flags of a batch. */
enum {
    SEQFEED_BATCH_REPEATED = 1,  /* stands earlier in this epoch; here to complete a round */
    SEQFEED_BATCH_EPOCH_END = 2, /* the rank's last batch of the epoch */
    SEQFEED_BATCH_FIRST = 4      /* the first batch of an epoch for this rank */
};

typedef struct SeqfeedRingHeader {
    /* Constant once the trainer has the descriptor. */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* sizeof(SeqfeedRingHeader) */
    uint64_t ring_bytes;   /* size of the data memfd */
    uint64_t descriptors_offset;
    uint64_t slots_offset;
    uint64_t slot_bytes;
    uint32_t descriptor_bytes;
    uint32_t slot_count;
    uint32_t rank;
    uint32_t world;
    uint32_t daemon_pid;
    uint32_t workers;      /* threads of the daemon that fill batches; 0: not told */
    uint8_t instance[16];  /* random, one per start of the daemon */
    uint64_t whole_length; /* of the epoch that the stream began in, as in a descriptor */
    uint64_t reserved_1[3];
    char plan[SEQFEED_PLAN_BYTES]; /* the feed's side of a cursor, in full, NUL-terminated */
    char start_cursor[SEQFEED_CURSOR_BYTES]; /* where the stream began */
    uint8_t reserved_2[384];
    /* Written by the daemon, each line by whoever holds the baton. */
    uint64_t head; /* offset 2048; store-release after the descriptor */
    uint64_t reserved_3[7];
    uint32_t bell;      /* offset 2112: futex word, +1 when sleepers are woken */
    uint32_t state;     /* SEQFEED_RING_*, store-release */
    int32_t error_code; /* negative errno, set before state */
    uint32_t reserved_4[13];
    uint64_t wake_at; /* offset 2176: send one byte when `released` reaches this; 0: never */
    uint32_t waker;   /* offset 2184: who: the number of a member + 1; 0: each of them */
    uint32_t reserved_5[13];
    char error_text[512]; /* offset 2240 */
    uint8_t reserved_6[4096 - 2240 - 512];
} SeqfeedRingHeader;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedRingHeader) == SEQFEED_PAGE, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedRingHeader, head) == 2048, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedRingHeader, bell) == 2112, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedRingHeader, wake_at) == 2176, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedRingHeader, waker) == 2184, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedRingHeader, error_text) == 2240, "mapped by other processes");

/* One tensor of one batch. */
typedef struct SeqfeedTensorRecord {
    char name[SEQFEED_TENSOR_NAME];
    uint32_t dtype;
    uint32_t ndim;
    uint32_t polarity;
    uint32_t side;
    int64_t shape[4];
    int64_t stride[4]; /* in elements */
    int64_t fill;      /* padding value, or the bit pattern of an additive mask's masked value */
    int64_t ignore;    /* ignore value of labels */
    uint64_t offset;   /* from the start of the slot; multiple of SEQFEED_TENSOR_ALIGN */
    uint64_t size_bytes;
} SeqfeedTensorRecord;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedTensorRecord) == 144, "mapped by other processes");

/* One batch. */
typedef struct SeqfeedDescriptor {
    uint64_t sequence; /* the batch's number in this ring; stored last, with release */
    uint64_t epoch;
    uint64_t index;  /* batch index within the epoch */
    uint64_t tokens; /* real tokens */
    uint64_t slots;  /* rows x padded length */
    uint32_t rows;
    uint32_t flags; /* SEQFEED_BATCH_* */
    uint64_t
        epoch_length;    /* batches of this epoch for this rank, counted from the stream's start */
    uint64_t next_epoch; /* the cursor as numbers: resume at (next_epoch, next_index) */
    uint64_t next_index;
    uint32_t tensor_count;
    uint32_t sequences; /* in the batch (pieces of them, where they are split); no empty rows */
    uint64_t squares;   /* sum of the squares of their lengths: what attention costs */
    /* The rest of the ledger, in the words of docs/formats/ring.md. */
    uint64_t truncated;   /* tokens of its sequences that are cut off */
    uint64_t ignored;     /* real tokens whose label does not count */
    uint64_t dropped;     /* tokens of the epoch in no batch: with the last one of rank 0 */
    uint64_t items;       /* entries of the labels that count */
    uint64_t items_first; /* of these, those at the first place of a row */
    char cursor[SEQFEED_CURSOR_BYTES];
    uint64_t whole_length; /* as epoch_length, counted from the epoch's own start */
    uint8_t reserved_2[48];
    SeqfeedTensorRecord tensors[SEQFEED_TENSORS_MAX];
} SeqfeedDescriptor;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedDescriptor) == 704 + 24 * 144, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedDescriptor, tensors) == 704, "mapped by other processes");

/* The page of one member. writer: the trainer; the daemon loads each word once, checks its range
 * and uses it for nothing but the tail and the wake. */
typedef struct SeqfeedAck {
    uint64_t released; /* offset 0: all batches below this number are released; store-release */
    uint64_t reserved_0[7];
    uint32_t want_wake; /* offset 64: 1 while the trainer is about to sleep on the bell */
    uint32_t reserved_1[15];
    uint8_t reserved_2[SEQFEED_PAGE - 128];
} SeqfeedAck;
SEQFEED_STATIC_ASSERT(sizeof(SeqfeedAck) == SEQFEED_PAGE, "mapped by other processes");
SEQFEED_STATIC_ASSERT(offsetof(SeqfeedAck, want_wake) == 64, "mapped by other processes");

#endif
