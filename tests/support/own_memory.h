/* SPDX-License-Identifier: MIT */
/* own_memory.h: what the kernel says about the memory of this process. */
#pragma once

#include <check.h>
#include <stdint.h>
#include <stdio.h>

/* Has a sanitizer memory of its own for ours? Then there is no telling what is ours. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { OWN_MEMORY_HAS_SHADOW = 1 };
#else
enum { OWN_MEMORY_HAS_SHADOW = 0 };
#endif

static inline uint64_t own_number(const char *path, const char *format) {
    char line[256];
    unsigned long value = 0;
    FILE *file = fopen(path, "re");

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) && sscanf(line, format, &value) != 1)
        ;
    fclose(file);
    return value;
}

/* Anonymous memory that is there, in bytes. */
static inline uint64_t own_resident(void) {
    return own_number("/proc/self/status", "RssAnon: %lu") * 1024;
}

static inline uint32_t own_mappings(void) {
    FILE *file = fopen("/proc/self/maps", "re");
    uint32_t count = 0;
    int c;

    ck_assert_ptr_nonnull(file);
    while ((c = fgetc(file)) != EOF)
        count += c == '\n';
    fclose(file);
    return count;
}
