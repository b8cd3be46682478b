/* SPDX-License-Identifier: MIT */
#include "cuda/ptx_machine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

const PtxKernel *ptx_kernel(const PtxModule *module, const char *name) {
    for (uint32_t i = 0; i < module->count; i++)
        if (strstr(module->kernels[i].name, name))
            return &module->kernels[i];
    return NULL;
}

static _Noreturn void fail(PtxThread *thread, const char *where, const char *what,
                           const char *buffer) {
    snprintf(thread->fault_text, PTX_FAULT_BYTES, "block %u, thread %u: %s%s (PTX line %s)",
             thread->ctaid, thread->tid, what, buffer, where);
    longjmp(thread->fault, 1);
}

static bool is_inside(const PtxBuffer *buffer, uint64_t address, uint32_t size) {
    return address >= buffer->address && size <= buffer->size &&
           address - buffer->address <= buffer->size - size;
}

static void check_alignment(PtxThread *thread, const char *where, uint64_t address, uint32_t size) {
    if (address % size != 0)
        fail(thread, where, "an address that is not aligned", "");
}

const uint8_t *ptx_param(PtxThread *thread, const char *where, uint64_t address, uint32_t size) {
    check_alignment(thread, where, address, size);
    if (address >= thread->param_bytes || size > thread->param_bytes - address)
        fail(thread, where, "a read outside of the parameters", "");
    return thread->params + address;
}

const uint8_t *ptx_load(PtxThread *thread, const char *where, uint64_t address, uint32_t size) {
    check_alignment(thread, where, address, size);
    for (uint32_t i = 0; i < PTX_READS_MAX; i++) {
        const PtxBuffer *buffer = &thread->launch->reads[i];

        if (is_inside(buffer, address, size))
            return buffer->bytes + (address - buffer->address);
    }
    if (is_inside(&thread->launch->stores, address, size))
        fail(thread, where, "a read of what the launch stores to: ", thread->launch->stores.name);
    fail(thread, where, "a read outside of all buffers", "");
}

uint8_t *ptx_store(PtxThread *thread, const char *where, uint64_t address, uint32_t size) {
    const PtxBuffer *buffer = &thread->launch->stores;
    uint64_t at = address - buffer->address;

    check_alignment(thread, where, address, size);
    if (!is_inside(buffer, address, size))
        fail(thread, where, "a store outside of ", buffer->name);
    for (uint32_t i = 0; i < size; i++) {
        if (thread->is_stored[at + i])
            fail(thread, where, "a second store to a byte of ", buffer->name);
        thread->is_stored[at + i] = 1;
    }
    return buffer->bytes + at;
}

uint64_t ptx_divisor(PtxThread *thread, const char *where, uint64_t value) {
    if (value == 0)
        fail(thread, where, "a division by 0", "");
    return value;
}

static void set_params(PtxThread *thread) {
    for (uint32_t i = 0; i < thread->kernel->param_count; i++) {
        PtxParam param = thread->kernel->params[i];

        thread->param_bytes = param.offset + param.size;
        assert(thread->param_bytes <= PTX_PARAM_BYTES);
        memcpy(thread->params + param.offset, thread->launch->arguments[i], param.size);
    }
}

static int run_threads(PtxThread *thread) {
    const PtxLaunch *launch = thread->launch;

    if (setjmp(thread->fault))
        return -EFAULT;
    for (uint32_t block = launch->blocks.end; block-- > launch->blocks.first;) {
        for (uint32_t tid = launch->threads.first; tid < launch->threads.end; tid++) {
            thread->ctaid = block;
            thread->tid = tid;
            thread->poison = (((uint64_t)block << 10) + tid + 1) * UINT64_C(0x9e3779b97f4a7c15);
            thread->kernel->run(thread);
        }
    }
    return 0;
}

int ptx_launch(const PtxKernel *kernel, const PtxLaunch *launch, char ret_fault[PTX_FAULT_BYTES]) {
    PtxThread thread = {.ntid = launch->block,
                        .nctaid = launch->grid,
                        .kernel = kernel,
                        .launch = launch,
                        .fault_text = ret_fault};
    int r;

    /* Of a large buffer only those pages that are stored to. */
    thread.is_stored = mmap(NULL, launch->stores.size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (thread.is_stored == MAP_FAILED)
        return -ENOMEM;
    set_params(&thread);
    r = run_threads(&thread);
    (void)munmap(thread.is_stored, launch->stores.size);
    return r;
}
