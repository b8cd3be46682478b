/* SPDX-License-Identifier: MIT */
/* answer.h: what a mask's steps say of the places of a row: bytes, 1 keeps. For the CPU backend's
 * own files. Pure functions; any thread. */
#pragma once

#include <stdint.h>

#include "mask/row_view.h"

enum {
    ANSWER_TILE = 1024,
    ANSWER_MIXED = -1 /* not one answer, 0 or 1, for all places */
};

/* The answers of steps for places first .. last, at most ANSWER_TILE when there are several steps,
 * as `query` sees them. In a packed row the places are all of the view's sequence, or padding. */
void answer_steps(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                  uint32_t first, uint32_t last, uint8_t *ret_answers);

/* The same, and returns the answer where it is one for all places: ret_answers may hold anything
 * then. */
int answer_whole(const RowView *row, const MaskStep *steps, uint32_t count, uint32_t query,
                 uint32_t first, uint32_t last, uint8_t *ret_answers);

/* 1 for the tokens that values[first_id .. first_id + count) do not list; `padding` for padding. */
void answer_tokens(const RowView *row, uint32_t first_id, uint32_t count, int padding,
                   uint32_t first, uint32_t last, uint8_t *answers);

/* A mask's element for the answers 0 and 1. */
void answer_bits(const TensorSpec *spec, uint64_t ret_bits[2]);
