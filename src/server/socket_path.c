/* SPDX-License-Identifier: MIT */
#include "server/socket_path.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int use(const char *path, char ret_path[SOCKET_PATH_BYTES], Error *error) {
    size_t length = strlen(path);

    if (length >= SOCKET_PATH_BYTES)
        return error_set(error, -ENAMETOOLONG,
                         "the socket's path has %zu bytes, a socket may have %d: %s", length,
                         SOCKET_PATH_BYTES - 1, path);
    memcpy(ret_path, path, length + 1);
    return 0;
}

/* Anybody may make names in /tmp, so a folder there counts only if it is ours and closed. */
static int own_folder(const char *path, Error *error) {
    struct stat status;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set(error, -errno, "cannot make the folder %s: %s", path, strerror(errno));
    if (lstat(path, &status) < 0)
        return error_set(error, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 0077) != 0)
        return error_set(error, -EPERM,
                         "%s is not a folder of user %u alone (0700): somebody else made it; give "
                         "--socket PATH",
                         path, geteuid());
    return 0;
}

static bool is_empty(const char *text) {
    return !text || !*text;
}

int socket_path_choose(const char *option, const char *configured, char ret_path[SOCKET_PATH_BYTES],
                       Error *error) {
    const char *environment = getenv("SEQFEED_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    char path[512];
    int r;

    if (is_empty(option))
        option = environment;
    if (is_empty(option))
        option = configured;
    if (!is_empty(option))
        return use(option, ret_path, error);
    if (runtime && runtime[0] == '/' && access(runtime, W_OK | X_OK) == 0) {
        snprintf(path, sizeof path, "%s/seqfeed.sock", runtime);
        return use(path, ret_path, error);
    }
    snprintf(path, sizeof path, "/tmp/seqfeed-%u", geteuid());
    r = own_folder(path, error);
    if (r == 0) {
        strcat(path, "/seqfeed.sock");
        return use(path, ret_path, error);
    }
    if (access("/run/seqfeed", W_OK | X_OK) == 0)
        return use("/run/seqfeed/seqfeed.sock", ret_path, error);
    return r;
}
