/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *log_program = "seqfeed";
static LogLevel log_level = LOG_LEVEL_INFO;
static int log_prefix = 0; /* systemd reads "<6>" as the priority of the line */

void log_open(const char *program, LogLevel level) {
    log_program = program;
    log_level = level;
    log_prefix = getenv("JOURNAL_STREAM") != NULL;
}

static size_t escape_into(char *to, size_t capacity, const char *from) {
    bool second_of_two = false; /* of a control of two bytes in UTF-8 */
    size_t at = 0;

    for (; *from && at + 5 < capacity; from++) {
        unsigned char byte = (unsigned char)*from, next = (unsigned char)from[1];
        bool first_of_two = byte == 0xc2 && next >= 0x80 && next < 0xa0;
        if (byte < 0x20 || byte == 0x7f || first_of_two || second_of_two)
            at += (size_t)snprintf(to + at, capacity - at, "\\x%02x", byte);
        else
            to[at++] = (char)byte;
        second_of_two = first_of_two;
    }
    return at;
}

void log_write(LogLevel level, const char *format, ...) {
    char text[2048], line[4096];
    va_list arguments;
    size_t size = 0;

    if (level > log_level)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    if (log_prefix)
        size = (size_t)snprintf(line, sizeof line, "<%d>", level);
    else
        size = (size_t)snprintf(line, sizeof line, "%s: ", log_program);
    size += escape_into(line + size, sizeof line - size - 2, text);
    line[size++] = '\n';
    if (write(STDERR_FILENO, line, size) < 0)
        return; /* nowhere left to say it */
}
