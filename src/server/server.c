/* SPDX-License-Identifier: MIT */
/* Life of a server. The socket is claimed before anything expensive, so that a second daemon leaves
 * at once, and appears after everything else, so that who can connect can attach. The end comes in
 * one of two ways: a drain, which waits for the last trainer to leave, or a signal, which drains
 * too but waits only so long. */
#include "server/server.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/admission.h"
#include "server/audience.h"
#include "server/notify.h"
#include "server/server_state.h"
#include "server/signals.h"
#include "server/status_report.h"

enum {
    SERVER_ACCEPTS_A_TURN = 16,
    SERVER_ACCEPT_PAUSE_MS = 100, /* when descriptors have run out */
    SERVER_STOP_S = 6,            /* from a signal to the end, for trainers to leave … */
    SERVER_WATCHDOG_LOOKS = 4,    /* in the time in which the watchdog wants to hear of us */
    SERVER_FREE_S = 2,            /* … and then for threads that hang in a read */
    SERVER_CONNECTIONS_MIN = 4,
    SERVER_CONNECTIONS_MAX = 2048,
    SERVER_FDS_EACH = 4, /* socket and process; page of the member and its ring */
    SERVER_FDS_SPARE = 16,
    SERVER_COMPLAINTS_BURST = 20,
    SERVER_COMPLAINT_S = 6,
};

#define SERVER_DEVICES_NS NS_PER_SECOND /* between two looks whether a device hangs */

void server_log_client(Server *server, LogLevel level, const char *format, ...) {
    uint32_t refused = server->complaints.refused;
    va_list arguments;
    char text[1024];

    if (!rate_limit_pass(&server->complaints, server->loop.now_ns))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (refused > 0)
        log_write(level, "%s (%u lines before this one were left out)", text, refused);
    else
        log_write(level, "%s", text);
    server->complaints.refused = 0;
}

/* --- requests -------------------------------------------------------------------------------- */

static bool may_ask(const Server *server, const Credentials *peer) {
    if (peer->uid == 0 || peer->uid == geteuid())
        return true;
    for (uint32_t i = 0; i < server->feed_count; i++)
        if (admission_allows(peer, server->feeds[i]))
            return true;
    return false;
}

static void handle_request(Session *session, uint32_t what) {
    bool owner = session->peer.uid == 0 || session->peer.uid == geteuid();
    CLEANUP(text_deinit) Text text = {0};
    Server *server = session->context;

    if (!may_ask(server, &session->peer)) {
        session_refuse(session, -EACCES, "this user may use none of the daemon's feeds");
    } else if (what == SEQFEED_REQUEST_STATUS) {
        status_report(server, &session->peer, &text);
        if (text.failed)
            session_refuse(session, -ENOMEM, "no memory for the answer");
        else
            session_reply(session, &text);
    } else if (what == SEQFEED_REQUEST_DRAIN && !owner) {
        session_refuse(session, -EACCES, "only the daemon's own user and root may drain it");
    } else if (what == SEQFEED_REQUEST_DRAIN) {
        server_drain(server);
        text_add(&text, "the daemon takes no more trainers and ends when the last one has left\n");
        session_reply(session, &text);
    } else {
        session_refuse(session, -EOPNOTSUPP, "the daemon does not know this request");
    }
}

/* --- sessions -------------------------------------------------------------------------------- */

static void handle_wake(Session *session) {
    if (session->seat)
        audience_wake(session->seat);
}

static void handle_closed(Session *session) {
    Server *server = session->context;

    admission_leave(session);
    if (session->seat)
        audience_leave(session->seat);
    if (session->charged)
        quota_give_back(&server->seats, session->peer.uid);
    quota_give_back(&server->connections, session->peer.uid);
    list_remove(&session->link);
    list_append(&server->closed, &session->link);
}

static const SessionHandler handler = {.attach = admission_attach,
                                       .request = handle_request,
                                       .wake = handle_wake,
                                       .closed = handle_closed};

