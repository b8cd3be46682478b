/* SPDX-License-Identifier: MIT */
/* bytes.h: little-endian loads and stores at any alignment, and CRC32C (Castagnoli, reflected,
 * polynomial 0x1EDC6F41, initial and final complement: "123456789" gives 0xE3069283). */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t bytes_get_u16(const void *from) {
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return le16toh(value);
}

static inline uint32_t bytes_get_u24(const void *from) {
    const uint8_t *bytes = from;
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
}

static inline uint32_t bytes_get_u32(const void *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

static inline uint64_t bytes_get_u64(const void *from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

static inline void bytes_put_u16(void *to, uint16_t value) {
    value = htole16(value);
    memcpy(to, &value, sizeof value);
}

static inline void bytes_put_u24(void *to, uint32_t value) {
    uint8_t bytes[3] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16)};
    memcpy(to, bytes, sizeof bytes);
}

static inline void bytes_put_u32(void *to, uint32_t value) {
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}

static inline void bytes_put_u64(void *to, uint64_t value) {
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

/* True when all `size` bytes are zero. */
bool bytes_are_zero(const void *bytes, size_t size);

/* CRC32C of `size` bytes, continuing from `crc` (0 to begin). Uses SSE4.2 where the CPU has it. */
uint32_t bytes_crc32c(uint32_t crc, const void *bytes, size_t size);
