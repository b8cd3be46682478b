/* SPDX-License-Identifier: MIT */
/* error.h: a sentence for the person who has to act. Built on cold paths only.
 * Names of files, keys and columns come from outside: what could drive a terminal in them is
 * masked. Owner: the caller, usually on its stack. NULL is allowed wherever an Error * is taken. */
#pragma once

#include <stddef.h>

#include "base/attributes.h"

typedef struct Error {
    int code; /* negative errno; 0 while nothing happened */
    char text[1024];
} Error;

/* Store the sentence and return `code`, so that `return error_set(error, -EINVAL, "…")` reads well.
 */
int error_set(Error *error, int code, const char *format, ...) PRINTF_FORMAT(3, 4);

/* Put "context: " before the sentence that stands there. Returns error's code (or `code` if error
 * is NULL). */
int error_prefix(Error *error, int code, const char *format, ...) PRINTF_FORMAT(3, 4);
