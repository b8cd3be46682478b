/* SPDX-License-Identifier: MIT */
/* make_data: the corpus of the benchmarks. Tokens are independent draws from Zipf's law (s = 1, ids
 * 1 .. vocabulary - 1, the id is the rank), lengths log-normal (median 180, sigma 0.8) clipped
 * to 1..2048, one label below 1000 a sequence. The same arguments give the same bytes.
 *
 *   make_data DIR TOKENS [--level N] [--block BYTES] [--median N] [--sigma S]
 * --median 8 makes many short sequences; --sigma 0 makes all sequences equally long, as batches of
 * a length bucket nearly are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/progress.h"
#include "base/random.h"
#include "shard/dataset_writer.h"

enum { VOCABULARY = 50257, LENGTH_MAX = 2048, GUIDE = 65536 };

typedef struct Zipf {
    double sums[VOCABULARY];   /* sums[i]: probability of an id <= i */
    uint32_t guide[GUIDE + 1]; /* where to begin looking */
} Zipf;

static void zipf_init(Zipf *zipf) {
    double sum = 0;

    zipf->sums[0] = 0;
    for (uint32_t i = 1; i < VOCABULARY; i++)
        zipf->sums[i] = sum += 1.0 / i;
    for (uint32_t i = 1; i < VOCABULARY; i++)
        zipf->sums[i] /= sum;
    for (uint32_t g = 0, i = 1; g <= GUIDE; g++) {
        while (i < VOCABULARY - 1 && zipf->sums[i] < (double)g / GUIDE)
            i++;
        zipf->guide[g] = i;
    }
}

static uint16_t zipf_draw(const Zipf *zipf, uint32_t word) {
    double u = (word + 0.5) / 4294967296.0;
    uint32_t i = zipf->guide[word / (UINT32_MAX / GUIDE + 1)];

    while (i < VOCABULARY - 1 && zipf->sums[i] < u)
        i++;
    return (uint16_t)i;
}

static double median = 180, sigma = 0.8;

static uint32_t length_draw(RandomBlock words) {
    double u = (words.word[0] + 0.5) / 4294967296.0, v = (words.word[1] + 0.5) / 4294967296.0;
    double normal = sqrt(-2 * log(u)) * cos(2 * M_PI * v);
    double length = rint(exp(log(median) + sigma * normal));

    return length < 1 ? 1 : length > LENGTH_MAX ? LENGTH_MAX : (uint32_t)length;
}

static int write_corpus(DatasetWriter *writer, uint64_t tokens, Error *error) {
    static Zipf zipf;
    Progress progress;
    uint64_t done = 0;

    zipf_init(&zipf);
    progress_start(&progress, "making data", "tokens", tokens);
    for (uint64_t sequence = 0; done < tokens; sequence++) {
        RandomBlock head = random_philox(1234, (uint32_t)sequence, (uint32_t)(sequence >> 32), 0,
                                         1);
        uint32_t length = length_draw(head);
        uint8_t values[2 * LENGTH_MAX], label[8];
        BlockValues row[2] = {{values, length}, {label, 1}};
        int r;

        for (uint32_t t = 0; t < length; t += 4) {
            RandomBlock words = random_philox(1234, (uint32_t)sequence, (uint32_t)(sequence >> 32),
                                              t, 2);
            for (uint32_t k = 0; k < 4 && t + k < length; k++)
                bytes_put_u16(values + 2 * (t + k), zipf_draw(&zipf, words.word[k]));
        }
        bytes_put_u64(label, random_below(head.word[2], 1000));
        r = dataset_writer_add(writer, row, error);
        if (r < 0)
            return r;
        done += length;
        progress_update(&progress, done);
    }
    progress_end(&progress, done);
    return 0;
}

int main(int argc, char **argv) {
    const ShardColumn columns[] = {column_make("tokens", SHARD_KIND_TOKENS, ELEMENT_U16, 1),
                                   column_make("label", SHARD_KIND_SEQUENCE, ELEMENT_I64, 1)};
    DatasetWriterOptions options = {
        .columns = columns, .column_count = 2, .level = 3, .jobs = 2, .force = true};
    DatasetWriter *writer;
    Error error = {0};

    if (argc < 3) {
        fprintf(
            stderr,
            "usage: make_data DIR TOKENS [--level N] [--block BYTES] [--median N] [--sigma S]\n");
        return 2;
    }
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--level") == 0)
            options.level = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--block") == 0)
            options.block_target = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--median") == 0)
            median = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--sigma") == 0)
            sigma = atof(argv[i + 1]);
    }
    if (dataset_writer_new(argv[1], &options, &writer, &error) < 0 ||
        write_corpus(writer, strtoull(argv[2], NULL, 10), &error) < 0 ||
        dataset_writer_finish(writer, &error) < 0) {
        fprintf(stderr, "make_data: %s\n", error.text);
        return 1;
    }
    dataset_writer_free(writer);
    return 0;
}
