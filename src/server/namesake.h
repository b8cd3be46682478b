/* SPDX-License-Identifier: MIT */
/* namesake.h: why those who wait for each other may do so in vain: others of the same user, feed
 * and group who do not belong to them. */
#pragma once

#include "base/text.h"
#include "server/admission.h"

/* Adds to what a forming waits for, if there is something: "; pid 4712 waits in group sweep with
 * members 3, not 4"; "; group sweep is full and runs: pid 1, pid 2 (join: next joins it)". */
void namesake_describe(const AdmissionWait *wait, Text *text);
