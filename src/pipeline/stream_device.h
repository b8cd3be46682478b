/* SPDX-License-Identifier: MIT */
/* stream_device.h: how a stream uses a device: lanes for its slots, batches that go there instead
 * of to the CPU, and what happens when they do not come back. */
#pragma once

#include "mask/fill.h"
#include "pipeline/stream_parts.h"

/* Worker, while the stream is made: ask for lanes, if the feed is for a device. The stream begins
 * on the CPU and changes over between two batches, once they are there. */
void stream_device_prepare(Stream *stream);

/* Baton. Does the batch that is being claimed go to the device? */
bool stream_device_takes(const Stream *stream, const StreamRing *ring, SlotJob *job);
/* Baton. Give the batch to a worker as soon as all of it is decoded. */
void stream_device_issue(Stream *stream, SlotJob *job, Pushed *pushed);

/* Worker. Start the batch; all its rows are in `rows`. False: the CPU has to fill it. True: the job
 * belongs to the device from here on. */
bool stream_device_launch(SlotJob *job, const FillRow *rows);

/* Baton, nothing in flight. True when the stream's lanes are gone, or will never be; false: stay,
 * the stream is woken. */
bool stream_device_release(Stream *stream);
/* The first part of stream_teardown(). */
void stream_device_teardown(Stream *stream);

/* [control] "cuda" or "cpu", and why. */
const char *stream_device_status(const Stream *stream, const char **ret_reason);
