/* SPDX-License-Identifier: MIT */
/* input_kind.h: what a file that holds no JSON lines seems to be, by its first line, and how rows
 * are made of it. */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* `error` says why `line` is no row; put what the file is and what to do in its place, or after it,
 * where that can be told. `path`: "-" is standard input; `output`: where the dataset goes. */
void input_kind_explain(const char *line, size_t size, const char *path, const char *output,
                        Error *error);

/* A file that is to be packed as text: -EINVAL and what to do where it is compressed. */
MUST_CHECK int input_kind_check_text(const char *path, const char *output, Error *error);
