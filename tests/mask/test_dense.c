/* SPDX-License-Identifier: MIT */
/* Dense masks of random steps, in the cache and past it, on every kind of CPU, against their steps
 * worked out for one query and one place at a time. */
#include "mask/dense.h"

#include <stdlib.h>
#include <string.h>

#include "base/arithmetic.h"
#include "base/random.h"
#include "mask/convert.h"
#include "mask/mask_rule.h"
#include "mask/token_lists.h"
#include "support/check_main.h"

enum { LEVELS = 3, SHORT_ROUNDS = 1500, LONG_ROUNDS = 9, TOKENS = 9000, SEQUENCES = 9, GUARD = 64 };

static uint16_t tokens[TOKENS];
static uint32_t draw_seed, draw_count;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

typedef struct Case {
    TensorSet set;
    FillRow rows[SEQUENCES];
    uint32_t begins[SEQUENCES]; /* where each stands */
    uint32_t count, length;
} Case;

/* One row: nothing, a sequence, or of a packed set several. */
static void make_row(Case *test, const uint8_t *const *columns) {
    uint32_t most = test->set.packed ? draw(SEQUENCES + 1) : draw(8) > 0, real = 0, begin;

    for (uint32_t s = 0; s < most; s++) {
        FillRow *row = &test->rows[test->count];

        *row = (FillRow){.columns = columns, .start = draw(TOKENS - test->length + 1)};
        row->length = draw(test->length - real + 1);
        if (draw(4) == 0) /* to the end, or to the middle of a vector */
            row->length = draw(2) ? test->length - real : row->length / 64 * 64;
        if (test->set.packed && row->length == 0)
            continue;
        real += row->length;
        test->count++;
    }
    begin = mask_rule_begin(test->set.side, test->length, real);
    for (uint32_t s = 0; s < test->count; s++) {
        test->begins[s] = begin;
        begin += test->rows[s].length;
    }
}

static void add_step(TensorSet *set, MaskStep step) {
    set->steps[set->step_count++] = step;
}

/* A step, the list that it needs, and sometimes its opposite. */
static void make_leaf(Case *test) {
    static const uint32_t ops[] = {MASK_TRUE,   MASK_LENGTHS,  MASK_CAUSAL,  MASK_CAUSAL,
                                   MASK_WINDOW, MASK_SEGMENTS, MASK_INDICES, MASK_TOKEN_IDS};
    TensorSet *set = &test->set;
    MaskStep step = {.op = ops[draw(ARRAY_COUNT(ops))], .first = set->value_count};

    if (step.op == MASK_WINDOW)
        step.count = 1 + draw(test->length + 3);
    if (step.op == MASK_INDICES || step.op == MASK_TOKEN_IDS) {
        step.count = draw(5);
        for (uint32_t i = 0; i < step.count; i++)
            set->values[set->value_count++] = step.op == MASK_INDICES
                                                  ? (int64_t)draw(2 * test->length) - test->length
                                                  : draw(8);
    }
    add_step(set, step);
    if (draw(step.op >= MASK_INDICES && step.op != MASK_SEGMENTS ? 4 : 30) == 0)
        add_step(set, (MaskStep){.op = MASK_NOT});
}

static void make_mask(Case *test) {
    TensorSpec *spec = &test->set.tensors[0];
    uint32_t leaves = 1 + draw(draw(4) ? 5 : 14), pending = 0;

    *spec = (TensorSpec){.source = TENSOR_MASK_DENSE, .width = 1};
    spec->dtype = 1 + draw(SEQFEED_DTYPE_COUNT - 1);
    spec->polarity = 1 + draw(3);
    spec->pad = (int64_t)((uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX));
    while (leaves > 0 || pending > 1) {
        if (pending > 1 && (leaves == 0 || draw(2))) {
            add_step(&test->set, (MaskStep){.op = draw(draw(2) ? 3 : 30) ? MASK_AND : MASK_OR});
            pending--;
        } else {
            make_leaf(test);
            pending++;
            leaves--;
        }
    }
    spec->step_count = test->set.step_count;
}

