/* SPDX-License-Identifier: MIT */
/* client_api.h: the types and functions of seqfeed.h, with their contracts. */
#ifndef SEQFEED_CLIENT_API_H
#define SEQFEED_CLIENT_API_H

#include <stddef.h>
#include <stdint.h>

#include "format/protocol_format.h"
#include "format/ring_format.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(SEQFEED_USE_LIBRARY)
#define SEQFEED_API extern
#elif defined(SEQFEED_BUILD_LIBRARY)
#define SEQFEED_API __attribute__((visibility("default")))
#else
#define SEQFEED_API static inline
#endif

/* One attachment: a place in a ring, with everything that belongs to it. */
typedef struct Seqfeed Seqfeed;

/* SeqfeedOptions.flags */
enum {
    SEQFEED_HAS_SEED = 1, /* `seed` replaces the feed's own */
    SEQFEED_JOIN_NEXT = 2 /* join the running stream at its next batch; excludes `cursor` */
};

/* What to attach to. All zero means every default; only `feed` must be given. */
typedef struct SeqfeedOptions {
    const char *socket; /* NULL: SEQFEED_SOCKET, then the usual places */
    const char *feed;   /* name in the daemon's configuration */
    const char *group;  /* NULL: none. Needed when several processes share a stream */
    const char *cursor; /* NULL: the start of epoch 0. Else where to go on */
    uint32_t rank;
    uint32_t world;       /* ranks that share the epoch; 0 means 1 */
    uint32_t local_ranks; /* ranks of this machine that share one stream; 0 means 1 */
    uint32_t members;     /* processes that read the same rank's batches; 0 means 1 */
    uint64_t seed;
    uint32_t flags;
    int64_t timeout_ns; /* of the attach, waiting for the others included; 0 means 60 s */
} SeqfeedOptions;

/* A sentence for people beside the code. Filled on failure only. */
typedef struct SeqfeedError {
    int code; /* the negative errno that was returned */
    char text[512];
} SeqfeedError;

/* A view of one tensor. `data` and `name` stay valid until the batch is released. */
typedef struct SeqfeedTensor {
    const void *data; /* read-only; aligned to SEQFEED_TENSOR_ALIGN */
    const char *name;
    uint32_t dtype;    /* SEQFEED_BOOL ... SEQFEED_FLOAT32 */
    uint32_t ndim;     /* 0..4 */
    uint32_t polarity; /* SEQFEED_POLARITY_*: what a mask's values mean */
    uint32_t side;     /* SEQFEED_SIDE_*: where the padding is */
    int64_t shape[4];
    int64_t stride[4]; /* elements */
    int64_t fill;      /* padding value, or the bits of an additive mask's masked value */
    int64_t ignore;    /* value of labels that do not count */
    uint64_t size_bytes;
} SeqfeedTensor;

/* One batch. The caller owns the struct, which may be copied; the tensors stay the daemon's and are
 * readable until the batch is released. */
typedef struct SeqfeedBatch {
    uint64_t epoch;
    uint64_t index; /* batch index within the epoch */
    uint32_t rows;
    uint32_t flags;  /* SEQFEED_BATCH_* */
    uint64_t tokens; /* real tokens */
    uint64_t slots;  /* rows x padded length */
    /* For the functions below only. */
    uint64_t private_sequence;
    uint64_t private_slot_bytes;
    const uint8_t *private_slot; /* NULL once released */
    const SeqfeedDescriptor *private_descriptor;
    uint32_t private_tensor_count;
    uint32_t private_reserved;
    char private_cursor[SEQFEED_CURSOR_BYTES];
} SeqfeedBatch;

/* Outcomes of seqfeed_next() that are not errors. */
enum {
    SEQFEED_END_OF_EPOCH =
        1,              /* once an epoch, after the rank's last batch; the next call goes on */
    SEQFEED_DRAINED = 2 /* the daemon is draining: no batch will follow */
};

/* Attach: find the daemon, take a seat, and wait until all seats of the stream are taken. Waiting
 * is announced on standard error after 5 s and then each minute.
 * The socket is `options->socket`, else SEQFEED_SOCKET, else the first of
 * $XDG_RUNTIME_DIR/seqfeed.sock, /tmp/seqfeed-UID/seqfeed.sock and /run/seqfeed/seqfeed.sock at
 * which a daemon answers.
 * Returns 0, and *ret_feed is the caller's, to be given to seqfeed_detach(); or a negative errno
 * and a sentence in *error (which may be NULL), *ret_feed untouched:
 *   -EINVAL        the options make no sense        -ECONNREFUSED  no daemon
 *   -EACCES        this user may not read the feed  -ESTALE        the cursor is of another plan
 *   -ETIMEDOUT     somebody did not come in time    -EPROTO        the daemon's answer is unusable
 *   -ENOMEM        the stream does not fit into the daemon's memory
 * and what the daemon or the system says otherwise. Blocks; any thread. */
SEQFEED_API int seqfeed_attach(Seqfeed **ret_feed, const SeqfeedOptions *options,
                               SeqfeedError *error);

