/* SPDX-License-Identifier: MIT */
/* A hostile daemon: its answers and its ring are those of a good one with the input laid over them
 * (exclusive or), so an empty input is a good daemon and every byte that is not zero is a lie.
 *
 * Bytes: 1 how the memory is handed over | HELLO_REPLY | WELCOME | constants of the ring's header |
 * its words | the first descriptor with its tensors.
 * Whatever the client accepts must lie inside the memory that it mapped. */
#include <seqfeed/seqfeed.h>

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    FUZZ_SLOTS = 2,
    FUZZ_SLOT_BYTES = 4096,
    FUZZ_SLOTS_AT = 16384,
    FUZZ_BYTES = FUZZ_SLOTS_AT + FUZZ_SLOTS * FUZZ_SLOT_BYTES,
    FUZZ_CONSTANTS = 128, /* of the header */
    FUZZ_WORDS_AT = 2048,
    FUZZ_WORDS = 256,
    FUZZ_NO_SEALS = 1,
    FUZZ_ONE_DESCRIPTOR = 2,
    FUZZ_SWAPPED = 4,
    FUZZ_NO_HELLO = 8
};

typedef struct Overlay {
    const uint8_t *data;
    size_t size;
} Overlay;

/* Lay the next `bytes` of the input over `to`. */
static void overlay(Overlay *input, void *to, size_t bytes) {
    uint8_t *at = to;

    for (size_t i = 0; i < bytes && input->size > 0; i++, input->size--)
        at[i] ^= *input->data++;
}

static int memory_file(size_t bytes, int seals, void **ret_memory) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        abort();
    *ret_memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*ret_memory == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals) < 0)
        abort();
    return fd;
}

static void good_ring(uint8_t *memory) {
    SeqfeedRingHeader *header = (SeqfeedRingHeader *)(void *)memory;
    SeqfeedDescriptor *batch = (SeqfeedDescriptor *)(void *)(memory + sizeof *header);

    header->magic = SEQFEED_RING_MAGIC;
    header->version = SEQFEED_RING_VERSION;
    header->header_bytes = sizeof *header;
    header->ring_bytes = FUZZ_BYTES;
    header->descriptors_offset = sizeof *header;
    header->slots_offset = FUZZ_SLOTS_AT;
    header->slot_bytes = FUZZ_SLOT_BYTES;
    header->descriptor_bytes = sizeof *batch;
    header->slot_count = FUZZ_SLOTS;
    header->world = 1;
    header->head = 1;
    batch->tensor_count = 2;
    for (uint32_t i = 0; i < 2; i++) {
        batch->tensors[i] = (SeqfeedTensorRecord){.dtype = SEQFEED_INT64,
                                                  .ndim = 2,
                                                  .shape = {4, 8},
                                                  .stride = {8, 1},
                                                  .offset = i * 256,
                                                  .size_bytes = 256};
        batch->tensors[i].name[0] = (char)('a' + i);
    }
}

static void send_welcome(int fd, const SeqfeedWelcome *welcome, const int *descriptors,
                         uint32_t count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)welcome, sizeof *welcome};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = CMSG_SPACE(count * sizeof(int))};

    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.align), descriptors, count * sizeof(int));
    (void)!sendmsg(fd, &header, MSG_NOSIGNAL);
}

/* Say everything at once and hang up: the client reads what is there. */
static int hostile_daemon(Overlay *input) {
    SeqfeedHelloReply hello = {.head = {SEQFEED_MESSAGE_HELLO_REPLY, sizeof hello}, .version = 1};
    SeqfeedWelcome welcome = {.head = {SEQFEED_MESSAGE_WELCOME, sizeof welcome},
                              .ring_bytes = FUZZ_BYTES,
                              .epoch_length = 1};
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE, sockets[2], descriptors[2];
    uint8_t flags = 0, *memory, *ack;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        abort();
    overlay(input, &flags, 1);
    overlay(input, &hello, sizeof hello);
    overlay(input, &welcome, sizeof welcome);
    descriptors[0] = memory_file(FUZZ_BYTES, flags & FUZZ_NO_SEALS ? 0 : seals, (void **)&memory);
    descriptors[1] = memory_file(SEQFEED_PAGE, F_SEAL_SHRINK, (void **)&ack);
    good_ring(memory);
    overlay(input, memory, FUZZ_CONSTANTS);
    overlay(input, memory + FUZZ_WORDS_AT, FUZZ_WORDS);
    overlay(input, memory + sizeof(SeqfeedRingHeader), sizeof(SeqfeedDescriptor));
    if (flags & FUZZ_SWAPPED) {
        int data = descriptors[0];
        descriptors[0] = descriptors[1];
        descriptors[1] = data;
    }
    if (!(flags & FUZZ_NO_HELLO))
        (void)!send(sockets[1], &hello, sizeof hello, MSG_NOSIGNAL);
    send_welcome(sockets[1], &welcome, descriptors, flags & FUZZ_ONE_DESCRIPTOR ? 1 : 2);
    (void)munmap(memory, FUZZ_BYTES);
    (void)munmap(ack, SEQFEED_PAGE);
    close(descriptors[0]);
    close(descriptors[1]);
    close(sockets[1]);
    return sockets[0];
}

/* Read the first and the last element; abort if the tensor is not inside the mapping. */
static void read_tensor(const Seqfeed *feed, const SeqfeedTensor *tensor) {
    const volatile uint8_t *data = tensor->data;
    const uint8_t *end = feed->memory + feed->memory_bytes;
    uint64_t last = 0;

    if ((const uint8_t *)tensor->data < feed->memory ||
        (uint64_t)(end - (const uint8_t *)tensor->data) < tensor->size_bytes)
        abort();
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        if (tensor->shape[i] == 0)
            return;
        last += (uint64_t)(tensor->shape[i] - 1) * (uint64_t)tensor->stride[i];
    }
    last *= seqfeed_dtype_bytes(tensor->dtype);
    if (last >= tensor->size_bytes)
        abort();
    (void)data[0];
    (void)data[last];
}

static void use(Seqfeed *feed) {
    SeqfeedBatch batch;
    SeqfeedTensor tensor;

    for (uint32_t i = 0; i < 4; i++) {
        if (seqfeed_next(feed, &batch, 0) != 0)
            continue;
        for (uint32_t place = 0; place <= SEQFEED_TENSORS_MAX; place++)
            if (seqfeed_tensor_at(&batch, place, &tensor) == 0)
                read_tensor(feed, &tensor);
        (void)seqfeed_tensor(&batch, "b", &tensor);
        if (strlen(seqfeed_cursor(&batch)) >= SEQFEED_CURSOR_BYTES)
            abort();
        (void)seqfeed_release(feed, &batch);
    }
    (void)strlen(seqfeed_plan(feed));
    (void)seqfeed_message(feed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    SeqfeedOptions options = {.feed = "train", .cursor = "sf1;epoch=0;index=0"};
    Overlay input = {data, size};
    SeqfeedError error;
    SeqfeedPrivateAttach attach = {.options = &options, .error = &error};
    Seqfeed *feed = calloc(1, sizeof *feed);

    if (!feed || seqfeed_private_request(&attach) < 0)
        abort();
    seqfeed_private_mark_process(feed);
    attach.deadline_ns = attach.patience_ns = seqfeed_private_now() + SEQFEED_PRIVATE_SECOND;
    feed->socket = hostile_daemon(&input);
    if (seqfeed_private_take_seat(feed, &attach) == 0)
        use(feed);
    seqfeed_detach(feed);
    return 0;
}
