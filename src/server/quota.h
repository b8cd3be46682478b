/* SPDX-License-Identifier: MIT */
/* quota.h: a pool that users share so that no one can take it all, however many descriptors or
 * processes he has. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attributes.h"

typedef struct QuotaUser {
    uid_t uid;
    uint32_t used;
} QuotaUser;

typedef struct Quota {
    uint32_t limit; /* of the pool */
    uint32_t used;
    QuotaUser *users; /* those who hold something; unsorted */
    uint32_t user_count, user_capacity;
} Quota;

void quota_init(Quota *quota, uint32_t limit);
void quota_deinit(Quota *quota);

/* How much `uid` may hold now, with what it holds already. */
uint32_t quota_share(const Quota *quota, uid_t uid);

/* Take one; false when the share is used up (or there is no memory to note it). */
MUST_CHECK bool quota_take(Quota *quota, uid_t uid);
void quota_give_back(Quota *quota, uid_t uid);
