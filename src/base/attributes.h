/* SPDX-License-Identifier: MIT */
/* attributes.h: words for what the compiler can check or do for us. */
#pragma once

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_FORMAT(text, first) __attribute__((format(printf, text, first)))
#define CACHE_LINE 64

/* CLEANUP(thing_deinit) Thing thing = THING_NONE; calls thing_deinit(&thing) when the scope ends.
 * Hand the object over by setting the local to its NONE value. */
#define CLEANUP(function) __attribute__((cleanup(function)))

/* The object whose member `pointer` points to. The step over void tells compilers that the
 * alignment is right. */
#define CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define MIN(a, b)                      \
    ({                                 \
        __typeof__(a) min_a = (a);     \
        __typeof__(b) min_b = (b);     \
        min_a < min_b ? min_a : min_b; \
    })
#define MAX(a, b)                      \
    ({                                 \
        __typeof__(a) max_a = (a);     \
        __typeof__(b) max_b = (b);     \
        max_a > max_b ? max_a : max_b; \
    })

/* Tell the CPU that this is a spin loop. */
static inline void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}
