/* SPDX-License-Identifier: MIT */
#include "tool/plan_ideal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/attributes.h"

/* Most steps of best fit decreasing: lengths that occur, times places of a row. */
#define STEPS_MAX 500e6

static void free_numbers(uint64_t **numbers) {
    free(*numbers);
}

/* The longest of k draws is at most l with probability F(l)^k, so its mean is the sum of what is
 * missing to one. */
double plan_ideal_random(const uint64_t *lengths, uint32_t longest, uint32_t rows) {
    double count = 0, tokens = 0, below = 0, padded = 0;

    for (uint64_t l = 0; l <= longest; l++) {
        count += (double)lengths[l];
        tokens += (double)lengths[l] * (double)l;
    }
    for (uint64_t l = 0; l < longest; l++) {
        below += (double)lengths[l];
        padded += 1 - pow(below / MAX(count, 1.0), rows);
    }
    return padded > 0 ? 1 - tokens / MAX(count, 1.0) / padded : 0;
}

/* Put `count` pieces of one length into rows with `left` free places each: `rows[left]` of them are
 * there, and each takes as many as it can before the next one, for it is then the fullest that
 * fits. Returns the pieces that are left over. */
static uint64_t fill(uint64_t *rows, uint64_t left, uint64_t length, uint64_t count) {
    uint64_t each = left / length, full = MIN(rows[left], count / each);

    rows[left] -= full;
    rows[left - each * length] += full;
    count -= full * each;
    if (count > 0 && rows[left] > 0) {
        rows[left]--;
        rows[left - count * length]++;
        count = 0;
    }
    return count;
}

double plan_ideal_packed(const uint64_t *lengths, uint32_t longest, uint32_t room) {
    CLEANUP(free_numbers) uint64_t *rows = NULL;
    double kinds = 0, tokens = 0, opened = 0;

    assert(room > 0);
    for (uint64_t l = 0; l <= longest; l++)
        kinds += lengths[l] > 0;
    if (longest > room || kinds * room > STEPS_MAX)
        return -1;
    rows = calloc(room + (size_t)1, sizeof *rows);
    if (!rows)
        return -1;
    for (uint64_t l = longest + UINT64_C(1); l-- > 0;) {
        uint64_t places = MAX(l, UINT64_C(1)), count = lengths[l];

        tokens += (double)lengths[l] * (double)l;
        for (uint64_t left = places; left <= room && count > 0; left++)
            if (rows[left] > 0)
                count = fill(rows, left, places, count);
        if (count > 0) {
            uint64_t more = (count - 1) / (room / places) + 1;

            opened += (double)more;
            rows[room] += more;
            (void)fill(rows, room, places, count);
        }
    }
    return opened > 0 ? 1 - tokens / opened / room : 0;
}
