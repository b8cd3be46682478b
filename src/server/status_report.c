/* SPDX-License-Identifier: MIT */
#include "server/status_report.h"

#include <string.h>
#include <unistd.h>

#include "server/admission.h"
#include "server/audience.h"
#include "server/notify.h"

typedef struct Report {
    const Server *server;
    Text *text;
    uid_t uid; /* whose streams are shown … */
    bool all;  /* … or everybody's */
} Report;

static unsigned long long u(uint64_t number) {
    return number;
}

static bool shows(const Report *report, uid_t uid) {
    return report->all || report->uid == uid;
}

static void add_name(Text *text, const char *name, const char *value) {
    text_add(text, "\"%s\":", name);
    text_add_json(text, value);
}

/* Feeds that a device serves, by what it is; and those that stay behind although they want one. */
const char *status_masks(const Server *server, Text *reason) {
    const Feed *first = NULL;
    bool on_device = false;

    for (uint32_t i = 0; i < server->feed_count; i++) {
        const Feed *feed = server->feeds[i];
        bool is_said = false;

        for (uint32_t k = 0; k < i; k++)
            is_said |= server->feeds[k]->on_device &&
                       strcmp(server->feeds[k]->backend_reason, feed->backend_reason) == 0;
        if (feed->on_device && !is_said)
            text_add(reason, "%s%s", on_device ? ", " : "", feed->backend_reason);
        on_device |= feed->on_device;
        if (!first || (feed->wants_device && !first->wants_device))
            first = feed;
    }
    for (uint32_t i = 0; i < server->feed_count && on_device; i++)
        if (server->feeds[i]->wants_device && !server->feeds[i]->on_device)
            text_add(reason, "; feed %s: cpu, %s", server->feeds[i]->name,
                     server->feeds[i]->backend_reason);
    if (!on_device && first)
        text_add(reason, "%s", first->backend_reason);
    return on_device ? "cuda" : "cpu";
}

static void add_masks(const Report *report) {
    CLEANUP(text_deinit) Text reason = {0};
    const char *backend = status_masks(report->server, &reason);

    text_add(report->text, ",\"masks\":{");
    add_name(report->text, "backend", backend);
    text_add(report->text, ",");
    add_name(report->text, "reason", reason.bytes ? reason.bytes : "");
    text_add(report->text, "}");
}

/* Where tokens have gone: tokens_in = trained + ignored + truncated + dropped. */
static void add_ledger(Text *text, const StreamCounts *counts) {
    text_add(text,
             ",\"ledger\":{\"tokens_in\":%llu,\"trained\":%llu,\"ignored\":%llu,"
             "\"truncated\":%llu,\"dropped\":%llu,\"repeated\":%llu,\"padded\":%llu,"
             "\"slots\":%llu,\"items\":%llu,\"squares\":%llu,\"rows\":%llu,"
             "\"sequences\":%llu,\"batches\":%llu}",
             u(counts->tokens_in), u(counts->trained), u(counts->ignored), u(counts->truncated),
             u(counts->dropped), u(counts->repeated), u(counts->slots - counts->tokens),
             u(counts->slots), u(counts->items), u(counts->squares), u(counts->rows),
             u(counts->sequences), u(counts->batches));
}

static void add_pipeline(const Report *report) {
    Pipeline *pipeline = report->server->pipeline;
    Text *text = report->text;
    PipelineStatus status;

    pipeline_status(pipeline, &status);
    text_add(text, "\"fetch\":{");
    add_name(text, "backend", pipeline_fetch_backend(pipeline));
    text_add(text, ",");
    add_name(text, "reason", pipeline_fetch_reason(pipeline));
    text_add(text,
             "},\"workers\":%u,\"memory\":{\"limit\":%llu,\"index\":%llu,"
             "\"reserved\":%llu,\"cached\":%llu,\"kept\":%llu}",
             status.workers, u(status.memory_limit), u(status.memory_index),
             u(status.memory_reserved), u(status.memory_cached), u(status.memory_kept));
    add_masks(report);
    text_add(text,
             ",\"read\":{\"blocks\":%llu,\"bytes\":%llu,\"decoded\":%llu,\"from_cache\":%llu}",
             u(status.blocks_read), u(status.bytes_read), u(status.blocks_decoded),
             u(status.cache_hits));
    add_ledger(text, &status.counts);
}

