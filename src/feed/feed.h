/* SPDX-License-Identifier: MIT */
/* feed.h: one checked feed: a dataset, a plan, tensors, and what they cost. What daemon, server and
 * tool all ask, so that nobody computes these twice. Immutable after feed_open() but for the cache
 * of counted epochs, which locks itself; any thread. Owner: reference-counted, so that a reload
 * leaves running streams their Feed. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/heartbeat.h"
#include "format/ring_format.h"
#include "mask/tensor.h"
#include "plan/plan.h"
#include "settings/settings.h"
#include "shard/catalog.h"

enum {
    FEED_EPOCHS_KEPT = 4,
    FEED_REASON = 256,
    FEED_WARNINGS_MAX = 4,
    FEED_READS_IN_FLIGHT = 16, /* reads that fetch may have under way for one stream */
    FEED_WINDOWS_DECODED = 2,  /* of a strand: the one that batches come from, and the next */
    FEED_WINDOWS_PLANNED = 1,  /* and more of which there is the plan, so that decoding never waits
                                  for one */
    FEED_PLANNERS = 4          /* windows of one stream that are planned at a time */
};

/* A counted epoch that is shared by whoever uses it. */
typedef struct FeedEpoch {
    PlanEpoch *plan;
    uint64_t seed;
    uint32_t references; /* under Feed.lock; the cache itself holds one */
} FeedEpoch;

typedef struct Feed {
    char name[SETTINGS_NAME];
    Catalog *catalog; /* of several datasets all of them joined */
    PlanMix mix;      /* several datasets: what plan.mix points to; source_count 0: one */
    char (*source_names)[SETTINGS_NAME]; /* [mix.source_count] */
    uint64_t *source_times; /* [mix.source_count] how often a window can have one of its blocks */
    uint8_t data_id[16];    /* the cursor's field `data` */
    char *data_text;        /* several datasets: that field with all behind it */
    char mix_text[40];      /* the cursor's field `mix`; "" with one dataset */
    PlanSpec plan;          /* with the feed's seed; a stream may have its own */
    PlanBlocks blocks;      /* of the catalog */
    TensorSet tensors;
    uint32_t pad_to, pad_multiple_of; /* as configured; pad_to 0: longest */
    int64_t pad_value;                /* of tokens, unless a tensor has its own */
    uint32_t slots;                   /* of a ring */
    uint64_t slot_bytes;
    /* Who writes the batches, settled by feed_choose_backend(); until then the CPU. */
    bool wants_device;                /* backend is not cpu */
    bool on_device;                   /* and a device can do it */
    char device[SETTINGS_DEVICE];     /* as configured; "": the first */
    char backend_reason[FEED_REASON]; /* what device, or why none */
    /* What works but is hardly meant, with file:line:column: for daemons and tools to say. */
    Error warnings[FEED_WARNINGS_MAX];
    uint32_t warning_count;
    uint64_t device_input_bytes; /* on_device: pinned memory beside each slot */
    uint32_t *allow_users, *allow_groups;
    uint32_t allow_user_count, allow_group_count;
    /* Worst case of one window, whatever the epoch. Memory for its decoded blocks: a buffer of
     * block_buffer_bytes for each, and beside them the own memory of blocks that need more. */
    uint64_t window_bytes_max;
    uint32_t window_blocks_max;
    uint64_t window_sequences_max, window_pieces_max, window_batches_max;
    uint32_t length_bytes_max;   /* that one length takes in the index */
    uint64_t block_buffer_bytes; /* what a decoded block of ordinary size takes; whole pages */
    uint32_t *block_pieces; /* [blocks.count], the same in every epoch; NULL: all their sequences */
    PlanTally tally;        /* of an epoch, when block_pieces was counted */
    uint32_t *boundaries;   /* policy bucket: what plan.boundaries points to */
    char *batch_text;       /* the cursor's field `batch` in full */
    uint32_t threads;       /* that may count an epoch together */
    /* What the feed itself takes of memory, at most: tables of its blocks, how many units each has,
     * and the epochs that were counted last. */
    uint64_t index_bytes;
    uint32_t references; /* atomic */
    pthread_mutex_t lock;
    FeedEpoch *epochs[FEED_EPOCHS_KEPT]; /* most recently used first */
} Feed;

/* Open the dataset and check everything that the two together decide: columns, types, lengths
 * against length.max (`312 of 60000 sequences are longer than …`), slot bytes, strands, memory for
 * one ring. `settings` supplies memory and the path for messages. On failure -EINVAL
 * (configuration) or the catalog's error, with the sentence. Blocks. The caller holds one
 * reference. */
MUST_CHECK int feed_open(const Settings *settings, const SettingsFeed *feed_settings,
                         Feed **ret_feed, Error *error);
/* Find out whether a device can write the feed's batches, as its settings want it. `backend` NULL:
 * what this build has. -EINVAL with file:line:column when `backend: cuda` cannot be. For daemons:
 * looks at the machine's devices, makes nothing. Before anybody else has the feed. */
typedef struct MaskBackend MaskBackend;
MUST_CHECK int feed_choose_backend(Feed *feed, const Settings *settings,
                                   const SettingsFeed *feed_settings, const MaskBackend *backend,
                                   Error *error);
/* The same once all feeds of the settings are open, for their pinned inputs must fit beside the
 * indexes of all. */
MUST_CHECK int feed_choose_together(Feed *const *feeds, const Settings *settings, Error *error);
/* Open every shard once more for O_DIRECT, for all streams of the feed. For daemons; before anybody
 * else has the feed. Blocks. 0 or negative errno with a sentence. */
