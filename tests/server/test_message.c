/* SPDX-License-Identifier: MIT */
#include "server/message.h"

#include <errno.h>
#include <string.h>

#include "support/check_main.h"

static SeqfeedHello good_hello(void) {
    return (SeqfeedHello){.head = {.type = SEQFEED_MESSAGE_HELLO, .size = sizeof(SeqfeedHello)},
                          .magic = SEQFEED_PROTOCOL_MAGIC,
                          .version_min = 1,
                          .version_max = 3};
}

static SeqfeedAttach good_attach(void) {
    return (SeqfeedAttach){.head = {.type = SEQFEED_MESSAGE_ATTACH, .size = sizeof(SeqfeedAttach)},
                           .feed = "train",
                           .group = "g",
                           .rank = 1,
                           .world = 2,
                           .local_ranks = 2,
                           .members = 1,
                           .deadline_ns = 1};
}

START_TEST(versions_that_do_not_meet_are_refused_with_both)
{
    SeqfeedHello hello = good_hello(), read;
    Error error = {0};

    ck_assert_int_eq(message_read_hello(&hello, sizeof hello, &read, &error), 0);
    hello.version_min = 2;
    ck_assert_int_eq(message_read_hello(&hello, sizeof hello, &read, &error), -EPROTONOSUPPORT);
    ck_assert_ptr_nonnull(strstr(error.text, "protocol 1, the client 2 to 3"));
    hello.version_min = 0;
    hello.version_max = 0;
    ck_assert_int_eq(message_read_hello(&hello, sizeof hello, &read, &error), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(a_hello_that_is_none_is_no_message)
{
    SeqfeedHello hello, read;

#define REFUSED(change)                                                                   \
    do {                                                                                  \
        hello = good_hello();                                                             \
        change;                                                                           \
        ck_assert_int_eq(message_read_hello(&hello, sizeof hello, &read, NULL), -EPROTO); \
    } while (0)
    REFUSED(hello.magic++);
    REFUSED(hello.reserved = 1);
    REFUSED(hello.head.type = SEQFEED_MESSAGE_ATTACH);
    REFUSED(hello.head.size--);
    REFUSED(hello.version_min = 9);
#undef REFUSED
    hello = good_hello();
    for (size_t size = 0; size < sizeof hello; size++)
        ck_assert_int_eq(message_read_hello(&hello, size, &read, NULL), -EPROTO);
}
END_TEST

static int read_changed(const SeqfeedAttach *attach) {
    SeqfeedAttach read;

    return message_read_attach(attach, sizeof *attach, &read, NULL);
}

START_TEST(an_attach_is_checked_byte_by_byte)
{
    SeqfeedAttach attach = good_attach();

    ck_assert_int_eq(read_changed(&attach), 0);
#define REFUSED(code, change)                          \
    do {                                               \
        attach = good_attach();                        \
        change;                                        \
        ck_assert_int_eq(read_changed(&attach), code); \
    } while (0)
    REFUSED(-EPROTO, attach.head.size++);
    REFUSED(-EPROTO, attach.reserved = 1);
    REFUSED(-EPROTO, attach.flags = 8);
    REFUSED(-EPROTO, memset(attach.feed, 'a', sizeof attach.feed));
    REFUSED(-EPROTO, attach.feed[0] = '\0');
    REFUSED(-EPROTO, attach.feed[sizeof attach.feed - 1] = 'x');
    REFUSED(-EPROTO, strcpy(attach.feed, "../x"));
    REFUSED(-EPROTO, strcpy(attach.feed, "/etc/x"));
    REFUSED(-EPROTO, memset(attach.group, 'a', sizeof attach.group));
    REFUSED(-EPROTO, strcpy(attach.group, "a\nb"));
    REFUSED(-EPROTO, strcpy(attach.cursor, "sf1;epoch=1"));
    REFUSED(-EPROTO, attach.flags = SEQFEED_ATTACH_HAS_CURSOR);
    REFUSED(-EPROTO, attach.seed = 5);
    REFUSED(-EINVAL, attach.world = 0);
    REFUSED(-EINVAL, attach.world = UINT32_MAX);
    REFUSED(-EINVAL, attach.rank = 2);
    REFUSED(-EINVAL, attach.local_ranks = 0);
    REFUSED(-EINVAL, attach.local_ranks = 3);
    REFUSED(-EINVAL, attach.members = 0);
    REFUSED(-EINVAL, attach.members = 257);
    REFUSED(-EINVAL, attach.deadline_ns = 0);
    REFUSED(-EINVAL, attach.deadline_ns = INT64_MIN);
    REFUSED(-EINVAL, attach.group[0] = '\0');
    REFUSED(-EINVAL, (strcpy(attach.cursor, "x"),
                      attach.flags = SEQFEED_ATTACH_HAS_CURSOR | SEQFEED_ATTACH_JOIN_NEXT));
    REFUSED(0, (strcpy(attach.cursor, "x"), attach.flags = SEQFEED_ATTACH_HAS_CURSOR));
    REFUSED(0, (attach.seed = 5, attach.flags = SEQFEED_ATTACH_HAS_SEED));
    REFUSED(0, (attach.group[0] = '\0', attach.local_ranks = 1));
#undef REFUSED
}
END_TEST

START_TEST(a_long_sentence_is_cut_between_characters)
{
    char text[600];
    SeqfeedNotice notice;

    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    message_make_notice(SEQFEED_MESSAGE_ERROR, -5, text, &notice);
    ck_assert_uint_eq(strlen(notice.text), SEQFEED_TEXT_BYTES - 1);
    memcpy(text + SEQFEED_TEXT_BYTES - 2, "\xe2\x80\x93", 3); /* would be cut in its middle */
    message_make_notice(SEQFEED_MESSAGE_ERROR, -5, text, &notice);
    ck_assert_uint_eq(strlen(notice.text), SEQFEED_TEXT_BYTES - 2);
    ck_assert_int_eq(notice.code, -5);
    ck_assert_uint_eq(notice.head.size, sizeof notice);
}
END_TEST

CHECK_MAIN("message", versions_that_do_not_meet_are_refused_with_both,
           a_hello_that_is_none_is_no_message, an_attach_is_checked_byte_by_byte,
           a_long_sentence_is_cut_between_characters)
