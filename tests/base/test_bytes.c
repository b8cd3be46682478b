/* SPDX-License-Identifier: MIT */
#include "base/bytes.h"

#include "support/check_main.h"

/* The check value of CRC-32C in every catalogue of CRCs. */
START_TEST(crc32c_of_the_nine_digits)
{
    ck_assert_uint_eq(bytes_crc32c(0, "123456789", 9), 0xE3069283);
    ck_assert_uint_eq(bytes_crc32c(0, "", 0), 0);
}
END_TEST

static uint32_t crc_bit_by_bit(const uint8_t *at, size_t size) {
    uint32_t crc = ~0u;

    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/* Three interleaved streams must give what one bit at a time gives, at any length and alignment. */
START_TEST(crc32c_is_the_same_at_any_length_and_when_continued)
{
    static uint8_t bytes[60000];
    uint32_t state = 1;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);
    for (size_t size = 0; size < 300; size++)
        ck_assert_uint_eq(bytes_crc32c(0, bytes + size % 7, size),
                          crc_bit_by_bit(bytes + size % 7, size));
    for (size_t size = 12200; size < sizeof bytes - 8; size += 4999) {
        uint32_t whole = crc_bit_by_bit(bytes + 3, size);
        ck_assert_uint_eq(bytes_crc32c(0, bytes + 3, size), whole);
        ck_assert_uint_eq(bytes_crc32c(bytes_crc32c(0, bytes + 3, 777), bytes + 780, size - 777),
                          whole);
    }
}
END_TEST

START_TEST(u24_goes_in_and_out)
{
    uint8_t bytes[4] = {0, 0, 0, 0xaa};

    bytes_put_u24(bytes, 0xfedcba);
    ck_assert_uint_eq(bytes_get_u24(bytes), 0xfedcba);
    ck_assert_uint_eq(bytes[3], 0xaa);
}
END_TEST

CHECK_MAIN("bytes", crc32c_of_the_nine_digits, crc32c_is_the_same_at_any_length_and_when_continued,
           u24_goes_in_and_out)
