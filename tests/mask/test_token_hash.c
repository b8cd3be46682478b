/* SPDX-License-Identifier: MIT */
/* Tables of ids of every length against looking through the ids, for tokens that are ids, nearly
 * are, or have bits of one. */
#include "mask/token_hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "mask/convert.h"
#include "support/check_main.h"

enum { ROUNDS = 600, TOKENS = 400, IDS = 1600, LEVEL = 2 };

static const uint64_t table_end = UINT64_C(1) << 21;
static uint32_t draw_seed, draw_count;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

static bool is_listed(const uint64_t *ids, uint32_t count, uint64_t token) {
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == token)
            return true;
    return false;
}

/* Distinct ids; now and then they lie side by side, or at the ends. */
static uint32_t make_ids(uint64_t *ids, uint64_t end) {
    uint32_t wanted = 1 + draw(draw(2) ? 40 : IDS), count = 0;
    uint64_t base = draw((uint32_t)end);
    bool dense = draw(3) == 0;

    for (uint32_t i = 0; i < wanted; i++) {
        uint64_t id = dense ? (base + i) % end : draw((uint32_t)end);

        if (draw(20) == 0)
            id = draw(2) ? 0 : end - 1;
        if (!is_listed(ids, count, id))
            ids[count++] = id;
    }
    return count;
}

static uint64_t draw_token(const uint64_t *ids, uint32_t count) {
    uint64_t token = ids[draw(count)];

    switch (draw(5)) {
    case 0:
        return token + draw(5) - 2;
    case 1:
        return token ^ UINT64_C(1) << draw(64);
    case 2:
        return token + table_end * draw(5);
    case 3:
        return (uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX);
    default:
        return token;
    }
}

static void check_answers(const TokenHash *hash, uint32_t bytes, const uint64_t *ids,
                          uint32_t id_count) {
    uint32_t count = draw(TOKENS);
    uint8_t *tokens = calloc(count + 1, bytes), answers[TOKENS + 2];

    memset(answers, 0xa5, sizeof answers);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t token = draw_token(ids, id_count);

        memcpy(tokens + i * bytes, &token, bytes);
    }
    token_hash_answer(hash, bytes, tokens, count, answers + 1);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t token = 0;

        memcpy(&token, tokens + i * bytes, bytes);
        if (answers[1 + i] != !is_listed(ids, id_count, token))
            ck_abort_msg("seed %u: token %lu of %u bytes, %u ids", draw_seed, (unsigned long)token,
                         bytes, id_count);
    }
    ck_assert_uint_eq(answers[0], 0xa5);
    ck_assert_uint_eq(answers[count + 1], 0xa5);
    free(tokens);
}

START_TEST(a_table_finds_its_ids_and_nothing_else)
{
    static uint64_t ids[IDS];
    uint32_t tables = 0;

    if (convert_set_level(LEVEL) != LEVEL)
        return; /* no CPU for it; those that there are have the tests of token_lists */
    ck_assert(token_hash_works());
    for (draw_seed = 0; draw_seed < ROUNDS; draw_seed++) {
        uint32_t bytes = 2u << draw_seed % 3, count;
        TokenHash *hash;

        draw_count = 0;
        count = make_ids(ids, bytes == 2 ? 1 << 16 : table_end);
        ck_assert_int_eq(token_hash_make(bytes, ids, count, &hash), 0);
        if (hash)
            check_answers(hash, bytes, ids, count);
        tables += hash != NULL;
        free(hash);
    }
    ck_assert_uint_gt(tables, ROUNDS / 2);
    (void)convert_set_level(0);
    ck_assert(!token_hash_works());
}
END_TEST

START_TEST(what_no_table_can_hold_gets_none)
{
    static uint64_t ids[2 * IDS];
    TokenHash *hash;

    for (uint32_t i = 0; i < 2 * IDS; i++)
        ids[i] = i;
    ck_assert_int_eq(token_hash_make(2, ids, 0, &hash), 0);
    ck_assert_ptr_null(hash);
    ck_assert_int_eq(token_hash_make(1, ids, 20, &hash), 0);
    ck_assert_ptr_null(hash);
    ck_assert_int_eq(token_hash_make(2, ids, 2 * IDS, &hash), 0);
    ck_assert_ptr_null(hash);
    ids[3] = table_end;
    ck_assert_int_eq(token_hash_make(4, ids, 4, &hash), 0);
    ck_assert_ptr_null(hash);
    ids[3]--;
    ck_assert_int_eq(token_hash_make(4, ids, 4, &hash), 0);
    ck_assert_ptr_nonnull(hash);
    free(hash);
}
END_TEST

CHECK_MAIN("token_hash", a_table_finds_its_ids_and_nothing_else, what_no_table_can_hold_gets_none)
