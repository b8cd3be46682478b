/* SPDX-License-Identifier: MIT */
/* processors.h: how many CPUs this process may use at once. */
#pragma once

#include <stdint.h>

/* Those of the affinity mask, on machines of any size; at least 1. */
uint32_t processors_count(void);
