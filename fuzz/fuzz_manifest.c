/* SPDX-License-Identifier: MIT */
/* Any bytes as dataset.json, once as they are and once with the checksum mended, so that changes
 * reach what lies behind it. What is accepted must survive being written and read again. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "shard/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Parse, and render what was accepted. */
static bool accept(const char *bytes, size_t size, Text *text) {
    CLEANUP(manifest_deinit) Manifest manifest = {0};
    Error error = {0};

    if (manifest_parse(bytes, size, "dataset.json", &manifest, &error) < 0) {
        assert(error.text[0] != '\0');
        return false;
    }
    manifest_render(&manifest, text);
    return !text->failed;
}

static void parse(const char *bytes, size_t size) {
    CLEANUP(text_deinit) Text first = {0}, second = {0};

    if (!accept(bytes, size, &first))
        return;
    assert(accept(first.bytes, first.size, &second));
    assert(first.size == second.size && memcmp(first.bytes, second.bytes, first.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char tail[] = "  \"checksum\": \"crc32c:00000000\"\n}\n";
    size_t tail_bytes = sizeof tail - 1;
    char *copy = malloc(size + 1);

    if (!copy)
        return 0;
    memcpy(copy, data, size);
    copy[size] = '\0';
    parse(copy, size);
    if (size > tail_bytes) {
        size_t body = size - tail_bytes;
        char mended[sizeof tail];
        snprintf(mended, sizeof mended, "  \"checksum\": \"crc32c:%08x\"\n}\n",
                 bytes_crc32c(0, copy, body));
        memcpy(copy + body, mended, tail_bytes);
        parse(copy, size);
    }
    free(copy);
    return 0;
}
