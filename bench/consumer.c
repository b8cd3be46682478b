/* SPDX-License-Identifier: MIT */
/* consumer: a trainer for measurements. It does with each batch what the ceiling's reader does, may
 * sleep like a training step, and tells how long it waited inside seqfeed_next().
 *
 *   consumer FEED -n N [--rank R --world W --local-ranks L] [--group G --members M] [--sleep-us U]
 *            [--cursor CURSOR] [--touch 0|1] [--copy 0|1]
 * With --copy each batch is copied into memory of the trainer's own, as who wants to write to it
 * must. The socket comes from SEQFEED_SOCKET. Prints one line of JSON. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <seqfeed/seqfeed.h>

typedef struct Totals {
    uint64_t batches, tokens, mask, labels, first;
} Totals;

/* Memory of the trainer's own, used again by each batch. */
typedef struct Copy {
    char *bytes;
    size_t room;
} Copy;

static int64_t now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t sum_bytes(const uint8_t *bytes, size_t size) {
    uint64_t sum = 0;
    size_t i = 0;

    while (i + 64 <= size) {
        uint8_t parts[64] = {0};
        size_t end = i + 64 * 255 < size ? i + 64 * 255 : size - size % 64;
        for (; i < end; i += 64)
            for (int k = 0; k < 64; k++)
                parts[k] += bytes[i + (size_t)k];
        for (int k = 0; k < 64; k++)
            sum += parts[k];
    }
    for (; i < size; i++)
        sum += bytes[i];
    return sum;
}

static bool take_copy(const SeqfeedBatch *batch, Copy *copy) {
    SeqfeedTensor tensor;
    size_t size = 0, offset = 0;

    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, &tensor) == 0; i++)
        size += tensor.size_bytes;
    if (size > copy->room) {
        free(copy->bytes);
        copy->bytes = malloc(size);
        copy->room = copy->bytes ? size : 0;
        if (!copy->bytes)
            return false;
    }
    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, &tensor) == 0; i++) {
        memcpy(copy->bytes + offset, tensor.data, tensor.size_bytes);
        offset += tensor.size_bytes;
    }
    return true;
}

/* A tensor, of the copy if there is one. */
static bool find(const SeqfeedBatch *batch, const Copy *copy, const char *name,
                 SeqfeedTensor *ret_tensor) {
    size_t offset = 0;

    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, ret_tensor) == 0; i++) {
        if (strcmp(ret_tensor->name, name) == 0) {
            if (copy->bytes)
                ret_tensor->data = copy->bytes + offset;
            return true;
        }
        offset += ret_tensor->size_bytes;
    }
    return false;
}

static void touch(const SeqfeedBatch *batch, const Copy *copy, Totals *totals) {
    SeqfeedTensor tensor;

    if (find(batch, copy, "mask", &tensor) && tensor.dtype == SEQFEED_BOOL)
        totals->mask += sum_bytes(tensor.data, tensor.size_bytes);
    if (find(batch, copy, "labels", &tensor) && tensor.dtype == SEQFEED_INT64)
        for (uint32_t row = 0; row < batch->rows; row++)
            totals->labels += (uint64_t)((const int64_t *)tensor.data)[row];
    if (find(batch, copy, "tokens", &tensor) && tensor.size_bytes > 0)
        for (uint32_t row = 0; row < batch->rows; row++)
            totals->first +=
                ((const uint8_t *)tensor.data)[row * (tensor.size_bytes / batch->rows)];
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t number(const char *text) {
    return strtoull(text, NULL, 10);
}

static void report(const Totals *totals, int64_t *waits, int64_t duration_ns, int64_t first_ns) {
    uint64_t count = totals->batches;
    double seconds = (double)duration_ns / 1e9;

    /* The first batch is start-up, measured by itself. */
    qsort(waits + 1, count - 1, sizeof *waits, by_value);
    printf("{\"batches\":%lu,\"tokens\":%lu,\"seconds\":%.6f,\"tokens_per_second\":%.0f,\"first_"
           "ns\":%ld,"
           "\"mask\":%lu,\"labels\":%lu,\"wait_p50_us\":%.2f,\"wait_p99_us\":%.2f,\"wait_max_us\":%"
           ".2f}\n",
           (unsigned long)count, (unsigned long)totals->tokens, seconds,
           (double)totals->tokens / seconds, (long)first_ns, (unsigned long)totals->mask,
           (unsigned long)totals->labels, (double)waits[1 + (count - 1) / 2] / 1e3,
           (double)waits[1 + (count - 1) * 99 / 100] / 1e3, (double)waits[count - 1] / 1e3);
}

int main(int argc, char **argv) {
    SeqfeedOptions options = {0};
    uint64_t count = 0, sleep_us = 0, touches = 1, copies = 0;
    Totals totals = {0};
    Copy copy = {0};
    SeqfeedError error = {0};
    SeqfeedBatch batch;
    Seqfeed *feed;
    int64_t *waits, attached, first = 0, end;

    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "-n") == 0)
            count = number(value);
        else if (strcmp(name, "--rank") == 0)
            options.rank = (uint32_t)number(value);
        else if (strcmp(name, "--world") == 0)
            options.world = (uint32_t)number(value);
        else if (strcmp(name, "--local-ranks") == 0)
            options.local_ranks = (uint32_t)number(value);
        else if (strcmp(name, "--members") == 0)
            options.members = (uint32_t)number(value);
        else if (strcmp(name, "--group") == 0)
            options.group = value;
        else if (strcmp(name, "--cursor") == 0)
            options.cursor = value;
        else if (strcmp(name, "--sleep-us") == 0)
            sleep_us = number(value);
        else if (strcmp(name, "--touch") == 0)
            touches = number(value);
        else if (strcmp(name, "--copy") == 0)
            copies = number(value);
    }
    if (argc < 4 || count == 0) {
        fprintf(stderr, "usage: consumer FEED -n N [options]\n");
        return 2;
    }
    options.feed = argv[1];
    if (seqfeed_attach(&feed, &options, &error) < 0) {
        fprintf(stderr, "consumer: %s\n", error.text);
        return 1;
    }
    attached = now_ns();
    waits = calloc(count, sizeof *waits);
    while (totals.batches < count) {
        int64_t before = now_ns();
        int r = seqfeed_next(feed, &batch, -1);
        if (r == SEQFEED_END_OF_EPOCH)
            continue;
        if (r != 0) {
            fprintf(stderr, "consumer: %s\n", seqfeed_message(feed));
            return 1;
        }
        waits[totals.batches++] = now_ns() - before;
        if (!first)
            first = now_ns();
        totals.tokens += batch.tokens;
        if (copies && !take_copy(&batch, &copy)) {
            fprintf(stderr, "consumer: no memory for a copy\n");
            return 1;
        }
        if (touches)
            touch(&batch, &copy, &totals);
        seqfeed_release(feed, &batch);
        if (sleep_us)
            nanosleep(&(struct timespec){.tv_nsec = (long)sleep_us * 1000}, NULL);
    }
    end = now_ns();
    seqfeed_detach(feed);
    report(&totals, waits, end - attached, first);
    free(waits);
    free(copy.bytes);
    return 0;
}
