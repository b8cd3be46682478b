/* SPDX-License-Identifier: MIT */
/* The CUDA backend as it is linked: with a GPU it names it, without one it says why, in either case
 * before it makes a context. */
#include "support/check_main.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mask/mask_backend.h"

START_TEST(the_search_ends_in_words)
{
    const MaskBackend *backend = mask_backend_cuda();
    char reason[MASK_REASON_BYTES] = "";
    MaskDevice *device = NULL;
    Error error = {0};
    int r;

    ck_assert_ptr_nonnull(backend);
    ck_assert_str_eq(backend->name, "cuda");
    r = backend->find(NULL, reason);
    ck_assert_msg(r == 0 || r == -ENODEV, "%d: %s", r, reason);
    ck_assert_uint_gt(strlen(reason), 5);
    printf("%s\n", reason);
    ck_assert_int_eq(backend->find("GPU-of-nobody", reason), -ENODEV);
    ck_assert_int_eq(backend->open("63", &device, &error), -ENODEV);
    ck_assert_uint_gt(strlen(error.text), 5);
}
END_TEST

CHECK_MAIN("find", the_search_ends_in_words)
