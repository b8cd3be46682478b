/* SPDX-License-Identifier: MIT */
/* fake_daemon.h: the daemon's side of the protocol around one real RingWriter, in a thread, so that
 * the client is tested without files, plans or decoding. Everybody who attaches becomes a member of
 * the same ring. The lock plays the baton. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "format/protocol_format.h"
#include "ring/ring_writer.h"

enum { FAKE_CONNECTIONS_MAX = 16, FAKE_DESCRIPTORS_MAX = 12 };

/* What is about to be sent as WELCOME; a test may change any of it. */
typedef struct FakeWelcome {
    SeqfeedWelcome message;
    size_t size;
    int descriptors[FAKE_DESCRIPTORS_MAX];
    int descriptor_count;
} FakeWelcome;

typedef struct FakeConnection {
    int fd;
    int member; /* -1: not attached */
} FakeConnection;

typedef struct FakeDaemon {
    char folder[64];
    struct sockaddr_un address;
    int listener, stop_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* writer, connections */
    pthread_cond_t nudged;
    RingWriter *writer;
    FakeConnection connections[FAKE_CONNECTIONS_MAX];
    uint64_t nudges;
    uint32_t wake_every, unheard; /* sleepers are woken for so many batches at once; 0: for each */
    uint32_t rounds_per_epoch;    /* batches of the rank in an epoch */
    /* Set before the attach that they concern. */
    void (*tamper)(struct FakeDaemon *daemon, FakeWelcome *welcome);
    const void *hello_answer; /* instead of HELLO_REPLY */
    size_t hello_answer_bytes;
    const SeqfeedNotice *attach_answer; /* before WELCOME, or instead when it is an ERROR */
    bool mute;                          /* answers nothing at all */
    SeqfeedAttach last_attach;
} FakeDaemon;

/* Listen in a folder of its own, with a ring of `slots` slots for rank 0 of 1. */
void fake_daemon_start(FakeDaemon *daemon, uint32_t slots, uint64_t slot_bytes);
/* Close every connection, end the thread, remove the folder. The members' mappings stay theirs. */
void fake_daemon_stop(FakeDaemon *daemon);

/* Publish the next batch if a slot is free: one int64 tensor "tokens" that fills the slot with a
 * pattern of the sequence number. */
bool fake_daemon_publish(FakeDaemon *daemon);
/* The same, resting until members release. False after 10 s without a sign. */
bool fake_daemon_publish_wait(FakeDaemon *daemon);

/* Under the lock. */
void fake_daemon_set_state(FakeDaemon *daemon, uint32_t state, int code, const char *text);
void fake_daemon_notify(FakeDaemon *daemon, uint32_t type, int code, const char *text);
void fake_daemon_hang_up(FakeDaemon *daemon); /* all connections; the ring stays */

/* Word `place` of batch `sequence`. */
static inline uint64_t fake_pattern(uint64_t sequence, uint64_t place) {
    uint64_t mixed = (sequence + 1) * UINT64_C(0x9E3779B97F4A7C15) + place;
    return mixed ^ mixed >> 29;
}