/* A session that is turned away before anything is kept of it. */
static void forget(Session *session) {
    (void)session;
}

static const SessionHandler unlisted_handler = {.closed = forget};

static void free_closed(Server *server) {
    LIST_FOR_EACH(link, &server->closed) {
        list_remove(link);
        session_free(CONTAINER_OF(link, Session, link));
    }
}

static void admit(Server *server, int fd) {
    Session *session;
    char text[128];

    if (session_new(&server->loop, fd, &handler, server, &server->complaints, &session) < 0)
        return; /* gone already, or no descriptor left for its process */
    if (quota_take(&server->connections, session->peer.uid)) {
        list_append(&server->sessions, &session->link);
        return;
    }
    snprintf(text, sizeof text, "user %u has %u connections, which is its share of %u",
             session->peer.uid, quota_share(&server->connections, session->peer.uid),
             server->connections.limit);
    server_log_client(server, LOG_LEVEL_WARNING, "%s: one more refused", text);
    session->handler = &unlisted_handler;
    session_refuse(session, -EUSERS, text);
    session_free(session);
}

static void accept_ready(EventSource *source, uint32_t events) {
    Server *server = CONTAINER_OF(source, Server, accept);

    (void)events;
    for (int i = 0; i < SERVER_ACCEPTS_A_TURN; i++) {
        int fd = listener_accept(&server->listener);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            /* The socket stays readable, so waiting on it would spin. */
            server_log_client(server, LOG_LEVEL_WARNING, "cannot accept: %s: trying again",
                              strerror(-fd));
            event_loop_change(&server->loop, source, 0);
            if (timer_set(&server->loop.timers, &server->accept_pause,
                          server->loop.now_ns + SERVER_ACCEPT_PAUSE_MS * NS_PER_MS) < 0)
                event_loop_change(&server->loop, source, EPOLLIN);
            return;
        }
        if (fd < 0)
            return;
        admit(server, fd);
    }
}

static void accept_again(Timer *timer, int64_t now_ns) {
    Server *server = CONTAINER_OF(timer, Server, accept_pause);

    (void)now_ns;
    event_loop_change(&server->loop, &server->accept, EPOLLIN);
}

/* --- the pipeline, signals, the watchdog ------------------------------------------------------ */

static void events_ready(EventSource *source, uint32_t events) {
    Server *server = CONTAINER_OF(source, Server, events);
    PipelineEvent event;

    (void)events;
    while (pipeline_next_event(server->pipeline, &event)) {
        if (event.kind == PIPELINE_EVENT_MEMORY)
            server->memory_freed = true;
        else if (event.kind == PIPELINE_EVENT_DEVICE || event.kind == PIPELINE_EVENT_WARNING)
            server_log_client(server, LOG_LEVEL_WARNING, "%s", event.text);
        else
            audience_handle_event(server, &event);
    }
}

void server_drain(Server *server) {
    if (server->draining)
        return;
    server->draining = true;
    log_info("draining: no more trainers are taken");
    admission_refuse_all(server, -ESHUTDOWN, "the daemon is ending: it takes no more trainers");
    LIST_FOR_EACH(link, &server->audiences)
    audience_drain(CONTAINER_OF(link, Audience, link));
}

static void stop_fired(Timer *timer, int64_t now_ns) {
    (void)now_ns;
    CONTAINER_OF(timer, Server, stop)->done = true;
}

static void stop(Server *server) {
    notify_stopping();
    if (timer_is_set(&server->stop)) /* asked twice: no more patience */
        server->done = true;
    server_drain(server);
    if (timer_set(&server->loop.timers, &server->stop,
                  server->loop.now_ns + SERVER_STOP_S * NS_PER_SECOND) < 0)
        server->done = true;
}

static void signals_ready(EventSource *source, uint32_t events) {
    Server *server = CONTAINER_OF(source, Server, signals);

    (void)events;
    while (signals_ask_for_end(server->signal_fd))
        stop(server);
}

