/* SPDX-License-Identifier: MIT */
/* Compiled as C11 and C++17 in every order of includes and with the warnings that users turn on:
 * the client has to stand all of them. Every public function is named, so that none is left out of
 * the library. */
#ifdef PROBE_AFTER
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#endif
#include <seqfeed/seqfeed.h>
#include <stdio.h>
#include <string.h>
#ifdef PROBE_BEFORE
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#endif

int main(void) {
    SeqfeedOptions options;
    SeqfeedBatch batch;
    SeqfeedTensor tensor;
    Seqfeed *feed;

    memset(&options, 0, sizeof options);
    options.socket = "/nowhere";
    options.feed = "train";
    if (seqfeed_attach(&feed, &options, NULL) < 0)
        return seqfeed_dtype_bytes(SEQFEED_INT64) == 8 && seqfeed_dtype_name(0)[0] == 'n' ? 0 : 1;
    while (seqfeed_next(feed, &batch, -1) == 0) {
        if (seqfeed_tensor(&batch, "tokens", &tensor) < 0 ||
            seqfeed_tensor_at(&batch, 0, &tensor) < 0)
            break;
        puts(seqfeed_cursor(&batch));
        seqfeed_release(feed, &batch);
    }
    puts(seqfeed_message(feed));
    puts(seqfeed_plan(feed));
    puts(seqfeed_start_cursor(feed));
    if (seqfeed_length(feed) < (int64_t)seqfeed_slots(feed))
        puts("short");
    if (seqfeed_epoch_length(feed) < seqfeed_length(feed))
        puts("began before the epoch did");
    seqfeed_detach(feed);
    return 0;
}
