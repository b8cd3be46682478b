/* SPDX-License-Identifier: MIT */
/* Frames are taken apart by hand as far as the format restricts them: a single segment (so that the
 * window is the content and a reader needs no memory beside the output), a content size, a checksum
 * and no dictionary. libzstd would also decode frames that break these rules. */
#include "shard/block_codec.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_d_forceIgnoreChecksum */
#include <zstd.h>
#include <zstd_errors.h>

#include "base/bytes.h"

struct BlockEncoder {
    ZSTD_CCtx *context;
};

struct BlockDecoder {
    ZSTD_DCtx *context;
};

enum { FRAME_CHECKSUM_BYTES = 4, WINDOW_LOG_MIN = 10 };

int block_encoder_new(BlockEncoder **ret_encoder, int level) {
    BlockEncoder *encoder = calloc(1, sizeof *encoder);

    if (!encoder)
        return -ENOMEM;
    encoder->context = ZSTD_createCCtx();
    if (!encoder->context) {
        free(encoder);
        return -ENOMEM;
    }
    (void)ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_compressionLevel, level);
    (void)ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_checksumFlag, 1);
    (void)ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_contentSizeFlag, 1);
    *ret_encoder = encoder;
    return 0;
}

void block_encoder_free(BlockEncoder *encoder) {
    if (!encoder)
        return;
    ZSTD_freeCCtx(encoder->context);
    free(encoder);
}

uint64_t block_codec_bound(uint32_t raw_bytes) {
    return ZSTD_compressBound(raw_bytes);
}

int block_encode(BlockEncoder *encoder, const void *raw, uint32_t raw_bytes, Buffer *compressed) {
    int window_log = WINDOW_LOG_MIN;
    size_t size;
    int r;

    compressed->size = 0;
    r = buffer_reserve(compressed, ZSTD_compressBound(raw_bytes));
    if (r < 0)
        return r;
    /* A window as large as the block makes the frame a single segment at every level. */
    while (UINT64_C(1) << window_log < raw_bytes)
        window_log++;
    (void)ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_windowLog, window_log);
    size = ZSTD_compress2(encoder->context, compressed->bytes, compressed->capacity, raw,
                          raw_bytes);
    if (ZSTD_isError(size))
        return ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation ? -ENOMEM : -EINVAL;
    compressed->size = size;
    assert(block_codec_content_size(compressed->bytes, size) == raw_bytes);
    return 0;
}

int block_decoder_new(BlockDecoder **ret_decoder) {
    BlockDecoder *decoder = calloc(1, sizeof *decoder);

    if (!decoder)
        return -ENOMEM;
    decoder->context = ZSTD_createDCtx();
    if (!decoder->context) {
        free(decoder);
        return -ENOMEM;
    }
    *ret_decoder = decoder;
    return 0;
}

void block_decoder_free(BlockDecoder *decoder) {
    if (!decoder)
        return;
    ZSTD_freeDCtx(decoder->context);
    free(decoder);
}

void block_decoder_trust_crc(BlockDecoder *decoder) {
    (void)ZSTD_DCtx_setParameter(decoder->context, ZSTD_d_forceIgnoreChecksum,
                                 ZSTD_d_ignoreChecksum);
}

uint64_t block_codec_content_size(const void *compressed, size_t size) {
    enum {
        DESCRIPTOR_AT = 4,
        SIZE_AT = 5,
        SINGLE_SEGMENT = 1 << 5,
        CHECKSUM = 1 << 2,
        MUST_BE_KNOWN = 0x3f, /* all but the two bits of the size field's width */
    };
    const uint8_t *bytes = compressed;

    if (size < SIZE_AT + 8 || bytes_get_u32(bytes) != SHARD_ZSTD_MAGIC ||
        (bytes[DESCRIPTOR_AT] & MUST_BE_KNOWN) != (SINGLE_SEGMENT | CHECKSUM))
        return 0;
    switch (bytes[DESCRIPTOR_AT] >> 6) {
    case 0:
        return bytes[SIZE_AT];
    case 1:
        return bytes_get_u16(bytes + SIZE_AT) + UINT64_C(256);
    case 2:
        return bytes_get_u32(bytes + SIZE_AT);
    default:
        return bytes_get_u64(bytes + SIZE_AT);
    }
}

size_t block_codec_frame_size(const void *compressed, size_t available) {
    size_t size = ZSTD_findFrameCompressedSize(compressed, available);

    return ZSTD_isError(size) ? 0 : size;
}

uint32_t block_codec_checksum(const void *compressed, size_t size) {
    assert(size >= FRAME_CHECKSUM_BYTES);
    return bytes_get_u32((const uint8_t *)compressed + size - FRAME_CHECKSUM_BYTES);
}

const char *block_codec_decode(BlockDecoder *decoder, const BlockLayout *layout,
                               const void *compressed, size_t size, void *raw, uint32_t raw_bytes,
                               BlockFacts *ret_facts, BlockView *ret_view) {
    size_t n;

    if (block_codec_content_size(compressed, size) != raw_bytes)
        return "the header of its zstd frame is wrong";
    if (block_codec_frame_size(compressed, size) != size)
        return "its zstd frame has another size";
    n = ZSTD_decompressDCtx(decoder->context, raw, raw_bytes, compressed, size);
    if (ZSTD_isError(n) && ZSTD_getErrorCode(n) == ZSTD_error_checksum_wrong)
        return "the checksum of its content does not match";
    if (n != raw_bytes)
        return "its zstd frame cannot be decoded";
    return block_layout_parse(layout, raw, raw_bytes, ret_facts, ret_view);
}
