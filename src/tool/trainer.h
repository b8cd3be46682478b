/* SPDX-License-Identifier: MIT */
/* trainer.h: what cat and bench share: the command line of a trainer, its attachment, and the loop
 * over batches that ends with the epoch or after -n of them. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <seqfeed/seqfeed.h>

#include "base/attributes.h"

typedef struct Trainer {
    const char *command;    /* for messages */
    SeqfeedOptions options; /* strings lie in argv */
    uint64_t limit;         /* batches to take; 0: until the epoch ends */
    bool json;
    Seqfeed *feed;
    uint64_t taken;
    int exit_code; /* once trainer_next() or trainer_open() has returned false */
} Trainer;

/* The options, for the help of a command. */
extern const char trainer_help[];

/* Read the command line and attach. False when the command is over (help was asked for, wrong
 * usage, no daemon, refused), everything said, with the exit code. */
MUST_CHECK bool trainer_open(Trainer *trainer, int argc, char **argv, const char *help);

/* The next batch, to be given back with seqfeed_release(). False at the end, everything said, with
 * the exit code. */
MUST_CHECK bool trainer_next(Trainer *trainer, SeqfeedBatch *ret_batch);

/* For CLEANUP: detaches if attached. */
void trainer_close(Trainer *trainer);
