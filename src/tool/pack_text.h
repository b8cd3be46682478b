/* SPDX-License-Identifier: MIT */
/* pack_text.h: text files as sequences of bytes. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "shard/byte_source.h"
#include "shard/dataset_writer.h"

typedef struct PackText {
    bool by_paragraph;
    bool has_label;   /* the second column is the number of the file */
    ElementType type; /* of the tokens */
    Buffer bytes;     /* of the paragraph so far */
    Buffer encoded;
} PackText;

void pack_text_deinit(PackText *text);

/* Called after every line that was read. */
typedef void PackTextProgress(void *context, const ByteSource *source);

/* Add every line or paragraph of `source` that is not empty, with `label`. */
MUST_CHECK int pack_text_add(PackText *text, ByteSource *source, uint32_t label,
                             DatasetWriter *writer, PackTextProgress *progress, void *context,
                             Error *error);
