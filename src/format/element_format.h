/* SPDX-License-Identifier: MIT */
/* element_format.h: the types of numbers on disk. The codes stand in shards and never change. */
#pragma once

#include <stdint.h>

typedef enum ElementType {
    ELEMENT_NONE = 0,
    ELEMENT_U8 = 1,
    ELEMENT_U16 = 2,
    ELEMENT_U24 = 3, /* three bytes, little-endian */
    ELEMENT_U32 = 4,
    ELEMENT_I32 = 5,
    ELEMENT_I64 = 6,
    ELEMENT_F16 = 7, /* IEEE 754 binary16 */
    ELEMENT_BF16 = 8,
    ELEMENT_F32 = 9,
    ELEMENT_TYPE_COUNT
} ElementType;

/* Bytes of one value; 0 for a code that does not exist. */
static inline uint32_t element_bytes(uint32_t type) {
    static const uint8_t bytes[ELEMENT_TYPE_COUNT] = {0, 1, 2, 3, 4, 4, 8, 2, 2, 4};
    return type < ELEMENT_TYPE_COUNT ? bytes[type] : 0;
}

static inline const char *element_name(uint32_t type) {
    static const char *const names[ELEMENT_TYPE_COUNT] = {"none", "u8",  "u16", "u24",  "u32",
                                                          "i32",  "i64", "f16", "bf16", "f32"};
    return type < ELEMENT_TYPE_COUNT ? names[type] : "none";
}

static inline int element_is_float(uint32_t type) {
    return type >= ELEMENT_F16 && type <= ELEMENT_F32;
}
