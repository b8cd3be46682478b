/* SPDX-License-Identifier: MIT */
/* Every tensor of random feeds, written by the CPU backend in its tiles and runs, against the
 * element-by-element definition that devices run: mask_cell_chunk() over the launch geometry. */
#include "support/check_main.h"

#include <string.h>

#include "base/arithmetic.h"
#include "base/attributes.h"
#include "base/random.h"
#include "mask/cell_pack.h"
#include "mask/compute.h"
#include "mask/convert.h"
#include "mask/fill.h"

enum { ROUNDS = 5000, GUARD = 256, SEQUENCES = 12, COLUMNS = 5, THREADS = 64, LENGTH = 40 };
/* Columns: tokens; per token, width 2; per sequence; holes (ragged); spans (ragged pairs). */
enum { COLUMN_WEIGHTS = 1, COLUMN_LABEL, COLUMN_HOLES, COLUMN_SPANS };

typedef struct Case {
    TensorSet set;
    TensorLayout layout;
    uint8_t tokens[SEQUENCES * LENGTH * 8], weights[SEQUENCES * LENGTH * 2 * 4];
    uint8_t labels[SEQUENCES * 8];
    int32_t holes[SEQUENCES * 4], spans[SEQUENCES * 8];
    uint32_t hole_counts[SEQUENCES], span_counts[SEQUENCES], lengths[SEQUENCES];
    const uint8_t *columns[2 * COLUMNS + 1];
    FillRow rows[SEQUENCES];
    uint32_t count, row_count, length;
} Case;

static uint32_t draw_seed, draw_count;

static uint32_t draw(uint32_t bound) {
    return random_below(random_philox(draw_seed, draw_count++, 0, 0, 0).word[0], bound);
}

static void make_data(Case *test) {
    uint32_t holes = 0, spans = 0;

    for (size_t i = 0; i < sizeof test->weights; i++)
        test->weights[i] = (uint8_t)draw(256);
    for (size_t i = 0; i < sizeof test->labels; i++)
        test->labels[i] = (uint8_t)draw(256);
    for (size_t i = 0; i < sizeof test->tokens; i++) /* small numbers, so that lists find some */
        test->tokens[i] = draw(3) ? 0 : (uint8_t)draw(6);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        test->lengths[s] = draw(4) ? draw(LENGTH) : 0;
        test->hole_counts[s] = draw(4);
        test->span_counts[s] = draw(3);
        for (uint32_t i = 0; i < test->hole_counts[s]; i++)
            test->holes[holes++] = (int32_t)draw(60) - 30;
        for (uint32_t i = 0; i < test->span_counts[s]; i++) {
            test->spans[spans++] = (int32_t)draw(LENGTH) - 4;
            test->spans[spans++] = (int32_t)draw(LENGTH + 9);
        }
    }
}

static void make_steps(Case *test, TensorSpec *spec) {
    TensorSet *set = &test->set;
    uint32_t pending = 0, leaves = 1 + draw(4);

    spec->first_step = set->step_count;
    while (leaves > 0 || pending > 1) {
        MaskStep step = {.op = draw(MASK_TOKEN_IDS + 1)};

        if (pending > 1 && (leaves == 0 || draw(2))) {
            step.op = draw(3) ? MASK_AND : MASK_OR;
            pending--;
        } else {
            bool is_list = step.op == MASK_INDICES || step.op == MASK_TOKEN_IDS;

            step.count = step.op == MASK_WINDOW ? 1 + draw(LENGTH) : ELEMENT_I32;
            step.first = COLUMN_HOLES;
            if (is_list) {
                step.first = set->value_count;
                step.count = draw(4);
                for (uint32_t i = 0; i < step.count; i++)
                    set->values[set->value_count++] = (int64_t)draw(40) - 10;
            }
            pending++;
            leaves--;
        }
        set->steps[set->step_count++] = step;
        if (draw(5) == 0)
            set->steps[set->step_count++] = (MaskStep){.op = MASK_NOT};
    }
    spec->step_count = set->step_count - spec->first_step;
}

static uint32_t draw_dtype(uint32_t element) {
    uint32_t dtype;

    do
        dtype = 1 + draw(SEQFEED_DTYPE_COUNT - 1);
    while (!tensor_dtype_allows((uint8_t)element, dtype));
    return dtype;
}

