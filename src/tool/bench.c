/* SPDX-License-Identifier: MIT */
/* seqfeed bench: how fast batches arrive at a trainer that reads a little of everything. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "tool/tool.h"
#include "tool/trainer.h"

static const char bench_help[] =
    "Usage: seqfeed bench [OPTION...] FEED\n\n"
    "Attach, touch every batch (sum masks and labels, read the first token of each row), and "
    "print\n"
    "how many real tokens a second arrived, from the attachment to the last release.\n\n";

/* Plain loops over contiguous values: the compiler makes vectors of them. */
static int64_t sum_u8(const uint8_t *values, uint64_t count) {
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum += values[i];
    return (int64_t)sum;
}

static int64_t sum_u16(const uint16_t *values, uint64_t count) {
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum += values[i];
    return (int64_t)sum;
}

static int64_t sum_u32(const uint32_t *values, uint64_t count) {
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum += values[i];
    return (int64_t)sum;
}

static int64_t sum_u64(const uint64_t *values, uint64_t count) {
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum += values[i];
    return (int64_t)sum;
}

/* All bytes of a tensor, as whole numbers of its width: what counts is that they are read. */
static int64_t sum_tensor(const SeqfeedTensor *tensor) {
    uint32_t bytes = seqfeed_dtype_bytes(tensor->dtype);
    uint64_t count;

    if (bytes == 0)
        return 0;
    count = tensor->size_bytes / bytes;
    return bytes == 1   ? sum_u8(tensor->data, count)
           : bytes == 2 ? sum_u16(tensor->data, count)
           : bytes == 4 ? sum_u32(tensor->data, count)
                        : sum_u64(tensor->data, count);
}

static int64_t first_of_rows(const SeqfeedTensor *tensor, uint32_t rows) {
    uint32_t bytes = seqfeed_dtype_bytes(tensor->dtype);
    int64_t stride = tensor->stride[tensor->shape[0] == (int64_t)rows ? 0 : 1] * (int64_t)bytes;
    const uint8_t *at = tensor->data;
    int64_t sum = 0;

    if (tensor->size_bytes == 0)
        return 0;
    for (uint32_t row = 0; row < rows; row++, at += stride)
        sum += *at;
    return sum;
}

static int64_t touch(const SeqfeedBatch *batch) {
    SeqfeedTensor tensor;
    int64_t sum = 0;

    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, &tensor) == 0; i++)
        if (tensor.polarity != SEQFEED_POLARITY_NONE || tensor.ndim < 2 ||
            strcmp(tensor.name, "labels") == 0)
            sum += sum_tensor(&tensor);
        else
            sum += first_of_rows(&tensor, batch->rows);
    return sum;
}

static void print_result(const Trainer *trainer, uint64_t tokens, double seconds) {
    double rate = seconds > 0 ? (double)tokens / seconds : 0;
    char counted[32], took[32], per_second[32];

    if (trainer->json) {
        printf("{\"batches\":%llu,\"tokens\":%llu,\"seconds\":%.6f,\"tokens_per_second\":%.0f}\n",
               (unsigned long long)trainer->taken, (unsigned long long)tokens, seconds, rate);
        return;
    }
    printf("%llu batch%s, %s token%s in %s: %s tokens/s\n", (unsigned long long)trainer->taken,
           trainer->taken == 1 ? "" : "es", text_format_count(counted, (double)tokens),
           tokens == 1 ? "" : "s", text_format_seconds(took, seconds),
           text_format_count(per_second, rate));
}

int bench_main(int argc, char **argv) {
    CLEANUP(trainer_close) Trainer trainer;
    volatile int64_t sink = 0;
    uint64_t tokens = 0;
    SeqfeedBatch batch;
    int64_t started_ns;

    if (!trainer_open(&trainer, argc, argv, bench_help))
        return trainer.exit_code;
    started_ns = clock_now_ns();
    while (trainer_next(&trainer, &batch)) {
        sink = sink + touch(&batch);
        tokens += batch.tokens;
        seqfeed_release(trainer.feed, &batch);
    }
    if (trainer.exit_code != TOOL_OK)
        return trainer.exit_code;
    print_result(&trainer, tokens, (double)(clock_now_ns() - started_ns) / NS_PER_SECOND);
    return tool_finish(argv[0]);
}
