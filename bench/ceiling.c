/* SPDX-License-Identifier: MIT */
/* ceiling: how fast one thread can possibly do the work: page cache -> pread -> zstd -> a shuffled
 * window of blocks -> padded int64 tokens, mask, labels and lengths in shared memory, read by one
 * other process. A measuring device, not a product: it reads the same shards as the daemon, but
 * trusts them, cannot resume, serves one reader and never stops for an error.
 *
 * The dataset's tokens are u16 or u8, with one label each sequence.
 *
 *   ceiling DATASET [--dtype int64|int32|uint16|uint8] [--window N] [--slots N] [--size N]
 *           [--epochs N] [--readers 0|1|2|4] [--checksum 0|1]
 * prints one line of JSON; CPU seconds of the producer alone stand in "cpu_seconds". */
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "format/element_format.h"
#include "shard/catalog.h"

enum { SLOTS_MAX = 64, READERS_MAX = 4 };

typedef struct Sequence {
    const uint8_t *tokens;
    uint32_t length;
    int64_t label;
} Sequence;

typedef struct Slot {
    uint32_t rows, length;
    size_t tokens, mask, labels; /* offsets */
} Slot;

typedef struct Shared {
    _Alignas(64) _Atomic uint32_t head;
    _Alignas(64) _Atomic uint32_t tail[READERS_MAX];
    _Alignas(64) _Atomic uint32_t producer_waits, reader_waits;
    _Atomic uint32_t done;
    Slot slots[SLOTS_MAX];
    struct {
        uint64_t tokens, labels, first, batches;
    } sums[READERS_MAX];
} Shared;

static Shared *shared;
static uint8_t *memory;
static size_t slot_bytes;
static uint32_t token_bytes, label_bytes; /* on disk */
static uint32_t slot_count = 8, readers = 1, width = 8, size = 64, window = 64, epochs = 1;
static uint64_t random_state = 42;

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static uint32_t draw(uint32_t bound) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(((z ^ z >> 31) >> 32) * bound >> 32);
}

/* What a trainer does at least: sum the mask and the labels, look at the first token of each row.
 */
static void touch(uint32_t index, uint32_t reader) {
    const Slot *slot = &shared->slots[index];
    const uint8_t *base = memory + index * slot_bytes, *mask = base + slot->mask;
    const int64_t *labels = (const int64_t *)(base + slot->labels);
    size_t cells = (size_t)slot->rows * slot->length, i = 0;
    uint64_t sum = 0;

    while (i + 64 <= cells) {
        uint8_t parts[64] = {0};
        size_t end = i + 64 * 255 < cells ? i + 64 * 255 : cells - cells % 64;
        for (; i < end; i += 64)
            for (int k = 0; k < 64; k++)
                parts[k] += mask[i + (size_t)k];
        for (int k = 0; k < 64; k++)
            sum += parts[k];
    }
    for (; i < cells; i++)
        sum += mask[i];
    shared->sums[reader].tokens += sum;
    for (uint32_t row = 0; row < slot->rows; row++) {
        shared->sums[reader].labels += (uint64_t)labels[row];
        shared->sums[reader].first += base[slot->tokens + (size_t)row * slot->length * width];
    }
    shared->sums[reader].batches++;
}

static void reader_main(uint32_t reader) {
    for (uint32_t taken = 0;;) {
        uint32_t head;
        while ((head = atomic_load(&shared->head)) == taken) {
            if (atomic_load(&shared->done) && atomic_load(&shared->head) == taken)
                _exit(0);
            for (int i = 0; i < 2000 && atomic_load(&shared->head) == taken; i++)
                cpu_pause();
            atomic_store(&shared->reader_waits, 1);
            if (atomic_load(&shared->head) == taken && !atomic_load(&shared->done))
                futex_wait(&shared->head, taken);
        }
        for (; taken != head; taken++) {
            touch(taken % slot_count, reader);
            atomic_store(&shared->tail[reader], taken + 1);
            if (atomic_exchange(&shared->producer_waits, 0))
                futex_wake(&shared->producer_waits);
        }
    }
}

#define WIDEN(From, To)                  \
    for (uint32_t i = 0; i < count; i++) \
    ((To *)(void *)to)[i] = ((const From *)(const void *)from)[i]

static void widen(uint8_t *restrict to, const uint8_t *restrict from, uint32_t count) {
    if (width == token_bytes)
        memcpy(to, from, (size_t)count * width);
    else if (token_bytes == 2 && width == 8)
        WIDEN(uint16_t, int64_t);
    else if (token_bytes == 2)
        WIDEN(uint16_t, int32_t);
    else if (width == 8)
        WIDEN(uint8_t, int64_t);
    else if (width == 4)
        WIDEN(uint8_t, int32_t);
    else
        WIDEN(uint8_t, uint16_t);
}