static void add_feed(const Report *report, const Feed *feed) {
    Text *text = report->text;

    text_add(text, "{");
    add_name(text, "name", feed->name);
    if (feed->catalog)
        text_add(text, ",\"sequences\":%llu,\"tokens\":%llu,\"shards\":%u",
                 u(feed->catalog->sequences), u(feed->catalog->tokens), feed->catalog->shard_count);
    text_add(text, ",\"slots\":%u,\"slot_bytes\":%llu,\"tensors\":[", feed->slots,
             u(feed->slot_bytes));
    for (uint32_t i = 0; i < feed->tensors.count; i++) {
        text_add(text, "%s", i ? "," : "");
        text_add_json(text, feed->tensors.tensors[i].name);
    }
    text_add(text, "]}");
}

static void add_members(const Report *report, const Audience *audience, uint32_t ring) {
    Text *text = report->text;
    const char *comma = "";

    text_add(text, ",\"members\":[");
    LIST_FOR_EACH(link, &((Audience *)audience)->seats) {
        const AudienceSeat *seat = CONTAINER_OF(link, AudienceSeat, link);
        if (seat->ring != ring || seat->joining || !seat->session)
            continue;
        text_add(text, "%s{\"member\":%u,\"pid\":%d,\"behind\":%llu}", comma, seat->member,
                 seat->session->peer.pid,
                 u(audience->state == AUDIENCE_MAKING
                       ? 0
                       : stream_member_behind(audience->stream, ring, seat->member)));
        comma = ",";
    }
    text_add(text, "]}");
}

static void add_rings(const Report *report, const Audience *audience) {
    Text *text = report->text;

    text_add(text, ",\"rings\":[");
    for (uint32_t i = 0; i < audience->key.local_ranks; i++) {
        StreamRingStatus status = {0};
        if (audience->state != AUDIENCE_MAKING)
            stream_ring_status(audience->stream, i, &status);
        text_add(text, "%s{\"rank\":%u,\"head\":%llu,\"tail\":%llu,\"epoch\":%llu,\"index\":%llu",
                 i ? "," : "", audience->rings[i].rank, u(status.head), u(status.tail),
                 u(status.epoch), u(status.index));
        add_members(report, audience, i);
    }
    text_add(text, "]}");
}

static void add_key(const Report *report, const Feed *feed, const FormingKey *key) {
    Text *text = report->text;

    text_add(text, "{");
    add_name(text, "feed", feed->name);
    text_add(text, ",");
    add_name(text, "group", key->group);
    text_add(text, ",\"uid\":%u,\"world\":%u,\"local_ranks\":%u,\"members\":%u,\"seed\":%llu",
             key->uid, key->world, key->local_ranks, key->members, u(key->seed));
}

static void add_stream(const Report *report, const Audience *audience) {
    static const char *const states[] = {"making", "running", "draining"};
    Text *text = report->text;
    StreamStatus status = {0};
    const StreamCounts *counts = &status.counts;

    add_key(report, audience->feed, &audience->key);
    text_add(text, ",");
    add_name(text, "state", states[audience->state]);
    text_add(text, ",\"start\":{\"epoch\":%llu,\"index\":%llu}", u(audience->start_epoch),
             u(audience->start_index));
    if (audience->state != AUDIENCE_MAKING)
        stream_status(audience->stream, &status);
    text_add(text,
             ",\"batches\":%llu,\"sequences\":%llu,\"tokens\":%llu,\"slots\":%llu,"
             "\"repeated_tokens\":%llu,\"squares\":%llu,\"reserved\":%llu",
             u(counts->batches), u(counts->sequences), u(counts->tokens), u(counts->slots),
             u(counts->repeated_tokens), u(counts->squares), u(status.reserved_bytes));
    add_ledger(text, counts);
    text_add(text, ",\"masks\":{");
    add_name(text, "backend", status.masks ? status.masks : "");
    text_add(text, ",");
    add_name(text, "reason", status.masks ? status.masks_reason : "");
    text_add(text, ",\"device_batches\":%llu}", u(status.device_batches));
    add_rings(report, audience);
}

static void add_wait(const Report *report, const AdmissionWait *wait) {
    CLEANUP(text_deinit) Text missing = {0};
    Text *text = report->text;

    add_key(report, wait->feed, &wait->forming->key);
    admission_describe(wait, &missing);
    text_add(text, ",\"seats\":%u,\"taken\":%u,\"seconds\":%lld,",
             forming_seat_count(wait->forming), wait->forming->taken,
             (long long)((report->server->loop.now_ns - wait->since_ns) / NS_PER_SECOND));
    add_name(text, "waiting_for", missing.bytes ? missing.bytes : "");
    text_add(text, "}");
}

