/* SPDX-License-Identifier: MIT */
/* interrupt.h: SIGINT, SIGTERM and SIGHUP end long work in an orderly way. They are held back
 * everywhere but in interrupt_wait(), so work is never torn apart in the middle of a step, and
 * threads that are started later never see them. */
#pragma once

#include "base/attributes.h"

/* Once, before any thread is started. Also lets writes beyond `ulimit -f` fail instead of killing.
 */
void interrupt_begin(void);

/* Wait until `fd` can be read, or return -EINTR when a signal has come. -1 does not wait. */
MUST_CHECK int interrupt_wait(int fd);
