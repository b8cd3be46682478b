/* SPDX-License-Identifier: MIT */
/* fuzz_settings.c: any bytes as a configuration file, and as the value of an override. Accepted or
 * refused with a sentence; never anything else. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings/settings_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void try_parse(const char *bytes, size_t size, char *override) {
    Settings *settings = NULL;
    Error error = {0};
    int r = settings_parse(bytes, size, "fuzz.yaml", "/", &override, override != NULL, &settings,
                           &error);

    if ((r == 0) != (settings != NULL) || (r < 0) != (error.text[0] != '\0') || r > 0)
        abort();
    settings_free(settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char base[] = "feeds: {t: {dataset: d}}";
    static const char path[] = "feeds.t=";
    char *override;

    if (size > SETTINGS_FILE_MAX)
        return 0;
    try_parse((const char *)bytes, size, NULL);
    override = malloc(sizeof path + size);
    if (!override)
        return 0;
    memcpy(override, path, sizeof path - 1);
    memcpy(override + sizeof path - 1, bytes, size);
    override[sizeof path - 1 + size] = '\0';
    try_parse(base, sizeof base - 1, override);
    free(override);
    return 0;
}
