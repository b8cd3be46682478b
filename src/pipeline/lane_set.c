/* SPDX-License-Identifier: MIT */
#include "pipeline/lane_set.h"

#include <stdatomic.h>
#include <stdlib.h>

LaneSet *lane_set_new(uint32_t count) {
    LaneSet *set = calloc(1, sizeof *set);

    if (!set)
        return NULL;
    atomic_init(&set->references, 1);
    set->count = count;
    set->slots = calloc(count, sizeof *set->slots);
    set->lanes = calloc(count, sizeof *set->lanes);
    if (set->slots && set->lanes)
        return set;
    lane_set_unref(set);
    return NULL;
}

void lane_set_ref(LaneSet *set) {
    atomic_fetch_add(&set->references, 1);
}

void lane_set_unref(LaneSet *set) {
    if (!set || atomic_fetch_sub(&set->references, 1) > 1)
        return;
    free(set->slots);
    free(set->lanes);
    free(set->memories);
    free(set);
}

void lane_set_free_lanes(LaneSet *set, const MaskBackend *backend) {
    for (uint32_t i = 0; i < set->count; i++) {
        backend->lane_free(set->lanes[i]);
        set->lanes[i] = NULL;
    }
}

void lane_set_push(LaneSet **list, LaneSet *set) {
    LaneSet **link = list;

    while (*link)
        link = &(*link)->next;
    set->next = NULL;
    *link = set;
}

LaneSet *lane_set_pop(LaneSet **list) {
    LaneSet *set = *list;

    if (set)
        *list = set->next;
    return set;
}

bool lane_set_remove(LaneSet **list, const LaneSet *set) {
    for (LaneSet **link = list; *link; link = &(*link)->next)
        if (*link == set) {
            *link = set->next;
            return true;
        }
    return false;
}
