/* SPDX-License-Identifier: MIT */
#include "mask/token_lists.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/arithmetic.h"
#include "mask/convert.h"
#include "mask/mask_rule.h"
#include "mask/token_hash.h"

enum {
    SHORT_MAX = 16,     /* ids that are compared one by one */
    SHORT_GROUPS = 5,   /* 1, 2, 4, 8 and 16 of them at once */
    SHORTEST_MAX = 3,   /* comparing so many is faster than a hash */
    NARROW_TILE = 512,  /* three-byte tokens that are widened at once */
    TABLE_MAX = 1 << 21 /* the highest id of a list that becomes a table, plus one … */
};
#define TABLES_IN_ALL (UINT64_C(4) << 20) /* … and the bytes of all tables of a set */

typedef enum ListForm { LIST_SHORT, LIST_TABLE, LIST_SORTED } ListForm;

/* Ids that are compared one by one. */
typedef struct FewIds {
    uint32_t count, group;   /* group: the loop */
    uint64_t ids[SHORT_MAX]; /* the last one repeated */
} FewIds;

typedef struct TokenList {
    uint32_t first, count; /* in TensorSet.values */
    ListForm form;
    bool pads;          /* what stands at padding is one of them */
    uint32_t id_count;  /* distinct ids that tokens can have */
    FewIds few;         /* SHORT: all; else those that are too high for a table */
    bool apart;         /* hash or table lack those */
    uint64_t *sorted;   /* SORTED */
    uint8_t *table;     /* TABLE: the answer for each token … */
    uint64_t table_end; /* … below this, and for it, which stands for all above */
    TokenHash *hash;    /* or NULL; instead of the form where token_hash_works() */
} TokenList;

struct TokenLists {
    uint32_t count;
    TokenList lists[];
};

typedef void NoneOfFunction(const void *tokens, size_t count, const uint64_t *ids,
                            uint32_t id_count, uint8_t *to);
typedef struct TokenLoops {
    NoneOfFunction *none_of[4][SHORT_GROUPS]; /* for tokens of 1, 2, 4 and 8 bytes */
} TokenLoops;

#define LOOPS_NAME(name) name##_plain
#define LOOPS_TARGET
#include "mask/token_loops.h"
#undef LOOPS_NAME
#undef LOOPS_TARGET

#ifdef __x86_64__
#define LOOPS_NAME(name) name##_avx2
#define LOOPS_TARGET __attribute__((target("avx2")))
#include "mask/token_loops.h"
#undef LOOPS_NAME
#undef LOOPS_TARGET

/* By hand: a comparison under the mask of the last one takes one instruction an id, and the mask
 * becomes bytes in another. Compilers go through general registers. */
#define WIDE(bits, size, bytes, store)                                                           \
    LOOPS_TARGET static inline __mmask##size none_##bits##_vector(                               \
        const __m512i *wanted, uint32_t id_count, __mmask##size live, __m512i values) {          \
        for (uint32_t j = 0; j < id_count; j++)                                                  \
            live = _mm512_mask_cmpneq_epu##bits##_mask(live, values, wanted[j]);                 \
        return live;                                                                             \
    }                                                                                            \
    LOOPS_TARGET static void none_##bits##_avx512(                                               \
        const void *tokens, size_t count, const uint64_t *ids, uint32_t id_count, uint8_t *to) { \
        const uint##bits##_t *in = tokens;                                                       \
        __m512i wanted[SHORT_MAX];                                                               \
        uint64_t rest;                                                                           \
        size_t i = 0;                                                                            \
                                                                                                 \
        for (uint32_t j = 0; j < id_count; j++)                                                  \
            wanted[j] = WIDE_ALL_##bits(ids[j]);                                                 \
        for (; count - i >= (size); i += (size)) {                                               \
            __m512i values = _mm512_loadu_si512(in + i);                                         \
            __mmask##size none = none_##bits##_vector(wanted, id_count, (__mmask##size) ~0ull,   \
                                                      values);                                   \
            store((void *)(to + i), _mm##bytes##_maskz_set1_epi8(none, 1));                      \
        }                                                                                        \
        rest = (UINT64_C(1) << (count - i)) - 1;                                                 \
        if (rest) {                                                                              \
            __mmask##size live = (__mmask##size)rest;                                            \
            __m512i values = _mm512_maskz_loadu_epi##bits(live, in + i);                         \
            __mmask##size none = none_##bits##_vector(wanted, id_count, live, values);           \
            _mm##bytes##_mask_storeu_epi8(to + i, live, _mm##bytes##_maskz_set1_epi8(none, 1));  \
        }                                                                                        \
    }