static void watchdog_fired(Timer *timer, int64_t now_ns) {
    Server *server = CONTAINER_OF(timer, Server, watchdog);
    const char *silent = pipeline_silent_thread(server->pipeline);

    if (!silent)
        notify_alive();
    else if (!server->silent)
        log_warning("%s gets on with nothing: the watchdog is not told that all is well until it "
                    "does",
                    silent);
    if (!silent && server->silent)
        log_info("all threads get on again");
    server->silent = silent != NULL;
    (void)!timer_set(&server->loop.timers, timer, now_ns + server->watchdog_ns);
}

static void devices_fired(Timer *timer, int64_t now_ns) {
    Server *server = CONTAINER_OF(timer, Server, devices);

    pipeline_watch_devices(server->pipeline);
    (void)!timer_set(&server->loop.timers, timer, now_ns + SERVER_DEVICES_NS);
}

static void memory_fired(Timer *timer, int64_t now_ns) {
    (void)now_ns;
    CONTAINER_OF(timer, Server, memory)->memory_freed = true;
}

/* --- life ------------------------------------------------------------------------------------ */

void server_take_signals(void) {
    signals_block();
    (void)signal(SIGPIPE, SIG_IGN);
}

static int open_signals(Server *server) {
    server->signal_fd = signals_open();
    if (server->signal_fd < 0)
        return server->signal_fd;
    return event_loop_add(&server->loop, &server->signals, server->signal_fd, EPOLLIN,
                          signals_ready);
}

static int claim_socket(Server *server, const ServerOptions *options, Error *error) {
    char path[SOCKET_PATH_BYTES];
    int fd = notify_listen_fd(), r;

    if (fd == -E2BIG)
        return error_set(error, -EINVAL, "more than one socket was handed over: one is used");
    if (fd >= 0)
        return listener_adopt(&server->listener, fd, error);
    r = socket_path_choose(options->socket_option, options->socket_settings, path, error);
    if (r < 0)
        return r;
    r = listener_claim(&server->listener, path, error);
    if (r == LISTENER_E_BUSY) {
        (void)error_set(error, -EADDRINUSE,
                        "another daemon has the socket %s: end it, or give --socket another path",
                        path);
        return SERVER_E_BUSY;
    }
    return r;
}

static uint32_t count_open(void) {
    DIR *folder = opendir("/proc/self/fd");
    uint32_t count = 0;

    if (!folder)
        return 64;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static int set_limits(Server *server, uint32_t descriptors, Error *error) {
    uint32_t open = count_open(), own = open + SERVER_FDS_SPARE;
    uint32_t connections = descriptors > own ? (descriptors - own) / SERVER_FDS_EACH : 0;

    if (connections < SERVER_CONNECTIONS_MIN)
        return error_set(error, -EMFILE,
                         "%u open files are allowed, %u are open and trainers need at least %u "
                         "more: raise the limit (ulimit -n, LimitNOFILE=)",
                         descriptors, open,
                         SERVER_FDS_SPARE + SERVER_CONNECTIONS_MIN * SERVER_FDS_EACH);
    connections = MIN(connections, (uint32_t)SERVER_CONNECTIONS_MAX);
    quota_init(&server->connections, connections);
    quota_init(&server->seats, connections / 2);
    return 0;
}

static void log_masks(const Server *server) {
    CLEANUP(text_deinit) Text reason = {0};
    const char *backend = status_masks(server, &reason);

    log_info("masks: %s (%s)", backend, reason.bytes ? reason.bytes : "");
}

/* What all feeds take before anybody attaches. */
static uint64_t index_bytes(const Server *server) {
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < server->feed_count; i++)
        bytes += server->feeds[i]->index_bytes;
    return bytes;
}

