/* SPDX-License-Identifier: MIT */
/* Finding a daemon, and believing nothing that it says before it has been checked. */
#include <seqfeed/seqfeed.h>

#include <dirent.h>
#include <sys/wait.h>

#include "client/fake_daemon.h"
#include "support/check_main.h"

static FakeDaemon daemon_;

static int attach_options(const SeqfeedOptions *options, SeqfeedError *ret_error) {
    Seqfeed *feed = NULL;
    int r;

    memset(ret_error, 0, sizeof *ret_error);
    r = seqfeed_attach(&feed, options, ret_error);
    if (r == 0)
        seqfeed_detach(feed);
    else
        ck_assert_ptr_null(feed);
    ck_assert_int_eq(ret_error->code, r);
    ck_assert_int_eq(ret_error->text[0] != '\0', r < 0);
    return r;
}

static int attach(SeqfeedError *ret_error) {
    SeqfeedOptions options = {.socket = daemon_.address.sun_path, .feed = "train"};

    return attach_options(&options, ret_error);
}

static int open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

START_TEST(without_a_daemon_the_sentence_names_every_place)
{
    SeqfeedOptions options = {.feed = "train"};
    SeqfeedError error;
    char expected[512];

    unsetenv("SEQFEED_SOCKET");
    setenv("XDG_RUNTIME_DIR", "/nowhere/at/all", 1);
    if (access("/run/seqfeed/seqfeed.sock", F_OK) == 0)
        return; /* a daemon runs on this machine */
    ck_assert_int_eq(attach_options(&options, &error), -ECONNREFUSED);
    snprintf(expected, sizeof expected,
             "no daemon at /nowhere/at/all/seqfeed.sock, /tmp/seqfeed-%u/seqfeed.sock, "
             "/run/seqfeed/seqfeed.sock: start one with 'seqfeed run CONFIG -- COMMAND'",
             (unsigned)getuid());
    ck_assert_str_eq(error.text, expected);
    options.socket = "/nowhere/socket";
    ck_assert_int_eq(attach_options(&options, &error), -ECONNREFUSED);
    ck_assert_str_eq(
        error.text, "no daemon at /nowhere/socket: start one with 'seqfeed run CONFIG -- COMMAND'");
}
END_TEST

START_TEST(the_environment_and_the_runtime_folder_lead_to_the_daemon)
{
    SeqfeedOptions options = {.feed = "train"};
    SeqfeedError error;
    char path[128];

    fake_daemon_start(&daemon_, 2, 4096);
    setenv("SEQFEED_SOCKET", daemon_.address.sun_path, 1);
    ck_assert_int_eq(attach_options(&options, &error), 0);
    unsetenv("SEQFEED_SOCKET");
    setenv("XDG_RUNTIME_DIR", daemon_.folder, 1);
    snprintf(path, sizeof path, "%s/seqfeed.sock", daemon_.folder);
    ck_assert_int_eq(symlink("socket", path), 0);
    ck_assert_int_eq(attach_options(&options, &error), 0);
    unlink(path);
    fake_daemon_stop(&daemon_);
}
END_TEST

START_TEST(options_that_make_no_sense_are_refused_before_anything_is_asked)
{
    char long_name[1000];
    SeqfeedOptions wrong[] = {
        {.feed = NULL},
        {.feed = ""},
        {.feed = "f", .rank = 1},
        {.feed = "f", .rank = 4, .world = 4},
        {.feed = "f", .flags = 64},
        {.feed = "f", .cursor = "sf1;epoch=0", .flags = SEQFEED_JOIN_NEXT},
        {.feed = long_name},
        {.feed = "f", .group = long_name},
        {.feed = "f", .cursor = long_name},
    };
    SeqfeedError error;

    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ck_assert_int_eq(attach_options(&wrong[i], &error), -EINVAL);
}
END_TEST

