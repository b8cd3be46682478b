/* SPDX-License-Identifier: MIT */
#include "tool/input_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "format/shard_format.h"
#include "shard/byte_source.h"

#define TO_PYTHON "load it in Python, with datasets or pyarrow, and give its rows to seqfeed.pack()"

/* Bytes near a file's beginning, and the command that writes what it holds; without one, what to
 * do. */
typedef struct Magic {
    size_t offset;
    const char *bytes, *what, *command, *advice;
} Magic;

static const Magic magics[] = {
    {0, "\x1F\x8B", "compressed with gzip", "zcat", NULL},
    {4, "1AY&SY", "compressed with bzip2", "bzcat", NULL},
    {1, "7zXZ", "compressed with xz", "xzcat", NULL},
    {0, "PK\x03\x04", "a zip archive", "unzip -p", NULL},
    /* Up to here nothing that could be meant as text. */
    {0, "\xFF\xFE", "text in UTF-16", "iconv -f UTF-16 -t UTF-8", NULL},
    {0, "PAR1", "a Parquet file", NULL, TO_PYTHON},
    {0, "ARROW1", "an Arrow file", NULL, TO_PYTHON},
    {1, "NUMPY", "an array of numpy's", NULL,
     "load it in Python and give its rows to seqfeed.pack()"},
    {0, SHARD_BLOCK_MAGIC, "a shard of seqfeed already", NULL,
     "a dataset is fed, or inspected, as it is"},
};

enum { COMPRESSED = 4, HEAD = 16 };

static bool is_one_of(char c, const char *these) {
    return c != '\0' && strchr(these, c);
}

/* `line` is of `these` characters only, and not empty. */
static bool is_of(const char *line, size_t size, const char *these) {
    return size > 0 && strspn(line, these) == size;
}

static bool is_binary(const char *line, size_t size) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)line[i] < ' ' && !is_one_of(line[i], "\t\f\v\r\033"))
            return true;
    return false;
}

/* A header of a table: words between commas or tabs. Prose has spaces after its commas. */
static bool is_table(const char *line) {
    return strpbrk(line, ",\t") && !strstr(line, ", ") && !strstr(line, ". ");
}

static bool ends_with(const char *text, char c) {
    size_t size = strlen(text);

    while (size > 0 && is_one_of(text[size - 1], " \t\r"))
        size--;
    return size > 0 && text[size - 1] == c;
}

/* A name as it can stand in a command that somebody pastes; others are left to him. */
static const char *pasteable(const char *path, const char *instead) {
    bool is_plain = *path != '\0' && *path != '-' &&
                    path[strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789_./+-")] == '\0';

    return is_plain ? path : instead;
}

/* How to filter the file into pack. */
static void pipe_through(Text *text, const char *command, const char *path, const char *options,
                         const char *output) {
    text_add(text, "%s %s | seqfeed pack %s-o %s -", command, pasteable(path, "FILE"), options,
             pasteable(output, "OUT"));
}

/* An array, not an object a line; text may begin with a bracket, too. */
static bool add_array(Text *text, const char *line, const char *path, const char *output) {
    const char *inner = line + 1 + strspn(line + 1, " \t\r");

    if (*inner == '"') {
        text_add(text, "these are strings, and a row is an object with a list of numbers: tokenize "
                       "them in Python and give the lists to seqfeed.pack()");
        return true;
    }
    if (*inner == '[' || *inner == '{' || *inner == '\0') {
        text_add(text, "this is one JSON array, and rows are objects, one a line: ");
        pipe_through(text, *inner == '[' ? "jq -c '.[] | {tokens: .}'" : "jq -c '.[]'", path, "",
                     output);
        return true;
    }
    if (!is_of(line, strlen(line), "0123456789+-.eE,[] \t\r"))
        return false;
    text_add(text, "this is a JSON list, and a row is an object: ");
    pipe_through(text, "jq -c '{tokens: .}'", path, "", output);
    return true;
}

static void add_text(Text *text, const char *line, size_t size, const char *path,
                     const char *output) {
    if (is_of(line, size, "0123456789-+ \t,;")) {
        text_add(text, "these are numbers, not JSON: ");
        pipe_through(text, "jq -cR '{tokens: [scan(\"-?[0-9]+\") | tonumber]}'", path, "", output);
    } else if (is_table(line)) {
        text_add(text,
                 "this is a table (CSV), not JSON: make rows with lists of tokens of it; in "
                 "Python: seqfeed.pack(({\"tokens\": tokenizer.encode(row[\"text\"])} for row in "
                 "csv.DictReader(open(\"%s\"))), \"%s\")",
                 pasteable(path, "FILE"), pasteable(output, "OUT"));
    } else {
        text_add(text,
                 "this is text, not JSON: --text makes tokens of its bytes; with a tokenizer, in "
                 "Python: seqfeed.tokenize(\"%s\", tokenizer=\"gpt2\", out=\"%s\")",
                 pasteable(path, "FILE"), pasteable(output, "OUT"));
    }
}

static const Magic *find_magic(const char *bytes, size_t size, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(magics[i].bytes), end = magics[i].offset + length;

        if (size >= end && memcmp(bytes + magics[i].offset, magics[i].bytes, length) == 0)
            return &magics[i];
    }
    return NULL;
}

static bool add_magic(Text *text, const char *line, size_t size, const char *path,
                      const char *output) {
    const Magic *magic = find_magic(line, size, ARRAY_COUNT(magics));

    if (magic) {
        text_add(text, "this is %s, not JSON: ", magic->what);
        if (magic->command)
            pipe_through(text, magic->command, path, "", output);
        else
            text_add(text, "%s", magic->advice);
        return true;
    }
    if (!is_binary(line, size))
        return false;
    text_add(text, "these are bytes, neither JSON nor text: load them in Python and give the "
                   "sequences to seqfeed.pack()");
    return true;
}

void input_kind_explain(const char *line, size_t size, const char *path, const char *output,
                        Error *error) {
    CLEANUP(text_deinit) Text text = {0};
    const char *first = line;

    if (size >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0)
        first += 3; /* a byte order mark */
    first += strspn(first, " \t");
    if (*first == '{')
        text_add(&text, "%s; ", error->text);
    if (!add_magic(&text, line, size, path, output)) {
        if (*first == '{') {
            if (ends_with(first, '}'))
                return; /* a slip within the line */
            text_add(&text, "if the object goes on in the next line: ");
            pipe_through(&text, "jq -c .", path, "", output);
        } else if (*first != '[' || !add_array(&text, first, path, output)) {
            add_text(&text, first, strlen(first), path, output);
        }
    }
    if (!text.failed)
        (void)error_set(error, error->code, "%s", text.bytes);
}

int input_kind_check_text(const char *path, const char *output, Error *error) {
    CLEANUP(text_deinit) Text text = {0};
    CLEANUP(file_close) int fd = FILE_NONE;
    char head[HEAD];
    struct stat status;
    const Magic *magic;
    ssize_t size;

    /* Who reads it says what is wrong with it. A pipe must not even be opened: whoever waits to
     * write to it would go on, and lose what nobody reads. */
    if (stat(path, &status) < 0 || !S_ISREG(status.st_mode))
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return 0;
    size = pread(fd, head, sizeof head, 0);
    magic = find_magic(head, size > 0 ? (size_t)size : 0, COMPRESSED);
    if (!magic)
        return 0;
    pipe_through(&text, magic->command, path, "--text ", output);
    return error_set(error, -EINVAL, "%s is %s, not text: %s", path, magic->what,
                     text.failed ? "decompress it" : text.bytes);
}
