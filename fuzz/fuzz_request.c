/* SPDX-License-Identifier: MIT */
/* A few clients that say and do anything, in any order, to a real server on a real socket, while a
 * scripted pipeline answers late, refuses or fails: every state of a session against every message,
 * and every event of the pipeline in between. An input is a list of operations of four bytes and,
 * for raw packets, what follows. Afterwards nothing may be left: no seat, no reservation, no
 * descriptor (leak checking sees to the memory). */
#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/scripted_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLIENTS = 4, OPERATIONS_MAX = 48 };

typedef struct Play {
    int clients[CLIENTS];
    bool ready[FAKE_STREAMS_MAX]; /* READY has been sent */
    uint32_t joins[FAKE_STREAMS_MAX];
} Play;

static void open_client(Play *play, uint32_t client) {
    if (play->clients[client] >= 0)
        close(play->clients[client]);
    play->clients[client] = client_connect();
}

static void send_bytes(const Play *play, uint32_t client, const void *bytes, size_t size) {
    if (play->clients[client] >= 0)
        (void)!send(play->clients[client], bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_hello(const Play *play, uint32_t client, uint8_t version) {
    const SeqfeedHello hello = {.head = {.type = SEQFEED_MESSAGE_HELLO, .size = sizeof hello},
                                .magic = SEQFEED_PROTOCOL_MAGIC,
                                .version_min = version % 3,
                                .version_max = 1 + version / 3 % 3};

    send_bytes(play, client, &hello, sizeof hello);
}

static void send_attach(const Play *play, uint32_t client, uint8_t shape, uint8_t more) {
    SeqfeedAttach attach = attach_message(shape % 4, 1 + shape / 4 % 4, 1 + shape / 16 % 4);

    attach.world = attach.local_ranks + shape / 64;
    attach.flags = more % 8;
    attach.seed = attach.flags & SEQFEED_ATTACH_HAS_SEED ? more / 64 : 0;
    if (attach.flags & SEQFEED_ATTACH_HAS_CURSOR) {
        memcpy(attach.cursor, "0:0", 3);
        attach.cursor[0] = (char)('0' + more / 8 % 3);
        attach.cursor[2] = (char)('0' + more / 32);
    }
    send_bytes(play, client, &attach, sizeof attach);
}

static void send_request(const Play *play, uint32_t client, uint8_t what) {
    const SeqfeedRequest request = {
        .head = {.type = SEQFEED_MESSAGE_REQUEST, .size = sizeof request}, .what = what % 6};

    send_bytes(play, client, &request, sizeof request);
}

/* What the pipeline may say about a stream at this time, and nothing that it never would. */
static void make_event(Play *play, uint8_t which, uint8_t kind) {
    uint32_t number = fake.stream_count ? which % fake.stream_count : 0;
    Stream *stream = &fake.streams[number];

    if (fake.stream_count == 0 || stream->freed)
        return;
    if (!play->ready[number]) {
        play->ready[number] = true;
        if (kind % 4 == 0)
            fake_failed(stream, -5, "scripted");
        else
            fake_ready(stream);
    } else if (kind % 4 == 0) {
        fake_violation(stream, kind / 4 % stream->ring_count, kind / 16);
    } else if (kind % 4 == 1) {
        fake_failed(stream, -5, "scripted");
    } else if (stream->joins > play->joins[number]) {
        play->joins[number] = stream->joins;
        fake_joined(stream, stream->join_token, stream->join_ring, kind % 4 == 2 ? 0 : -28);
    } else if (kind % 4 == 3) {
        fake_closed(stream);
    }
}

/* One operation; returns the bytes of the input that it took. */
static size_t operate(Play *play, const uint8_t *data, size_t size) {
    uint32_t client = data[1] % CLIENTS;
    size_t length;

    switch (data[0] % 10) {
    case 0:
        open_client(play, client);
        break;
    case 1:
        if (play->clients[client] >= 0)
            close(play->clients[client]);
        play->clients[client] = -1;
        break;
    case 2:
        send_hello(play, client, data[2]);
        break;
    case 3:
        send_attach(play, client, data[2], data[3]);
        break;
    case 4:
        send_request(play, client, data[2]);
        break;
    case 5:
        scripted_now += data[2] * NS_PER_SECOND / 2;
        break;
    case 6:
        make_event(play, data[2], data[3]);
        break;
    case 7:
        fake.queue_full = data[2] % 2;
        fake.new_code = data[2] / 2 % 8 == 7 ? -12 : 0;
        fake.epoch_length = data[3];
        break;
    case 8:
        while (play->clients[client] >= 0) {
            uint32_t type = client_receive(play->clients[client]).type;
            if (type == ANSWER_NONE || type == ANSWER_END)
                break;
        }
        break;
    case 9:
        length = size - 4 < (size_t)(data[2] | data[3] << 8) ? size - 4
                                                             : (size_t)(data[2] | data[3] << 8);
        send_bytes(play, client, data + 4, length);
        return 4 + length;
    }
    return 4;
}

/* Streams that are still open come to their end as the pipeline would bring it about. */
static void finish(Play *play) {
    for (uint32_t client = 0; client < CLIENTS; client++)
        if (play->clients[client] >= 0)
            close(play->clients[client]);
    (void)scripted_settle();
    for (uint32_t i = 0; i < fake.stream_count; i++)
        if (!play->ready[i] && !fake.streams[i].freed)
            fake_ready(&fake.streams[i]);
    (void)scripted_settle();
    for (uint32_t i = 0; i < fake.stream_count; i++)
        if (!fake.streams[i].freed)
            fake_closed(&fake.streams[i]);
    (void)scripted_settle();
    assert(fake.reserved == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Play play = {.clients = {-1, -1, -1, -1}};
    int operations = 0;

    scripted_start();
    log_open("fuzz", (LogLevel)0);
    fake.hold = true;
    for (; size >= 4 && operations < OPERATIONS_MAX; operations++) {
        size_t took = operate(&play, data, size);
        data += took;
        size -= took;
        for (int i = 0; i < 3; i++)
            (void)!server_turn(scripted, 0);
    }
    finish(&play);
    scripted_stop();
    return 0;
}