START_TEST(the_request_says_what_the_options_say)
{
    SeqfeedOptions options = {.feed = "train",
                              .group = "sweep",
                              .members = 3,
                              .seed = 42,
                              .flags = SEQFEED_HAS_SEED,
                              .cursor = "sf1;epoch=0",
                              .timeout_ns = INT64_C(5000000000)};
    SeqfeedError error;

    fake_daemon_start(&daemon_, 2, 4096);
    options.socket = daemon_.address.sun_path;
    ck_assert_int_eq(attach_options(&options, &error), 0);
    ck_assert_str_eq(daemon_.last_attach.feed, "train");
    ck_assert_str_eq(daemon_.last_attach.group, "sweep");
    ck_assert_str_eq(daemon_.last_attach.cursor, "sf1;epoch=0");
    ck_assert_uint_eq(daemon_.last_attach.members, 3);
    ck_assert_uint_eq(daemon_.last_attach.local_ranks, 1);
    ck_assert_uint_eq(daemon_.last_attach.world, 1);
    ck_assert_uint_eq(daemon_.last_attach.seed, 42);
    ck_assert_uint_eq(daemon_.last_attach.flags,
                      SEQFEED_ATTACH_HAS_SEED | SEQFEED_ATTACH_HAS_CURSOR);
    ck_assert_int_gt(daemon_.last_attach.deadline_ns, 0);
    ck_assert_int_le(daemon_.last_attach.deadline_ns, options.timeout_ns);
    fake_daemon_stop(&daemon_);
}
END_TEST

START_TEST(a_refusal_is_passed_on_word_for_word)
{
    static const SeqfeedNotice refusal = {.head = {SEQFEED_MESSAGE_ERROR, sizeof refusal},
                                          .code = -ESTALE,
                                          .text = "batch: cursor has fixed/64, the feed fixed/32"};
    SeqfeedError error;

    fake_daemon_start(&daemon_, 2, 4096);
    daemon_.attach_answer = &refusal;
    ck_assert_int_eq(attach(&error), -ESTALE);
    ck_assert_str_eq(error.text, refusal.text);
    fake_daemon_stop(&daemon_);
}
END_TEST

START_TEST(a_daemon_that_says_what_it_waits_for_is_waited_for)
{
    static const SeqfeedNotice waiting = {.head = {SEQFEED_MESSAGE_WAITING, sizeof waiting},
                                          .text = "waiting for rank 3 (never attached)\033[2J"};
    SeqfeedError error;

    fake_daemon_start(&daemon_, 2, 4096);
    daemon_.attach_answer = &waiting;
    ck_assert_int_eq(attach(&error), 0);
    fake_daemon_stop(&daemon_);
}
END_TEST

START_TEST(a_daemon_that_is_silent_is_a_time_out)
{
    SeqfeedOptions options = {.feed = "train", .timeout_ns = INT64_C(50000000)};
    SeqfeedError error;

    fake_daemon_start(&daemon_, 2, 4096);
    daemon_.mute = true;
    options.socket = daemon_.address.sun_path;
    ck_assert_int_eq(attach_options(&options, &error), -ETIMEDOUT);
    fake_daemon_stop(&daemon_);
}
END_TEST

START_TEST(a_daemon_that_is_silent_has_until_the_deadline_and_no_longer)
{
    SeqfeedOptions options = {.feed = "train", .timeout_ns = INT64_C(2200000000)};
    int64_t begun_ns = seqfeed_private_now(), took_ns;
    SeqfeedError error;

    fake_daemon_start(&daemon_, 2, 4096);
    daemon_.mute = true;
    options.socket = daemon_.address.sun_path;
    ck_assert_int_eq(attach_options(&options, &error), -ETIMEDOUT);
    took_ns = seqfeed_private_now() - begun_ns;
    ck_assert_ptr_nonnull(strstr(error.text, "the daemon did not answer in time"));
    ck_assert_int_ge(took_ns, options.timeout_ns);
    ck_assert_int_lt(took_ns, options.timeout_ns + SEQFEED_PRIVATE_GRACE_NS);
    fake_daemon_stop(&daemon_);
}
END_TEST

