/* SPDX-License-Identifier: MIT */
#include "tool/request.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include <seqfeed/seqfeed.h>

#include "base/file.h"
#include "tool/tool.h"

#define REQUEST_TIMEOUT_NS (10 * SEQFEED_PRIVATE_SECOND)

int request_options(int argc, char **argv, const char *help, bool has_json,
                    RequestOptions *ret_options) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"socket", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;

    *ret_options = (RequestOptions){0};
    optind = 0;
    while ((option = getopt_long(argc, argv, ":h", options, NULL)) >= 0) {
        if (option == 'h') {
            fputs(help, stdout);
            return tool_finish(argv[0]);
        }
        if (option == 's')
            ret_options->socket = optarg;
        else if (option == 'j' && has_json)
            ret_options->json = true;
        else
            return tool_wrong_option(argv[0], option, argv);
    }
    if (optind < argc)
        return tool_usage(argv[0], "'%s': it takes options only", argv[optind]);
    return -1;
}

/* The next message, which must be of this type. */
static int receive(int fd, uint32_t type, SeqfeedPrivateMessage *message, Error *error) {
    int r;

    r = seqfeed_private_receive_until(fd, seqfeed_private_now() + REQUEST_TIMEOUT_NS, message);
    if (r < 0)
        return error_set(error, r, "the daemon does not answer: %s", strerror(-r));
    seqfeed_private_message_close(message); /* nobody passes descriptors here */
    if (seqfeed_private_is_notice(message, SEQFEED_MESSAGE_ERROR))
        return error_set(error, seqfeed_private_outside_code(message->body.notice.code), "%s",
                         message->body.notice.text);
    if (message->body.head.type != type)
        return error_set(error, -EPROTO, "what listens there does not answer as a daemon");
    return 0;
}

static int say_hello(int fd, Error *error) {
    const SeqfeedHello hello = {.head = {.type = SEQFEED_MESSAGE_HELLO, .size = sizeof hello},
                                .magic = SEQFEED_PROTOCOL_MAGIC,
                                .version_min = SEQFEED_PROTOCOL_VERSION,
                                .version_max = SEQFEED_PROTOCOL_VERSION};
    SeqfeedPrivateMessage message;
    int r;

    r = seqfeed_private_send(fd, &hello, sizeof hello);
    if (r < 0 && r != -ECONNRESET) /* why it hung up may be there to read */
        return error_set(error, r, "cannot talk to the daemon: %s", strerror(-r));
    return receive(fd, SEQFEED_MESSAGE_HELLO_REPLY, &message, error);
}

static int read_answer(int fd, Text *answer, Error *error) {
    SeqfeedPrivateMessage message;
    SeqfeedText part;

    do {
        int r = receive(fd, SEQFEED_MESSAGE_TEXT, &message, error);
        if (r < 0)
            return r;
        if (message.size != sizeof part)
            return error_set(error, -EPROTO, "a part of the answer has %zu bytes", message.size);
        memcpy(&part, message.body.bytes, sizeof part);
        if (part.bytes > sizeof part.text)
            return error_set(error, -EPROTO, "a part of the answer claims %u bytes", part.bytes);
        text_add_bytes(answer, part.text, part.bytes);
    } while (part.flags & SEQFEED_TEXT_MORE);
    return answer->failed ? error_set(error, -ENOMEM, "no memory for the answer") : 0;
}

int request_ask(const RequestOptions *options, uint32_t what, Text *answer, Error *error) {
    const SeqfeedRequest request = {
        .head = {.type = SEQFEED_MESSAGE_REQUEST, .size = sizeof request}, .what = what};
    CLEANUP(file_close) int fd = FILE_NONE;
    SeqfeedError refusal = {0};
    int r;

    fd = seqfeed_private_connect(options->socket, seqfeed_private_now() + REQUEST_TIMEOUT_NS,
                                 &refusal);
    if (fd < 0)
        return error_set(error, fd, "%s", refusal.text);
    r = say_hello(fd, error);
    if (r < 0)
        return r;
    r = seqfeed_private_send(fd, &request, sizeof request);
    if (r < 0 && r != -ECONNRESET)
        return error_set(error, r, "cannot talk to the daemon: %s", strerror(-r));
    return read_answer(fd, answer, error);
}