/* --- warnings -------------------------------------------------------------------------------- */

/* Ranks of one job that decode everything once each, because nobody said that they belong together.
 */
static bool are_alike(const Audience *a, const Audience *b) {
    return a->feed == b->feed && a->key.uid == b->key.uid && a->key.world == b->key.world &&
           a->key.seed == b->key.seed && a->key.local_ranks == 1 && b->key.local_ranks == 1 &&
           a->key.members == 1 && b->key.members == 1;
}

/* How many streams are like this one, if it is the first of them; else 0. */
static uint32_t count_alike(const Report *report, const Audience *one) {
    uint32_t count = 0;

    LIST_FOR_EACH(link, &((Server *)report->server)->audiences) {
        const Audience *other = CONTAINER_OF(link, Audience, link);
        if (!are_alike(one, other))
            continue;
        if (count == 0 && other != one)
            return 0;
        count++;
    }
    return count;
}

static void add_stream_warnings(const Report *report, const Audience *audience,
                                const char **comma) {
    uint32_t alike = audience->key.world > 1 ? count_alike(report, audience) : 0;
    CLEANUP(text_deinit) Text sentence = {0};

    if (alike > 1)
        text_add(&sentence,
                 "%u streams of feed %s for world %u: set local_world_size to decode once", alike,
                 audience->feed->name, audience->key.world);
    if (sentence.bytes) {
        text_add(report->text, "%s", *comma);
        text_add_json(report->text, sentence.bytes);
        *comma = ",";
    }
    for (uint32_t i = 0; i < audience->key.local_ranks; i++) {
        CLEANUP(text_deinit) Text slow = {0};
        if (!audience_describe_slow(audience, i, &slow) || !slow.bytes)
            continue;
        text_add(report->text, "%s", *comma);
        text_add_json(report->text, slow.bytes);
        *comma = ",";
    }
}

/* --- all of it ------------------------------------------------------------------------------- */

static void add_lists(const Report *report) {
    Server *server = (Server *)report->server;
    Text *text = report->text;
    const char *comma = "";

    text_add(text, ",\"streams\":[");
    LIST_FOR_EACH(link, &server->audiences) {
        const Audience *audience = CONTAINER_OF(link, Audience, link);
        if (!shows(report, audience->key.uid))
            continue;
        text_add(text, "%s", comma);
        add_stream(report, audience);
        comma = ",";
    }
    comma = "";
    text_add(text, "],\"forming\":[");
    LIST_FOR_EACH(link, &server->waits) {
        const AdmissionWait *wait = CONTAINER_OF(link, AdmissionWait, link);
        if (!shows(report, wait->forming->key.uid))
            continue;
        text_add(text, "%s", comma);
        add_wait(report, wait);
        comma = ",";
    }
    comma = "";
    text_add(text, "],\"warnings\":[");
    LIST_FOR_EACH(link, &server->audiences) {
        const Audience *audience = CONTAINER_OF(link, Audience, link);
        if (shows(report, audience->key.uid))
            add_stream_warnings(report, audience, &comma);
    }
    text_add(text, "]");
}

void status_report(const Server *server, const Credentials *peer, Text *text) {
    Report report = {.server = server,
                     .text = text,
                     .uid = peer->uid,
                     .all = peer->uid == geteuid() || peer->uid == 0};
    const char *comma = "";

    text_add(text, "{\"version\":\"%s\",\"pid\":%d,\"uptime_seconds\":%lld,\"draining\":%s,",
             SEQFEED_VERSION, getpid(),
             (long long)((server->loop.now_ns - server->started_ns) / NS_PER_SECOND),
             server->draining ? "true" : "false");
    add_name(text, "socket", server->listener.path);
    text_add(text, ",\"connections\":%u,\"seats\":%u,", server->connections.used,
             server->seats.used);
    add_pipeline(&report);
    text_add(text, ",\"feeds\":[");
    for (uint32_t i = 0; i < server->feed_count; i++) {
        if (!report.all && !admission_allows(peer, server->feeds[i]))
            continue;
        text_add(text, "%s", comma);
        add_feed(&report, server->feeds[i]);
        comma = ",";
    }
    text_add(text, "]");
    add_lists(&report);
    text_add(text, "}\n");
}