/* Who waits spins only where that takes the CPU from nobody. */
START_TEST(trainers_and_workers_that_outnumber_the_cpus_are_a_crowd)
{
    SeqfeedOptions options = {.socket = daemon_.address.sun_path, .feed = "train", .group = "g"};
    uint64_t cpus = seqfeed_private_cpus();
    SeqfeedError error;
    Seqfeed *feed;

    ck_assert_uint_ge(cpus, 1);
    ck_assert_uint_le(cpus, (uint64_t)sysconf(_SC_NPROCESSORS_CONF));
    for (uint32_t seats = 1; seats <= cpus + 1; seats++) {
        const SeqfeedAttach ranks = {.members = 1, .local_ranks = seats};

        for (uint32_t workers = 0; workers <= 3; workers++)
            ck_assert_int_eq(seqfeed_private_is_crowded(&ranks, workers),
                             seats + (workers < 2 ? 1 : 2) > cpus);
        fake_daemon_start(&daemon_, 2, 4096); /* it has two workers */
        options.members = seats;
        ck_assert_int_eq(seqfeed_attach(&feed, &options, &error), 0);
        ck_assert_int_eq(feed->crowded, seats + 2 > cpus);
        seqfeed_detach(feed);
        fake_daemon_stop(&daemon_);
    }
}
END_TEST

START_TEST(answers_to_hello_that_are_no_answers_are_refused)
{
    static const SeqfeedHelloReply other_version = {
        .head = {SEQFEED_MESSAGE_HELLO_REPLY, sizeof other_version}, .version = 2};
    static const SeqfeedHelloReply reserved = {
        .head = {SEQFEED_MESSAGE_HELLO_REPLY, sizeof reserved}, .version = 1, .reserved = 1};
    static const SeqfeedHelloReply wrong_size = {
        .head = {SEQFEED_MESSAGE_HELLO_REPLY, sizeof wrong_size + 1}, .version = 1};
    static const SeqfeedMessageHead short_message = {SEQFEED_MESSAGE_HELLO_REPLY,
                                                     sizeof short_message};
    static const SeqfeedMessageHead other_type = {SEQFEED_MESSAGE_WELCOME, sizeof other_type};
    static const char too_long[SEQFEED_MESSAGE_MAX + 1000] = {2};
    static SeqfeedNotice unterminated = {.head = {SEQFEED_MESSAGE_ERROR, sizeof unterminated},
                                         .code = -EACCES};
    const struct {
        const void *bytes;
        size_t size;
    } answers[] = {{&other_version, sizeof other_version},
                   {&reserved, sizeof reserved},
                   {&wrong_size, sizeof wrong_size},
                   {&short_message, sizeof short_message},
                   {&other_type, sizeof other_type},
                   {too_long, sizeof too_long},
                   {"x", 1},
                   {&unterminated, sizeof unterminated}};
    SeqfeedError error;
    int before;

    memset(unterminated.text, 'x', sizeof unterminated.text);
    fake_daemon_start(&daemon_, 2, 4096);
    before = open_descriptors();
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        daemon_.hello_answer = answers[i].bytes;
        daemon_.hello_answer_bytes = answers[i].size;
        ck_assert_int_eq(attach(&error), -EPROTO);
    }
    while (open_descriptors() > before)
        continue; /* the daemon's ends close in its thread */
    fake_daemon_stop(&daemon_);
}
END_TEST

/* ---- hostile rings ---- */

static SeqfeedRingHeader *header_of(FakeDaemon *daemon) {
    return daemon->writer->header;
}