static int start_pipeline(Server *server, const ServerOptions *options, Error *error) {
    PipelineOptions pipeline = {.workers = options->workers,
                                .fewer_workers = options->fewer_workers,
                                .memory = options->memory,
                                .index = index_bytes(server),
                                .cache = options->cache,
                                .force_pread = options->force_pread};
    PipelineStatus status;
    int r;

    r = pipeline_new(&pipeline, &server->pipeline, error);
    if (r < 0)
        return r;
    r = pipeline_start(server->pipeline, error);
    if (r < 0)
        return r;
    pipeline_status(server->pipeline, &status);
    if (status.workers < options->workers)
        log_warning("threads: %u instead of %u: the system grants no more (TasksMax=, ulimit -u)",
                    status.workers, options->workers);
    log_info("fetch: %s (%s)", pipeline_fetch_backend(server->pipeline),
             pipeline_fetch_reason(server->pipeline));
    log_masks(server);
    for (uint32_t i = 0; i < server->feed_count; i++)
        if (server->feeds[i]->on_device && !timer_is_set(&server->devices))
            devices_fired(&server->devices, server->loop.now_ns);
    return event_loop_add(&server->loop, &server->events, pipeline_event_fd(server->pipeline),
                          EPOLLIN, events_ready);
}

/* Where somebody else may use a feed everybody must be able to connect: `allow` decides. */
static mode_t socket_mode(const Server *server) {
    for (uint32_t i = 0; i < server->feed_count; i++)
        if (server->feeds[i]->allow_user_count > 0 || server->feeds[i]->allow_group_count > 0)
            return 0666;
    return 0600;
}

/* What ACLs allow shows as rights of the group. */
static void warn_of_closed_folder(const Server *server) {
    char folder[SOCKET_PATH_BYTES];
    struct stat status;
    char *slash;

    memcpy(folder, server->listener.path, sizeof folder);
    slash = strrchr(folder, '/');
    if (!server->listener.bound || !slash)
        return;
    slash[slash == folder] = '\0';
    if (stat(folder, &status) < 0 || (status.st_mode & 0011) != 0)
        return;
    for (uint32_t f = 0; f < server->feed_count; f++)
        if (server->feeds[f]->allow_user_count + server->feeds[f]->allow_group_count > 0)
            log_warning(
                "warning: feed %s allows others, but the folder of the socket, %s, is closed "
                "to them: give socket: a path in one that they may enter",
                server->feeds[f]->name, folder);
}

static int open_socket(Server *server, Error *error) {
    int r;

    if (server->listener.fd < 0) {
        r = listener_open(&server->listener, socket_mode(server), error);
        if (r < 0)
            return r;
        warn_of_closed_folder(server);
    }
    r = event_loop_add(&server->loop, &server->accept, server->listener.fd, EPOLLIN, accept_ready);
    if (r < 0)
        return error_set(error, r, "cannot listen: %s", strerror(-r));
    log_info("ready: %s", server->listener.path);
    notify_ready("serving");
    server->watchdog_ns = notify_watchdog_ns() / SERVER_WATCHDOG_LOOKS;
    if (server->watchdog_ns > 0)
        watchdog_fired(&server->watchdog, server->loop.now_ns);
    return 0;
}

static Server *allocate(void) {
    Server *server = calloc(1, sizeof *server);

    if (!server)
        return NULL;
    *server = (Server){.loop = {.epoll_fd = FILE_NONE},
                       .listener = LISTENER_NONE,
                       .accept = EVENT_SOURCE_NONE,
                       .signals = EVENT_SOURCE_NONE,
                       .events = EVENT_SOURCE_NONE,
                       .signal_fd = FILE_NONE,
                       .accept_pause = {.fire = accept_again},
                       .stop = {.fire = stop_fired},
                       .watchdog = {.fire = watchdog_fired},
                       .devices = {.fire = devices_fired},
                       .memory = {.fire = memory_fired},
                       .complaints = {.interval_ns = SERVER_COMPLAINT_S * NS_PER_SECOND,
                                      .burst = SERVER_COMPLAINTS_BURST}};
    list_init(&server->sessions);
    list_init(&server->closed);
    list_init(&server->waits);
    list_init(&server->audiences);
    return server;
}

static int load_feeds(Server *server, const ServerOptions *options, Error *error) {
    EarlyEnd early;
    int r;

    early_end_start(&early, server->signal_fd, &server->listener);
    r = options->load_feeds(options->argument, &server->feeds, &server->feed_count, error);
    early_end_stop(&early);
    return r;
}

