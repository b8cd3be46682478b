/* SPDX-License-Identifier: MIT */
/* memory_object.c: writable, aligned memory without a first value, for copies that a loader makes.
 * Whoever keeps a view of it keeps a reference, so its owner sees when it can be used again. */
#include <stdlib.h>

#include "module.h"

enum { MEMORY_ALIGN = 4096 };

typedef struct MemoryObject {
    PyObject ob_base;
    void *bytes;
    Py_ssize_t size;
} MemoryObject;

static PyObject *memory_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    MemoryObject *self;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(arguments, "n", &size))
        return NULL;
    if (size < 0 || size > PY_SSIZE_T_MAX - MEMORY_ALIGN)
        return PyErr_NoMemory();
    self = (MemoryObject *)allocate(type, 0);
    if (!self)
        return NULL;
    self->size = size;
    self->bytes = aligned_alloc(MEMORY_ALIGN, ((size_t)size / MEMORY_ALIGN + 1) * MEMORY_ALIGN);
    if (self->bytes)
        return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return PyErr_NoMemory();
}

static void memory_dealloc(PyObject *object) {
    free(((MemoryObject *)object)->bytes);
    module_free(object);
}

static int memory_get_buffer(PyObject *object, Py_buffer *view, int flags) {
    MemoryObject *self = (MemoryObject *)object;

    return PyBuffer_FillInfo(view, object, self->bytes, self->size, 0, flags);
}

static Py_ssize_t memory_length(PyObject *object) {
    return ((MemoryObject *)object)->size;
}

static PyType_Slot memory_slot_table[] = {{Py_tp_new, (void *)(uintptr_t)memory_new},
                                          {Py_tp_dealloc, (void *)(uintptr_t)memory_dealloc},
                                          {Py_bf_getbuffer, (void *)(uintptr_t)memory_get_buffer},
                                          {Py_mp_length, (void *)(uintptr_t)memory_length},
                                          {0, NULL}};

static PyType_Spec memory_spec = {"seqfeed._seqfeed.Memory", sizeof(MemoryObject), 0,
                                  Py_TPFLAGS_DEFAULT, memory_slot_table};

int memory_object_register(PyObject *module) {
    return module_add_type(module, &memory_spec);
}
