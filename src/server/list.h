/* SPDX-License-Identifier: MIT */
/* list.h: a ring of links that live inside the objects they connect. The head is a link too. */
#pragma once

#include <stdbool.h>

#include "base/attributes.h"

typedef struct List {
    struct List *next, *previous;
} List;

/* Walks the links after `head`; the current one may be removed and freed meanwhile, no other. */
#define LIST_FOR_EACH(link, head)                                                     \
    for (List * (link) = (head)->next, *link##_next = (link)->next; (link) != (head); \
         (link) = link##_next, link##_next = (link)->next)

static inline void list_init(List *list) {
    list->next = list;
    list->previous = list;
}

static inline bool list_is_empty(const List *head) {
    return head->next == head;
}

static inline void list_append(List *head, List *link) {
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

/* A removed link is its own list, so removing twice does nothing. */
static inline void list_remove(List *link) {
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}
