/* SPDX-License-Identifier: MIT */
#include "shard/catalog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* Of `*device` it is known that direct reads work. 0 or negative errno. */
static int open_direct(CatalogShard *shard, dev_t *device) {
    struct stat status;
    int r;

    if (fstat(shard->fd, &status) < 0)
        return -errno;
    r = file_open_direct(shard->fd, status.st_dev != *device, &shard->direct_fd,
                         &shard->direct_align);
    if (r == 0)
        *device = status.st_dev;
    if (r == FILE_E_CACHED)
        (void)posix_fadvise(shard->fd, 0, 0, POSIX_FADV_RANDOM);
    return r < 0 ? r : 0;
}

static int open_shards(Catalog *catalog, dev_t *device) {
    int r = 0;

    for (uint32_t s = 0; s < catalog->shard_count && r == 0; s++)
        r = open_direct(&catalog->shards[s], device);
    return r;
}

int catalog_open_direct(Catalog *catalog, Error *error) {
    dev_t device = 0;
    uint32_t first = 0;
    int r = 0;

    if (catalog->part_count == 0)
        r = open_shards(catalog, &device);
    assert(catalog->parts || catalog->part_count == 0);
    for (uint32_t p = 0; p < catalog->part_count && r == 0; p++) {
        const Catalog *part = catalog->parts[p].catalog;

        r = open_shards(catalog->parts[p].catalog, &device);
        for (uint32_t s = 0; s < part->shard_count; s++, first++) {
            catalog->shards[first].direct_fd = part->shards[s].direct_fd;
            catalog->shards[first].direct_align = part->shards[s].direct_align;
        }
    }
    if (r < 0)
        return error_set(error, r,
                         "the %u shards of %s cannot be opened once more, for direct: true: %s: "
                         "raise the limit (ulimit -n, LimitNOFILE=), or set direct to false",
                         catalog->shard_count, catalog->path, strerror(-r));
    return 0;
}