static void wrong_magic(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->magic++;
}
static void wrong_version(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->version++;
}
static void wrong_header_bytes(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->header_bytes = 128;
}
static void ring_is_larger_than_the_file(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->message.ring_bytes += 4096;
}
static void header_says_another_size(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->ring_bytes += 4096;
}
static void no_slots(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->slot_count = 0;
}
static void too_many_slots(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->slot_count = SEQFEED_SLOTS_MAX + 1;
}
static void more_slots_than_fit(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->slot_count++;
}
static void slots_that_overflow(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->slot_bytes = UINT64_C(1) << 63;
}
static void slots_past_the_end(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->slots_offset = UINT64_MAX - 255;
}
static void descriptors_in_the_slots(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->descriptors_offset = header_of(daemon)->slots_offset;
}
static void descriptors_past_the_end(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->descriptors_offset = UINT64_MAX - 7;
}
static void descriptors_in_the_header(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->descriptors_offset = 0;
}
static void short_descriptors(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->descriptor_bytes = 704;
}
static void misaligned_slots(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->slots_offset += 8;
}
static void endless_plan(FakeDaemon *daemon, FakeWelcome *welcome) {
    memset(header_of(daemon)->plan, 'x', SEQFEED_PLAN_BYTES);
}
static void endless_cursor(FakeDaemon *daemon, FakeWelcome *welcome) {
    memset(header_of(daemon)->start_cursor, 'x', SEQFEED_CURSOR_BYTES);
}
static void another_rank(FakeDaemon *daemon, FakeWelcome *welcome) {
    header_of(daemon)->rank = 3;
}
static void another_first(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->message.first = 77;
}
static void no_descriptors(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->descriptor_count = 0;
}
static void one_descriptor(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->descriptor_count = 1;
}
static void many_descriptors(FakeDaemon *daemon, FakeWelcome *welcome) {
    for (int i = 2; i < FAKE_DESCRIPTORS_MAX; i++)
        welcome->descriptors[i] = welcome->descriptors[0];
    welcome->descriptor_count = FAKE_DESCRIPTORS_MAX;
}
static void swapped_descriptors(FakeDaemon *daemon, FakeWelcome *welcome) {
    int data = welcome->descriptors[0];

    welcome->descriptors[0] = welcome->descriptors[1];
    welcome->descriptors[1] = data;
}
static void a_pipe_for_memory(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->descriptors[0] = daemon->stop_fd;
}
static void a_short_welcome(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->size -= 8;
    welcome->message.head.size -= 8;
}
static void a_lying_welcome(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->message.head.size += 8;
}

static void (*const tampers[])(FakeDaemon *, FakeWelcome *) = {
    wrong_magic,
    wrong_version,
    wrong_header_bytes,
    ring_is_larger_than_the_file,
    header_says_another_size,
    no_slots,
    too_many_slots,
    more_slots_than_fit,
    slots_that_overflow,
    slots_past_the_end,
    descriptors_in_the_slots,
    descriptors_past_the_end,
    descriptors_in_the_header,
    short_descriptors,
    misaligned_slots,
    endless_plan,
    endless_cursor,
    another_rank,
    another_first,
    no_descriptors,
    one_descriptor,
    many_descriptors,
    swapped_descriptors,
    a_pipe_for_memory,
    a_short_welcome,
    a_lying_welcome,
};

START_TEST(a_ring_that_contradicts_itself_is_refused)
{
    SeqfeedError error;
    int before;

    for (size_t i = 0; i < sizeof tampers / sizeof tampers[0]; i++) {
        fake_daemon_start(&daemon_, 2, 4096);
        before = open_descriptors();
        daemon_.tamper = tampers[i];
        ck_assert_msg(attach(&error) == -EPROTO, "case %lu: %s", (unsigned long)i, error.text);
        fake_daemon_hang_up(&daemon_);
        ck_assert_int_le(open_descriptors(), before);
        fake_daemon_stop(&daemon_);
    }
}
END_TEST

/* Memory that another trainer could write, or that could shrink under us, is not mapped. */
static int unsealed_fd;
static void unsealed_memory(FakeDaemon *daemon, FakeWelcome *welcome) {
    welcome->descriptors[0] = unsealed_fd;
}

