/* SPDX-License-Identifier: MIT */
#include "tool/pack_text.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

void pack_text_deinit(PackText *text) {
    buffer_deinit(&text->bytes);
    buffer_deinit(&text->encoded);
}

/* Bytes as numbers of a wider type; zero bytes are added above, so only the size matters. */
static int widen(PackText *text, const uint8_t *bytes, size_t size) {
    uint32_t element = element_bytes(text->type);
    int r = buffer_reserve(&text->encoded, size * element);

    if (r < 0)
        return r;
    memset(text->encoded.bytes, 0, size * element);
    for (size_t i = 0; i < size; i++)
        text->encoded.bytes[i * element] = bytes[i];
    return 0;
}

static int add_sequence(PackText *text, const void *bytes, size_t size, uint32_t label,
                        DatasetWriter *writer, const ByteSource *source, Error *error) {
    uint8_t label_bytes[4];
    BlockValues values[2] = {{bytes, (uint32_t)size}, {label_bytes, 1}};
    int r;

    if (size == 0)
        return 0;
    bytes_put_u32(label_bytes, label);
    if (text->type != ELEMENT_U8) {
        r = widen(text, bytes, size);
        if (r < 0)
            return error_set(error, r, "out of memory");
        values[0].bytes = text->encoded.bytes;
    }
    r = dataset_writer_add(writer, values, error);
    if (r == -E2BIG)
        return error_prefix(error, r, "%s:%llu", byte_source_name(source),
                            (unsigned long long)byte_source_line_number(source));
    return r;
}

static bool is_blank(const char *line) {
    return line[strspn(line, " \t\f\v\r")] == '\0';
}

/* A paragraph's lines are joined by newlines; what separates paragraphs is not kept. */
static int add_line_to_paragraph(PackText *text, const char *line, size_t size, Error *error) {
    int r = text->bytes.size > 0 ? buffer_add(&text->bytes, "\n", 1) : 0;

    if (r == 0)
        r = buffer_add(&text->bytes, line, size);
    if (r < 0)
        return error_set(error, r, "out of memory");
    if (text->bytes.size > BYTE_SOURCE_LINE_MAX)
        return error_set(error, -E2BIG, "a paragraph is longer than %d GiB",
                         BYTE_SOURCE_LINE_MAX >> 30);
    return 0;
}

static int end_paragraph(PackText *text, uint32_t label, DatasetWriter *writer,
                         const ByteSource *source, Error *error) {
    int r = add_sequence(text, text->bytes.bytes, text->bytes.size, label, writer, source, error);

    text->bytes.size = 0;
    return r;
}

int pack_text_add(PackText *text, ByteSource *source, uint32_t label, DatasetWriter *writer,
                  PackTextProgress *progress, void *context, Error *error) {
    char *line;
    size_t size;
    int r;

    while ((r = byte_source_line(source, &line, &size, error)) > 0) {
        if (!text->by_paragraph)
            r = add_sequence(text, line, size, label, writer, source, error);
        else if (strlen(line) == size && is_blank(line))
            r = end_paragraph(text, label, writer, source, error);
        else
            r = add_line_to_paragraph(text, line, size, error);
        if (r < 0)
            return r;
        progress(context, source);
    }
    return r < 0 ? r : end_paragraph(text, label, writer, source, error);
}
