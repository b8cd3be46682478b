/* SPDX-License-Identifier: MIT */
/* shard_match.h: does a shard say of itself what dataset.json says of it? */
#pragma once

#include "base/error.h"
#include "shard/manifest.h"
#include "shard/shard_file.h"

/* 0, or -EBADMSG and a sentence. */
MUST_CHECK int shard_match_manifest(const ShardFile *file, const Manifest *manifest, uint32_t shard,
                                    Error *error);
