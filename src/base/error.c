/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

int error_set(Error *error, int code, const char *format, ...) {
    va_list arguments;

    if (!error)
        return code;
    error->code = code;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    text_mask_controls(error->text);
    return code;
}

int error_prefix(Error *error, int code, const char *format, ...) {
    char old[sizeof error->text];
    va_list arguments;
    size_t length;

    if (!error)
        return code;
    memcpy(old, error->text, sizeof old);
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    length = strlen(error->text);
    snprintf(error->text + length, sizeof error->text - length, ": %s", old);
    text_mask_controls(error->text);
    error->code = code;
    return code;
}
