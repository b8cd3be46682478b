/* SPDX-License-Identifier: MIT */
/* settings_value.h: from nodes of the document to fields of Settings, with the sentences that say
 * what is allowed. Used by settings.c alone; one thread. */
#pragma once

#include "base/error.h"
#include "settings/document.h"
#include "settings/settings.h"
#include "settings/settings_key.h"

typedef struct SettingsReader {
    const char *name; /* of the file, for messages */
    const char *dir;  /* absolute; relative paths count from here */
    Error *error;
} SettingsReader;

/* "name:line:column: path.of.node: sentence"; returns -EINVAL. */
int settings_value_error(const SettingsReader *reader, const DocumentNode *node, const char *format,
                         ...) PRINTF_FORMAT(3, 4);

/* Store the node's value in the key's field of `object` (Settings, SettingsFeed or
 * SettingsDataset). */
MUST_CHECK int settings_value_read(const SettingsReader *reader, const SettingsKey *key,
                                   const DocumentNode *node, void *object);

/* The scalar's text; NULL, and an error that ends in `allowed`, for anything else and for nothing.
 */
const char *settings_value_text(const SettingsReader *reader, const DocumentNode *node,
                                const char *allowed);

/* Is this a name for feeds and tensors: [A-Za-z0-9._-], fewer than `bytes` of them, at least one?
 */
bool settings_value_is_name(const char *text, size_t bytes);

/* A whole number with an optional minus and no leading zeros. */
MUST_CHECK bool settings_value_parse_integer(const char *text, int64_t *ret_value);

/* A mask expression (settings_mask.c): its steps are added to the feed's. */
MUST_CHECK int settings_mask_read(const SettingsReader *reader, const DocumentNode *node,
                                  SettingsFeed *feed, SettingsTensor *tensor);
/* A list of whole numbers, added to the feed's. `what` names them in messages. */
MUST_CHECK int settings_mask_numbers(const SettingsReader *reader, const DocumentNode *node,
                                     SettingsFeed *feed, uint32_t *ret_first, uint32_t *ret_count);

/* The key `tensors`: a preset or a mapping (settings_tensor.c). */
MUST_CHECK int settings_tensor_read(const SettingsReader *reader, const DocumentNode *node,
                                    SettingsFeed *feed);

/* The key `batch.boundaries` (settings_boundaries.c). */
MUST_CHECK int settings_boundaries_read(const SettingsReader *reader, const DocumentNode *node,
                                        SettingsFeed *feed);

/* The keys `datasets` and `mix.until` (settings_datasets.c). */
MUST_CHECK int settings_datasets_read(const SettingsReader *reader, const DocumentNode *node,
                                      SettingsFeed *feed);
MUST_CHECK int settings_until_read(const SettingsReader *reader, const DocumentNode *node,
                                   SettingsFeed *feed);
void settings_datasets_free(SettingsFeed *feed);
