/* SPDX-License-Identifier: MIT */
#include "shard/dataset_id.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bytes.h"

/* The first bytes of what is hashed, so that no other hash of the project can equal it. */
static const uint8_t id_magic[8] = {'S', 'Q', 'F', '-', 'I', 'D', 1, 0};

struct DatasetId {
    XXH3_state_t *state;
};

int dataset_id_new(const ShardColumn *columns, uint32_t count, DatasetId **ret_id) {
    DatasetId *id = calloc(1, sizeof *id);
    uint8_t head[16];

    if (!id)
        return -ENOMEM;
    id->state = XXH3_createState();
    if (!id->state) {
        free(id);
        return -ENOMEM;
    }
    (void)XXH3_128bits_reset(id->state);
    memcpy(head, id_magic, sizeof id_magic);
    bytes_put_u64(head + 8, count);
    (void)XXH3_128bits_update(id->state, head, sizeof head);
    (void)XXH3_128bits_update(id->state, columns, count * sizeof *columns);
    *ret_id = id;
    return 0;
}

void dataset_id_free(DatasetId *id) {
    if (!id)
        return;
    (void)XXH3_freeState(id->state);
    free(id);
}

void dataset_id_add_shard(DatasetId *id, const ShardIndex *index, const ShardIndexBlock *blocks) {
    uint8_t bytes[16 + 3 * 8];

    memcpy(bytes, index->content, 16);
    bytes_put_u64(bytes + 16, index->sequences);
    bytes_put_u64(bytes + 24, index->tokens);
    bytes_put_u64(bytes + 32, index->block_count);
    (void)XXH3_128bits_update(id->state, bytes, sizeof bytes);
    for (uint32_t b = 0; b < index->block_count; b++) {
        bytes_put_u32(bytes, blocks[b].sequences);
        bytes_put_u32(bytes + 4, blocks[b].tokens);
        (void)XXH3_128bits_update(id->state, bytes, 8);
    }
}

void dataset_id_digest(const DatasetId *id, uint8_t ret_digest[16]) {
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(id->state));
    memcpy(ret_digest, canonical.digest, sizeof canonical.digest);
}
