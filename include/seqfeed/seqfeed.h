/* SPDX-License-Identifier: MIT */
/* seqfeed.h: attach a trainer to seqfeedd and take finished batches out of shared memory.
 *
 * READ-ONLY MEMORY. Every tensor is a view of memory that the kernel lets this process read and
 * nothing else. WRITING TO A TENSOR KILLS THE PROCESS (SIGSEGV); so does making the pages writable
 * or handing them to a library that writes in place. Copy what you want to change. Do not map the
 * memory a second time with MAP_PRIVATE to get a writable view: pages written or pinned that way
 * stop following the ring and show old batches.
 *
 * The whole client is this header: C11 or C++17, libc only, Linux, 64 bits. Include it and use it;
 * all functions are `static inline`. Or define SEQFEED_USE_LIBRARY (pkg-config seqfeed does) and
 * link libseqfeed.so, which is the same code compiled once.
 *
 *     SeqfeedOptions options = {0};
 *     SeqfeedError error;
 *     SeqfeedBatch batch;
 *     SeqfeedTensor tokens;
 *     Seqfeed *feed;
 *
 *     options.feed = "train";
 *     if (seqfeed_attach(&feed, &options, &error) < 0)
 *         return fprintf(stderr, "%s\n", error.text), 1;
 *     while (seqfeed_next(feed, &batch, -1) == 0) {
 *         seqfeed_tensor(&batch, "tokens", &tokens);
 *         ... tokens.data, tokens.shape ...
 *         seqfeed_release(feed, &batch);
 *     }
 *     seqfeed_detach(feed);
 *
 * Threads: seqfeed_next(), seqfeed_length(), seqfeed_epoch_length(), seqfeed_message() and
 * seqfeed_detach() belong to one thread at a time. seqfeed_release(), seqfeed_tensor() and
 * seqfeed_cursor() may be called from any thread, as long as seqfeed_detach() comes after all of
 * them. Different attachments are independent.
 * fork: the child may only detach; everything else answers -ECHILD there.
 * Errors are 0, a positive outcome named below, or a negative errno. errno itself is not used. */
#ifndef SEQFEED_SEQFEED_H
#define SEQFEED_SEQFEED_H

#include "seqfeed/client_api.h"

#ifndef SEQFEED_USE_LIBRARY
#include "seqfeed/client_attach.h"
#include "seqfeed/client_batch.h"
#include "seqfeed/client_socket.h"
#endif

#endif
