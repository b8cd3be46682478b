/* SPDX-License-Identifier: MIT */
/* arguments.h: the command line of seqfeedd. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/attributes.h"

enum { ARGUMENTS_SETS_MAX = 256 };

typedef struct Arguments {
    const char *config, *socket;
    char *sets[ARGUMENTS_SETS_MAX];
    uint32_t set_count;
    bool check;
} Arguments;

/* -1 to go on; else the exit code, and what there was to say has been said. */
MUST_CHECK int arguments_read(int argc, char **argv, Arguments *arguments);