static void make_tensor(Case *test, TensorSpec *spec, uint32_t weights) {
    static const TensorSource sources[] = {
        TENSOR_TOKENS,       TENSOR_TOKEN_COLUMN, TENSOR_SEQUENCE_COLUMN, TENSOR_LENGTHS,
        TENSOR_MASK_LENGTHS, TENSOR_MASK,         TENSOR_MASK_DENSE,      TENSOR_APPLY,
        TENSOR_POSITIONS,    TENSOR_TYPES,        TENSOR_LABELS,          TENSOR_LOSS_MASK,
        TENSOR_SPECIAL};

    *spec = (TensorSpec){.source = sources[draw(ARRAY_COUNT(sources))], .width = 1};
    spec->element = test->set.token_element;
    if (spec->source == TENSOR_TOKEN_COLUMN || (spec->source == TENSOR_APPLY && draw(2))) {
        spec->column = COLUMN_WEIGHTS;
        spec->element = (uint8_t)weights;
        spec->width = 2;
    } else if (spec->source == TENSOR_SEQUENCE_COLUMN) {
        spec->column = COLUMN_LABEL;
        spec->element = ELEMENT_I64;
    }
    spec->pad = (int64_t)draw(UINT32_MAX) - INT32_MAX;
    spec->dtype = 1 + draw(SEQFEED_DTYPE_COUNT - 1);
    spec->shift = draw(2);
    spec->multiply = draw(2);
    if (spec->source == TENSOR_TOKENS || spec->source == TENSOR_TOKEN_COLUMN ||
        spec->source == TENSOR_SEQUENCE_COLUMN || spec->source == TENSOR_APPLY)
        spec->dtype = draw_dtype(spec->element);
    if (spec->source == TENSOR_LENGTHS || spec->source == TENSOR_POSITIONS ||
        spec->source == TENSOR_TYPES || spec->source == TENSOR_LABELS)
        spec->dtype = spec->source == TENSOR_LABELS ? SEQFEED_INT64
                      : draw(2)                     ? SEQFEED_INT32
                                                    : SEQFEED_INT64;
    if (spec->source == TENSOR_LABELS || spec->source == TENSOR_LOSS_MASK) {
        spec->has_spans = draw(2);
        spec->spans = COLUMN_SPANS;
        spec->spans_element = ELEMENT_I32;
        spec->spans_width = 2;
    }
    if (spec->source == TENSOR_SPECIAL) {
        spec->first_value = test->set.value_count;
        spec->value_count = draw(4);
        for (uint32_t i = 0; i < spec->value_count; i++)
            test->set.values[test->set.value_count++] = draw(6);
    }
    if (spec->source == TENSOR_MASK || spec->source == TENSOR_MASK_DENSE ||
        spec->source == TENSOR_MASK_LENGTHS)
        spec->polarity = 1 + draw(3);
    if (spec->source == TENSOR_MASK || spec->source == TENSOR_MASK_DENSE ||
        spec->source == TENSOR_APPLY)
        make_steps(test, spec);
}

static void make_rows(Case *test) {
    bool has_dense = false;

    test->row_count = 1 + draw(SEQUENCES);
    test->count = draw(3) ? test->row_count : draw(test->row_count + 1);
    for (uint32_t r = 0; r < test->count; r++) {
        uint32_t sequence = draw(SEQUENCES), start = 0, cut;

        for (uint32_t s = 0; s < sequence; s++)
            start += test->lengths[s];
        cut = draw(3) ? 0 : draw(test->lengths[sequence] + 1);
        test->rows[r] = (FillRow){.columns = test->columns,
                                  .sequence = sequence,
                                  .start = start + cut,
                                  .length = test->lengths[sequence] - cut};
        test->length = MAX(test->length, test->rows[r].length);
    }
    /* Sometimes more than one tile of the CPU backend. */
    for (uint32_t t = 0; t < test->set.count; t++)
        has_dense |= test->set.tensors[t].source == TENSOR_MASK_DENSE;
    test->length += draw(3) ? draw(20) : has_dense ? 0 : 300;
}

static void case_init(Case *test, uint32_t seed) {
    static const uint8_t tokens[] = {ELEMENT_U8,  ELEMENT_U16, ELEMENT_U24,
                                     ELEMENT_U32, ELEMENT_I32, ELEMENT_I64};
    static const uint8_t weights[] = {ELEMENT_F16, ELEMENT_BF16, ELEMENT_F32, ELEMENT_U8,
                                      ELEMENT_U24};
    uint32_t weight;

    memset(test, 0, sizeof *test);
    draw_seed = seed;
    draw_count = 0;
    make_data(test);
    const uint8_t *columns[] = {test->tokens,
                                test->weights,
                                test->labels,
                                (const uint8_t *)test->holes,
                                (const uint8_t *)test->spans,
                                (const uint8_t *)test->lengths,
                                NULL,
                                NULL,
                                NULL,
                                (const uint8_t *)test->hole_counts,
                                (const uint8_t *)test->span_counts};
    memcpy(test->columns, columns, sizeof columns);
    test->set.token_element = tokens[draw(ARRAY_COUNT(tokens))];
    test->set.token_pad = draw(6);
    test->set.column_count = COLUMNS;
    test->set.side = draw(2);
    test->set.time_first = draw(4) == 0;
    test->set.count = 1 + draw(8);
    weight = weights[draw(ARRAY_COUNT(weights))];
    for (uint32_t t = 0; t < test->set.count; t++)
        make_tensor(test, &test->set.tensors[t], weight);
    make_rows(test);
    test->set.rows_max = test->row_count;
    test->set.length_max = test->length;
    tensor_layout(&test->set, test->row_count, test->length, &test->layout);
}

