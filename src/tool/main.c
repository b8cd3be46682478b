/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tool/tool.h"

typedef struct Command {
    const char *name, *help;
    int (*main)(int argc, char **argv);
} Command;

/* In the order in which one meets them. */
static const Command commands[] = {
    {"pack", "make a dataset from JSONL or text", pack_main},
    {"inspect", "show what a dataset or a shard holds", inspect_main},
    {"verify", "check every bit of a dataset", verify_main},
    {"salvage", "save what is left of a damaged shard", salvage_main},
    {"plan", "say what a configuration will deliver and cost", plan_main},
    {"run", "run a command with a daemon of its own", run_main},
    {"cat", "print batches", cat_main},
    {"bench", "measure how fast batches arrive", bench_main},
    {"status", "show streams, trainers and who waits for whom", status_main},
    {"drain", "let the daemon end when the last trainer has left", drain_main},
};

int tool_refuse(const char *command, const Error *error) {
    fflush(stdout);
    fprintf(stderr, "seqfeed %s: %s\n", command, error->text);
    return TOOL_REFUSED;
}

int tool_usage(const char *command, const char *format, ...) {
    va_list arguments;

    fflush(stdout);
    fprintf(stderr, "seqfeed %s: ", command);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry 'seqfeed %s --help'.\n", command);
    return TOOL_USAGE;
}

const char *tool_option_name(int option, char **argv, char ret_letter[3]) {
    const char *word = argv[optind - 1];
    bool is_long = strncmp(word, "--", 2) == 0 && strchr(word, '='); /* a value that it has not */

    if (option != '?' || optopt <= 0 || optopt > CHAR_MAX || is_long)
        return word;
    /* One of several letters: getopt() has not left their word yet. */
    ret_letter[0] = '-';
    ret_letter[1] = (char)optopt;
    ret_letter[2] = '\0';
    return ret_letter;
}

int tool_wrong_option(const char *command, int option, char **argv) {
    char letter[3];

    return tool_usage(command, option == ':' ? "'%s' needs a value" : "there is no option '%s'",
                      tool_option_name(option, argv, letter));
}

int tool_finish(const char *command) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return TOOL_OK;
    fprintf(stderr, "seqfeed %s: cannot write to standard output: %s\n", command, strerror(errno));
    return TOOL_REFUSED;
}

static void print_help(FILE *to) {
    fprintf(to, "Usage: seqfeed SUBCOMMAND [OPTION...] [OPERAND...]\n\n");
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\nEach has its own --help. Exit status: 0; 1 the data or the daemon says no; "
                "2 wrong usage.\n");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return TOOL_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return tool_finish("help");
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("seqfeed %s\n", SEQFEED_VERSION);
        return tool_finish("--version");
    }
    opterr = 0; /* tool_wrong_option() says it */
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].main(argc - 1, argv + 1);
    fprintf(stderr, "seqfeed: there is no subcommand '%s'\nTry 'seqfeed --help'.\n", argv[1]);
    return TOOL_USAGE;
}
