/* SPDX-License-Identifier: MIT */
/* seqfeed cat: attach as a trainer would and print what arrives. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "tool/tensor_text.h"
#include "tool/tool.h"
#include "tool/trainer.h"

static const char cat_help[] = "Usage: seqfeed cat [OPTION...] FEED\n\n"
                               "Attach to the daemon as a trainer and print batches: as a table, "
                               "or with --json as one object\n"
                               "a line. Without -n it ends with the epoch.\n\n";

enum { CAT_ROWS = 16 }; /* of a tensor, in the table */

static void print_json_tensor(const SeqfeedTensor *tensor) {
    CLEANUP(text_deinit) Text text = {0};

    text_add_json(&text, tensor->name);
    text_add(&text, ":{\"dtype\":\"%s\",\"shape\":[", seqfeed_dtype_name(tensor->dtype));
    for (uint32_t i = 0; i < tensor->ndim; i++)
        text_add(&text, "%s%lld", i > 0 ? "," : "", (long long)tensor->shape[i]);
    text_add(&text, "],\"data\":");
    if (!text.failed)
        fputs(text.bytes, stdout);
    tensor_text_json(stdout, tensor);
    putchar('}');
}

static void print_json_ledger(const SeqfeedBatch *batch) {
    SeqfeedLedger ledger;

    if (seqfeed_ledger(batch, &ledger) < 0)
        return;
    printf(",\"ledger\":{\"tokens_in\":%llu,\"trained\":%llu,\"ignored\":%llu,"
           "\"truncated\":%llu,\"dropped\":%llu,\"padded\":%llu,\"repeated\":%llu",
           (unsigned long long)ledger.tokens_in, (unsigned long long)ledger.trained,
           (unsigned long long)ledger.ignored, (unsigned long long)ledger.truncated,
           (unsigned long long)ledger.dropped, (unsigned long long)ledger.padded,
           (unsigned long long)ledger.repeated);
    printf(",\"slots\":%llu,\"items\":%llu,\"items_shifted\":%llu,\"squares\":%llu,"
           "\"rows\":%u,\"sequences\":%u}",
           (unsigned long long)ledger.slots, (unsigned long long)ledger.items,
           (unsigned long long)ledger.items_shifted, (unsigned long long)ledger.squares,
           ledger.rows, ledger.sequences);
}

static void print_json(const SeqfeedBatch *batch) {
    CLEANUP(text_deinit) Text cursor = {0};
    SeqfeedTensor tensor;

    text_add_json(&cursor, seqfeed_cursor(batch));
    printf("{\"epoch\":%llu,\"step\":%llu,\"cursor\":%s", (unsigned long long)batch->epoch,
           (unsigned long long)batch->index, cursor.failed ? "\"\"" : cursor.bytes);
    if (batch->flags & SEQFEED_BATCH_REPEATED)
        printf(",\"repeated\":true");
    printf(",\"tensors\":{");
    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, &tensor) == 0; i++) {
        if (i > 0)
            putchar(',');
        print_json_tensor(&tensor);
    }
    putchar('}');
    print_json_ledger(batch);
    printf("}\n");
}

/* Which of the batch's masks tells this tensor's padding? */
static bool find_mask(const SeqfeedBatch *batch, const SeqfeedTensor *tensor,
                      SeqfeedTensor *ret_mask) {
    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, ret_mask) == 0; i++) {
        bool same = ret_mask->ndim == tensor->ndim &&
                    (ret_mask->polarity == SEQFEED_POLARITY_KEEP ||
                     ret_mask->polarity == SEQFEED_POLARITY_MASKED);
        for (uint32_t d = 0; same && d < tensor->ndim; d++)
            same = ret_mask->shape[d] == tensor->shape[d];
        if (same)
            return true;
    }
    return false;
}

static void print_tensor(const SeqfeedBatch *batch, const SeqfeedTensor *tensor,
                         TensorTextGrid grid) {
    SeqfeedTensor mask;

    printf("  %s  %s [", tensor->name, seqfeed_dtype_name(tensor->dtype));
    for (uint32_t i = 0; i < tensor->ndim; i++)
        printf("%s%lld", i > 0 ? ", " : "", (long long)tensor->shape[i]);
    printf("]\n");
    if (tensor->ndim > 1 && find_mask(batch, tensor, &mask))
        grid.mask = &mask;
    tensor_text_grid(stdout, tensor, &grid);
}

static void print_table(const SeqfeedBatch *batch, TensorTextGrid grid) {
    SeqfeedTensor tensor;
    double padding = batch->slots > 0 ? 100.0 - 100.0 * (double)batch->tokens / (double)batch->slots
                                      : 0.0;

    printf("epoch %llu, batch %llu%s: %u row%s, %llu token%s in %llu place%s, %.1f %% padding\n",
           (unsigned long long)batch->epoch, (unsigned long long)batch->index,
           batch->flags & SEQFEED_BATCH_REPEATED ? " (repeated)" : "", batch->rows,
           batch->rows == 1 ? "" : "s", (unsigned long long)batch->tokens,
           batch->tokens == 1 ? "" : "s", (unsigned long long)batch->slots,
           batch->slots == 1 ? "" : "s", padding);
    for (uint32_t i = 0; seqfeed_tensor_at(batch, i, &tensor) == 0; i++)
        print_tensor(batch, &tensor, grid);
}

static TensorTextGrid grid_for_output(void) {
    TensorTextGrid grid = {.columns = 100, .rows = CAT_ROWS};
    struct winsize size;

    if (!isatty(STDOUT_FILENO))
        return grid;
    grid.colour = getenv("NO_COLOR") == NULL;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
        grid.columns = size.ws_col;
    return grid;
}

int cat_main(int argc, char **argv) {
    CLEANUP(trainer_close) Trainer trainer;
    TensorTextGrid grid = grid_for_output();
    SeqfeedBatch batch;

    if (!trainer_open(&trainer, argc, argv, cat_help))
        return trainer.exit_code;
    while (trainer_next(&trainer, &batch)) {
        if (trainer.json)
            print_json(&batch);
        else
            print_table(&batch, grid);
        seqfeed_release(trainer.feed, &batch);
        if (tool_finish(argv[0]) != TOOL_OK)
            return TOOL_REFUSED;
    }
    return trainer.exit_code;
}
