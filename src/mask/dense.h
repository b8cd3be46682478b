/* SPDX-License-Identifier: MIT */
/* dense.h: masks that have an element for each query and place. Part of the CPU backend; fill.c and
 * fill_packed.c call it row by row. Pure functions; any thread. */
#pragma once

#include <stdint.h>

#include "mask/fill.h"
#include "mask/tensor.h"

/* Write a row of a dense mask: [length, stride] elements. The row holds `count` sequences; 0: it is
 * empty. */
void dense_fill(const TensorSet *set, const TensorSpec *spec, const FillRow *sources,
                uint32_t count, uint32_t length, void *to);
