/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arithmetic.h"
#include "base/clock.h"
#include "base/processors.h"
#include "base/progress.h"
#include "base/text.h"
#include "shard/byte_source.h"
#include "shard/dataset_stage.h"
#include "shard/dataset_writer.h"
#include "tool/input_kind.h"
#include "tool/interrupt.h"
#include "tool/number.h"
#include "tool/pack_row.h"
#include "tool/pack_schema.h"
#include "tool/pack_text.h"
#include "tool/tool.h"

static const char help[] =
    "Usage: seqfeed pack -o DIR [OPTION...] INPUT...\n"
    "Make a dataset from JSONL files (also .zst; '-' is standard input): one object a line, with "
    "a\n"
    "list of numbers under \"tokens\" or \"input_ids\". Other numbers become a column with a value "
    "a\n"
    "sequence, lists as long as the tokens one with a value a token, other lists a ragged one\n"
    "(for indices of masks and spans of labels; tensors are made of the others).\n"
    "\n"
    "  -o, --output DIR        directory of the dataset; absent or empty\n"
    "      --force             replace the dataset in DIR once the new one is complete\n"
    "      --tokens KEY        key of the tokens\n"
    "      --token-type TYPE   u8 u16 u24 u32 i32 i64 f16 bf16 f32, or auto: u8 for text; the\n"
    "                          narrowest of u16 u24 u32 i64 that fits, by a first pass over the\n"
    "                          files; u32 from standard input\n"
    "      --column NAME:KIND:TYPE[:WIDTH]\n"
    "                          what the first row does not tell; KIND is token, sequence, ragged;\n"
    "                          tokens:tokens:TYPE:WIDTH for the tokens themselves\n"
    "      --pad-id N          what pads the tokens, for feeds that do not say otherwise\n"
    "      --text              inputs are text: bytes as tokens, empty sequences left out\n"
    "      --text-by WHAT      line (default) or paragraph\n"
    "      --label file        with --text: number each file in a column 'label'\n"
    "      --level N           zstd level, 1 to 22 (default 9)\n"
    "      --block SIZE        raw bytes of a block, 4KiB to 16MiB (default 256KiB)\n"
    "      --shard SIZE        compressed bytes of a shard, about (default 256MiB)\n"
    "      --jobs N            threads that compress (default: one for each CPU)\n"
    "      --json              say in JSON what was written\n"
    "\n"
    "The same input and options give the same bytes, whatever --jobs is.\n";

enum { LEVEL_MAX = 22, JOBS_MAX = 1024 };

typedef struct Pack {
    const char *output;
    DatasetWriterOptions options; /* but for the columns */
    PackSchema schema;
    PackRow row;
    PackText text;
    bool is_text, json;
    ElementType token_type; /* ELEMENT_NONE: auto */
    char **inputs;
    uint32_t input_count;
    bool reads_stdin;
    DatasetWriter *writer;
    Progress progress;
    uint64_t bytes_before; /* of the inputs that are done */
    uint32_t updates;
} Pack;

static void pack_deinit(Pack *pack) {
    dataset_writer_free(pack->writer);
    pack_schema_deinit(&pack->schema);
    pack_row_deinit(&pack->row);
    pack_text_deinit(&pack->text);
}

static void source_cleanup(ByteSource **source) {
    byte_source_free(*source);
}

static void show_progress(void *context, const ByteSource *source) {
    Pack *pack = context;

    if ((pack->updates++ & 63) == 0)
        progress_update(&pack->progress, pack->bytes_before + byte_source_bytes(source));
}

static void begin_progress(Pack *pack, const char *label) {
    uint64_t total = 0;

    for (uint32_t i = 0; i < pack->input_count; i++)
        total += byte_source_size(pack->inputs[i]);
    progress_start(&pack->progress, label, "bytes", pack->reads_stdin ? 0 : total);
    pack->bytes_before = 0;
}

static int at_line(const ByteSource *source, int r, Error *error) {
    return error_prefix(error, r, "%s:%llu", byte_source_name(source),
                        (unsigned long long)byte_source_line_number(source));
}

