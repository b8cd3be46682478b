/* SPDX-License-Identifier: MIT */
/* Lists of every length and form, for tokens of every type, against looking through the list. */
#include "mask/token_lists.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "mask/convert.h"
#include "mask/mask_rule.h"
#include "support/check_main.h"

enum { TOKENS = 700, ROUNDS = 400, LEVELS = 3 };

static const uint8_t elements[] = {ELEMENT_U8,  ELEMENT_U16, ELEMENT_U24,
                                   ELEMENT_U32, ELEMENT_I32, ELEMENT_I64};
static uint32_t draw_seed, draw_count;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

/* Small ones, ones at the ends of the types, and any. */
static int64_t draw_id(void) {
    static const int64_t ends[] = {-1,
                                   0,
                                   255,
                                   256,
                                   65535,
                                   65536,
                                   (1 << 21) - 1,
                                   1 << 21,
                                   (1 << 24) - 1,
                                   1 << 24,
                                   INT32_MAX,
                                   UINT32_MAX,
                                   INT32_MIN,
                                   INT64_MAX,
                                   INT64_MIN};

    switch (draw(4)) {
    case 0:
        return ends[draw(ARRAY_COUNT(ends))];
    case 1:
        return (int64_t)((uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX));
    default:
        return (int64_t)draw(draw(2) ? 60 : 70000);
    }
}

static int is_none_of(const TensorSet *set, uint32_t first, uint32_t count, int64_t token) {
    for (uint32_t i = 0; i < count; i++)
        if (set->values[first + i] == token)
            return 0;
    return 1;
}

static void check_answers(const TensorSet *set, uint32_t first, uint32_t count,
                          const uint8_t *tokens, uint32_t token_count) {
    uint32_t bytes = element_bytes(set->token_element);
    uint8_t answers[TOKENS + 2];

    memset(answers, 0xa5, sizeof answers);
    token_lists_answer(set, first, count, tokens, token_count, answers + 1);
    for (uint32_t i = 0; i < token_count; i++) {
        int64_t token = mask_rule_integer(set->token_element, tokens + i * bytes);

        if (answers[1 + i] != is_none_of(set, first, count, token))
            ck_abort_msg("seed %u: token %ld of type %u, list of %u", draw_seed, (long)token,
                         set->token_element, count);
    }
    ck_assert_uint_eq(answers[0], 0xa5);
    ck_assert_uint_eq(answers[token_count + 1], 0xa5);
    ck_assert_int_eq(token_lists_pad(set, first, count),
                     !is_none_of(set, first, count, set->token_pad));
}

static void check_lists(const TensorSet *set, uint32_t lists, const uint8_t *tokens,
                        uint32_t count) {
    for (int level = 0; level < LEVELS; level++) {
        (void)convert_set_level(level);
        for (uint32_t s = 0; s < lists; s++)
            check_answers(set, set->steps[s].first, set->steps[s].count, tokens, count);
    }
}

/* Of ids of all sizes; or of such as a table has, and few of those that none has. */
static void add_list(TensorSet *set) {
    uint32_t length = draw(2) ? draw(20) : draw(draw(5) ? 400 : 1300);
    uint32_t high = draw(2) ? length : draw(draw(2) ? 4 : 19);

    set->steps[set->step_count++] = (MaskStep){
        .op = MASK_TOKEN_IDS, .first = set->value_count, .count = length};
    for (uint32_t i = 0; i < length; i++)
        set->values[set->value_count++] = i < high ? draw_id() : (int64_t)draw(70000);
}

static void check_round(TensorSet *set) {
    uint32_t lists = 1 + draw(3), count = draw(TOKENS + 1), bytes;
    uint8_t *tokens;

    *set = (TensorSet){.token_element = elements[draw(ARRAY_COUNT(elements))],
                       .token_pad = draw_id()};
    for (uint32_t list = 0; list < lists; list++)
        add_list(set);
    bytes = element_bytes(set->token_element);
    tokens = malloc(count * bytes + 1); /* exactly: reading beyond is found with a sanitizer */
    for (uint32_t i = 0; i < count; i++) {
        int64_t id = set->value_count && draw(2) ? set->values[draw(set->value_count)] : draw_id();

        memcpy(tokens + i * bytes, &id, bytes);
    }
    check_lists(set, lists, tokens, count);
    for (int level = 0; level < LEVELS; level++) { /* what becomes of lists depends on it */
        (void)convert_set_level(level);
        ck_assert_int_eq(token_lists_make(set), 0);
        check_lists(set, lists, tokens, count);
        token_lists_free(set);
    }
    free(tokens);
}

START_TEST(every_list_finds_its_tokens_and_no_others)
{
    static TensorSet set;

    for (draw_seed = 0; draw_seed < ROUNDS; draw_seed++) {
        draw_count = 0;
        check_round(&set);
    }
}
END_TEST

CHECK_MAIN("token_lists", every_list_finds_its_tokens_and_no_others)
