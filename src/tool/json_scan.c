/* SPDX-License-Identifier: MIT */
#include "tool/json_scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

JsonScan json_scan_begin(const char *text, size_t size) {
    bool has_mark = size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0;

    return (JsonScan){.start = text, .at = text + (has_mark ? 3 : 0), .end = text + size};
}

static bool fail(JsonScan *scan, const char *wrong) {
    if (!scan->wrong)
        scan->wrong = wrong;
    return false;
}

char json_scan_peek(JsonScan *scan) {
    while (*scan->at == ' ' || *scan->at == '\t' || *scan->at == '\n' || *scan->at == '\r')
        scan->at++;
    return *scan->at;
}

bool json_scan_take(JsonScan *scan, char expected) {
    if (json_scan_peek(scan) != expected || scan->at >= scan->end)
        return fail(scan, "this is not JSON as it should be");
    scan->at++;
    return true;
}

bool json_scan_next(JsonScan *scan, char closing, bool *ret_more) {
    char c = json_scan_peek(scan);

    if (c != ',' && c != closing)
        return fail(scan, "a comma or a closing bracket is missing");
    scan->at++;
    *ret_more = c == ',';
    return true;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hexadecimal digits; -1 when they are not. */
static int32_t scan_hex4(JsonScan *scan) {
    int32_t value = 0;

    for (int i = 0; i < 4; i++) {
        int digit = hex_value(*scan->at);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
        scan->at++;
    }
    return value;
}

static size_t put_utf8(char to[4], uint32_t code) {
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xC0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xE0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3F));
        to[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    to[0] = (char)(0xF0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3F));
    to[2] = (char)(0x80 | (code >> 6 & 0x3F));
    to[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* What follows a backslash, as UTF-8; 0 bytes when it is no escape. */
static size_t scan_escape(JsonScan *scan, char to[4]) {
    static const char from[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
    char c = *scan->at;
    const char *known = c ? strchr(from, c) : NULL;
    int32_t code, low;

    scan->at++;
    if (known) {
        to[0] = plain[known - from];
        return 1;
    }
    if (c != 'u' || (code = scan_hex4(scan)) < 0 || (code >= 0xDC00 && code < 0xE000))
        return 0;
    if (code >= 0xD800 && code < 0xDC00) {
        if (scan->at[0] != '\\' || scan->at[1] != 'u')
            return 0;
        scan->at += 2;
        low = scan_hex4(scan);
        if (low < 0xDC00 || low > 0xDFFF)
            return 0;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    return put_utf8(to, (uint32_t)code);
}

/* A string into to[0..capacity), cut where it ends; capacity 0 only steps over it. */
static bool scan_string(JsonScan *scan, char *to, size_t capacity) {
    size_t size = 0;

    if (!json_scan_take(scan, '"'))
        return false;
    for (;;) {
        char bytes[4] = {*scan->at};
        size_t n = 1;
        if ((unsigned char)*scan->at < 0x20)
            return fail(scan, "a string does not end, or holds a control character");
        if (*scan->at == '"')
            break;
        scan->at++;
        if (bytes[0] == '\\') {
            n = scan_escape(scan, bytes);
            if (n == 0)
                return fail(scan, "a string holds a wrong escape");
        }
        for (size_t i = 0; i < n && size + 1 < capacity; i++)
            to[size++] = bytes[i];
    }
    scan->at++;
    if (capacity > 0)
        to[size] = '\0';
    return true;
}

bool json_scan_key(JsonScan *scan, char ret_key[JSON_SCAN_KEY_MAX]) {
    return scan_string(scan, ret_key, JSON_SCAN_KEY_MAX) && json_scan_take(scan, ':');
}

static bool scan_word(JsonScan *scan, const char *word) {
    size_t length = strlen(word);

    if (strncmp(scan->at, word, length) != 0)
        return fail(scan, "this is not JSON as it should be");
    scan->at += length;
    return true;
}

static const char *skip_digits(const char *at) {
    while (*at >= '0' && *at <= '9')
        at++;
    return at;
}

/* The whole number is looked at once more, now that it is known not to be a plain integer. */
static bool scan_real(JsonScan *scan, const char *start, JsonNumber *ret_number) {
    const char *at = scan->at;

    if (*at == '.') {
        at = skip_digits(at + 1);
        if (at[-1] == '.')
            return fail(scan, "a number ends with its point");
    }
    if (*at == 'e' || *at == 'E') {
        const char *digits = at + 1 + (at[1] == '+' || at[1] == '-');
        at = skip_digits(digits);
        if (at == digits)
            return fail(scan, "a number has no exponent after its e");
    }
    scan->at = at;
    ret_number->is_real = true;
    ret_number->real = strtod(start, NULL);
    if (!isfinite(ret_number->real))
        return fail(scan, "a number is too large");
    return true;
}

bool json_scan_number(JsonScan *scan, JsonNumber *ret_number) {
    char c = json_scan_peek(scan);
    const char *start = scan->at, *digits = start + (c == '-');
    uint64_t value = 0;

    if (c == 't' || c == 'f') {
        *ret_number = (JsonNumber){.integer = c == 't', .real = c == 't'};
        return scan_word(scan, c == 't' ? "true" : "false");
    }
    scan->at = digits;
    while (*scan->at >= '0' && *scan->at <= '9')
        value = value * 10 + (uint64_t)(*scan->at++ - '0');
    size_t count = (size_t)(scan->at - digits);
    if (count == 0 || (count > 1 && *digits == '0'))
        return fail(scan, "a number is expected");
    if (*scan->at == '.' || *scan->at == 'e' || *scan->at == 'E')
        return scan_real(scan, start, ret_number);
    /* 19 digits may exceed a signed 64-bit number, but not an unsigned one. */
    if (count > 19 || value > (uint64_t)INT64_MAX + (c == '-'))
        return fail(scan, "a number does not fit 64 bits");
    ret_number->is_real = false;
    ret_number->integer = c == '-' ? (int64_t)(0 - value) : (int64_t)value;
    ret_number->real = (double)ret_number->integer;
    return true;
}

/* Objects and lists are stepped over without recursion: a bit for each open one tells which. */
bool json_scan_skip(JsonScan *scan) {
    uint64_t is_object = 0;
    uint32_t depth = 0;

    for (;;) {
        char c = json_scan_peek(scan), key[1];
        bool opened = c == '{' || c == '[', more = false;
        if (opened) {
            if (depth == JSON_SCAN_DEPTH_MAX)
                return fail(scan, "it is nested too deeply");
            is_object = is_object << 1 | (c == '{');
            depth++;
            scan->at++;
            more = json_scan_peek(scan) != (c == '{' ? '}' : ']');
        } else if (c == '"') {
            if (!scan_string(scan, key, 0))
                return false;
        } else if (c == 'n') {
            if (!scan_word(scan, "null"))
                return false;
        } else {
            JsonNumber number;
            if (!json_scan_number(scan, &number))
                return false;
        }
        while (depth > 0 && !more) { /* behind an element, or in an empty list */
            if (opened) {
                scan->at++; /* its closing bracket */
                opened = false;
                is_object >>= 1;
                depth--;
                continue;
            }
            if (!json_scan_next(scan, is_object & 1 ? '}' : ']', &more))
                return false;
            if (!more) {
                is_object >>= 1;
                depth--;
            }
        }
        if (depth == 0)
            return true;
        if ((is_object & 1) && !(scan_string(scan, key, 0) && json_scan_take(scan, ':')))
            return false;
    }
}

bool json_scan_finish(JsonScan *scan) {
    (void)json_scan_peek(scan);
    return scan->at == scan->end ? true : fail(scan, "there is something behind the object");
}