static bool is_blank(const char *line) {
    return line[strspn(line, " \t")] == '\0';
}

/* Do something with every row of every input. */
typedef int RowWork(Pack *pack, void *context, Error *error);

static int each_row_of(Pack *pack, const char *path, ByteSource *source, RowWork *work,
                       void *context, Error *error) {
    bool is_first = true;
    char *line;
    size_t size;
    int r;

    while ((r = byte_source_line(source, &line, &size, error)) > 0) {
        show_progress(pack, source);
        if (is_blank(line) && strlen(line) == size)
            continue;
        r = pack_row_read(&pack->row, line, size, error);
        if (r < 0 && is_first)
            input_kind_explain(line, size, path, pack->output, error);
        is_first = false;
        if (r == 0)
            r = work(pack, context, error);
        if (r == -EINVAL || r == -E2BIG)
            return at_line(source, r, error);
        if (r < 0)
            return r;
    }
    return r;
}

static int each_row(Pack *pack, const char *label, RowWork *work, void *context, Error *error) {
    begin_progress(pack, label);
    for (uint32_t i = 0; i < pack->input_count; i++) {
        CLEANUP(source_cleanup) ByteSource *source = NULL;
        int r = byte_source_open(pack->inputs[i], interrupt_wait, &source, error);
        if (r == 0)
            r = each_row_of(pack, pack->inputs[i], source, work, context, error);
        if (r < 0) {
            progress_end(&pack->progress, pack->bytes_before);
            return r;
        }
        pack->bytes_before += byte_source_bytes(source);
    }
    progress_end(&pack->progress, pack->bytes_before);
    return 0;
}

/* What the first pass learns about the tokens. */
typedef struct Survey {
    int64_t min, max;
    bool is_real;
    uint32_t width; /* of the first row that has tokens; 0 before it */
} Survey;

static int survey_row(Pack *pack, void *context, Error *error) {
    Survey *survey = context;
    const PackCell *cell;
    int r;

    r = pack_schema_find_tokens(&pack->schema, &pack->row, error);
    if (r < 0)
        return r;
    pack->row.only = pack->schema.tokens_key;
    cell = pack_row_find(&pack->row, pack->schema.tokens_key);
    if (cell->count > 0 && survey->width == 0)
        survey->width = cell->width;
    survey->is_real |= cell->is_real;
    for (size_t i = 0; !cell->is_real && i < cell->numbers.size / sizeof(int64_t); i++) {
        survey->min = MIN(survey->min, pack_cell_integers(cell)[i]);
        survey->max = MAX(survey->max, pack_cell_integers(cell)[i]);
    }
    return 0;
}

/* Settle the type and width of the tokens as far as options and a first pass can. */
static int settle_tokens(Pack *pack, Error *error) {
    ShardColumn *tokens = &pack->schema.columns[0];
    Survey survey = {0};
    int r;

    if (pack->token_type != ELEMENT_NONE)
        tokens->type = (uint8_t)pack->token_type;
    if (tokens->type != ELEMENT_NONE || pack->reads_stdin)
        return 0;
    r = each_row(pack, "scanning", survey_row, &survey, error);
    if (r < 0)
        return r;
    pack->row.only = NULL;
    tokens->type = survey.is_real ? ELEMENT_F32 : (uint8_t)number_narrowest(survey.min, survey.max);
    tokens->width = survey.width;
    return 0;
}

static int open_writer(Pack *pack, const ShardColumn *columns, uint32_t count, Error *error) {
    DatasetWriterOptions options = pack->options;
    size_t bad;
    uint8_t bytes[8];

    if (pack->options.has_pad_id &&
        number_encode_integers((ElementType)columns[0].type, &pack->options.pad_id, 1, bytes,
                               &bad) != 0)
        return error_set(error, -ERANGE, "--pad-id %lld does not fit the type of the tokens, %s",
                         (long long)pack->options.pad_id, element_name(columns[0].type));
    options.columns = columns;
    options.column_count = count;
    return dataset_writer_new(pack->output, &options, &pack->writer, error);
}