/* As kernels do it: a grid of blocks of threads over each tensor's chunks. */
static void run_cells(const CellPlan *plan, const CellBatch *batch, uint8_t *slot) {
    for (uint32_t t = 0; t < plan->tensor_count; t++) {
        uint64_t chunks = cell_chunks(batch, t), blocks = (chunks + THREADS - 1) / THREADS;

        for (uint64_t block = 0; block < blocks; block++) {
            for (uint64_t thread = 0; thread < THREADS; thread++) {
                uint64_t chunk = block * THREADS + thread;
                uint32_t words[4], bytes;

                if (chunk >= chunks)
                    continue;
                bytes = mask_cell_chunk(plan, batch, t, chunk, words);
                memcpy(slot + batch->offset[t] + chunk * CELL_CHUNK_BYTES, words, bytes);
            }
        }
    }
}

static void check_case(uint32_t seed) {
    static Case test;
    static CellPlan plan;
    uint64_t bytes, capacity;
    uint8_t *want, *got;
    CellBatch *batch;

    case_init(&test, seed);
    ck_assert_int_eq(cell_plan_make(&test.set, &plan), 0);
    capacity = cell_pack_bytes(&test.set, &plan, test.row_count, test.length, 8);
    batch = aligned_alloc(16, align_up(capacity, 16));
    bytes = cell_pack(&test.set, &plan, &test.layout, test.row_count, test.length, test.rows,
                      test.count, batch, capacity);
    ck_assert_uint_gt(bytes, 0);
    want = aligned_alloc(GUARD, align_up(test.layout.bytes, GUARD) + 2 * GUARD);
    got = aligned_alloc(GUARD, align_up(test.layout.bytes, GUARD) + 2 * GUARD);
    memset(want, 0xa5, test.layout.bytes + 2 * GUARD);
    memset(got, 0xa5, test.layout.bytes + 2 * GUARD);
    run_cells(&plan, batch, want + GUARD);
    fill_rows(&test.set, &test.layout, got + GUARD, test.row_count, test.length, 0, test.rows,
              test.count);
    fill_empty_rows(&test.set, &test.layout, got + GUARD, test.row_count, test.length, test.count,
                    test.row_count - test.count);
    for (uint64_t i = 0; i < test.layout.bytes + 2 * GUARD; i++) {
        for (uint32_t t = 0; want[i] != got[i] && t < test.set.count; t++)
            if (i - GUARD - test.layout.offset[t] < test.layout.size_bytes[t])
                ck_abort_msg("seed %u: tensor %u of source %u, dtype %u: byte %lu", seed, t,
                             test.set.tensors[t].source, test.set.tensors[t].dtype,
                             (unsigned long)(i - GUARD - test.layout.offset[t]));
        if (want[i] != got[i]) /* between tensors */
            ck_abort_msg("seed %u: byte %lu", seed, (unsigned long)i);
    }
    free(batch);
    free(want);
    free(got);
}

START_TEST(the_cpu_backend_writes_what_each_element_is_defined_to_be)
{
    for (uint32_t seed = 0; seed < ROUNDS; seed++) {
        (void)convert_set_level((int)(seed % 3));
        check_case(seed);
    }
}
END_TEST

START_TEST(products_of_floats_have_the_bits_of_pytorch)
{
    static const struct {
        uint32_t dtype;
        uint64_t value, times_one, times_zero;
    } cases[] = {
        {SEQFEED_FLOAT32, 0x3fc00000, 0x3fc00000, 0},
        {SEQFEED_FLOAT32, 0xbfc00000, 0xbfc00000, 0x80000000},
        {SEQFEED_FLOAT32, 0x7f800000, 0x7f800000, 0xffc00000},
        {SEQFEED_FLOAT32, 0xff800000, 0xff800000, 0xffc00000},
        {SEQFEED_FLOAT32, 0x7f800001, 0x7fc00001, 0x7fc00001},
        {SEQFEED_FLOAT16, 0x7c00, 0x7c00, 0xfe00},
        {SEQFEED_FLOAT16, 0xfd01, 0xff01, 0xff01},
        {SEQFEED_FLOAT16, 0x8001, 0x8001, 0x8000},
        {SEQFEED_BFLOAT16, 0x7f80, 0x7f80, 0x7fc0},
        {SEQFEED_BFLOAT16, 0xff81, 0x7fc0, 0x7fc0},
        {SEQFEED_INT64, 0x8000000000000001, 0x8000000000000001, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        ck_assert_uint_eq(mask_rule_times(cases[i].dtype, cases[i].value, 1), cases[i].times_one);
        ck_assert_uint_eq(mask_rule_times(cases[i].dtype, cases[i].value, 0), cases[i].times_zero);
    }
}
END_TEST

CHECK_MAIN("compute", the_cpu_backend_writes_what_each_element_is_defined_to_be,
           products_of_floats_have_the_bits_of_pytorch)
