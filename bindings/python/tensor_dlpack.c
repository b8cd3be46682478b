/* SPDX-License-Identifier: MIT */
/* tensor_dlpack.c: tensors for other array libraries. The versioned protocol can say that memory is
 * read-only, so it shares; the old one cannot, so who speaks only that gets a copy, unless it asked
 * for none. A deleter runs on any thread and touches no Python object. */
#include <stdlib.h>
#include <string.h>

#include "dlpack.h"
#include "module.h"

/* What a capsule owns, in one piece of memory; a copy's elements lie behind it. */
typedef struct DlpackExport {
    union {
        DlpackManaged old;
        DlpackVersioned versioned;
    } managed;
    Lease *lease; /* NULL: a copy */
    int64_t shape[4], strides[4];
} DlpackExport;

static const DlpackType dlpack_types[SEQFEED_DTYPE_COUNT] = {
    {0, 0, 0},           {DLPACK_BOOL, 8, 1},   {DLPACK_UINT, 8, 1},    {DLPACK_INT, 32, 1},
    {DLPACK_INT, 64, 1}, {DLPACK_FLOAT, 16, 1}, {DLPACK_BFLOAT, 16, 1}, {DLPACK_FLOAT, 32, 1}};

static void export_free(DlpackExport *export) {
    if (export->lease) {
        lease_unexport(export->lease);
        lease_unref(export->lease);
    }
    free(export);
}

static void dlpack_delete_old(DlpackManaged *managed) {
    export_free(managed->context);
}

static void dlpack_delete_versioned(DlpackVersioned *managed) {
    export_free(managed->context);
}

/* Whoever takes the tensor renames the capsule. */
static void dlpack_capsule_free(PyObject *capsule) {
    DlpackManaged *old;
    DlpackVersioned *versioned;

    if (PyCapsule_IsValid(capsule, DLPACK_CAPSULE)) {
        old = PyCapsule_GetPointer(capsule, DLPACK_CAPSULE);
        old->deleter(old);
    } else if (PyCapsule_IsValid(capsule, DLPACK_CAPSULE_VERSIONED)) {
        versioned = PyCapsule_GetPointer(capsule, DLPACK_CAPSULE_VERSIONED);
        versioned->deleter(versioned);
    }
}

/* Shape, strides and data; with `copy` the elements of its own. */
static DlpackExport *export_new(Lease *lease, const SeqfeedTensor *view, bool copy,
                                DlpackTensor *ret_tensor) {
    size_t head = (sizeof(DlpackExport) + 255) & ~(size_t)255, bytes = 0;
    DlpackExport *export;
    int64_t step = 1;

    if (copy) {
        bytes = seqfeed_dtype_bytes(view->dtype);
        for (uint32_t i = 0; i < view->ndim; i++)
            bytes *= (size_t)view->shape[i];
    }
    export = copy ? aligned_alloc(256, head + ((bytes + 255) & ~(size_t)255))
                  : malloc(sizeof(DlpackExport));
    if (!export)
        return NULL;
    export->lease = copy ? NULL : lease_ref(lease);
    if (export->lease)
        lease_export(export->lease);
    for (uint32_t i = view->ndim; i-- > 0;) {
        export->shape[i] = view->shape[i];
        export->strides[i] = copy ? step : view->stride[i];
        step *= view->shape[i];
    }
    if (copy && bytes > 0)
        lease_copy_tensor(view, (char *)export + head);
    *ret_tensor = (DlpackTensor){
        .data = copy ? (char *)export + head : (void *)(uintptr_t)view->data,
        .device = {DLPACK_CPU, 0},
        .ndim = (int32_t)view->ndim,
        .dtype = dlpack_types[view->dtype],
        .shape = export->shape,
        .strides = export->strides,
    };
    return export;
}

static PyObject *export_capsule(DlpackExport *export, const DlpackTensor *tensor, bool versioned) {
    PyObject *capsule;

    if (versioned) {
        export->managed.versioned = (DlpackVersioned){
            .version = {DLPACK_MAJOR, DLPACK_MINOR},
            .context = export,
            .deleter = dlpack_delete_versioned,
            .flags = export->lease ? DLPACK_READ_ONLY : DLPACK_IS_COPIED,
            .tensor = *tensor,
        };
        capsule = PyCapsule_New(&export->managed.versioned, DLPACK_CAPSULE_VERSIONED,
                                dlpack_capsule_free);
    } else {
        export->managed.old = (DlpackManaged){
            .tensor = *tensor, .context = export, .deleter = dlpack_delete_old};
        capsule = PyCapsule_New(&export->managed.old, DLPACK_CAPSULE, dlpack_capsule_free);
    }
    if (!capsule)
        export_free(export);
    return capsule;
}

/* True where the consumer speaks the versioned protocol; -1 with an exception. */
static int dlpack_is_versioned(PyObject *max_version) {
    int major, minor;

    if (max_version == Py_None)
        return 0;
    if (!PyTuple_Check(max_version) || !PyArg_ParseTuple(max_version, "ii", &major, &minor)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "max_version: a pair of numbers");
        return -1;
    }
    return major >= DLPACK_MAJOR;
}

PyObject *tensor_dlpack(PyObject *object, PyObject *arguments, PyObject *keywords) {
    static const char *const names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *max_version = Py_None, *device = Py_None, *copy = Py_None;
    TensorObject *self = (TensorObject *)object;
    int versioned, type = DLPACK_CPU, id = 0;
    DlpackTensor tensor;
    DlpackExport *export;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$OOOO", (char **)(uintptr_t)names,
                                     &stream, &max_version, &device, &copy) ||
        tensor_object_is_void(self))
        return NULL;
    versioned = dlpack_is_versioned(max_version);
    if (versioned < 0 || (device != Py_None && !PyArg_ParseTuple(device, "ii", &type, &id)))
        return NULL;
    if (type != DLPACK_CPU || id != 0) {
        PyErr_SetString(PyExc_BufferError, "the tensors of a feed are in memory of the CPU");
        return NULL;
    }
    if (!versioned && copy == Py_False) {
        PyErr_SetString(PyExc_BufferError,
                        "this consumer cannot be told that the memory is read-only: copy, or use "
                        ".numpy()");
        return NULL;
    }
    export = export_new(self->lease, &self->view,
                        copy == Py_True || (!versioned && copy != Py_False), &tensor);
    return export ? export_capsule(export, &tensor, versioned) : PyErr_NoMemory();
}

PyObject *tensor_dlpack_view(Lease *lease, const SeqfeedTensor *view, bool bool_is_bytes) {
    DlpackTensor tensor;
    DlpackExport *export = export_new(lease, view, false, &tensor);

    if (!export)
        return PyErr_NoMemory();
    if (bool_is_bytes && view->dtype == SEQFEED_BOOL)
        tensor.dtype = dlpack_types[SEQFEED_UINT8];
    return export_capsule(export, &tensor, false);
}

PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused) {
    return Py_BuildValue("(ii)", DLPACK_CPU, 0);
}
