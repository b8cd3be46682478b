/* SPDX-License-Identifier: MIT */
#include "header_probe.c"