MUST_CHECK int feed_open_direct(Feed *feed, Error *error);
/* What this build has: "cuda" or "". */
const char *feed_backend_part(void);
Feed *feed_ref(Feed *feed);
void feed_unref(Feed *feed); /* accepts NULL */

/* The padded length of a batch whose longest row has `longest` tokens: pad.to, or what the policy
 * makes of the longest, rounded up. */
uint32_t feed_padded_length(const Feed *feed, uint32_t longest);

/* The plan spec of a stream with this seed. */
PlanSpec feed_plan_spec(const Feed *feed, uint64_t seed);

/* The counted plan of an epoch. Linear in the number of blocks, or, with policies other than fixed,
 * of sequences, whose lengths are read: for set-up threads and tools. -ENODATA and a sentence when
 * a strand has no batch. `heartbeat`, which may be NULL, beats for each block and each window. The
 * caller gives the epoch back with feed_epoch_unref(). */
MUST_CHECK int feed_epoch_get(Feed *feed, uint64_t seed, uint64_t epoch, const Heartbeat *heartbeat,
                              FeedEpoch **ret_epoch, Error *error);
void feed_epoch_unref(Feed *feed, FeedEpoch *epoch); /* accepts NULL */

/* Tokens that stand in no batch of the epoch whose index is below `limit`: those of sequences that
 * a rule drops, and of pieces that batch.last or batch.tail leaves out. May read lengths. */
MUST_CHECK int feed_epoch_dropped(const Feed *feed, const FeedEpoch *epoch, uint64_t limit,
                                  const Heartbeat *heartbeat, uint64_t *ret_tokens, Error *error);

/* The lengths of a window's sequences in its order: room for window_sequences_max. How many each of
 * its blocks has, where `ret_block_sequences` is not NULL: room for window_blocks_max. */
MUST_CHECK int feed_read_window(const Feed *feed, const PlanStrand *strand, uint32_t number,
                                const Heartbeat *heartbeat, uint32_t *ret_lengths,
                                uint32_t *ret_block_sequences, uint64_t *ret_count, Error *error);

/* The same dataset under another plan, to compare: epochs of it can be counted and planned, no
 * more. Borrows from `feed`. 0, -EOVERFLOW: its windows are too large, -ENOMEM. */
MUST_CHECK int feed_variant_init(const Feed *feed, const PlanSpec *plan, Feed *ret_variant);
void feed_variant_deinit(Feed *variant);
/* The row of boundaries that `geometric: factor / 1000` means; returns how many. */
uint32_t feed_geometric_boundaries(uint32_t longest, uint32_t factor,
                                   uint32_t ret_boundaries[PLAN_BOUNDARIES_MAX]);
/* Threads that count an epoch. */
uint32_t feed_count_threads(const Feed *feed);

/* What one stream reserves: `rings` rings; for each of `served_strands` strands two windows and the
 * plan of a third, with their lengths and units; and the buffers that feed them; with a device the
 * pinned inputs of its slots. */
typedef struct FeedMemory {
    uint64_t rings, windows, buffers, inputs, total; /* bytes */
} FeedMemory;
/* Looks at no block, so that whoever waits for memory may ask over and over. */
FeedMemory feed_memory(const Feed *feed, uint32_t rings, uint32_t served_strands);
/* Each feed has fitted into memory alone. Does it beside what all of them take themselves? 0 or
 * -EINVAL with file:line:column. For daemons. */
MUST_CHECK int feed_check_together(Feed *const *feeds, uint32_t count, const Settings *settings,
                                   Error *error);
/* Bytes of a device's input for the largest batch, with as many sequences as its rows hold: pinned
 * memory beside each slot. -E2BIG: no device is told so much; -ENOMEM. */
MUST_CHECK int feed_bound_input(const Feed *feed, uint64_t *ret_bytes);
/* How many windows of such a stream are planned at a time: FEED_PLANNERS, or fewer where there are
 * not as many threads or windows. */
uint32_t feed_planners(const Feed *feed, uint32_t served_strands);

/* Cursors (docs/formats/plan.md). The text has at most 512 bytes and no spaces. */
void feed_cursor_format(const Feed *feed, uint64_t seed, uint64_t epoch, uint64_t index,
                        char ret_text[SEQFEED_CURSOR_BYTES]);
/* What all cursors of a stream have in common, so that the one of each batch costs next to nothing.
 */
typedef struct FeedCursorHead {
    char text[SEQFEED_CURSOR_BYTES];
    size_t size;
    uint32_t crc32c;
} FeedCursorHead;
void feed_cursor_head(const Feed *feed, uint64_t seed, FeedCursorHead *ret_head);
void feed_cursor_complete(const FeedCursorHead *head, uint64_t epoch, uint64_t index,
                          char ret_text[SEQFEED_CURSOR_BYTES]);
/* -EINVAL: not a cursor; -ESTALE: of another plan (another seed included), the sentence says field
 * by field. Whether the epoch has a batch of that index only counting it can tell: the caller's. */
MUST_CHECK int feed_cursor_parse(const Feed *feed, uint64_t seed, const char *text,
                                 uint64_t *ret_epoch, uint64_t *ret_index, Error *error);
/* The feed's side of a cursor with every field in full: what a ring's header shows. */
void feed_plan_text(const Feed *feed, uint64_t seed, char ret_text[SEQFEED_PLAN_BYTES]);
