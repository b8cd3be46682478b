/* SPDX-License-Identifier: MIT */
/* A trainer in C, complete: it attaches, takes batches, remembers where it is, survives the death
 * of the daemon, and goes on where it was after its own.
 *
 *     cc -std=c11 trainer.c $(pkg-config --cflags --libs seqfeed)      or, with the header alone,
 *     cc -std=c11 -I INCLUDE trainer.c
 *     trainer FEED [CHECKPOINT [EPOCHS]]
 *
 * The model is a sum. What matters: tensors are read and never written (that would kill the
 * process), a batch is released as soon as it is not needed, and the checkpoint is the cursor of
 * the last batch that was really used. */
#include <seqfeed/seqfeed.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>

enum { BATCHES_PER_CHECKPOINT = 10 };

typedef struct Trainer {
    SeqfeedOptions options;
    Seqfeed *feed;
    const char *checkpoint;            /* file; NULL: none is kept */
    char cursor[SEQFEED_CURSOR_BYTES]; /* of the last batch used; "": none yet */
    unsigned long long batches, tokens, sum;
} Trainer;

/* The cursor of an earlier run, if there was one. */
static void read_checkpoint(Trainer *trainer) {
    FILE *file = trainer->checkpoint ? fopen(trainer->checkpoint, "r") : NULL;

    if (!file)
        return;
    if (fgets(trainer->cursor, sizeof trainer->cursor, file))
        trainer->cursor[strcspn(trainer->cursor, "\n")] = '\0';
    fclose(file);
    printf("going on at %s\n", trainer->cursor);
}

/* A real trainer writes its weights in the same step. Written beside and renamed, so that there is
 * always a whole one. */
static int write_checkpoint(const Trainer *trainer) {
    char beside[4096];
    FILE *file;

    if (!trainer->checkpoint)
        return 0;
    snprintf(beside, sizeof beside, "%s.new", trainer->checkpoint);
    file = fopen(beside, "w");
    if (!file || fprintf(file, "%s\n", trainer->cursor) < 0 || fclose(file) != 0 ||
        rename(beside, trainer->checkpoint) != 0) {
        fprintf(stderr, "trainer: cannot write %s: %s\n", trainer->checkpoint, strerror(errno));
        return -1;
    }
    return 0;
}

static int attach(Trainer *trainer) {
    SeqfeedError error;

    trainer->options.cursor = trainer->cursor[0] != '\0' ? trainer->cursor : NULL;
    if (seqfeed_attach(&trainer->feed, &trainer->options, &error) == 0)
        return 0;
    fprintf(stderr, "trainer: %s\n", error.text);
    return error.code;
}

/* The daemon died. A new one continues with exactly the next batch. */
static int attach_again(Trainer *trainer) {
    struct timespec pause = {0, 50000000};
    int r = -ECONNRESET;

    fprintf(stderr, "trainer: %s\n", seqfeed_message(trainer->feed));
    seqfeed_detach(trainer->feed);
    trainer->feed = NULL;
    for (int attempt = 0; attempt < 30; attempt++) {
        thrd_sleep(&pause, NULL);
        r = attach(trainer);
        if (r != -ECONNREFUSED && r != -ECONNRESET)
            return r;
        if (pause.tv_sec < 2)
            pause = (struct timespec){pause.tv_sec + (pause.tv_nsec >= 800000000),
                                      pause.tv_nsec >= 800000000 ? 0 : pause.tv_nsec * 2};
    }
    return r;
}

/* One training step: here, the sum of all tokens that are not padding. */
static int step(Trainer *trainer, const SeqfeedBatch *batch) {
    SeqfeedTensor tokens, mask;
    unsigned long long sum = 0;
    int64_t count = 1;

    if (seqfeed_tensor(batch, "tokens", &tokens) < 0 || tokens.dtype != SEQFEED_INT64 ||
        seqfeed_tensor(batch, "mask", &mask) < 0 || mask.dtype != SEQFEED_BOOL) {
        fprintf(stderr, "trainer: this feed has no int64 `tokens` and bool `mask`\n");
        return -1;
    }
    for (uint32_t i = 0; i < tokens.ndim; i++)
        count *= tokens.shape[i];
    for (int64_t i = 0; i < count; i++)
        sum += ((const bool *)mask.data)[i] ? (uint64_t)((const int64_t *)tokens.data)[i] : 0;
    trainer->sum += sum;
    trainer->tokens += batch->tokens;
    printf("epoch %llu batch %llu: %u rows, %llu tokens, sum %llu\n",
           (unsigned long long)batch->epoch, (unsigned long long)batch->index, batch->rows,
           (unsigned long long)batch->tokens, sum);
    return 0;
}

static int use(Trainer *trainer, SeqfeedBatch *batch) {
    int r = step(trainer, batch);

    seqfeed_release(trainer->feed, batch);
    if (r < 0)
        return r;
    snprintf(trainer->cursor, sizeof trainer->cursor, "%s", seqfeed_cursor(batch));
    if (++trainer->batches % BATCHES_PER_CHECKPOINT == 0)
        return write_checkpoint(trainer);
    return 0;
}

/* Nothing follows: keep what was reached. */
static int stop(const Trainer *trainer, int outcome) {
    bool drained = outcome == SEQFEED_DRAINED;

    fprintf(stderr, "trainer: %s\n",
            drained ? "the daemon is draining" : seqfeed_message(trainer->feed));
    (void)write_checkpoint(trainer);
    return drained ? -ECANCELED : outcome;
}

/* Until the epoch ends: 0, or a negative errno, said. */
static int train_epoch(Trainer *trainer) {
    SeqfeedBatch batch;
    int r;

    for (;;) {
        r = seqfeed_next(trainer->feed, &batch, -1);
        if (r == 0)
            r = use(trainer, &batch);
        else if (r == SEQFEED_END_OF_EPOCH)
            return write_checkpoint(trainer);
        else if (r == -ECONNRESET)
            r = attach_again(trainer);
        else
            r = stop(trainer, r);
        if (r != 0)
            return r;
    }
}

int main(int argc, char **argv) {
    Trainer trainer = {0};
    long epochs = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
    int r;

    if (argc < 2) {
        fprintf(stderr, "usage: trainer FEED [CHECKPOINT [EPOCHS]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    trainer.options.feed = argv[1];
    trainer.checkpoint = argc > 2 && argv[2][0] != '\0' ? argv[2] : NULL;
    read_checkpoint(&trainer);
    r = attach(&trainer);
    for (long epoch = 0; r == 0 && epoch < epochs; epoch++)
        r = train_epoch(&trainer);
    printf("%llu batches, %llu tokens, sum %llu\n", trainer.batches, trainer.tokens, trainer.sum);
    seqfeed_detach(trainer.feed);
    return r == 0 ? 0 : 1;
}
