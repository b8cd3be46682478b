/* SPDX-License-Identifier: MIT */
/* `seqfeed status`: what the daemon says about itself, as it says it (--json) or as tables. What a
 * newer or older daemon leaves out shows as nothing. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include <seqfeed/seqfeed.h>

#include "tool/request.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed status [OPTION...]\n"
    "\n"
    "Show the daemon's feeds, streams and trainers, who waits for whom, and warnings.\n"
    "\n"
    "      --socket PATH    the daemon's socket (default: SEQFEED_SOCKET, then the usual places)\n"
    "      --json           print JSON\n"
    "  -h, --help           print this help\n";

static const char *word(const json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(object, key));

    return value ? value : "";
}

static uint64_t number(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value < 0 ? 0 : (uint64_t)value;
}

static void print_duration(uint64_t seconds) {
    if (seconds < 120)
        printf("%llu s", (unsigned long long)seconds);
    else if (seconds < 7200)
        printf("%llu min", (unsigned long long)(seconds / 60));
    else
        printf("%llu h", (unsigned long long)(seconds / 3600));
}

static void print_daemon(const json_t *status) {
    const json_t *memory = json_object_get(status, "memory");
    const json_t *fetch = json_object_get(status, "fetch");
    const json_t *masks = json_object_get(status, "masks");
    char reserved[32], limit[32], cached[32], feeds[32];

    printf("seqfeedd %s, pid %llu, up ", word(status, "version"),
           (unsigned long long)number(status, "pid"));
    print_duration(number(status, "uptime_seconds"));
    printf(", %s%s\n", word(status, "socket"),
           json_is_true(json_object_get(status, "draining")) ? ", draining" : "");
    printf("memory %s of %s reserved, %s cached, %s index; fetch %s; masks %s; %llu worker%s\n",
           text_format_size(reserved, number(memory, "reserved")),
           text_format_size(limit, number(memory, "limit")),
           text_format_size(cached, number(memory, "cached")),
           text_format_size(feeds, number(memory, "index")), word(fetch, "backend"),
           word(masks, "backend"), (unsigned long long)number(status, "workers"),
           number(status, "workers") == 1 ? "" : "s");
}

static void print_feeds(const json_t *feeds) {
    const json_t *feed;
    size_t index;

    printf("\n%-20s %12s %12s %7s %18s\n", "FEED", "SEQUENCES", "TOKENS", "SHARDS", "RING");
    json_array_foreach(feeds, index, feed) {
        char tokens[32], slot[32], ring[64];
        snprintf(ring, sizeof ring, "%llu x %s", (unsigned long long)number(feed, "slots"),
                 text_format_size(slot, number(feed, "slot_bytes")));
        printf("%-20s %12llu %12s %7llu %18s\n", word(feed, "name"),
               (unsigned long long)number(feed, "sequences"),
               text_format_count(tokens, (double)number(feed, "tokens")),
               (unsigned long long)number(feed, "shards"), ring);
    }
}

static void print_members(const json_t *members) {
    const json_t *member;
    size_t index;

    json_array_foreach(members, index, member) {
        printf("%s%llu", index ? ", " : "", (unsigned long long)number(member, "pid"));
        if (number(member, "behind") > 0)
            printf(" (%llu behind)", (unsigned long long)number(member, "behind"));
    }
    printf("%s\n", json_array_size(members) == 0 ? "-" : "");
}

static void print_stream(const json_t *stream) {
    const char *group = word(stream, "group");
    const json_t *ring;
    size_t index;

    json_array_foreach(json_object_get(stream, "rings"), index, ring) {
        char rank[64];
        snprintf(rank, sizeof rank, "%llu of %llu", (unsigned long long)number(ring, "rank"),
                 (unsigned long long)number(stream, "world"));
        printf("%-20s %-12s %6llu %-9s %12s %6llu %10llu  ", index ? "" : word(stream, "feed"),
               index    ? ""
               : *group ? group
                        : "-",
               (unsigned long long)number(stream, "uid"), word(stream, "state"), rank,
               (unsigned long long)number(ring, "epoch"),
               (unsigned long long)number(ring, "index"));
        print_members(json_object_get(ring, "members"));
    }
}

static void print_streams(const json_t *streams) {
    const json_t *stream;
    size_t index;

    if (json_array_size(streams) == 0) {
        printf("\nno streams\n");
        return;
    }
    printf("\n%-20s %-12s %6s %-9s %12s %6s %10s  %s\n", "STREAM", "GROUP", "USER", "STATE", "RANK",
           "EPOCH", "INDEX", "PIDS");
    json_array_foreach(streams, index, stream) print_stream(stream);
}

/* Where the tokens of all streams have gone, those of ended ones included. */
static void print_ledger(const json_t *ledger) {
    static const char *const fates[] = {"trained", "ignored", "truncated", "dropped"};

    if (!ledger || number(ledger, "batches") == 0)
        return;
    printf("\ntokens in %llu =", (unsigned long long)number(ledger, "tokens_in"));
    for (size_t i = 0; i < ARRAY_COUNT(fates); i++)
        printf("%s %llu %s", i ? " +" : "", (unsigned long long)number(ledger, fates[i]), fates[i]);
    printf("\n%llu batches with %llu places, %.2f %% of them padding; repeated: %llu tokens\n",
           (unsigned long long)number(ledger, "batches"),
           (unsigned long long)number(ledger, "slots"),
           number(ledger, "slots")
               ? 100.0 * (double)number(ledger, "padded") / (double)number(ledger, "slots")
               : 0.0,
           (unsigned long long)number(ledger, "repeated"));
}

static void print_notes(const json_t *status) {
    const json_t *forming, *warning;
    size_t index;

    json_array_foreach(json_object_get(status, "forming"), index, forming) {
        printf("%sfeed %s%s%s: %llu of %llu seats taken, ", index ? "" : "\n",
               word(forming, "feed"), *word(forming, "group") ? ", group " : "",
               word(forming, "group"), (unsigned long long)number(forming, "taken"),
               (unsigned long long)number(forming, "seats"));
        print_duration(number(forming, "seconds"));
        printf(": waiting for %s\n", word(forming, "waiting_for"));
    }
    json_array_foreach(json_object_get(status, "warnings"), index, warning)
        printf("%swarning: %s\n", index ? "" : "\n", json_string_value(warning));
}

int status_main(int argc, char **argv) {
    CLEANUP(text_deinit) Text answer = {0};
    RequestOptions options;
    Error error = {0};
    json_t *status;
    int r;

    r = request_options(argc, argv, help, true, &options);
    if (r >= 0)
        return r;
    if (request_ask(&options, SEQFEED_REQUEST_STATUS, &answer, &error) < 0)
        return tool_refuse("status", &error);
    if (options.json) {
        fputs(answer.bytes ? answer.bytes : "", stdout);
        return tool_finish("status");
    }
    status = json_loads(answer.bytes ? answer.bytes : "", 0, NULL);
    if (!status) {
        (void)error_set(&error, -EPROTO, "the daemon's answer is no JSON");
        return tool_refuse("status", &error);
    }
    print_daemon(status);
    print_feeds(json_object_get(status, "feeds"));
    print_streams(json_object_get(status, "streams"));
    print_ledger(json_object_get(status, "ledger"));
    print_notes(status);
    json_decref(status);
    return tool_finish("status");
}
