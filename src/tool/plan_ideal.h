/* SPDX-License-Identifier: MIT */
/* plan_ideal.h: what padding would be without a stream's limits, from a histogram of lengths alone:
 * the yardsticks that `seqfeed plan` prints beside a feed's own. */
#pragma once

#include <stdint.h>

/* Share of padding of random batches of `rows` rows that are padded to their longest, expected.
 * `lengths[l]` pieces have length l, 0..longest. */
double plan_ideal_random(const uint64_t *lengths, uint32_t longest, uint32_t rows);

/* Share of padding when all pieces are put into rows of `room` places by best fit decreasing, which
 * needs all of them at once. Negative: it would take too long. An empty piece takes a place. */
double plan_ideal_packed(const uint64_t *lengths, uint32_t longest, uint32_t room);
