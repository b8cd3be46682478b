/* SPDX-License-Identifier: MIT */
#include "settings/suggest.h"

#include <ctype.h>
#include <string.h>

#include "base/attributes.h"

enum { WORD_MAX = 40 };

/* Optimal string alignment: three rows of the table of distances are enough. */
unsigned suggest_distance(const char *a, const char *b) {
    size_t a_length = strlen(a), b_length = strlen(b);
    unsigned rows[3][WORD_MAX + 1];

    if (a_length > WORD_MAX || b_length > WORD_MAX)
        return SUGGEST_FAR;
    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_length; i++) {
        unsigned *now = rows[i % 3], *last = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned replaced = last[j - 1] + (a[i - 1] != b[j - 1]);

            now[j] = MIN(last[j], now[j - 1]) + 1;
            now[j] = MIN(now[j], replaced);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = MIN(now[j], before[j - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

int suggest_is_better(const char *word, const char *candidate, unsigned *nearest) {
    char lower[WORD_MAX + 1] = {0};
    unsigned distance, allowed = strlen(candidate) <= 4 ? 1 : strlen(candidate) <= 8 ? 2 : 3;

    if (strlen(word) > WORD_MAX)
        return 0;
    for (size_t i = 0; word[i]; i++)
        lower[i] = word[i] == '-' ? '_' : (char)tolower((unsigned char)word[i]);
    distance = suggest_distance(lower, candidate);
    if (distance > allowed || distance >= *nearest)
        return 0;
    *nearest = distance;
    return 1;
}