static void fill(const Sequence *rows, uint32_t count, uint32_t index) {
    Slot *slot = &shared->slots[index];
    uint8_t *base = memory + index * slot_bytes;
    uint32_t length = 1;

    for (uint32_t r = 0; r < count; r++)
        length = rows[r].length > length ? rows[r].length : length;
    *slot = (Slot){.rows = count, .length = length, .labels = 0, .tokens = 2048};
    slot->mask = (2048 + (size_t)count * length * width + 255) & ~(size_t)255;
    for (uint32_t r = 0; r < count; r++) {
        uint32_t n = rows[r].length;
        uint8_t *to = base + slot->tokens + (size_t)r * length * width;
        uint8_t *mask = base + slot->mask + (size_t)r * length;

        ((int64_t *)base)[r] = rows[r].label;
        ((int64_t *)base)[size + r] = n;
        if (r + 2 < count)
            __builtin_prefetch(rows[r + 2].tokens);
        widen(to, rows[r].tokens, n);
        memset(to + (size_t)n * width, 0, (size_t)(length - n) * width);
        memset(mask, 1, n);
        memset(mask + n, 0, length - n);
    }
}

static uint32_t least_tail(void) {
    uint32_t head = atomic_load(&shared->head), most = 0;

    for (uint32_t r = 0; r < readers; r++) {
        uint32_t behind = head - atomic_load(&shared->tail[r]);
        most = behind > most ? behind : most;
    }
    return head - most;
}

static void emit(const Sequence *rows, uint32_t count) {
    uint32_t head = atomic_load_explicit(&shared->head, memory_order_relaxed);

    while (readers && head - least_tail() >= slot_count) {
        for (int i = 0; i < 2000 && head - least_tail() >= slot_count; i++)
            cpu_pause();
        atomic_store(&shared->producer_waits, 1);
        if (head - least_tail() >= slot_count)
            futex_wait(&shared->producer_waits, 1);
    }
    fill(rows, count, head % slot_count);
    atomic_store(&shared->head, head + 1);
    if (!readers)
        touch(head % slot_count, 0);
    else if (atomic_exchange(&shared->reader_waits, 0))
        futex_wake(&shared->head);
}

typedef struct Loop {
    const Catalog *catalog;
    ZSTD_DCtx *context;
    uint8_t *compressed, *arena; /* two windows, used in turn */
    uint8_t *carried[2];         /* tokens of rows that wait for the next window */
    size_t block_bytes;
    Sequence *rows;
    uint32_t row_count;
    uint32_t *order;
} Loop;

static void decode_block(Loop *loop, uint32_t number, uint8_t *raw) {
    const CatalogBlock *block = &loop->catalog->blocks[number];
    uint32_t sequences = loop->catalog->block_sequences[number];
    const ShardSection *sections = (const ShardSection *)(raw + sizeof(ShardBlockHeader));
    const uint32_t *lengths;
    const uint8_t *labels, *tokens;

    if (pread(loop->catalog->shards[block->shard].fd, loop->compressed, block->compressed_bytes,
              (off_t)block->offset) != (ssize_t)block->compressed_bytes ||
        ZSTD_decompressDCtx(loop->context, raw, loop->block_bytes, loop->compressed,
                            block->compressed_bytes) != block->raw_bytes)
        exit(1);
    lengths = (const uint32_t *)(raw + sections[0].offset);
    tokens = raw + sections[1].offset;
    labels = raw + sections[2].offset;
    for (uint32_t s = 0; s < sequences; tokens += (size_t)lengths[s] * token_bytes, s++) {
        loop->rows[loop->row_count++] = (Sequence){
            tokens, lengths[s],
            label_bytes == 8 ? ((const int64_t *)(const void *)labels)[s]
                             : ((const uint32_t *)(const void *)labels)[s]};
    }
}

static void run_window(Loop *loop, uint32_t first, uint32_t end, uint32_t turn, bool last) {
    uint32_t full;

    for (uint32_t b = first; b < end; b++)
        decode_block(loop, loop->order[b],
                     loop->arena + loop->block_bytes * (turn * window + b - first));
    for (uint32_t i = loop->row_count; i-- > 1;) {
        uint32_t j = draw(i + 1);
        Sequence swap = loop->rows[i];
        loop->rows[i] = loop->rows[j];
        loop->rows[j] = swap;
    }
    full = last ? loop->row_count : loop->row_count / size * size;
    for (uint32_t r = 0; r < full; r += size)
        emit(loop->rows + r, full - r < size ? full - r : size);
    /* What is left waits for the next window in a copy: its block is overwritten. */
    uint8_t *keep = loop->carried[turn];
    for (uint32_t r = full; r < loop->row_count; r++) {
        Sequence row = loop->rows[r];
        memcpy(keep, row.tokens, (size_t)token_bytes * row.length);
        row.tokens = keep;
        keep += (size_t)token_bytes * row.length;
        loop->rows[r - full] = row;
    }
    loop->row_count -= full;
}

