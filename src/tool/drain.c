/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include <seqfeed/seqfeed.h>

#include "tool/request.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed drain [OPTION...]\n"
    "\n"
    "Let the daemon publish what is complete and take no more trainers; it ends when the last one\n"
    "has left. Trainers get what is published, then SEQFEED_DRAINED.\n"
    "\n"
    "      --socket PATH    the daemon's socket (default: SEQFEED_SOCKET, then the usual places)\n"
    "  -h, --help           print this help\n";

int drain_main(int argc, char **argv) {
    CLEANUP(text_deinit) Text answer = {0};
    RequestOptions options;
    Error error = {0};
    int r;

    r = request_options(argc, argv, help, false, &options);
    if (r >= 0)
        return r;
    if (request_ask(&options, SEQFEED_REQUEST_DRAIN, &answer, &error) < 0)
        return tool_refuse("drain", &error);
    fputs(answer.bytes ? answer.bytes : "", stdout);
    return tool_finish("drain");
}
