/* SPDX-License-Identifier: MIT */
/* seqfeedd: reads its arguments and its configuration; the rest is the server's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

#include "base/file.h"
#include "base/log.h"
#include "base/processors.h"
#include "daemon/arguments.h"
#include "feed/feed.h"
#include "server/notify.h"
#include "server/server.h"
#include "settings/cgroup.h"
#include "settings/settings.h"

static void free_feeds(Feed **feeds, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        feed_unref(feeds[i]);
    free(feeds);
}

/* What the server is told to open: the feeds of the configuration. */
typedef struct Loader {
    const Settings *settings;
    int result;
} Loader;

static int open_feed(const Settings *settings, uint32_t number, Feed **ret_feed, Error *error) {
    const SettingsFeed *of = &settings->feeds[number];
    int r;

    r = feed_open(settings, of, ret_feed, error);
    if (r == 0)
        r = feed_choose_backend(*ret_feed, settings, of, NULL, error);
    if (r == 0 && settings->direct)
        r = feed_open_direct(*ret_feed, error);
    for (uint32_t w = 0; r == 0 && w < (*ret_feed)->warning_count; w++)
        log_warning("warning: %s", (*ret_feed)->warnings[w].text);
    return r;
}

static int load_feeds(void *argument, Feed ***ret_feeds, uint32_t *ret_count, Error *error) {
    Loader *loader = argument;
    const Settings *settings = loader->settings;
    Feed **feeds = calloc(settings->feed_count, sizeof(Feed *));
    int r = 0;

    if (!feeds)
        return error_set(error, -ENOMEM, "no memory for %u feeds", settings->feed_count);
    for (uint32_t i = 0; r == 0 && i < settings->feed_count; i++)
        r = open_feed(settings, i, &feeds[i], error);
    if (r == 0)
        r = feed_choose_together(feeds, settings, error);
    if (r == 0)
        r = feed_check_together(feeds, settings->feed_count, settings, error);
    if (r < 0) {
        loader->result = r;
        free_feeds(feeds, settings->feed_count);
        return r;
    }
    *ret_feeds = feeds;
    *ret_count = settings->feed_count;
    return 0;
}

/* More workers gain nothing on any machine that was measured or simulated (docs/scaling.md): by
 * then memory, the ring's slots or the stream's baton are the limit. */
enum { WORKERS_AUTO_MAX = 64 };

/* `threads: auto`: the CPUs that we may use at once. */
static uint32_t count_processors(void) {
    uint32_t count = MIN(processors_count(), (uint32_t)WORKERS_AUTO_MAX);

    return MAX(MIN(count, cgroup_cpu_limit()), 1u);
}

static int complain(const Error *error, int code) {
    log_error("%s", error->text);
    return code;
}

/* What trying again cannot help, because somebody must change the configuration or the data: then
 * systemd does not. Else it does: descriptors, memory or a file server may be there next time. */
static int exit_code(int r) {
    switch (r) {
    case -EINVAL:
    case -EBADMSG:
    case -ENODATA:
    case -EFBIG:
    case -EOVERFLOW:
    case -ENOTSUP:
    case -ENOEXEC: /* not a shard */
    case -ENOENT:
    case -ENOTDIR:
    case -EISDIR:
    case -ELOOP:
    case -ENAMETOOLONG:
    case -EACCES:
    case -EPERM:
        return EX_CONFIG;
    default:
        return EXIT_FAILURE;
    }
}

static int check(const Settings *settings) {
    Loader loader = {.settings = settings};
    Error error = {0};
    Feed **feeds = NULL;
    uint32_t count = 0, warnings = 0;
    int r;

    r = load_feeds(&loader, &feeds, &count, &error);
    if (r < 0)
        return complain(&error, exit_code(r));
    for (uint32_t i = 0; i < count; i++)
        warnings += feeds[i]->warning_count;
    free_feeds(feeds, count);
    printf("%s: %u feed%s, %s\n", settings->path, count, count == 1 ? "" : "s",
           warnings ? "with warnings" : "fine");
    return EXIT_SUCCESS;
}

static int serve(const Settings *settings, const char *socket) {
    const char *fetch = getenv("SEQFEED_FETCH");
    Loader loader = {.settings = settings};
    ServerOptions options = {.socket_option = socket,
                             .socket_settings = settings->socket,
                             .workers = settings->threads ? settings->threads : count_processors(),
                             .fewer_workers = settings->threads == 0,
                             .memory = settings->memory,
                             .cache = settings->cache_auto ? UINT64_MAX : settings->cache,
                             .force_pread = fetch && strcmp(fetch, "pread") == 0,
                             .load_feeds = load_feeds,
                             .argument = &loader};
    Error error = {0};
    Server *server;
    int r;

    if (notify_check(&error) < 0)
        return complain(&error, EX_CONFIG);
    r = server_new(&options, &server, &error);
    if (r != 0)
        return complain(&error, r == SERVER_E_BUSY ? EX_TEMPFAIL : exit_code(loader.result));
    r = server_run(server, &error);
    server_free(server);
    return r < 0 ? complain(&error, EXIT_FAILURE) : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    Arguments arguments = {0};
    Settings *settings;
    Error error = {0};
    int r;

    r = arguments_read(argc, argv, &arguments);
    if (r >= 0)
        return r;
    log_open("seqfeedd", LOG_LEVEL_INFO);
    if (!arguments.check) /* which ends on signals as any program */
        server_take_signals();
    /* A trainer of the same user must not reach the rings through our memory. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)file_raise_limit(); /* each shard is an open file, also for --check */
    r = settings_load(arguments.config, arguments.sets, arguments.set_count, &settings, &error);
    if (r < 0)
        return complain(&error, exit_code(r));
    r = arguments.check ? check(settings) : serve(settings, arguments.socket);
    settings_free(settings);
    return r;
}