START_TEST(memory_without_its_seals_is_refused)
{
    static const int seals[] = {0, F_SEAL_SHRINK, F_SEAL_SHRINK | F_SEAL_GROW};
    SeqfeedError error;

    for (size_t i = 0; i < sizeof seals / sizeof seals[0]; i++) {
        fake_daemon_start(&daemon_, 2, 4096);
        unsealed_fd = memfd_create("ring", MFD_ALLOW_SEALING | MFD_CLOEXEC);
        ck_assert_int_eq(ftruncate(unsealed_fd, (off_t)daemon_.writer->memory_bytes), 0);
        ck_assert(write(unsealed_fd, daemon_.writer->header, 4096) == 4096);
        ck_assert_int_eq(fcntl(unsealed_fd, F_ADD_SEALS, seals[i]), 0);
        daemon_.tamper = unsealed_memory;
        ck_assert_int_eq(attach(&error), -EPROTO);
        ck_assert_ptr_nonnull(strstr(error.text, "sealed"));
        close(unsealed_fd);
        fake_daemon_stop(&daemon_);
    }
}
END_TEST

/* ---- hostile batches ---- */

static void bad_name(SeqfeedDescriptor *batch) {
    memset(batch->tensors[0].name, 'x', SEQFEED_TENSOR_NAME);
}
static void no_name(SeqfeedDescriptor *batch) {
    batch->tensors[0].name[0] = '\0';
}
static void bad_dtype(SeqfeedDescriptor *batch) {
    batch->tensors[0].dtype = SEQFEED_DTYPE_COUNT;
}
static void many_dimensions(SeqfeedDescriptor *batch) {
    batch->tensors[0].ndim = 5;
}
static void negative_shape(SeqfeedDescriptor *batch) {
    batch->tensors[0].shape[0] = -1;
}
static void negative_stride(SeqfeedDescriptor *batch) {
    batch->tensors[0].stride[0] = -64;
}
static void shape_past_the_tensor(SeqfeedDescriptor *batch) {
    batch->tensors[0].shape[0]++;
}
static void shape_that_overflows(SeqfeedDescriptor *batch) {
    batch->tensors[0].shape[0] = INT64_MAX;
    batch->tensors[0].stride[0] = INT64_MAX;
}
static void tensor_past_the_slot(SeqfeedDescriptor *batch) {
    batch->tensors[0].offset = SEQFEED_TENSOR_ALIGN;
}
static void offset_that_overflows(SeqfeedDescriptor *batch) {
    batch->tensors[0].offset = UINT64_MAX - 255;
}
static void misaligned_tensor(SeqfeedDescriptor *batch) {
    batch->tensors[0].offset = 8;
    batch->tensors[0].size_bytes = 8;
    batch->tensors[0].ndim = 0;
}
static void size_past_the_slot(SeqfeedDescriptor *batch) {
    batch->tensors[0].size_bytes = UINT64_MAX;
}
static void many_tensors(SeqfeedDescriptor *batch) {
    batch->tensor_count = SEQFEED_TENSORS_MAX + 1;
}
static void endless_batch_cursor(SeqfeedDescriptor *batch) {
    memset(batch->cursor, 'x', SEQFEED_CURSOR_BYTES);
}
static void bad_polarity(SeqfeedDescriptor *batch) {
    batch->tensors[0].polarity = 9;
}

static void (*const batch_tampers[])(SeqfeedDescriptor *) = {
    bad_name,
    no_name,
    bad_dtype,
    many_dimensions,
    negative_shape,
    negative_stride,
    misaligned_tensor,
    shape_past_the_tensor,
    shape_that_overflows,
    tensor_past_the_slot,
    offset_that_overflows,
    size_past_the_slot,
    many_tensors,
    endless_batch_cursor,
    bad_polarity,
};

static SeqfeedDescriptor *first_descriptor(void) {
    return (SeqfeedDescriptor *)(void *)(daemon_.writer->memory +
                                         daemon_.writer->descriptors_offset);
}

