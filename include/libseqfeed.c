/* SPDX-License-Identifier: MIT */
/* libseqfeed.so: the header's code, compiled once. */
#define SEQFEED_BUILD_LIBRARY
#include <seqfeed/seqfeed.h>
