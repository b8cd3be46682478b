/* SPDX-License-Identifier: MIT */
/* log.h: one line a message on standard error; under systemd with its priority prefix. Only server,
 * daemon and tool may log; everything below returns its errors. Control bytes in a message are
 * escaped, so that no client can forge a line. Any thread. */
#pragma once

#include "base/attributes.h"

typedef enum LogLevel {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
} LogLevel;

/* `program` stands before each line on a terminal; not copied. Lines above `level` are left out. */
void log_open(const char *program, LogLevel level);
void log_write(LogLevel level, const char *format, ...) PRINTF_FORMAT(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
