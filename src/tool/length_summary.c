/* SPDX-License-Identifier: MIT */
/* Two passes with 65536 counters each: the first finds in which stretch of lengths the wanted one
 * lies, the second which it is. Most datasets have no length above 65535 and need one pass. */
#include "tool/length_summary.h"

#include <errno.h>
#include <stdlib.h>

enum { BINS = 1 << 16 };

typedef struct Count {
    const Catalog *catalog;
    uint32_t *lengths; /* of one block */
    uint64_t *bins;
} Count;

/* Count lengths in [from, from + (BINS << shift)) in bins of 1 << shift. */
static int fill_bins(Count *count, uint64_t from, uint32_t shift, Error *error) {
    for (uint32_t i = 0; i < BINS; i++)
        count->bins[i] = 0;
    for (uint32_t b = 0; b < count->catalog->block_count; b++) {
        int r = catalog_read_lengths(count->catalog, b, count->lengths, error);
        if (r < 0)
            return r;
        for (uint32_t i = 0; i < count->catalog->block_sequences[b]; i++) {
            uint64_t bin = count->lengths[i] >= from ? (count->lengths[i] - from) >> shift : BINS;
            if (bin < BINS)
                count->bins[bin]++;
        }
    }
    return 0;
}

/* The bin in which the sequence of that rank lies; *rank becomes its rank within the bin. */
static uint32_t find_bin(const Count *count, uint64_t *rank) {
    uint32_t bin = 0;

    while (bin < BINS - 1 && *rank >= count->bins[bin])
        *rank -= count->bins[bin++];
    return bin;
}

/* Length of the sequence of that rank when sorted by length; bins hold the first pass. */
static int find_length(Count *count, uint64_t rank, uint32_t shift, uint64_t *ret_length,
                       Error *error) {
    uint64_t from = (uint64_t)find_bin(count, &rank) << shift;
    int r;

    if (shift > 0) {
        r = fill_bins(count, from, 0, error);
        if (r < 0)
            return r;
        from += find_bin(count, &rank);
    }
    *ret_length = from;
    return 0;
}

int length_summary_count(const Catalog *catalog, LengthSummary *ret_summary, Error *error) {
    Count count = {.catalog = catalog};
    uint64_t low = 0, high = 0;
    uint32_t shift = 0;
    int r = -ENOMEM;

    while (catalog->length_max >> shift >= BINS)
        shift++;
    count.lengths = calloc(catalog->block_sequences_max, sizeof *count.lengths);
    count.bins = calloc(BINS, sizeof *count.bins);
    if (!count.lengths || !count.bins)
        (void)error_set(error, r, "out of memory");
    else
        r = fill_bins(&count, 0, shift, error);
    if (r == 0)
        r = find_length(&count, (catalog->sequences - 1) / 2, shift, &low, error);
    if (r == 0 && shift > 0)
        r = fill_bins(&count, 0, shift, error);
    if (r == 0)
        r = find_length(&count, catalog->sequences / 2, shift, &high, error);
    free(count.lengths);
    free(count.bins);
    if (r == 0)
        ret_summary->median_twice = low + high;
    return r;
}
