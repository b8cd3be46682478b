/* SPDX-License-Identifier: MIT */
#include "tool/trainer.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "tool/tool.h"

enum {
    OPTION_RANK = 256,
    OPTION_WORLD,
    OPTION_GROUP,
    OPTION_MEMBERS,
    OPTION_LOCAL_RANKS,
    OPTION_JOIN,
    OPTION_RESUME,
    OPTION_SEED,
    OPTION_TIMEOUT,
    OPTION_SOCKET,
    OPTION_JSON
};

static const struct option trainer_long_options[] = {
    {"batches", required_argument, NULL, 'n'},
    {"rank", required_argument, NULL, OPTION_RANK},
    {"world", required_argument, NULL, OPTION_WORLD},
    {"group", required_argument, NULL, OPTION_GROUP},
    {"members", required_argument, NULL, OPTION_MEMBERS},
    {"local-ranks", required_argument, NULL, OPTION_LOCAL_RANKS},
    {"join", required_argument, NULL, OPTION_JOIN},
    {"resume", required_argument, NULL, OPTION_RESUME},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

const char trainer_help[] =
    "  -n, --batches N      take N batches, going on into the next epoch (default: one epoch)\n"
    "      --rank R         take the batches of rank R ...\n"
    "      --world W        ... of W ranks (default 0 of 1)\n"
    "      --group G        name of a group whose processes share a stream\n"
    "      --members N      processes of the group that read the same batches (default 1)\n"
    "      --local-ranks N  ranks of the group on this machine (default 1)\n"
    "      --join WHERE     'start': begin a stream (default); 'next': join a running one\n"
    "      --resume CURSOR  go on where the cursor of a batch points\n"
    "      --seed N         another order than the feed's own\n"
    "      --timeout S      how long to wait for the others (default 60 seconds)\n"
    "      --socket PATH    the daemon's socket (default: SEQFEED_SOCKET, then the usual places)\n"
    "      --json           print JSON\n"
    "  -h, --help           print this help\n";

/* A number for the option; false when it is none. */
static bool parse_u32(const char *value, uint32_t min, uint32_t *ret_number) {
    uint64_t number;

    if (!text_parse_u64(value, min, UINT32_MAX, &number))
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

static bool parse_join(Trainer *trainer, const char *value) {
    if (strcmp(value, "next") == 0)
        trainer->options.flags |= SEQFEED_JOIN_NEXT;
    else
        trainer->options.flags &= ~(uint32_t)SEQFEED_JOIN_NEXT;
    return strcmp(value, "next") == 0 || strcmp(value, "start") == 0;
}

/* False: the option's value is wrong. */
static bool parse_option(Trainer *trainer, int option, const char *value) {
    SeqfeedOptions *options = &trainer->options;

    switch (option) {
    case 'n':
        return text_parse_u64(value, 1, INT64_MAX, &trainer->limit);
    case OPTION_RANK:
        return parse_u32(value, 0, &options->rank);
    case OPTION_WORLD:
        return parse_u32(value, 1, &options->world);
    case OPTION_GROUP:
        options->group = value;
        return value[0] != '\0';
    case OPTION_MEMBERS:
        return parse_u32(value, 1, &options->members);
    case OPTION_LOCAL_RANKS:
        return parse_u32(value, 1, &options->local_ranks);
    case OPTION_JOIN:
        return parse_join(trainer, value);
    case OPTION_RESUME:
        options->cursor = value;
        return true;
    case OPTION_SEED:
        options->flags |= SEQFEED_HAS_SEED;
        return text_parse_u64(value, 0, UINT64_MAX, &options->seed);
    case OPTION_TIMEOUT:
        return text_parse_duration(value, &options->timeout_ns) && options->timeout_ns > 0;
    case OPTION_SOCKET:
        options->socket = value;
        return value[0] != '\0';
    default:
        trainer->json = true;
        return true;
    }
}

static const char *option_name(int option) {
    for (const struct option *at = trainer_long_options; at->name; at++)
        if (at->val == option)
            return at->name;
    return "?";
}

static bool over(Trainer *trainer, int exit_code) {
    trainer->exit_code = exit_code;
    return false;
}

static bool read_command_line(Trainer *trainer, int argc, char **argv, const char *help) {
    int option;

    opterr = 0;
    optind = 0; /* glibc: start anew */
    while ((option = getopt_long(argc, argv, ":n:h", trainer_long_options, NULL)) != -1) {
        if (option == 'h') {
            printf("%s%s", help, trainer_help);
            return over(trainer, tool_finish(trainer->command));
        }
        if (option == ':' || option == '?')
            return over(trainer, tool_wrong_option(trainer->command, option, argv));
        if (!parse_option(trainer, option, optarg))
            return over(trainer, tool_usage(trainer->command, "--%s: '%s' is not a value for it",
                                            option_name(option), optarg));
    }
    if (argc - optind != 1)
        return over(trainer, tool_usage(trainer->command,
                                        argc == optind ? "no feed named" : "one feed at a time"));
    trainer->options.feed = argv[optind];
    if (trainer->options.rank >= MAX(trainer->options.world, 1u))
        return over(trainer, tool_usage(trainer->command, "--rank %u is not below --world %u%s",
                                        trainer->options.rank, MAX(trainer->options.world, 1u),
                                        trainer->options.world ? "" : ": give --world, too"));
    if (trainer->options.cursor && trainer->options.flags & SEQFEED_JOIN_NEXT)
        return over(trainer,
                    tool_usage(trainer->command, "--resume and --join next exclude each other"));
    return true;
}

bool trainer_open(Trainer *trainer, int argc, char **argv, const char *help) {
    SeqfeedError error;
    Error sentence = {0};

    *trainer = (Trainer){.command = argv[0]};
    /* `seqfeed cat … | head` ends without a word. */
    signal(SIGPIPE, SIG_DFL);
    if (!read_command_line(trainer, argc, argv, help))
        return false;
    if (seqfeed_attach(&trainer->feed, &trainer->options, &error) == 0)
        return true;
    error_set(&sentence, error.code, "%s", error.text);
    return over(trainer, tool_refuse(trainer->command, &sentence));
}

bool trainer_next(Trainer *trainer, SeqfeedBatch *ret_batch) {
    Error error = {0};
    int r;

    if (trainer->limit > 0 && trainer->taken == trainer->limit)
        return over(trainer, TOOL_OK);
    do
        r = seqfeed_next(trainer->feed, ret_batch, -1);
    while (r == SEQFEED_END_OF_EPOCH && trainer->limit > 0);
    if (r == 0) {
        trainer->taken++;
        return true;
    }
    if (r == SEQFEED_END_OF_EPOCH)
        return over(trainer, TOOL_OK);
    if (r == SEQFEED_DRAINED)
        error_set(&error, -ECANCELED, "the daemon is draining: nothing follows");
    else
        error_set(&error, r, "%s", seqfeed_message(trainer->feed));
    return over(trainer, tool_refuse(trainer->command, &error));
}

void trainer_close(Trainer *trainer) {
    seqfeed_detach(trainer->feed);
    trainer->feed = NULL;
}