static int open_server(Server *server, const ServerOptions *options, Error *error) {
    uint32_t descriptors = file_raise_limit(); /* they decide how many clients there can be */
    int r;

    r = event_loop_init(&server->loop, options->clock ? options->clock : clock_now_ns);
    if (r == 0)
        r = open_signals(server);
    if (r < 0 || getrandom(server->instance, sizeof server->instance, 0) < 0)
        return error_set(error, r < 0 ? r : -errno, "cannot start: %s",
                         strerror(r < 0 ? -r : errno));
    server->started_ns = server->loop.now_ns;
    r = claim_socket(server, options, error);
    if (r != 0)
        return r;
    r = load_feeds(server, options, error);
    if (r < 0)
        return r;
    r = start_pipeline(server, options, error);
    if (r < 0)
        return r;
    r = set_limits(server, descriptors, error);
    if (r < 0)
        return r;
    return open_socket(server, error);
}

int server_new(const ServerOptions *options, Server **ret_server, Error *error) {
    Server *server = allocate();
    int r;

    if (!server)
        return error_set(error, -ENOMEM, "no memory");
    r = open_server(server, options, error);
    if (r != 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int server_turn(Server *server, int64_t timeout_ns) {
    int r;

    r = event_loop_turn(&server->loop, timeout_ns);
    if (r < 0)
        return r;
    if (server->memory_freed) {
        server->memory_freed = false;
        admission_retry(server);
    }
    free_closed(server);
    if (server->draining && list_is_empty(&server->audiences) && list_is_empty(&server->waits))
        server->done = true;
    return server->done ? SERVER_E_DONE : 0;
}

int server_run(Server *server, Error *error) {
    int r;

    do
        r = server_turn(server, -1);
    while (r == 0);
    if (r < 0)
        return error_set(error, r, "the event loop failed: %s", strerror(-r));
    return 0;
}

/* A thread may hang in a read that never ends, on a file server that is gone. Nobody is owed
 * anything any more by then. */
static void give_up(int signal_number) {
    (void)signal_number;
    _exit(0);
}

static void free_pipeline(Server *server) {
    if (server->done) {
        (void)signal(SIGALRM, give_up);
        (void)alarm(SERVER_FREE_S);
    }
    pipeline_free(server->pipeline);
    (void)alarm(0);
}

void server_free(Server *server) {
    if (!server)
        return;
    event_loop_remove(&server->loop, &server->accept);
    listener_close(&server->listener);
    server->draining = true;
    admission_refuse_all(server, -ESHUTDOWN, "the daemon is ending");
    LIST_FOR_EACH(link, &server->sessions)
    session_close(CONTAINER_OF(link, Session, link));
    free_closed(server);
    LIST_FOR_EACH(link, &server->audiences)
    audience_free(CONTAINER_OF(link, Audience, link));
    event_loop_remove(&server->loop, &server->events);
    event_loop_remove(&server->loop, &server->signals);
    if (server->pipeline)
        free_pipeline(server);
    for (uint32_t i = 0; i < server->feed_count; i++)
        feed_unref(server->feeds[i]);
    free(server->feeds);
    quota_deinit(&server->connections);
    quota_deinit(&server->seats);
    timer_clear(&server->loop.timers, &server->accept_pause);
    timer_clear(&server->loop.timers, &server->stop);
    timer_clear(&server->loop.timers, &server->watchdog);
    timer_clear(&server->loop.timers, &server->devices);
    timer_clear(&server->loop.timers, &server->memory);
    file_close(&server->signal_fd);
    event_loop_deinit(&server->loop);
    free(server);
}

const char *server_parts(void) {
    static char parts[64];

    snprintf(parts, sizeof parts, "io_uring%s%s%s%s", *feed_backend_part() ? " " : "",
             feed_backend_part(), *notify_part() ? " " : "", notify_part());
    return parts;
}