/* The sequence that stands at a place, or -1. */
static int32_t sequence_at(const Case *test, uint32_t place) {
    for (uint32_t s = 0; s < test->count; s++)
        if (place - test->begins[s] < test->rows[s].length)
            return (int32_t)s;
    return -1;
}

static bool is_listed(const Case *test, const MaskStep *step, int64_t value, uint32_t size) {
    for (uint32_t i = 0; i < step->count; i++) {
        int64_t listed = test->set.values[step->first + i];

        if (listed == value || (size && listed < 0 && listed + size == value))
            return true;
    }
    return false;
}

static bool leaf_keeps(const Case *test, const int32_t *owners, const MaskStep *step,
                       uint32_t query, uint32_t place) {
    int32_t owner = owners[place];
    int64_t token = test->set.token_pad;

    switch (step->op) {
    case MASK_LENGTHS:
        return owner >= 0;
    case MASK_CAUSAL:
        return place <= query;
    case MASK_WINDOW:
        return (uint64_t)place + step->count > query;
    case MASK_SEGMENTS:
        return owner >= 0 && owner == owners[query];
    case MASK_INDICES:
        return !is_listed(test, step, place, test->length);
    case MASK_TOKEN_IDS:
        if (owner >= 0)
            token = tokens[test->rows[owner].start + place - test->begins[owner]];
        return !is_listed(test, step, token, 0);
    default:
        return step->op == MASK_TRUE;
    }
}

static bool keeps(const Case *test, const int32_t *owners, uint32_t query, uint32_t place) {
    bool stack[TENSOR_DEPTH_MAX] = {0};
    uint32_t top = 0;

    for (uint32_t s = 0; s < test->set.step_count; s++) {
        const MaskStep *step = &test->set.steps[s];

        if (step->op == MASK_NOT) {
            stack[top - 1] = !stack[top - 1];
        } else if (step->op == MASK_AND || step->op == MASK_OR) {
            top--;
            stack[top - 1] = step->op == MASK_AND ? stack[top - 1] && stack[top]
                                                  : stack[top - 1] || stack[top];
        } else {
            stack[top++] = leaf_keeps(test, owners, step, query, place);
        }
    }
    return stack[0];
}

static void reference_fill(const Case *test, uint8_t *to) {
    const TensorSpec *spec = &test->set.tensors[0];
    uint32_t bytes = tensor_dtype_bytes(spec->dtype), stride;
    int32_t *owners = malloc(sizeof *owners * test->length);

    stride = (uint32_t)tensor_dense_stride(test->length);
    for (uint32_t place = 0; place < test->length; place++)
        owners[place] = sequence_at(test, place);
    for (uint32_t query = 0; query < test->length; query++) {
        for (uint32_t place = 0; place < stride; place++, to += bytes) {
            uint64_t bits = 0;

            if (place < test->length)
                bits = mask_rule_bits(spec->dtype, spec->polarity, (uint64_t)spec->pad,
                                      keeps(test, owners, query, place));
            memcpy(to, &bits, bytes);
        }
    }
    free(owners);
}

static void check_level(const Case *test, const uint8_t *want, uint8_t *memory, uint64_t size,
                        uint32_t begin) {
    uint64_t before = GUARD + begin;

    memset(memory, 0xa5, size + before + GUARD);
    dense_fill(&test->set, &test->set.tensors[0], test->rows, test->count, test->length,
               memory + before);
    for (uint64_t i = 0; i < before + GUARD; i++)
        if (memory[i < before ? i : size + i] != 0xa5)
            ck_abort_msg("seed %u, level %d: around the mask", draw_seed, convert_level());
    if (memcmp(memory + before, want, size) == 0)
        return;
    for (uint64_t i = 0; i < size; i++)
        if (memory[before + i] != want[i])
            ck_abort_msg("seed %u, level %d, rows %u: byte %lu of length %u, dtype %u", draw_seed,
                         convert_level(), test->set.rows_max, (unsigned long)i, test->length,
                         test->set.tensors[0].dtype);
}