START_TEST(a_batch_that_contradicts_itself_is_refused)
{
    SeqfeedOptions options = {.feed = "train"};
    SeqfeedError error;
    SeqfeedBatch batch;
    Seqfeed *feed;

    for (size_t i = 0; i < sizeof batch_tampers / sizeof batch_tampers[0]; i++) {
        fake_daemon_start(&daemon_, 2, 4096);
        options.socket = daemon_.address.sun_path;
        ck_assert_int_eq(seqfeed_attach(&feed, &options, &error), 0);
        ck_assert(fake_daemon_publish(&daemon_));
        batch_tampers[i](first_descriptor());
        ck_assert_msg(seqfeed_next(feed, &batch, 0) == -EPROTO, "case %lu", (unsigned long)i);
        ck_assert(seqfeed_message(feed)[0] != '\0');
        seqfeed_detach(feed);
        fake_daemon_stop(&daemon_);
    }
}
END_TEST

/* Nor does a description that changes after it was checked lead outside. */
START_TEST(a_description_that_changes_later_is_checked_again)
{
    SeqfeedOptions options = {.feed = "train"};
    SeqfeedError error;
    SeqfeedBatch batch;
    SeqfeedTensor tensor;
    Seqfeed *feed;

    fake_daemon_start(&daemon_, 2, 4096);
    options.socket = daemon_.address.sun_path;
    ck_assert_int_eq(seqfeed_attach(&feed, &options, &error), 0);
    ck_assert(fake_daemon_publish(&daemon_));
    ck_assert_int_eq(seqfeed_next(feed, &batch, 0), 0);
    first_descriptor()->tensors[0].offset = UINT64_MAX - 255;
    ck_assert_int_eq(seqfeed_tensor(&batch, "tokens", &tensor), -EPROTO);
    ck_assert_int_eq(seqfeed_tensor_at(&batch, 0, &tensor), -EPROTO);
    seqfeed_detach(feed);
    fake_daemon_stop(&daemon_);
}
END_TEST

START_TEST(a_head_that_jumps_and_a_slot_that_was_reused_are_noticed)
{
    SeqfeedOptions options = {.feed = "train"};
    const uint64_t heads[] = {3, UINT64_MAX, UINT64_C(1) << 63};
    SeqfeedError error;
    SeqfeedBatch batch;
    Seqfeed *feed;

    fake_daemon_start(&daemon_, 2, 4096);
    options.socket = daemon_.address.sun_path;
    ck_assert_int_eq(seqfeed_attach(&feed, &options, &error), 0);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        header_of(&daemon_)->head = heads[i];
        ck_assert_int_eq(seqfeed_next(feed, &batch, 0), -EPROTO);
    }
    header_of(&daemon_)->head = 1;
    first_descriptor()->sequence = UINT64_MAX;
    ck_assert_int_eq(seqfeed_next(feed, &batch, 0), -ECONNABORTED);
    seqfeed_detach(feed);
    fake_daemon_stop(&daemon_);
}
END_TEST

CHECK_MAIN("client_attach", without_a_daemon_the_sentence_names_every_place,
           the_environment_and_the_runtime_folder_lead_to_the_daemon,
           options_that_make_no_sense_are_refused_before_anything_is_asked,
           the_request_says_what_the_options_say, a_refusal_is_passed_on_word_for_word,
           a_daemon_that_says_what_it_waits_for_is_waited_for,
           a_daemon_that_is_silent_is_a_time_out,
           a_daemon_that_is_silent_has_until_the_deadline_and_no_longer,
           trainers_and_workers_that_outnumber_the_cpus_are_a_crowd,
           answers_to_hello_that_are_no_answers_are_refused,
           a_ring_that_contradicts_itself_is_refused, memory_without_its_seals_is_refused,
           a_batch_that_contradicts_itself_is_refused,
           a_description_that_changes_later_is_checked_again,
           a_head_that_jumps_and_a_slot_that_was_reused_are_noticed)
