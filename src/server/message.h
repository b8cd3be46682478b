/* SPDX-License-Identifier: MIT */
/* message.h: what a client may say, checked byte by byte before anything acts on it. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attributes.h"
#include "base/error.h"
#include "format/protocol_format.h"

enum { MESSAGE_RANKS_MAX = 65536 };

/* A message as it came: `bytes` of `size`. On success *ret_message is a checked copy; else -EPROTO
 * (no such message: the connection ends) or -EINVAL, -EPROTONOSUPPORT (understood and refused),
 * with a sentence for the client. */
MUST_CHECK int message_read_hello(const void *bytes, size_t size, SeqfeedHello *ret_message,
                                  Error *error);
MUST_CHECK int message_read_attach(const void *bytes, size_t size, SeqfeedAttach *ret_message,
                                   Error *error);
MUST_CHECK int message_read_request(const void *bytes, size_t size, SeqfeedRequest *ret_message,
                                    Error *error);

/* The type that the head claims; 0 when there is no whole head. */
uint32_t message_type(const void *bytes, size_t size);

/* ERROR, WAITING or CLOSING with this text, cut where it does not fit, never inside a character. */
void message_make_notice(uint32_t type, int code, const char *text, SeqfeedNotice *ret_notice);
