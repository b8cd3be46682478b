/* SPDX-License-Identifier: MIT */
/* settings_parse.h: settings_load() without the file, for tests and fuzzing. */
#pragma once

#include <stddef.h>

#include "settings/settings.h"

/* `path` stands for the file in messages; relative paths count from `dir`, which is absolute. */
MUST_CHECK int settings_parse(const char *bytes, size_t size, const char *path, const char *dir,
                              char *const *overrides, uint32_t override_count,
                              Settings **ret_settings, Error *error);
