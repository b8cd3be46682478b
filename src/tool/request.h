/* SPDX-License-Identifier: MIT */
/* request.h: one question to the daemon and its whole answer: what status and drain share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/error.h"
#include "base/text.h"

/* What such a command was asked to do. */
typedef struct RequestOptions {
    const char *socket; /* NULL: the usual places */
    bool json;
} RequestOptions;

/* Read `[--json] [--socket PATH]` (json only when `has_json`). -1 to go on; else the exit code, all
 * said. */
MUST_CHECK int request_options(int argc, char **argv, const char *help, bool has_json,
                               RequestOptions *ret_options);

/* Ask SEQFEED_REQUEST_* `what` and append the answer. 0 or negative errno with a sentence. */
MUST_CHECK int request_ask(const RequestOptions *options, uint32_t what, Text *answer,
                           Error *error);
