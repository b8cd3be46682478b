/* SPDX-License-Identifier: MIT */
#include "daemon/arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/server.h"

static const char help[] =
    "usage: seqfeedd --config FILE [--socket PATH] [--set KEY.PATH=VALUE]... [--check]\n"
    "\n"
    "Feeds batches of token sequences to trainers through shared memory; runs in the foreground.\n"
    "\n"
    "  --config FILE           the configuration, seqfeedd.yaml(5)\n"
    "  --socket PATH           where to listen; else SEQFEED_SOCKET, the configuration's socket,\n"
    "                          $XDG_RUNTIME_DIR/seqfeed.sock, /tmp/seqfeed-UID/seqfeed.sock or\n"
    "                          /run/seqfeed/seqfeed.sock\n"
    "  --set KEY.PATH=VALUE    as if the file said so (feeds.train.batch.size=32)\n"
    "  --check                 open everything, say what is wrong, and exit\n"
    "  --version               version and compiled-in parts\n"
    "  --help                  this text\n"
    "\n"
    "exit: 0 ended or nothing wrong, 1 the system refused something, 2 wrong usage, 75 another\n"
    "daemon has the socket, 78 the configuration or a dataset is wrong\n";

enum { EXIT_USAGE = 2 };

int arguments_read(int argc, char **argv, Arguments *arguments) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"socket", required_argument, NULL, 's'},
        {"set", required_argument, NULL, 'S'},
        {"check", no_argument, NULL, 'k'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        if (option == 'h')
            return fputs(help, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (option == 'V')
            return printf("seqfeedd %s\n%s\n", SEQFEED_VERSION, server_parts()) < 0;
        if (option == 'c' && !arguments->config)
            arguments->config = optarg;
        else if (option == 's')
            arguments->socket = optarg;
        else if (option == 'S' && arguments->set_count < ARGUMENTS_SETS_MAX)
            arguments->sets[arguments->set_count++] = optarg;
        else if (option == 'k')
            arguments->check = true;
        else {
            fputs("seqfeedd: wrong usage, see seqfeedd --help\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (arguments->config && optind == argc)
        return -1;
    fputs(arguments->config ? "seqfeedd: it takes options only, see seqfeedd --help\n"
                            : "seqfeedd: --config FILE is missing, see seqfeedd --help\n",
          stderr);
    return EXIT_USAGE;
}
