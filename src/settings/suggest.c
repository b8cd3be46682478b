/* SPDX-License-Identifier: MIT */
#include "settings/suggest.h"

#include <ctype.h>
#include <stdio.h>
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

char *suggest_among(const char *word, const char *words, char to[64]) {
    unsigned nearest = SUGGEST_FAR;
    char candidate[48];

    to[0] = '\0';
    for (const char *at = words; at;) {
        size_t length = strcspn(at, "|");

        snprintf(candidate, sizeof candidate, "%.*s", (int)length, at);
        if (suggest_is_better(word, candidate, &nearest))
            snprintf(to, 64, ", did you mean %s", candidate);
        at = at[length] ? at + length + 1 : NULL;
    }
    return to;
}
