/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_deinit(Text *text) {
    free(text->bytes);
    *text = (Text){0};
}

static bool text_grow(Text *text, size_t extra) {
    size_t need = text->size + extra + 1, capacity = text->capacity ? text->capacity : 256;
    char *bytes;

    if (text->failed || need > TEXT_MAX) {
        text->failed = true;
        return false;
    }
    if (need <= text->capacity)
        return true;
    while (capacity < need)
        capacity *= 2;
    bytes = realloc(text->bytes, capacity);
    if (!bytes) {
        text->failed = true;
        return false;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void text_add_bytes(Text *text, const void *bytes, size_t size) {
    if (!text_grow(text, size))
        return;
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

void text_add(Text *text, const char *format, ...) {
    va_list arguments, again;
    int size;

    va_start(arguments, format);
    va_copy(again, arguments);
    size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size >= 0 && text_grow(text, (size_t)size)) {
        vsnprintf(text->bytes + text->size, (size_t)size + 1, format, again);
        text->size += (size_t)size;
    }
    va_end(again);
}

size_t text_utf8_length(const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    size_t length;

    if (size == 0)
        return 0;
    length = at[0] < 0x80                    ? 1
             : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
             : (at[0] & 0xf0) == 0xe0        ? 3
             : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                             : 0;
    if (length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if (length == 3 && ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f)))
        return 0;
    if (length == 4 && ((at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)))
        return 0;
    return length;
}

void text_add_json(Text *text, const char *string) {
    const unsigned char *at = (const unsigned char *)string, *end = at + strlen(string);

    text_add_bytes(text, "\"", 1);
    while (at < end) {
        size_t length = text_utf8_length(at, (size_t)(end - at));
        if (length == 0) {
            text_add_bytes(text, "\xef\xbf\xbd", 3);
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            text_add(text, "\\%c", *at);
        } else if (*at < 0x20 || *at == 0x7f) {
            text_add(text, "\\u%04x", *at);
        } else {
            text_add_bytes(text, at, length);
        }
        at += length;
    }
    text_add_bytes(text, "\"", 1);
}

void text_mask_controls(char *text) {
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        bool of_two = at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0;
        if (of_two)
            *at++ = '?';
        if (of_two || *at < 0x20 || *at == 0x7f)
            *at = '?';
    }
}

bool text_parse_u64(const char *string, uint64_t min, uint64_t max, uint64_t *ret_value) {
    uint64_t value = 0;

    if (!*string)
        return false;
    for (; *string; string++) {
        if (*string < '0' || *string > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*string - '0'), &value))
            return false;
    }
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

typedef struct Unit {
    const char *name;
    uint64_t factor;
} Unit;

/* digits [. digits] unit; the fraction is taken exactly to 9 places. */
static bool parse_with_unit(const char *string, const Unit *units, size_t unit_count,
                            uint64_t *ret) {
    uint64_t whole = 0, fraction = 0, scale = 1, value, part;
    const char *at = string;

    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*at - '0'), &whole))
            return false;
    if (*at == '.') {
        const char *start = ++at;
        for (; *at >= '0' && *at <= '9' && scale < 1000000000; at++, scale *= 10)
            fraction = fraction * 10 + (uint64_t)(*at - '0');
        if (at == start)
            return false;
    }
    while (*at == ' ')
        at++;
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(at, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(whole, units[i].factor, &value))
            return false;
        part = (uint64_t)((unsigned __int128)fraction * units[i].factor / scale);
        if (__builtin_add_overflow(value, part, &value) || value > UINT64_C(1) << 62)
            return false;
        *ret = value;
        return true;
    }
    return false;
}

bool text_parse_size(const char *string, uint64_t *ret_bytes) {
    static const Unit units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
        {"KB", 1000},
        {"kB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", UINT64_C(1000000000000)},
    };

    return parse_with_unit(string, units, ARRAY_COUNT(units), ret_bytes);
}

bool text_parse_duration(const char *string, int64_t *ret_ns) {
    static const Unit units[] = {
        {"", 1000000000},
        {"s", 1000000000},
        {"ms", 1000000},
        {"us", 1000},
        {"ns", 1},
        {"m", UINT64_C(60000000000)},
        {"min", UINT64_C(60000000000)},
        {"h", UINT64_C(3600000000000)},
    };
    uint64_t value;

    if (!parse_with_unit(string, units, ARRAY_COUNT(units), &value))
        return false;
    *ret_ns = (int64_t)value;
    return true;
}

char *text_format_size(char to[32], uint64_t bytes) {
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_COUNT(names)) {
        value /= 1024;
        unit++;
    }
    snprintf(to, 32, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, names[unit]);
    return to;
}

char *text_format_count(char to[32], double count) {
    static const char *const names[] = {"", " k", " M", " G", " T"};
    size_t unit = 0;

    while (count >= 1000 && unit + 1 < ARRAY_COUNT(names)) {
        count /= 1000;
        unit++;
    }
    snprintf(to, 32, unit == 0 ? "%.0f%s" : "%.1f%s", count, names[unit]);
    return to;
}

char *text_format_seconds(char to[32], double seconds) {
    static const char *const names[] = {"us", "ms", "s"};
    double value = seconds * 1e6;
    size_t unit = 0;

    /* as it will be rounded: no "1000 us" */
    while (value >= 999.5 && unit + 1 < ARRAY_COUNT(names)) {
        value /= 1000;
        unit++;
    }
    if (value > 0 && value < 0.95)
        snprintf(to, 32, "less than 1 us");
    else
        snprintf(to, 32, value < 99.95 && unit > 0 ? "%.1f %s" : "%.0f %s", value, names[unit]);
    return to;
}

void text_format_hex(char *to, const uint8_t *bytes, size_t size) {
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < size; i++) {
        to[2 * i] = digits[bytes[i] >> 4];
        to[2 * i + 1] = digits[bytes[i] & 15];
    }
    to[2 * size] = '\0';
}

static int hex_value(char digit) {
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                          : -1;
}

bool text_parse_hex(const char *string, uint8_t *ret_bytes, size_t size) {
    if (strlen(string) != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(string[2 * i]), low = hex_value(string[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret_bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