static void run_epochs(Loop *loop) {
    uint32_t count = loop->catalog->block_count;

    for (uint32_t epoch = 0; epoch < epochs; epoch++) {
        for (uint32_t b = 0; b < count; b++)
            loop->order[b] = b;
        for (uint32_t b = count; b-- > 1;) {
            uint32_t j = draw(b + 1), swap = loop->order[b];
            loop->order[b] = loop->order[j];
            loop->order[j] = swap;
        }
        for (uint32_t first = 0, turn = 0; first < count; first += window, turn ^= 1) {
            uint32_t end = first + window < count ? first + window : count;
            run_window(loop, first, end, turn, end == count);
        }
    }
}

static void parse(int argc, char **argv, bool *ret_checksum) {
    for (int i = 2; i + 1 < argc; i += 2) {
        uint32_t value = (uint32_t)atoi(argv[i + 1]);
        if (strcmp(argv[i], "--dtype") == 0)
            width = strcmp(argv[i + 1], "int64") == 0    ? 8
                    : strcmp(argv[i + 1], "int32") == 0  ? 4
                    : strcmp(argv[i + 1], "uint16") == 0 ? 2
                                                         : 1;
        else if (strcmp(argv[i], "--window") == 0)
            window = value;
        else if (strcmp(argv[i], "--slots") == 0)
            slot_count = value;
        else if (strcmp(argv[i], "--size") == 0)
            size = value;
        else if (strcmp(argv[i], "--epochs") == 0)
            epochs = value;
        else if (strcmp(argv[i], "--readers") == 0)
            readers = value;
        else if (strcmp(argv[i], "--checksum") == 0)
            *ret_checksum = value != 0;
    }
}

static Loop make_loop(const Catalog *catalog, bool checksum) {
    Loop loop = {.catalog = catalog, .context = ZSTD_createDCtx()};

    if (!checksum)
        ZSTD_DCtx_setParameter(loop.context, ZSTD_d_experimentalParam3, 1);
    loop.block_bytes = (catalog->block_raw_max + 4095u) & ~4095u;
    loop.compressed = malloc(catalog->block_compressed_max);
    loop.arena = malloc(2 * loop.block_bytes * window);
    loop.carried[0] = malloc(2 * (size_t)size * catalog->length_max);
    loop.carried[1] = malloc(2 * (size_t)size * catalog->length_max);
    loop.rows = malloc(((size_t)window * catalog->block_sequences_max + size) * sizeof(Sequence));
    loop.order = malloc(catalog->block_count * sizeof(uint32_t));
    return loop;
}

static double cpu_seconds(void) {
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* What run.py makes: tokens, and one unsigned or non-negative number each sequence. */
static bool is_known(const Catalog *catalog) {
    if (catalog->column_count != 2 || catalog->columns[1].kind != SHARD_KIND_SEQUENCE ||
        catalog->columns[0].width != 1 || catalog->columns[1].width != 1)
        return false;
    token_bytes = element_bytes(catalog->columns[0].type);
    label_bytes = element_bytes(catalog->columns[1].type);
    return token_bytes <= 2 && (label_bytes == 4 || label_bytes == 8);
}

int main(int argc, char **argv) {
    int64_t begun = clock_now_ns();
    bool checksum = true;
    Catalog *catalog;
    Error error = {0};

    if (argc < 2 || catalog_open(argv[1], &catalog, &error) < 0) {
        fprintf(stderr, "ceiling: %s\n", argc < 2 ? "no dataset given" : error.text);
        return 2;
    }
    parse(argc, argv, &checksum);
    if (!is_known(catalog) || width < token_bytes) {
        fprintf(stderr,
                "ceiling: tokens must be u8 or u16, not wider than the output, with one label\n");
        return 2;
    }
    slot_bytes = (4096 + (size_t)size * catalog->length_max * (width + 1) + 8191) & ~(size_t)4095;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory = mmap(NULL, slot_bytes * slot_count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    for (uint32_t r = 0; r < readers; r++)
        if (fork() == 0)
            reader_main(r);

    Loop loop = make_loop(catalog, checksum);
    int64_t start = clock_now_ns();
    run_epochs(&loop);
    atomic_store(&shared->done, 1);
    futex_wake(&shared->head);
    while (readers && wait(NULL) > 0)
        ;
    double seconds = (double)(clock_now_ns() - start) / NS_PER_SECOND;
    uint64_t tokens = shared->sums[0].tokens;
    printf("{\"tokens\":%lu,\"batches\":%lu,\"seconds\":%.4f,\"tokens_per_second\":%.0f,\"cpu_"
           "seconds\":%.4f,"
           "\"first\":%.4f,\"labels\":%lu}\n",
           (unsigned long)tokens, (unsigned long)shared->sums[0].batches, seconds,
           (double)tokens / seconds, cpu_seconds(), (double)(start - begun) / NS_PER_SECOND,
           (unsigned long)shared->sums[0].labels);
    return 0;
}
