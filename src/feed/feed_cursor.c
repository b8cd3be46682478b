/* SPDX-License-Identifier: MIT */
/* Cursors, as docs/formats/plan.md section 8 has them. Only `batch` can be longer than 64 bytes (by
 * a list of boundaries) and then stands as its hash, as several datasets always do; a refusal shows
 * the feed's side in full. */
#include "feed/feed.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bytes.h"
#include "base/text.h"

enum { CURSOR_MAX = 512, VALUE_MAX = 64 };

typedef enum Field {
    FIELD_DATA,
    FIELD_ORDER,
    FIELD_BATCH,
    FIELD_LENGTH,
    FIELD_PAD,
    FIELD_MIX, /* with several datasets only */
    FIELD_SEED,
    FIELD_COUNT
} Field;

static const char *const field_names[FIELD_COUNT] = {"data", "order", "batch", "length",
                                                     "pad",  "mix",   "seed"};

/* The feed's side. */
typedef struct Fields {
    const char *full[FIELD_COUNT]; /* where that is more than the value */
    char value[FIELD_COUNT][VALUE_MAX + 1];
} Fields;

static void write_field(Fields *fields, Field field, const char *format, ...) PRINTF_FORMAT(3, 4);

static void write_field(Fields *fields, Field field, const char *format, ...) {
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(fields->value[field], sizeof fields->value[field], format, arguments);
    va_end(arguments);
    assert(size > 0 && size <= VALUE_MAX);
}

static void make_fields(const Feed *feed, uint64_t seed, Fields *ret_fields) {
    static const char *const overflow[] = {"error", "truncate_right", "truncate_left", "split",
                                           "drop"};
    static const char *const empty[] = {"keep", "drop"};
    const PlanSpec *plan = &feed->plan;
    char to[16] = "longest";

    memset(ret_fields->full, 0, sizeof ret_fields->full);
    ret_fields->full[FIELD_DATA] = feed->data_text;
    ret_fields->full[FIELD_BATCH] = feed->batch_text;
    if (feed->pad_to)
        snprintf(to, sizeof to, "%" PRIu32, feed->pad_to);
    text_format_hex(ret_fields->value[FIELD_DATA], feed->data_id, sizeof feed->data_id);
    write_field(ret_fields, FIELD_ORDER, "%s/%" PRIu32 "/%" PRIu32,
                plan->shuffle ? "shuffle" : "input", plan->window, plan->strands);
    if (strlen(feed->batch_text) <= VALUE_MAX)
        write_field(ret_fields, FIELD_BATCH, "%s", feed->batch_text);
    else
        write_field(ret_fields, FIELD_BATCH, "#%016" PRIx64,
                    (uint64_t)XXH3_64bits(feed->batch_text, strlen(feed->batch_text)));
    write_field(ret_fields, FIELD_LENGTH, "%" PRIu32 "/%s/%s", plan->length_max,
                overflow[plan->overflow], empty[plan->empty]);
    write_field(ret_fields, FIELD_PAD, "%s/%" PRIu32 "/%s/%" PRId64, to, feed->pad_multiple_of,
                feed->tensors.side == SEQFEED_SIDE_LEFT ? "left" : "right", feed->pad_value);
    strcpy(ret_fields->value[FIELD_MIX], feed->mix_text);
    write_field(ret_fields, FIELD_SEED, "%" PRIu64, seed);
}

/* "data=…;…;seed=…", never cut: CURSOR_MAX holds all values at their longest. */
static void format_fields(const Fields *fields, char *to, size_t room) {
    const char *mix = fields->value[FIELD_MIX];
    int size = snprintf(to, room, "data=%s;order=%s;batch=%s;length=%s;pad=%s%s%s;seed=%s",
                        fields->value[FIELD_DATA], fields->value[FIELD_ORDER],
                        fields->value[FIELD_BATCH], fields->value[FIELD_LENGTH],
                        fields->value[FIELD_PAD], *mix ? ";mix=" : "", mix,
                        fields->value[FIELD_SEED]);

    assert(size > 0 && (size_t)size < room);
}

