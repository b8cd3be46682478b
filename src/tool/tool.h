/* SPDX-License-Identifier: MIT */
/* tool.h: what the subcommands of `seqfeed` share. A subcommand is a file NAME.c with NAME_main()
 * and a row in the table of main.c; argv[0] is its name. */
#pragma once

#include <stdint.h>

#include "base/attributes.h"
#include "base/error.h"

/* Exit codes. */
enum {
    TOOL_OK = 0,
    TOOL_REFUSED = 1, /* the data or the daemon says no */
    TOOL_USAGE = 2,
};

/* Say "seqfeed COMMAND: sentence" on standard error and return TOOL_REFUSED. */
int tool_refuse(const char *command, const Error *error);

/* Say what is wrong with the arguments and where the help is; return TOOL_USAGE. */
int tool_usage(const char *command, const char *format, ...) PRINTF_FORMAT(2, 3);

/* What getopt_long() answered, ':' or '?', to an option string that begins with ':'; TOOL_USAGE. */
int tool_wrong_option(const char *command, int option, char **argv);
/* The option that it was about, for a sentence of one's own. */
const char *tool_option_name(int option, char **argv, char ret_letter[3]);

/* Flush standard output: TOOL_OK, or TOOL_REFUSED and a sentence when it could not be written. */
int tool_finish(const char *command);

int bench_main(int argc, char **argv);
int cat_main(int argc, char **argv);
int drain_main(int argc, char **argv);
int inspect_main(int argc, char **argv);
int pack_main(int argc, char **argv);
int plan_main(int argc, char **argv);
int run_main(int argc, char **argv);
int salvage_main(int argc, char **argv);
int status_main(int argc, char **argv);
int verify_main(int argc, char **argv);