static int pack_row(Pack *pack, void *context, Error *error) {
    PackSchema *schema = &pack->schema;
    BlockValues values[SHARD_COLUMNS_MAX];
    int r;

    if (!pack->writer) {
        r = pack_schema_find_tokens(schema, &pack->row, error);
        if (r < 0)
            return r;
        if (schema->columns[0].type == ELEMENT_NONE)
            schema->columns[0].type = pack_row_find(&pack->row, schema->tokens_key)->is_real
                                          ? ELEMENT_F32
                                          : ELEMENT_U32;
        r = pack_schema_infer(schema, &pack->row, error);
        if (r == 0)
            r = open_writer(pack, schema->columns, schema->column_count, error);
        if (r < 0)
            return r;
    }
    r = pack_schema_values(schema, &pack->row, values, error);
    return r < 0 ? r : dataset_writer_add(pack->writer, values, error);
}

static int pack_rows(Pack *pack, Error *error) {
    int r = settle_tokens(pack, error);

    return r < 0 ? r : each_row(pack, "packing", pack_row, NULL, error);
}

/* What people call a file: its last part, or all of it where two would be the same. */
static int set_label_names(Pack *pack, Error *error) {
    const char **names = calloc(pack->input_count, sizeof *names);
    int r;

    for (uint32_t i = 0; names && i < pack->input_count; i++) {
        const char *slash = strrchr(pack->inputs[i], '/');
        names[i] = slash && slash[1] ? slash + 1 : pack->inputs[i];
        for (uint32_t other = 0; other < i; other++)
            if (strcmp(names[other], names[i]) == 0) {
                names[i] = pack->inputs[i];
                names[other] = pack->inputs[other];
            }
    }
    r = names ? dataset_writer_set_labels(pack->writer, names, pack->input_count) : -ENOMEM;
    free(names);
    return r < 0 ? error_set(error, r, "out of memory") : 0;
}

static int pack_files(Pack *pack, Error *error) {
    const ShardColumn columns[] = {
        column_make("tokens", SHARD_KIND_TOKENS, pack->text.type, 1),
        column_make("label", SHARD_KIND_SEQUENCE, ELEMENT_U32, 1),
    };
    int r = open_writer(pack, columns, pack->text.has_label ? 2 : 1, error);

    if (r < 0)
        return r;
    begin_progress(pack, "packing");
    for (uint32_t i = 0; i < pack->input_count; i++) {
        CLEANUP(source_cleanup) ByteSource *source = NULL;
        r = byte_source_open(pack->inputs[i], interrupt_wait, &source, error);
        if (r == 0)
            r = pack_text_add(&pack->text, source, i, pack->writer, show_progress, pack, error);
        if (r < 0)
            break;
        pack->bytes_before += byte_source_bytes(source);
    }
    progress_end(&pack->progress, pack->bytes_before);
    return r < 0 || !pack->text.has_label ? r : set_label_names(pack, error);
}