static void check_levels(Case *test, uint32_t begin) {
    uint64_t size = tensor_row_bytes(&test->set.tensors[0], test->length);
    uint8_t *want = malloc(size);
    uint8_t *memory = aligned_alloc(GUARD, align_up(size + 3 * GUARD, GUARD));

    reference_fill(test, want);
    for (int level = 0; level < LEVELS; level++) {
        if (convert_set_level(level) != level)
            continue;
        for (uint32_t past_cache = 0; past_cache < 2; past_cache++) {
            test->set.rows_max = past_cache << 30; /* so many rows that they do not stay in it */
            check_level(test, want, memory, size, begin);
        }
    }
    free(want);
    free(memory);
}

static void check_case(uint32_t seed, uint32_t length) {
    const uint8_t *columns[] = {(const uint8_t *)tokens, NULL, NULL};
    static Case test;

    test = (Case){.length = length};
    draw_seed = seed;
    draw_count = 0;
    test.set = (TensorSet){
        .count = 1, .side = draw(2), .packed = draw(2), .token_element = ELEMENT_U16};
    test.set.token_pad = draw(8);
    make_row(&test, columns);
    make_mask(&test);
    check_levels(&test, draw(4) * 16);
}

static void make_tokens(void) {
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (uint16_t)(random_philox(1, i, 0, 0, 0).word[0] % 10);
}

START_TEST(dense_masks_hold_what_their_steps_say_of_each_query_and_place)
{
    make_tokens();
    for (uint32_t seed = 0; seed < SHORT_ROUNDS; seed++)
        check_case(seed, 1 + random_below(random_philox(3, seed, 0, 0, 0).word[0], 140));
}
END_TEST

/* Longer than what is worked out of a line at once, for elements of eight bytes. */
START_TEST(dense_masks_of_long_rows_are_no_different)
{
    static const uint32_t lengths[] = {2047, 2048, 2049, 2064, 1023, 1024, 1040, 2500, 300};

    make_tokens();
    for (uint32_t seed = 0; seed < LONG_ROUNDS; seed++)
        check_case(SHORT_ROUNDS + seed, lengths[seed % ARRAY_COUNT(lengths)]);
}
END_TEST

/* Lines of these are copied from all of what was worked out at once, and from both places where it
 * lies: rows are not whole pages. */
START_TEST(copied_lines_are_right_to_their_last_byte)
{
    static const uint32_t lengths[] = {2100, 1100}, joins[] = {MASK_AND, MASK_OR};
    const uint8_t *columns[] = {(const uint8_t *)tokens, NULL, NULL};
    static Case test;

    make_tokens();
    for (uint32_t mask = 0; mask < ARRAY_COUNT(joins); mask++) {
        test = (Case){.length = lengths[mask], .rows = {{.columns = columns}}, .count = 1};
        test.rows[0].length = test.length;
        test.set = (TensorSet){.count = 1, .token_element = ELEMENT_U16, .values = {3, 5, 7}};
        test.set.tensors[0] = (TensorSpec){.source = TENSOR_MASK_DENSE,
                                           .width = 1,
                                           .dtype = SEQFEED_INT64,
                                           .polarity = SEQFEED_POLARITY_KEEP,
                                           .step_count = 3};
        add_step(&test.set, (MaskStep){.op = MASK_CAUSAL});
        add_step(&test.set, (MaskStep){.op = MASK_TOKEN_IDS, .count = 3});
        add_step(&test.set, (MaskStep){.op = joins[mask]});
        check_levels(&test, 0);
    }
}
END_TEST

CHECK_MAIN("dense", dense_masks_hold_what_their_steps_say_of_each_query_and_place,
           dense_masks_of_long_rows_are_no_different, copied_lines_are_right_to_their_last_byte)
