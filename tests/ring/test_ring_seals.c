/* SPDX-License-Identifier: MIT */
/* What a trainer that holds the data memfd can do to it: read. Each test runs as the user who runs
 * it, root included, and once more as nobody when it may become nobody. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring/ring_writer.h"
#include "support/check_main.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { NOBODY = 65534 };

static RingWriter *writer;
static size_t bytes;

static void make_ring(void) {
    RingOptions options = {.slot_count = 2, .slot_bytes = 4096, .world = 1};

    ck_assert_int_eq(ring_writer_create(&options, &writer, NULL), 0);
    bytes = writer->memory_bytes;
    memset(writer->memory + writer->slots_offset, 0x5a, 4096);
}

static void drop_ring(void) {
    for (size_t i = 0; i < 4096; i++)
        ck_assert_uint_eq(writer->memory[writer->slots_offset + i], 0x5a);
    ring_writer_destroy(writer);
}

/* The descriptor as a trainer has it, or opened anew through /proc for writing if that works. */
static int reopened(void) {
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/self/fd/%d", writer->data_fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    return fd >= 0 ? fd : writer->data_fd;
}

static bool can_map_writable(int fd, int flags) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (memory == MAP_FAILED)
        return false;
    munmap(memory, bytes);
    return true;
}

static bool can_make_mapping_writable(int fd) {
    uint8_t *memory = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    bool can;

    if (memory == MAP_FAILED)
        return false;
    can = mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0 ||
          madvise(memory, bytes, MADV_REMOVE) == 0 ||
          madvise(memory, bytes, MADV_POPULATE_WRITE) == 0;
    munmap(memory, bytes);
    return can;
}

/* The first thing that worked, or NULL. */
static const char *what_works(void) {
    const int fds[] = {writer->data_fd, reopened()};

    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        int fd = fds[i];
        if (can_map_writable(fd, MAP_SHARED))
            return "mapping it writable";
        if (can_make_mapping_writable(fd))
            return "making a mapping writable";
        if (pwrite(fd, "x", 1, 0) >= 0)
            return "writing";
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0)
            return "punching a hole";
        if (ftruncate(fd, 0) == 0 || ftruncate(fd, (off_t)bytes * 2) == 0)
            return "changing its size";
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
            return "adding a seal";
    }
    return NULL;
}

START_TEST(a_trainer_can_do_nothing_but_read)
{
    const char *worked;

    make_ring();
    worked = what_works();
    ck_assert_msg(!worked, "%s worked", worked ? worked : "");
    drop_ring();
}
END_TEST

START_TEST(nor_can_another_user)
{
    int status;
    pid_t child;

    if (geteuid() != 0)
        return; /* who is not root cannot become another user */
    make_ring();
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(setgid(NOBODY) != 0 || setuid(NOBODY) != 0 || what_works() != NULL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    drop_ring();
}
END_TEST

START_TEST(writing_through_the_mapping_kills_the_writer)
{
    int status;
    pid_t child;

    make_ring();
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        volatile uint8_t *memory = mmap(NULL, bytes, PROT_READ, MAP_SHARED, writer->data_fd, 0);
        signal(SIGSEGV, SIG_DFL);
        memory[writer->slots_offset] = 1;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    drop_ring();
}
END_TEST

/* Private pages are the caller's own: the ring never sees them. The manual warns of them. */
START_TEST(a_private_copy_does_not_reach_the_ring)
{
    uint8_t *memory;

    make_ring();
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, writer->data_fd, 0);
    if (memory != MAP_FAILED) {
        memset(memory + writer->slots_offset, 0, 4096);
        munmap(memory, bytes);
    }
    drop_ring();
}
END_TEST

START_TEST(slots_that_were_never_published_are_zero)
{
    make_ring();
    for (size_t i = 4096; i < 8192; i++)
        ck_assert_uint_eq(writer->memory[writer->slots_offset + i], 0);
    drop_ring();
}
END_TEST

START_TEST(descriptors_do_not_survive_exec)
{
    uint64_t first;

    make_ring();
    ck_assert_int_eq(ring_writer_join(writer, &first), 0);
    ck_assert(fcntl(writer->data_fd, F_GETFD) & FD_CLOEXEC);
    ck_assert(fcntl(writer->members[0].ack_fd, F_GETFD) & FD_CLOEXEC);
    drop_ring();
}
END_TEST

CHECK_MAIN("ring_seals", a_trainer_can_do_nothing_but_read, nor_can_another_user,
           writing_through_the_mapping_kills_the_writer, a_private_copy_does_not_reach_the_ring,
           slots_that_were_never_published_are_zero, descriptors_do_not_survive_exec)
