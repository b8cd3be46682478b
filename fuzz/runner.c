/* SPDX-License-Identifier: MIT */
/* runner.c: libFuzzer's main function for compilers that have none. Feeds a fuzz target every file
 * of the folders in its arguments, then each of them cut short and with bytes changed, from a fixed
 * seed: a regression test that takes about a second and needs no engine. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RUNNER_FILE_MAX = 1 << 20, RUNNER_CUTS = 64, RUNNER_CHANGES = 512 };

/* Exactly `size` bytes on the heap, so that a sanitizer sees every read past the end. */
static void run_copy(const char *bytes, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_cuts(const char *bytes, size_t size) {
    size_t step = size / RUNNER_CUTS + 1;

    for (size_t cut = 0; cut < size; cut += step)
        run_copy(bytes, cut);
}

/* One to four bytes at a time get another value; the places follow from the seed alone. */
static void run_changes(char *bytes, size_t size, uint32_t seed) {
    for (uint32_t change = 0; size && change < RUNNER_CHANGES; change++) {
        RandomBlock random = random_philox(seed, change, 0, 0, 0);
        uint32_t count = 1 + random_below(random.word[0], 4);
        size_t places[4];
        char kept[4];

        for (uint32_t i = 0; i < count; i++) {
            RandomBlock draw = random_philox(seed, change, i + 1, 0, 0);
            places[i] = random_below(draw.word[0], (uint32_t)size);
            kept[i] = bytes[places[i]];
            bytes[places[i]] = (char)draw.word[1];
        }
        run_copy(bytes, size);
        for (uint32_t i = count; i-- > 0;)
            bytes[places[i]] = kept[i];
    }
}

static int run_file(const char *folder, const char *name, uint32_t seed) {
    char path[4096];
    char *bytes;
    size_t size;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_load(AT_FDCWD, path, RUNNER_FILE_MAX, &bytes, &size) < 0) {
        fprintf(stderr, "cannot read %s\n", path);
        return 1;
    }
    run_copy(bytes, size);
    run_cuts(bytes, size);
    run_changes(bytes, size, seed);
    free(bytes);
    return 0;
}

static int run_folder(const char *folder, uint32_t *count) {
    struct dirent **entries;
    int failed = 0;
    int found = scandir(folder, &entries, NULL, alphasort);

    if (found < 0) {
        fprintf(stderr, "cannot list %s\n", folder);
        return 1;
    }
    for (int i = 0; i < found; i++) {
        if (entries[i]->d_name[0] != '.')
            failed |= run_file(folder, entries[i]->d_name, (*count)++);
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv) {
    uint32_t count = 0;
    int failed = 0;

    for (int i = 1; i < argc; i++)
        failed |= run_folder(argv[i], &count);
    printf("%u files, each whole, cut and changed\n", count);
    return failed || count == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
