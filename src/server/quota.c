/* SPDX-License-Identifier: MIT */
/* Shares as dbus-broker thinks of them. Of what the others have left, a user who asks may hold one
 * part in n + 1, where n counts all users with the one who asks: the first user gets a half of the
 * pool, the second a third of the rest (a sixth), the next a quarter of that (a twelfth): between
 * 1/n and 1/n². These add up to n/(n + 1), so something is always left for one more user, and what
 * a user may have depends on his neighbours' number, not on how greedy they are. */
#include "server/quota.h"

#include <assert.h>
#include <stdlib.h>

void quota_init(Quota *quota, uint32_t limit) {
    *quota = (Quota){.limit = limit};
}

void quota_deinit(Quota *quota) {
    free(quota->users);
    *quota = (Quota){0};
}

static QuotaUser *find_user(const Quota *quota, uid_t uid) {
    for (uint32_t i = 0; i < quota->user_count; i++)
        if (quota->users[i].uid == uid)
            return &quota->users[i];
    return NULL;
}

uint32_t quota_share(const Quota *quota, uid_t uid) {
    const QuotaUser *user = find_user(quota, uid);
    uint32_t others = quota->used - (user ? user->used : 0);
    uint32_t users = quota->user_count + (user ? 0 : 1);

    return (quota->limit - others) / (users + 1);
}

static QuotaUser *add_user(Quota *quota, uid_t uid) {
    if (quota->user_count == quota->user_capacity) {
        uint32_t capacity = quota->user_capacity ? 2 * quota->user_capacity : 8;
        QuotaUser *users = realloc(quota->users, capacity * sizeof(QuotaUser));
        if (!users)
            return NULL;
        quota->users = users;
        quota->user_capacity = capacity;
    }
    quota->users[quota->user_count] = (QuotaUser){.uid = uid};
    return &quota->users[quota->user_count++];
}

bool quota_take(Quota *quota, uid_t uid) {
    QuotaUser *user = find_user(quota, uid);

    if ((user ? user->used : 0) >= quota_share(quota, uid))
        return false;
    if (!user)
        user = add_user(quota, uid);
    if (!user)
        return false;
    user->used++;
    quota->used++;
    return true;
}

void quota_give_back(Quota *quota, uid_t uid) {
    QuotaUser *user = find_user(quota, uid);

    assert(user && user->used > 0 && quota->used > 0);
    quota->used--;
    if (--user->used == 0)
        *user = quota->users[--quota->user_count];
}
