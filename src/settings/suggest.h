/* SPDX-License-Identifier: MIT */
/* suggest.h: the word that somebody probably meant. Pure. */
#pragma once

#include <stddef.h>

/* Edits (insert, delete, replace, swap two neighbours) between two words; words longer than 40
 * bytes count as infinitely far. */
unsigned suggest_distance(const char *a, const char *b);

/* Is `candidate` near enough to `word` to be worth a question, and nearer than *nearest? Then
 * *nearest is updated. Begin with SUGGEST_FAR. */
enum { SUGGEST_FAR = 1000 };
int suggest_is_better(const char *word, const char *candidate, unsigned *nearest);

/* ", did you mean b" for a word that is near one of "a|b|c", else "". Returns `to`. */
char *suggest_among(const char *word, const char *words, char to[64]);
