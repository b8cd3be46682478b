/* SPDX-License-Identifier: MIT */
#include "shard/shard_match.h"

#include <errno.h>
#include <string.h>

int shard_match_manifest(const ShardFile *file, const Manifest *manifest, uint32_t shard,
                         Error *error) {
    const ManifestShard *entry = &manifest->shards[shard];
    const ShardHeader *header = &file->header;
    const ShardIndex *index = &file->index;

    if (header->column_count != manifest->column_count ||
        memcmp(header->columns, manifest->columns,
               manifest->column_count * sizeof *manifest->columns) != 0 ||
        (header->has_pad_id == 1) != manifest->has_pad_id || header->pad_id != manifest->pad_id)
        return error_set(error, -EBADMSG, "%s has other columns than %s says", file->path,
                         MANIFEST_NAME);
    if (file->file_bytes != entry->bytes || index->sequences != entry->sequences ||
        index->tokens != entry->tokens || index->block_count != entry->blocks ||
        index->length_max != entry->length_max ||
        memcmp(index->content, entry->content, sizeof entry->content) != 0)
        return error_set(error, -EBADMSG, "%s is another file than %s describes", file->path,
                         MANIFEST_NAME);
    return 0;
}