static int check_inputs(const Pack *pack, Error *error) {
    for (uint32_t i = 0; i < pack->input_count; i++) {
        bool from_stdin = strcmp(pack->inputs[i], BYTE_SOURCE_STDIN) == 0;
        int r = 0;

        if (!from_stdin && access(pack->inputs[i], R_OK) < 0)
            return error_set(error, -errno, "cannot read %s: %s", pack->inputs[i], strerror(errno));
        if (!from_stdin && pack->is_text)
            r = input_kind_check_text(pack->inputs[i], pack->output, error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int pack_all(Pack *pack, Error *error) {
    int r = check_inputs(pack, error);

    if (r == 0)
        r = dataset_stage_check(pack->output, pack->options.force, error);
    if (r == 0)
        r = pack->is_text ? pack_files(pack, error) : pack_rows(pack, error);
    if (r == 0 && !pack->writer)
        r = error_set(error, -ENODATA, "there is not one sequence in the input");
    if (r == 0)
        r = interrupt_wait(-1) < 0 ? error_set(error, -EINTR, "interrupted") : 0;
    if (r == 0)
        r = dataset_writer_finish(pack->writer, error);
    if (r == -EINTR)
        (void)error_set(error, r, "interrupted: %s was not written", pack->output);
    return r;
}

static void print_summary(const Pack *pack, int64_t started_ns) {
    DatasetTotals totals = dataset_writer_totals(pack->writer);
    double seconds = (double)(clock_now_ns() - started_ns) / NS_PER_SECOND;
    ElementType type = pack->is_text ? pack->text.type : (ElementType)pack->schema.columns[0].type;
    char size[32], count[32], rate[32], took[32];

    if (pack->json) {
        printf("{\"sequences\":%llu,\"tokens\":%llu,\"shards\":%u,\"bytes\":%llu,"
               "\"token_type\":\"%s\"}\n",
               (unsigned long long)totals.sequences, (unsigned long long)totals.tokens,
               totals.shards, (unsigned long long)totals.bytes, element_name(type));
        return;
    }
    printf("%s: %llu sequence%s, %s token%s (%s), %s in %u shard%s", pack->output,
           (unsigned long long)totals.sequences, totals.sequences == 1 ? "" : "s",
           text_format_count(count, (double)totals.tokens), totals.tokens == 1 ? "" : "s",
           element_name(type), text_format_size(size, totals.bytes), totals.shards,
           totals.shards == 1 ? "" : "s");
    if (seconds > 0.2) /* below that the figure says nothing */
        printf("; %s, %s tokens/s", text_format_seconds(took, seconds),
               text_format_count(rate, (double)totals.tokens / seconds));
    printf("\n");
}

enum {
    OPTION_FORCE = 256,
    OPTION_TOKENS,
    OPTION_TOKEN_TYPE,
    OPTION_COLUMN,
    OPTION_PAD_ID,
    OPTION_TEXT,
    OPTION_TEXT_BY,
    OPTION_LABEL,
    OPTION_LEVEL,
    OPTION_BLOCK,
    OPTION_SHARD,
    OPTION_JOBS,
    OPTION_JSON,
};

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, OPTION_FORCE},
    {"tokens", required_argument, NULL, OPTION_TOKENS},
    {"token-type", required_argument, NULL, OPTION_TOKEN_TYPE},
    {"column", required_argument, NULL, OPTION_COLUMN},
    {"pad-id", required_argument, NULL, OPTION_PAD_ID},
    {"text", no_argument, NULL, OPTION_TEXT},
    {"text-by", required_argument, NULL, OPTION_TEXT_BY},
    {"label", required_argument, NULL, OPTION_LABEL},
    {"level", required_argument, NULL, OPTION_LEVEL},
    {"block", required_argument, NULL, OPTION_BLOCK},
    {"shard", required_argument, NULL, OPTION_SHARD},
    {"jobs", required_argument, NULL, OPTION_JOBS},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* Options that are numbers. 0, or TOOL_USAGE once said. */
static int take_number(Pack *pack, int option, const char *value) {
    uint64_t number;
    char *end;

    switch (option) {
    case OPTION_PAD_ID:
        errno = 0;
        pack->options.pad_id = strtoll(value, &end, 10);
        pack->options.has_pad_id = true;
        if (errno != 0 || end == value || *end)
            return tool_usage("pack", "--pad-id %s is not a whole number", value);
        return 0;
    case OPTION_LEVEL:
        if (!text_parse_u64(value, 1, LEVEL_MAX, &number))
            return tool_usage("pack", "--level %s is not 1 to %d", value, LEVEL_MAX);
        pack->options.level = (int)number;
        return 0;
    case OPTION_JOBS:
        if (!text_parse_u64(value, 1, JOBS_MAX, &number))
            return tool_usage("pack", "--jobs %s is not 1 to %d", value, JOBS_MAX);
        pack->options.jobs = (uint32_t)number;
        return 0;
    case OPTION_BLOCK:
        if (!text_parse_size(value, &number) || number < SHARD_BLOCK_TARGET_MIN ||
            number > SHARD_BLOCK_TARGET_MAX)
            return tool_usage("pack", "--block %s is not a size from 4KiB to 16MiB", value);
        pack->options.block_target = (uint32_t)number;
        return 0;
    default:
        if (!text_parse_size(value, &number) || number < SHARD_BLOCK_TARGET_MIN)
            return tool_usage("pack", "--shard %s is not a size of at least 4KiB", value);
        pack->options.shard_bytes = number;
        return 0;
    }
}

static int take_option(Pack *pack, int option, const char *value) {
    Error error;

    switch (option) {
    case 'o':
        pack->output = value;
        return 0;
    case OPTION_FORCE:
        pack->options.force = true;
        return 0;
    case OPTION_TOKENS:
        pack->schema.tokens_key = value;
        return 0;
    case OPTION_TOKEN_TYPE:
        pack->token_type = column_type_parse(value);
        if (pack->token_type == ELEMENT_NONE && strcmp(value, "auto") != 0)
            return tool_usage("pack",
                              "--token-type %s is not auto, u8, u16, u24, u32, i32, i64, "
                              "f16, bf16 or f32",
                              value);
        return 0;
    case OPTION_COLUMN:
        return pack_schema_name(&pack->schema, value, &error) < 0
                   ? tool_usage("pack", "%s", error.text)
                   : 0;
    case OPTION_TEXT:
        pack->is_text = true;
        return 0;
    case OPTION_JSON:
        pack->json = true;
        return 0;
    case OPTION_TEXT_BY:
        pack->text.by_paragraph = strcmp(value, "paragraph") == 0;
        if (!pack->text.by_paragraph && strcmp(value, "line") != 0)
            return tool_usage("pack", "--text-by %s is neither line nor paragraph", value);
        return 0;
    case OPTION_LABEL:
        pack->text.has_label = true;
        if (strcmp(value, "file") != 0)
            return tool_usage("pack", "--label %s: there is only 'file'", value);
        return 0;
    default:
        return take_number(pack, option, value);
    }
}

/* Rules between options. 0, or TOOL_USAGE once said. */
static int check_options(Pack *pack) {
    uint32_t from_stdin = 0;

    if (!pack->output || !*pack->output)
        return tool_usage("pack", "say with -o DIR where the dataset shall be");
    if (pack->input_count == 0)
        return tool_usage("pack", "name at least one input ('-' is standard input)");
    for (uint32_t i = 0; i < pack->input_count; i++)
        from_stdin += strcmp(pack->inputs[i], BYTE_SOURCE_STDIN) == 0;
    if (from_stdin > 1)
        return tool_usage("pack", "'-' can be given once only");
    pack->reads_stdin = from_stdin > 0;
    if (!pack->is_text && (pack->text.has_label || pack->text.by_paragraph))
        return tool_usage("pack", "--label and --text-by go with --text");
    if (pack->is_text &&
        (pack->schema.column_count > 1 || pack->schema.tokens_named || pack->schema.tokens_key))
        return tool_usage("pack", "--column and --tokens do not go with --text");
    if (pack->schema.tokens_named && pack->token_type != ELEMENT_NONE)
        return tool_usage("pack", "give the type of the tokens once: --token-type or --column");
    pack->text.type = pack->token_type == ELEMENT_NONE ? ELEMENT_U8 : pack->token_type;
    if (pack->is_text && element_is_float(pack->text.type))
        return tool_usage("pack", "--text needs a type of whole numbers");
    if (pack->options.jobs == 0)
        pack->options.jobs = MIN(processors_count(), (uint32_t)JOBS_MAX);
    return 0;
}

int pack_main(int argc, char **argv) {
    CLEANUP(pack_deinit) Pack pack = {0};
    int64_t started_ns = clock_now_ns();
    Error error = {0};
    int option, r;

    pack_schema_init(&pack.schema);
    while ((option = getopt_long(argc, argv, ":o:h", long_options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return tool_finish("pack");
        }
        if (option == '?' || option == ':')
            return tool_wrong_option("pack", option, argv);
        r = take_option(&pack, option, optarg);
        if (r != 0)
            return r;
    }
    pack.inputs = argv + optind;
    pack.input_count = (uint32_t)(argc - optind);
    r = check_options(&pack);
    if (r != 0)
        return r;
    interrupt_begin();
    if (pack_all(&pack, &error) < 0)
        return tool_refuse("pack", &error);
    print_summary(&pack, started_ns);
    return tool_finish("pack");
}
