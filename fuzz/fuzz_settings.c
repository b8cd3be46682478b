/* SPDX-License-Identifier: MIT */
/* Any bytes as a configuration file: refused with a sentence or read, nothing else. */
#include <assert.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "settings/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(file_close) int fd = FILE_NONE;
    char path[64];
    Settings *settings = NULL;
    Error error = {0};
    int r;

    r = file_memory_new("fuzz", size ? size : 1, &fd);
    if (r < 0 || pwrite(fd, data, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) < 0 ||
        fchmod(fd, 0600) < 0) /* a file that everybody may write is refused unread */
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    r = settings_load(path, NULL, 0, &settings, &error);
    assert(r == 0 ? settings != NULL && settings->feed_count > 0 : error.text[0] != '\0');
    settings_free(settings);
    return 0;
}
