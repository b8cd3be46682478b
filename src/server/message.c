/* SPDX-License-Identifier: MIT */
#include "server/message.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "ring/ring_writer.h"

uint32_t message_type(const void *bytes, size_t size) {
    return size >= sizeof(SeqfeedMessageHead) ? bytes_get_u32(bytes) : 0;
}

static int check_head(const void *bytes, size_t size, uint32_t type, size_t expected,
                      const char *name, Error *error) {
    SeqfeedMessageHead head;

    if (size < sizeof head)
        return error_set(error, -EPROTO, "a packet of %zu bytes is no message", size);
    memcpy(&head, bytes, sizeof head);
    if (head.type != type)
        return error_set(error, -EPROTO, "message %u where %s was expected", head.type, name);
    if (head.size != size || size != expected)
        return error_set(error, -EPROTO, "%s has %zu bytes, not %zu (head: %u)", name, expected,
                         size, head.size);
    return 0;
}

/* A string within `capacity` bytes: NUL-terminated, nothing but zeros behind, no control bytes. */
static bool is_text(const char *text, size_t capacity) {
    size_t length = strnlen(text, capacity);

    if (length == capacity || !bytes_are_zero(text + length, capacity - length))
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

static bool is_feed_name(const char *name, size_t capacity) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return is_text(name, capacity) && *name && name[strspn(name, allowed)] == '\0';
}

int message_read_hello(const void *bytes, size_t size, SeqfeedHello *ret_message, Error *error) {
    SeqfeedHello hello;
    int r;

    r = check_head(bytes, size, SEQFEED_MESSAGE_HELLO, sizeof hello, "HELLO", error);
    if (r < 0)
        return r;
    memcpy(&hello, bytes, sizeof hello);
    if (hello.magic != SEQFEED_PROTOCOL_MAGIC)
        return error_set(error, -EPROTO, "HELLO without the magic number of seqfeed");
    if (hello.reserved != 0 || hello.version_min > hello.version_max)
        return error_set(error, -EPROTO, "HELLO with reserved bytes or versions out of order");
    if (hello.version_min > SEQFEED_PROTOCOL_VERSION ||
        hello.version_max < SEQFEED_PROTOCOL_VERSION)
        return error_set(error, -EPROTONOSUPPORT,
                         "the daemon speaks protocol %d, the client %u to %u: bring both to the "
                         "same release",
                         SEQFEED_PROTOCOL_VERSION, hello.version_min, hello.version_max);
    *ret_message = hello;
    return 0;
}

static int check_attach_form(const SeqfeedAttach *attach, Error *error) {
    const uint32_t known = SEQFEED_ATTACH_HAS_SEED | SEQFEED_ATTACH_JOIN_NEXT |
                           SEQFEED_ATTACH_HAS_CURSOR;

    if (attach->reserved != 0 || (attach->flags & ~known))
        return error_set(error, -EPROTO, "ATTACH with unknown flags or reserved bytes");
    if (!is_text(attach->cursor, sizeof attach->cursor) ||
        !is_text(attach->group, sizeof attach->group) ||
        !is_feed_name(attach->feed, sizeof attach->feed))
        return error_set(error, -EPROTO, "ATTACH with a malformed feed, group or cursor");
    if (!(attach->flags & SEQFEED_ATTACH_HAS_CURSOR) != !attach->cursor[0])
        return error_set(error, -EPROTO, "ATTACH whose cursor and flags disagree");
    if (!(attach->flags & SEQFEED_ATTACH_HAS_SEED) && attach->seed)
        return error_set(error, -EPROTO, "ATTACH whose seed and flags disagree");
    return 0;
}

static int check_attach_ranges(const SeqfeedAttach *attach, Error *error) {
    if (attach->world < 1 || attach->world > MESSAGE_RANKS_MAX)
        return error_set(error, -EINVAL, "a world of %u ranks: 1 to %d are allowed", attach->world,
                         MESSAGE_RANKS_MAX);
    if (attach->rank >= attach->world)
        return error_set(error, -EINVAL, "rank %u is not in a world of %u", attach->rank,
                         attach->world);
    if (attach->local_ranks < 1 || attach->local_ranks > attach->world)
        return error_set(error, -EINVAL, "%u local ranks in a world of %u: 1 to %u are allowed",
                         attach->local_ranks, attach->world, attach->world);
    if (attach->members < 1 || attach->members > RING_MEMBERS_MAX)
        return error_set(error, -EINVAL, "%u members: 1 to %d are allowed", attach->members,
                         RING_MEMBERS_MAX);
    if (attach->deadline_ns <= 0)
        return error_set(error, -EINVAL, "the time-out of an attach must be above 0");
    if ((attach->flags & SEQFEED_ATTACH_JOIN_NEXT) && (attach->flags & SEQFEED_ATTACH_HAS_CURSOR))
        return error_set(error, -EINVAL,
                         "a cursor and join: next exclude each other: one resumes, the other takes "
                         "what comes");
    if ((uint64_t)attach->local_ranks * attach->members > 1 && !attach->group[0])
        return error_set(error, -EINVAL,
                         "%u local ranks with %u members wait for each other: name the group that "
                         "they belong to",
                         attach->local_ranks, attach->members);
    return 0;
}

int message_read_attach(const void *bytes, size_t size, SeqfeedAttach *ret_message, Error *error) {
    SeqfeedAttach attach;
    int r;

    r = check_head(bytes, size, SEQFEED_MESSAGE_ATTACH, sizeof attach, "ATTACH", error);
    if (r < 0)
        return r;
    memcpy(&attach, bytes, sizeof attach);
    r = check_attach_form(&attach, error);
    if (r < 0)
        return r;
    r = check_attach_ranges(&attach, error);
    if (r < 0)
        return r;
    *ret_message = attach;
    return 0;
}

int message_read_request(const void *bytes, size_t size, SeqfeedRequest *ret_message,
                         Error *error) {
    SeqfeedRequest request;
    int r;

    r = check_head(bytes, size, SEQFEED_MESSAGE_REQUEST, sizeof request, "REQUEST", error);
    if (r < 0)
        return r;
    memcpy(&request, bytes, sizeof request);
    if (request.reserved != 0)
        return error_set(error, -EPROTO, "REQUEST with reserved bytes");
    *ret_message = request;
    return 0;
}

void message_make_notice(uint32_t type, int code, const char *text, SeqfeedNotice *ret_notice) {
    size_t length = strlen(text);

    *ret_notice = (SeqfeedNotice){.head = {.type = type, .size = sizeof *ret_notice}, .code = code};
    if (length >= sizeof ret_notice->text) {
        length = sizeof ret_notice->text - 1;
        while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(ret_notice->text, text, length);
}