#define LOOPS_TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#define WIDE_ALL_8(id) _mm512_set1_epi8((char)(id))
#define WIDE_ALL_16(id) _mm512_set1_epi16((short)(id))
#define WIDE_ALL_32(id) _mm512_set1_epi32((int)(id))
#define WIDE_ALL_64(id) _mm512_set1_epi64((long long)(id))
WIDE(8, 64, 512, _mm512_storeu_si512)
WIDE(16, 32, 256, _mm256_storeu_si256)
WIDE(32, 16, , _mm_storeu_si128)
WIDE(64, 8, , _mm_storeu_si64)
#undef LOOPS_TARGET
#undef WIDE
#undef WIDE_ALL_8
#undef WIDE_ALL_16
#undef WIDE_ALL_32
#undef WIDE_ALL_64

#define ROW(f) \
    { f, f, f, f, f }
static const TokenLoops loops_avx512 = {
    .none_of = {ROW(none_8_avx512), ROW(none_16_avx512), ROW(none_32_avx512), ROW(none_64_avx512)}};
#undef ROW

static const TokenLoops *const all_loops[] = {&loops_plain, &loops_avx2, &loops_avx512};
#else
static const TokenLoops *const all_loops[] = {&loops_plain};
#endif

/* ---- making ---- */

/* The bits of an id as a token has them. False: no token is that one. */
static bool id_bits(uint32_t element, int64_t id, uint64_t *ret_bits) {
    *ret_bits = element == ELEMENT_I32 ? (uint32_t)id : (uint64_t)id;
    switch (element) {
    case ELEMENT_U8:
        return id >= 0 && id <= UINT8_MAX;
    case ELEMENT_U16:
        return id >= 0 && id <= UINT16_MAX;
    case ELEMENT_U24:
        return id >= 0 && id < 1 << 24;
    case ELEMENT_U32:
        return id >= 0 && id <= UINT32_MAX;
    case ELEMENT_I32:
        return id >= INT32_MIN && id <= INT32_MAX;
    default:
        return true;
    }
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Those that tokens can have, sorted, each once. Returns how many. */
static uint32_t sort_ids(const TensorSet *set, const TokenList *list, uint64_t *ret_ids) {
    uint32_t fit = 0, distinct = 0;

    for (uint32_t i = 0; i < list->count; i++)
        fit += id_bits(set->token_element, set->values[list->first + i], &ret_ids[fit]);
    qsort(ret_ids, fit, sizeof *ret_ids, compare_ids);
    for (uint32_t i = 0; i < fit; i++)
        if (i == 0 || ret_ids[i] != ret_ids[i - 1])
            ret_ids[distinct++] = ret_ids[i];
    return distinct;
}

static bool has_hash(const TokenList *list) {
    return list->hash && token_hash_works();
}

static FewIds few_ids(const uint64_t *ids, uint32_t count) {
    FewIds few = {.count = count};

    for (uint32_t i = 0; i < SHORT_MAX && count; i++)
        few.ids[i] = ids[MIN(i, count - 1)];
    while (1u << few.group < count)
        few.group++;
    return few;
}

/* How many of the sorted ids a table is made of: those that are not too high, if the others are
 * few. Negative ones, such as -100 among tokens of four bytes, are the highest. */
static uint32_t count_near(const uint64_t *ids, uint32_t count) {
    uint32_t near = count;

    while (near > 0 && ids[near - 1] >= TABLE_MAX)
        near--;
    return near > 0 && count - near <= SHORT_MAX ? near : count;
}

/* A byte for every token of one or two bytes; else for those up to the highest id and one more. */
static int make_table(TokenList *list, const uint64_t *ids, uint32_t count, uint64_t end) {
    list->form = LIST_TABLE;
    list->table_end = end;
    list->table = malloc(end + 1);
    if (!list->table)
        return -ENOMEM;
    memset(list->table, 1, end + 1);
    for (uint32_t i = 0; i < count; i++)
        list->table[ids[i]] = 0;
    return 0;
}

/* Of more ids than are compared one by one; those from `near` on are high. Takes `ids`. */
static int make_long(TokenList *list, uint32_t bytes, uint64_t *ids, uint32_t near,
                     uint64_t *left) {
    uint64_t end = bytes <= 2 ? UINT64_C(1) << 8 * bytes : ids[near - 1] + 1;
    bool table = !has_hash(list) && end - 1 < TABLE_MAX && end <= *left;
    int r;

    list->few = few_ids(ids + near, list->id_count - near);
    list->apart = list->few.count && (table || has_hash(list));
    if (!table) {
        list->form = LIST_SORTED;
        list->sorted = ids;
        return 0;
    }
    *left -= end;
    r = make_table(list, ids, near, end);
    free(ids);
    return r;
}

static int make_list(const TensorSet *set, TokenList *list, uint64_t *left) {
    uint64_t *ids = malloc((list->count + (size_t)1) * sizeof *ids);
    uint32_t bytes = element_bytes(set->token_element), near;
    int r = 0;

    if (!ids)
        return -ENOMEM;
    list->id_count = near = sort_ids(set, list, ids);
    if (list->id_count > SHORT_MAX)
        near = count_near(ids, list->id_count);
    if (list->id_count > SHORTEST_MAX && token_hash_works())
        r = token_hash_make(bytes == 3 ? 4 : bytes, ids, near, &list->hash);
    if (r == 0 && list->id_count > SHORT_MAX)
        return make_long(list, bytes, ids, near, left);
    if (r == 0)
        list->few = few_ids(ids, list->id_count);
    free(ids);
    return r;
}

static bool lists_pad(const TensorSet *set, uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (set->values[first + i] == set->token_pad)
            return true;
    return false;
}

static void add_list(const TensorSet *set, TokenLists *lists, uint32_t first, uint32_t count) {
    lists->lists[lists->count++] = (TokenList){
        .first = first, .count = count, .pads = lists_pad(set, first, count)};
}

int token_lists_make(TensorSet *set) {
    size_t most = (size_t)set->step_count + set->count;
    TokenLists *lists = malloc(sizeof *lists + most * sizeof *lists->lists);
    uint64_t left = TABLES_IN_ALL;
    int r = 0;

    if (!lists)
        return -ENOMEM;
    lists->count = 0;
    for (uint32_t s = 0; s < set->step_count; s++)
        if (set->steps[s].op == MASK_TOKEN_IDS)
            add_list(set, lists, set->steps[s].first, set->steps[s].count);
    for (uint32_t t = 0; t < set->count; t++)
        if (set->tensors[t].source == TENSOR_SPECIAL)
            add_list(set, lists, set->tensors[t].first_value, set->tensors[t].value_count);
    set->token_lists = lists;
    for (uint32_t i = 0; i < lists->count && r == 0; i++)
        r = make_list(set, &lists->lists[i], &left);
    if (r < 0)
        token_lists_free(set);
    return r;
}

void token_lists_free(TensorSet *set) {
    TokenLists *lists = set->token_lists;

    for (uint32_t i = 0; lists && i < lists->count; i++) {
        free(lists->lists[i].table);
        free(lists->lists[i].hash);
        free(lists->lists[i].sorted);
    }
    free(lists);
    set->token_lists = NULL;
}

/* ---- asking ---- */

static const TokenList *find_list(const TensorSet *set, uint32_t first, uint32_t count) {
    for (uint32_t i = 0; set->token_lists && i < set->token_lists->count; i++) {
        const TokenList *list = &set->token_lists->lists[i];

        if (list->first == first && list->count == count)
            return list;
    }
    return NULL;
}

static uint64_t token_bits(uint32_t bytes, const void *tokens, size_t i) {
    return bytes == 1   ? ((const uint8_t *)tokens)[i]
           : bytes == 2 ? ((const uint16_t *)tokens)[i]
           : bytes == 4 ? ((const uint32_t *)tokens)[i]
                        : ((const uint64_t *)tokens)[i];
}

/* Called with constants for `bytes`, so that each call becomes a loop of its own. */
static inline __attribute__((always_inline)) void
ask_table(const TokenList *list, uint32_t bytes, const void *tokens, size_t count, uint8_t *to) {
    const uint8_t *table = list->table;

    for (size_t i = 0; i < count; i++) {
        uint64_t token = token_bits(bytes, tokens, i);

        if (bytes > 2)
            token = MIN(token, list->table_end);
        to[i] = table[token];
    }
}

static void ask_sorted(const TokenList *list, uint32_t bytes, const void *tokens, size_t count,
                       uint8_t *to) {
    for (size_t i = 0; i < count; i++) {
        uint64_t token = token_bits(bytes, tokens, i);
        const uint64_t *at = list->sorted;

        for (uint32_t left = list->id_count; left > 1; left -= left / 2)
            at += at[left / 2] <= token ? left / 2 : 0;
        to[i] = *at != token;
    }
}

static void ask_few(const FewIds *few, uint32_t bytes, const void *tokens, size_t count,
                    uint8_t *to) {
    uint32_t width = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;

    all_loops[convert_level()]->none_of[width][few->group](tokens, count, few->ids, few->count, to);
}

/* All ids, or those that the list's table has. */
static void ask_form(const TokenList *list, uint32_t bytes, const void *tokens, size_t count,
                     uint8_t *to) {
    if (list->id_count == 0)
        memset(to, 1, count);
    else if (has_hash(list))
        token_hash_answer(list->hash, bytes, tokens, count, to);
    else if (list->form == LIST_SHORT)
        ask_few(&list->few, bytes, tokens, count, to);
    else if (list->form == LIST_SORTED)
        ask_sorted(list, bytes, tokens, count, to);
    else if (bytes == 1)
        ask_table(list, 1, tokens, count, to);
    else if (bytes == 2)
        ask_table(list, 2, tokens, count, to);
    else if (bytes == 4)
        ask_table(list, 4, tokens, count, to);
    else
        ask_table(list, 8, tokens, count, to);
}

static void ask_both(const TokenList *list, uint32_t bytes, const uint8_t *tokens, size_t count,
                     uint8_t *to) {
    uint8_t few[NARROW_TILE];

    ask_form(list, bytes, tokens, count, to);
    for (size_t at = 0, size; at < count; at += size) {
        size = MIN(count - at, sizeof few);
        ask_few(&list->few, bytes, tokens + at * bytes, size, few);
        for (size_t i = 0; i < size; i++)
            to[at + i] &= few[i];
    }
}

/* Tokens of 1, 2, 4 or 8 bytes. */
static void ask(const TokenList *list, uint32_t bytes, const void *tokens, size_t count,
                uint8_t *to) {
    if (list->apart)
        ask_both(list, bytes, tokens, count, to);
    else
        ask_form(list, bytes, tokens, count, to);
}

static void ask_tokens(const TokenList *list, uint32_t element, const uint8_t *tokens, size_t count,
                       uint8_t *to) {
    ConvertFunction *widen = convert_find(ELEMENT_U24, SEQFEED_INT32);
    uint32_t wide[NARROW_TILE];

    assert(!element_is_float((uint8_t)element));
    if (element != ELEMENT_U24) {
        ask(list, element_bytes((uint8_t)element), tokens, count, to);
        return;
    }
    for (size_t at = 0, part; at < count; at += part) {
        part = MIN(count - at, (size_t)NARROW_TILE);
        widen(wide, tokens + 3 * at, part);
        ask(list, sizeof *wide, wide, part, to + at);
    }
}

void token_lists_answer(const TensorSet *set, uint32_t first, uint32_t count, const uint8_t *tokens,
                        size_t token_count, uint8_t *ret_answers) {
    const TokenList *ready = find_list(set, first, count);
    uint8_t part[NARROW_TILE];

    if (ready) {
        ask_tokens(ready, set->token_element, tokens, token_count, ret_answers);
        return;
    }
    /* As many ids at a time as one loop takes. */
    memset(ret_answers, 1, token_count);
    for (uint32_t at = 0; at < count; at += SHORT_MAX) {
        TokenList list = {.first = first + at, .count = MIN(count - at, (uint32_t)SHORT_MAX)};
        uint64_t ids[SHORT_MAX];

        list.id_count = sort_ids(set, &list, ids);
        list.few = few_ids(ids, list.id_count);
        for (size_t done = 0, size; done < token_count; done += size) {
            size = MIN(token_count - done, sizeof part);
            ask_tokens(&list, set->token_element, tokens + done * element_bytes(set->token_element),
                       size, part);
            for (size_t i = 0; i < size; i++)
                ret_answers[done + i] &= part[i];
        }
    }
}

bool token_lists_pad(const TensorSet *set, uint32_t first, uint32_t count) {
    const TokenList *ready = find_list(set, first, count);

    return ready ? ready->pads : lists_pad(set, first, count);
}