/* Take the next batch of this rank. Waits at most `timeout_ns` (0: only look; negative: for ever);
 * says so on standard error after 5 s and then each minute. Signals do not end the wait: who wants
 * to look at a flag that a handler sets calls again with short time-outs.
 * Returns 0 and fills *ret_batch, which must go back with seqfeed_release(); or
 *   SEQFEED_END_OF_EPOCH  the epoch is over for this rank; the next call starts the next one
 *   SEQFEED_DRAINED       nothing follows
 *   -ETIMEDOUT            not yet
 *   -ENOBUFS              at once, when this process holds the slots that the next batch needs:
 *                         all of them, or the oldest (slots return in order)
 *   -ECONNRESET           the daemon died or closed this stream, after every published batch was
 *                         handed out; batches in hand stay readable. Detach and attach again at
 *                         the cursor of the last batch consumed: the next batch is exactly the next
 *   -ECHILD               this is a forked child
 *   any other             the stream failed, or this member was disconnected; seqfeed_message()
 *                         has the sentence */
SEQFEED_API int seqfeed_next(Seqfeed *feed, SeqfeedBatch *ret_batch, int64_t timeout_ns);

/* What the last seqfeed_next() or seqfeed_length() that failed has to say; "" after success. Never
 * NULL; valid until the next call of either. */
SEQFEED_API const char *seqfeed_message(const Seqfeed *feed);

/* What became of the tokens, so that no trainer has to count; the words are exactly those of
 * docs/formats/ring.md. Always tokens_in = trained + ignored + truncated + dropped, and
 * slots = trained + ignored + padded. */
typedef struct SeqfeedLedger {
    uint64_t tokens_in;     /* of the dataset, that this batch accounts for */
    uint64_t trained;       /* real tokens, without the ignored ones */
    uint64_t ignored;       /* real tokens whose label does not count in the loss */
    uint64_t truncated;     /* tokens that length.overflow has cut off the batch's sequences */
    uint64_t dropped;       /* of the epoch, in no batch: told by the last batch of rank 0 */
    uint64_t padded;        /* places without a token */
    uint64_t repeated;      /* tokens_in, if the batch stood earlier in this epoch; else 0 */
    uint64_t slots;         /* rows x padded length */
    uint64_t items;         /* entries of the labels that count: the denominator of a mean loss */
    uint64_t items_shifted; /* the same for a model that shifts the labels itself (Hugging Face) */
    uint64_t squares;       /* sum of the squares of the sequences' lengths: what attention costs */
    uint32_t rows;          /* empty ones included */
    uint32_t sequences;     /* or pieces of them, where they are split; empty rows do not count */
} SeqfeedLedger;
/* Returns 0, or -EINVAL: the batch has been released. Any thread. */
SEQFEED_API int seqfeed_ledger(const SeqfeedBatch *batch, SeqfeedLedger *ret_ledger);

/* Find a tensor of the batch by name, or by its place in the configuration's order. Returns 0;
 * -ENOENT: there is none; -EINVAL: the batch has been released; -EPROTO: its description is
 * damaged. Any thread. */
SEQFEED_API int seqfeed_tensor(const SeqfeedBatch *batch, const char *name,
                               SeqfeedTensor *ret_tensor);
SEQFEED_API int seqfeed_tensor_at(const SeqfeedBatch *batch, uint32_t index,
                                  SeqfeedTensor *ret_tensor);

/* Give the batch's slot back: its tensors must not be read any more. Batches may be released in any
 * order; slots return to the daemon in the order of the batches, so the oldest one held is what the
 * daemon waits for. Returns 0; -EINVAL: it is not held (released twice); -ECHILD. Any thread. */
SEQFEED_API int seqfeed_release(Seqfeed *feed, SeqfeedBatch *batch);

/* The cursor that resumes after this batch's round: what a checkpoint stores. Text of at most 512
 * bytes that lives as long as *batch does, also after its release. Every rank of a round has the
 * same cursor. Any thread. */
SEQFEED_API const char *seqfeed_cursor(const SeqfeedBatch *batch);

/* The cursor at which this attachment began: what to store before the first batch was consumed. For
 * a member that joined a running stream, where that stream began. Lives as long as the attachment.
 */
SEQFEED_API const char *seqfeed_start_cursor(const Seqfeed *feed);

/* The plan that cursors are checked against, with every field in full. Lives as long as the
 * attachment. */
SEQFEED_API const char *seqfeed_plan(const Seqfeed *feed);

/* How many batches this attachment gets in the current epoch, counted from its start: what the loop
 * until SEQFEED_END_OF_EPOCH will see, or has seen. After SEQFEED_END_OF_EPOCH it means the next
 * epoch, and may have to wait for that epoch's first batch (at most 60 s). Negative errno as from
 * seqfeed_next(). */
SEQFEED_API int64_t seqfeed_length(const Seqfeed *feed);

/* How many batches one rank of this world gets in the whole of the current epoch, wherever this
 * attachment began: what schedules are reckoned from. Otherwise as seqfeed_length(). */
SEQFEED_API int64_t seqfeed_epoch_length(const Seqfeed *feed);

/* Slots of the ring: how many batches can be held at once. */
SEQFEED_API uint32_t seqfeed_slots(const Seqfeed *feed);

/* Leave: batches in hand are void and their memory is unmapped. Accepts NULL. Also right in a
 * forked child, where it leaves the parent's attachment alone. */
SEQFEED_API void seqfeed_detach(Seqfeed *feed);

/* Bytes of one element of a dtype, and its word ("int64"); 0 and "none" for codes that do not
 * exist. Any thread. */
SEQFEED_API uint32_t seqfeed_dtype_bytes(uint32_t dtype);
SEQFEED_API const char *seqfeed_dtype_name(uint32_t dtype);

#ifdef __cplusplus
}
#endif

#endif
