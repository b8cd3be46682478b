/* SPDX-License-Identifier: MIT */
/* On a GPU: every tensor of random feeds, several lanes in flight, against the CPU backend. Exits
 * 77 with the reason where there is none.
 *
 *     test_gpu [ROUNDS [DEVICE]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mask/mask_backend.h"
#include "mask/mask_case.h"

enum { LANES = 4, ROUNDS = 500, BATCHES = 3, PAGE = 4096, SKIPPED = 77 };

typedef struct Way {
    MaskCase test;
    CellPlan plan;
    MaskLane *lane;
    uint8_t *slot, *want;
    uint64_t bytes, input_bytes;
} Way;

static const MaskBackend *backend;

static int complain(const char *what, const Error *error) {
    fprintf(stderr, "%s: %s\n", what, error->text);
    return -1;
}

static int way_open(Way *way, MaskDevice *device, uint32_t seed) {
    Error error = {0};

    mask_case_init(&way->test, seed);
    way->bytes = mask_case_slot_bytes(&way->test);
    way->slot = aligned_alloc(PAGE, way->bytes);
    way->want = aligned_alloc(PAGE, way->bytes);
    if (!way->slot || !way->want || cell_plan_make(&way->test.set, &way->plan) < 0)
        return -1;
    way->input_bytes = mask_case_pack_bytes(&way->test, &way->plan);
    if (backend->lane_new(device, &way->plan, way->slot, way->bytes, way->input_bytes, &way->lane,
                          &error) < 0)
        return complain("a lane", &error);
    return 0;
}

static void way_close(Way *way) {
    backend->lane_free(way->lane);
    free(way->slot);
    free(way->want);
}

/* Another batch of the same feed. */
static int way_start(Way *way, uint32_t batch) {
    MaskCase *test = &way->test;
    Error error = {0};

    if (batch > 0)
        mask_case_turn(test);
    memset(way->want, (int)batch, way->bytes);
    memset(way->slot, (int)batch, way->bytes);
    mask_case_fill(test, way->want);
    if (mask_case_pack(test, &way->plan, backend->lane_input(way->lane), way->input_bytes) == 0)
        return -1;
    return backend->lane_start(way->lane, &error) < 0 ? complain("a start", &error) : 0;
}

static int way_finish(Way *way, uint32_t seed) {
    Error error = {0};
    int r = MASK_E_BUSY;

    for (uint32_t i = 0; i < 3 && r == MASK_E_BUSY; i++)
        r = backend->lane_poll(way->lane, &error);
    if (r == MASK_E_BUSY)
        r = backend->lane_wait(way->lane, &error);
    if (r < 0)
        return complain("a batch", &error);
    for (uint32_t t = 0; t < way->test.set.count; t++) {
        uint64_t at = way->test.layout.offset[t], size = way->test.layout.size_bytes[t];

        if (memcmp(way->slot + at, way->want + at, size) != 0) {
            fprintf(stderr, "seed %u: tensor %u of source %u, dtype %u differs\n", seed, t,
                    way->test.set.tensors[t].source, way->test.set.tensors[t].dtype);
            return -1;
        }
    }
    return 0;
}

static int run_round(MaskDevice *device, uint32_t round) {
    static Way ways[LANES];
    int r = 0;

    memset(ways, 0, sizeof ways);
    for (uint32_t w = 0; w < LANES && r == 0; w++)
        r = way_open(&ways[w], device, round * LANES + w);
    for (uint32_t batch = 0; batch < BATCHES && r == 0; batch++) {
        for (uint32_t w = 0; w < LANES && r == 0; w++)
            r = way_start(&ways[w], batch);
        for (uint32_t w = 0; w < LANES && r == 0; w++)
            r = way_finish(&ways[w], round * LANES + w);
    }
    for (uint32_t w = 0; w < LANES && r == 0; w++)
        way_close(&ways[w]);
    return r;
}

int main(int argc, char **argv) {
    uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ROUNDS;
    const char *name = argc > 2 ? argv[2] : NULL;
    char reason[MASK_REASON_BYTES];
    MaskDevice *device;
    Error error = {0};
    int r = 0;

    backend = mask_backend_cuda();
    if (backend->find(name, reason) < 0) {
        printf("skipped: %s\n", reason);
        return SKIPPED;
    }
    if (backend->open(name, &device, &error) < 0)
        return complain("the device", &error), EXIT_FAILURE;
    printf("%s\n", reason);
    for (uint32_t round = 0; round < rounds && r == 0; round++)
        r = run_round(device, round);
    if (backend->close(device) < 0 || r < 0)
        return EXIT_FAILURE;
    printf("%u batches, every tensor the same\n", rounds * LANES * BATCHES);
    return EXIT_SUCCESS;
}