void feed_plan_text(const Feed *feed, uint64_t seed, char ret_text[SEQFEED_PLAN_BYTES]) {
    Fields fields;

    make_fields(feed, seed, &fields);
    format_fields(&fields, ret_text, SEQFEED_PLAN_BYTES);
}

/* `name` and the number behind `at`; returns where it ends. For each batch of a stream: no printf.
 */
static char *append_number(char *at, const char *name, uint64_t number) {
    char digits[20];
    int count = 0;

    for (; *name; name++)
        *at++ = *name;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

static void head_of_fields(const Fields *fields, FeedCursorHead *ret_head) {
    char plan[SEQFEED_CURSOR_BYTES];
    int size;

    format_fields(fields, plan, sizeof plan);
    size = snprintf(ret_head->text, sizeof ret_head->text, "sf1;%s", plan);
    assert(size > 0 && size + 68 <= CURSOR_MAX); /* two numbers and the check sum follow */
    ret_head->size = (size_t)size;
    ret_head->crc32c = bytes_crc32c(0, ret_head->text, ret_head->size);
}

void feed_cursor_head(const Feed *feed, uint64_t seed, FeedCursorHead *ret_head) {
    Fields fields;

    make_fields(feed, seed, &fields);
    head_of_fields(&fields, ret_head);
}

void feed_cursor_complete(const FeedCursorHead *head, uint64_t epoch, uint64_t index,
                          char ret_text[SEQFEED_CURSOR_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    char *numbers = ret_text + head->size, *at;
    uint32_t crc;

    memcpy(ret_text, head->text, head->size);
    at = append_number(numbers, ";epoch=", epoch);
    at = append_number(at, ";index=", index);
    crc = bytes_crc32c(head->crc32c, numbers, (size_t)(at - numbers));
    memcpy(at, ";crc=", 5);
    at += 5;
    for (int shift = 28; shift >= 0; shift -= 4)
        *at++ = digits[crc >> shift & 15];
    *at = '\0';
}

void feed_cursor_format(const Feed *feed, uint64_t seed, uint64_t epoch, uint64_t index,
                        char ret_text[SEQFEED_CURSOR_BYTES]) {
    FeedCursorHead head;

    feed_cursor_head(feed, seed, &head);
    feed_cursor_complete(&head, epoch, index, ret_text);
}

/* A decimal number without leading zeros. */
static bool parse_number(const char *text, uint64_t *ret_number) {
    return (text[0] != '0' || text[1] == '\0') && text_parse_u64(text, 0, UINT64_MAX, ret_number);
}

static int refuse(Error *error, const char *what) {
    return error_set(error, -EINVAL, "this is not a cursor: %s", what);
}

/* The parts of a cursor that need no feed to be judged. */
static int check_form(const char *text, Error *error) {
    size_t size = strnlen(text, CURSOR_MAX + 1);
    const char *crc = strstr(text, ";crc=");
    char expected[16];

    if (size > CURSOR_MAX)
        return refuse(error, "it is longer than 512 bytes");
    for (size_t i = 0; i < size; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return refuse(error, "it contains a space or a byte that is not printable ASCII");
    if (strncmp(text, "sf1;", 4) != 0)
        return refuse(error, "it does not begin with 'sf1;'");
    if (!crc)
        return refuse(error, "it has no check sum; only 'sf1;epoch=N' needs none");
    snprintf(expected, sizeof expected, "%08" PRIx32, bytes_crc32c(0, text, (size_t)(crc - text)));
    if (strcmp(crc + 5, expected) != 0)
        return refuse(error, "its check sum is wrong, so it was cut or changed");
    return 0;
}

/* What a cursor says, compared with what the feed has. */
typedef struct Reading {
    const Fields *feed;
    bool seen[FIELD_COUNT];
    uint64_t epoch, index;
    bool has_epoch, has_index;
    Text differences;
} Reading;

static void free_reading(Reading *reading) {
    text_deinit(&reading->differences);
}

static void add_difference(Reading *reading, const char *name, const char *cursor,
                           const char *feed) {
    text_add(&reading->differences, "%s%s: cursor has %s, the feed has %s",
             reading->differences.size ? "; " : "", name, cursor, feed);
}

/* The feed's side in full. */
static const char *feed_side(const Fields *fields, Field field) {
    if (fields->full[field])
        return fields->full[field];
    return *fields->value[field] ? fields->value[field] : "no such field";
}

static void read_field(Reading *reading, const char *name, const char *value) {
    for (Field field = 0; field < FIELD_COUNT; field++) {
        if (strcmp(name, field_names[field]) != 0)
            continue;
        reading->seen[field] = true;
        if (strcmp(value, reading->feed->value[field]) != 0)
            add_difference(reading, name, value, feed_side(reading->feed, field));
        return;
    }
    if (strcmp(name, "epoch") == 0)
        reading->has_epoch = parse_number(value, &reading->epoch);
    else if (strcmp(name, "index") == 0)
        reading->has_index = parse_number(value, &reading->index);
    else if (strcmp(name, "crc") != 0)
        add_difference(reading, name, value, "no such field");
}

/* Go through NAME=VALUE;… after the version; `text` is taken apart. */
static bool read_fields(Reading *reading, char *text) {
    for (char *next = text, *name = strsep(&next, ";"); name; name = strsep(&next, ";")) {
        char *value = strchr(name, '=');

        if (!value)
            return false;
        *value++ = '\0';
        read_field(reading, name, value);
    }
    for (Field field = 0; field < FIELD_COUNT; field++)
        if (!reading->seen[field] && *reading->feed->value[field])
            add_difference(reading, field_names[field], "nothing", feed_side(reading->feed, field));
    return reading->has_epoch && reading->has_index;
}

static int judge(const Feed *feed, Reading *reading, const char *text, Error *error) {
    char canonical[SEQFEED_CURSOR_BYTES];
    FeedCursorHead head;

    if (reading->differences.failed)
        return error_set(error, -ENOMEM, "no memory to read a cursor");
    if (reading->differences.size)
        return error_set(error, -ESTALE, "the cursor is of another plan than feed %s: %s",
                         feed->name, reading->differences.bytes);
    /* One position has one text: fields in order, none twice. */
    head_of_fields(reading->feed, &head);
    feed_cursor_complete(&head, reading->epoch, reading->index, canonical);
    if (strcmp(text, canonical) != 0)
        return refuse(error, "its fields are not in their order");
    return 0;
}

int feed_cursor_parse(const Feed *feed, uint64_t seed, const char *text, uint64_t *ret_epoch,
                      uint64_t *ret_index, Error *error) {
    static const char whole_epoch[] = "sf1;epoch=";
    char copy[SEQFEED_CURSOR_BYTES];
    Fields fields;
    CLEANUP(free_reading) Reading reading = {.feed = &fields};
    int r;

    if (strncmp(text, whole_epoch, strlen(whole_epoch)) == 0 && strrchr(text, ';') == text + 3) {
        if (!parse_number(text + strlen(whole_epoch), ret_epoch))
            return refuse(error, "after 'sf1;epoch=' comes one decimal number");
        *ret_index = 0;
        return 0;
    }
    r = check_form(text, error);
    if (r < 0)
        return r;
    make_fields(feed, seed, &fields);
    strcpy(copy, text);
    if (!read_fields(&reading, copy + 4))
        return refuse(error, "a field is missing or has no value");
    r = judge(feed, &reading, text, error);
    if (r < 0)
        return r;
    *ret_epoch = reading.epoch;
    *ret_index = reading.index;
    return 0;
}
