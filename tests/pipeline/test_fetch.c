/* SPDX-License-Identifier: MIT */
#include "pipeline/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "support/check_main.h"

enum { FILE_BYTES = 300001, READS = 200 };

typedef struct Read {
    FetchRequest request;
    uint8_t bytes[5000];
    bool done;
} Read;

static void read_done(FetchRequest *request) {
    ((Read *)request)->done = true;
}

static uint8_t byte_at(uint64_t offset) {
    return (uint8_t)(offset * 31 >> 3);
}

static void check_bytes(const uint8_t *bytes, uint64_t offset, uint32_t size) {
    for (uint32_t i = 0; i < size; i++)
        if (bytes[i] != byte_at(offset + i))
            ck_abort_msg("byte %lu is wrong", (unsigned long)(offset + i));
}

static int make_file(void) {
    char path[] = "/tmp/seqfeed-fetch-XXXXXX";
    static uint8_t bytes[FILE_BYTES];
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    unlink(path);
    for (uint64_t i = 0; i < FILE_BYTES; i++)
        bytes[i] = byte_at(i);
    ck_assert_int_eq(write(fd, bytes, FILE_BYTES), FILE_BYTES);
    return fd;
}

/* Both ways of reading, with and without O_DIRECT, give the same bytes and the same errors. */
static void check_backend(const FetchOptions *options, bool direct) {
    static Read reads[READS];
    int fd = make_file(), direct_fd = FILE_NONE;
    uint32_t align = 1;
    size_t size = fetch_buffer_bytes(20000);
    FetchBuffer buffer;
    FetchFile file;
    Fetch *fetch;
    Error error;

    ck_assert_int_eq(fetch_new(options, &fetch, &error), 0);
    if (direct)
        ck_assert_int_ge(file_open_direct(fd, true, &direct_fd, &align), 0);
    fetch_file_init(&file, fd, direct_fd, align);
    fetch_buffer_init(&buffer, memory_map(size), size);
    for (uint32_t i = 0; i < READS; i++) {
        reads[i] = (Read){.request = {.file = &file,
                                      .memory = reads[i].bytes,
                                      .offset = i * 1499,
                                      .size = 1 + i * 24,
                                      .done = read_done}};
        fetch_submit(fetch, &reads[i].request);
    }
    for (uint32_t i = 0; i < READS; i++) {
        while (!reads[i].done)
            fetch_step(fetch);
        uint64_t offset = reads[i].request.offset;
        bool inside = offset + reads[i].request.size <= FILE_BYTES;
        ck_assert_int_eq(reads[i].request.result, inside ? 0 : -ENODATA);
        if (inside)
            check_bytes(reads[i].bytes, offset, reads[i].request.size);
    }
    for (uint64_t offset = 0; offset < FILE_BYTES; offset += 17777) {
        Read read = {.request = {.file = &file,
                                 .buffer = &buffer,
                                 .offset = offset,
                                 .size = 20000,
                                 .done = read_done}};
        fetch_submit(fetch, &read.request);
        while (!read.done)
            fetch_step(fetch);
        bool inside = offset + 20000 <= FILE_BYTES;
        ck_assert_int_eq(read.request.result, inside ? 0 : -ENODATA);
        if (inside)
            check_bytes(read.request.memory, offset, 20000);
    }
    file_close(&direct_fd);
    fetch_free(fetch);
    memory_unmap(buffer.memory, size);
    close(fd);
}

START_TEST(pread_reads_what_is_there)
{
    check_backend(&(FetchOptions){.force_pread = true}, false);
    check_backend(&(FetchOptions){.force_pread = true}, true);
}
END_TEST

START_TEST(io_uring_reads_what_is_there)
{
    check_backend(&(FetchOptions){0}, false);
    check_backend(&(FetchOptions){0}, true);
}
END_TEST

START_TEST(a_bad_descriptor_is_an_error_of_that_read)
{
    for (int i = 0; i < 2; i++) {
        Read read = {0};
        FetchFile file;
        Fetch *fetch;

        ck_assert_int_eq(fetch_new(&(FetchOptions){.force_pread = i == 0}, &fetch, NULL), 0);
        fetch_file_init(&file, 987, FILE_NONE, 1);
        read.request = (FetchRequest){
            .file = &file, .memory = read.bytes, .size = 10, .done = read_done};
        fetch_submit(fetch, &read.request);
        while (!read.done)
            fetch_step(fetch);
        ck_assert_int_eq(read.request.result, -EBADF);
        fetch_free(fetch);
    }
}
END_TEST

CHECK_MAIN("fetch", pread_reads_what_is_there, io_uring_reads_what_is_there,
           a_bad_descriptor_is_an_error_of_that_read)
