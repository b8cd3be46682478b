/* SPDX-License-Identifier: MIT */
/* element_cast.h: numbers of Python as they stand on disk. Nothing is rounded or cut in silence but
 * floats to narrower floats, as every array library does. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "shard/buffer.h"
#include "shard/column.h"

/* Append what `value` holds to *to, as elements of the column's type: a number, an object with a
 * buffer of one plain number an item, or a sequence of these, however deep. 0, or -1 with an
 * exception that names the value, of a buffer its format. */
int element_cast_append(PyObject *value, const ShardColumn *column, Buffer *to);
