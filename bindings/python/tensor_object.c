/* SPDX-License-Identifier: MIT */
/* tensor_object.c: a view of one tensor. The memory is read-only to the kernel, so every door to it
 * says read-only, and a consumer that wants to write is refused. */
#include <string.h>

#include "module.h"

/* Of the struct module, by dtype. bfloat16 has no letter: its bits travel as uint16. */
static const char *const tensor_formats[SEQFEED_DTYPE_COUNT] = {NULL, "?", "B", "i",
                                                                "l",  "e", "H", "f"};

static void tensor_dealloc(PyObject *object) {
    TensorObject *self = (TensorObject *)object;

    lease_unref(self->lease);
    Py_XDECREF(self->name);
    module_free(object);
}

PyObject *tensor_object_new(PyObject *tensor_class, Lease *lease, const SeqfeedTensor *tensor) {
    PyTypeObject *type = (PyTypeObject *)tensor_class;
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    TensorObject *self = (TensorObject *)allocate(type, 0);
    Py_ssize_t item = (Py_ssize_t)seqfeed_dtype_bytes(tensor->dtype);

    if (!self)
        return NULL;
    self->lease = lease_ref(lease);
    self->view = *tensor;
    self->view.name = NULL;
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        self->shape[i] = (Py_ssize_t)tensor->shape[i];
        self->strides[i] = (Py_ssize_t)tensor->stride[i] * item;
    }
    self->name = PyUnicode_FromStringAndSize(
        tensor->name, (Py_ssize_t)strnlen(tensor->name, SEQFEED_TENSOR_NAME - 1));
    if (!self->name)
        Py_CLEAR(self);
    return (PyObject *)self;
}

bool tensor_object_is_void(const TensorObject *self) {
    if (!self->lease->released)
        return false;
    PyErr_SetString(PyExc_ValueError, "this batch was given back: its tensors are gone");
    return true;
}

static Py_ssize_t tensor_elements(const TensorObject *self) {
    Py_ssize_t elements = 1;

    for (uint32_t i = 0; i < self->view.ndim; i++)
        elements *= self->shape[i];
    return elements;
}

static bool tensor_is_contiguous(const TensorObject *self) {
    Py_ssize_t step = (Py_ssize_t)seqfeed_dtype_bytes(self->view.dtype);

    if (tensor_elements(self) == 0)
        return true;
    for (uint32_t i = self->view.ndim; i-- > 0;) {
        if (self->shape[i] != 1 && self->strides[i] != step)
            return false;
        step *= self->shape[i];
    }
    return true;
}

static int tensor_get_buffer(PyObject *object, Py_buffer *view, int flags) {
    TensorObject *self = (TensorObject *)object;
    bool contiguous = tensor_is_contiguous(self);

    view->obj = NULL;
    if (tensor_object_is_void(self))
        return -1;
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError,
                        "tensors of a feed are read-only: copy what you want to change");
        return -1;
    }
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS ||
        (!contiguous && ((flags & PyBUF_STRIDES) != PyBUF_STRIDES ||
                         (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS ||
                         (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS))) {
        PyErr_SetString(PyExc_BufferError, "the rows of this tensor do not lie in that order");
        return -1;
    }
    view->buf = (void *)(uintptr_t)self->view.data;
    view->itemsize = (Py_ssize_t)seqfeed_dtype_bytes(self->view.dtype);
    view->len = tensor_elements(self) * view->itemsize;
    view->readonly = 1;
    view->ndim = (int)self->view.ndim;
    view->format = flags & PyBUF_FORMAT ? (char *)(uintptr_t)tensor_formats[self->view.dtype]
                                        : NULL;
    view->shape = flags & PyBUF_ND ? self->shape : NULL;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL;
    view->suboffsets = NULL;
    view->internal = NULL;
    view->obj = Py_NewRef(object);
    lease_export(self->lease);
    return 0;
}

static void tensor_release_buffer(PyObject *object, Py_buffer *view) {
    lease_unexport(((TensorObject *)object)->lease);
}

/* copy_to(buffer, offset): the elements, contiguous, into writable memory of somebody else. */
static PyObject *tensor_copy_to(PyObject *object, PyObject *arguments) {
    TensorObject *self = (TensorObject *)object;
    Py_ssize_t offset, size;
    PyObject *target;
    Py_buffer to;

    if (!PyArg_ParseTuple(arguments, "On", &target, &offset) || tensor_object_is_void(self))
        return NULL;
    size = tensor_elements(self) * (Py_ssize_t)seqfeed_dtype_bytes(self->view.dtype);
    if (!tensor_is_contiguous(self)) {
        PyErr_SetString(PyExc_BufferError, "this tensor is not contiguous");
        return NULL;
    }
    if (PyObject_GetBuffer(target, &to, PyBUF_WRITABLE) < 0)
        return NULL;
    if (offset < 0 || offset > to.len || size > to.len - offset) {
        PyBuffer_Release(&to);
        PyErr_SetString(PyExc_ValueError, "the tensor does not fit there");
        return NULL;
    }
    lease_export(self->lease);
    Py_BEGIN_ALLOW_THREADS memcpy((char *)to.buf + offset, self->view.data, (size_t)size);
    Py_END_ALLOW_THREADS lease_unexport(self->lease);
    PyBuffer_Release(&to);
    Py_RETURN_NONE;
}

/* ---- as a numpy array ---- */

/* An array of the bits of bfloat16 as one of that type; takes over `bits`. */
static PyObject *tensor_as_bfloat16(const TensorObject *self, PyObject *bits) {
    PyObject *types = PyImport_ImportModule("ml_dtypes"), *type, *array;

    if (!types && PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError,
                     "%U is bfloat16, which numpy lacks: install ml_dtypes, or take the bits with "
                     "numpy.asarray()",
                     self->name);
    }
    type = types ? PyObject_GetAttrString(types, "bfloat16") : NULL;
    array = type ? PyObject_CallMethod(bits, "view", "O", type) : NULL;
    Py_XDECREF(type);
    Py_XDECREF(types);
    Py_DECREF(bits);
    return array;
}

/* After a training step caches are cold, and each line of Python counts: it is all one call. */
static PyObject *tensor_numpy(PyObject *object, PyObject *unused) {
    static PyObject *asarray; /* for ever */
    const TensorObject *self = (const TensorObject *)object;
    PyObject *view = PyMemoryView_FromObject(object), *numpy, *array;

    if (view && !asarray) {
        numpy = PyImport_ImportModule("numpy");
        asarray = numpy ? PyObject_GetAttrString(numpy, "asarray") : NULL;
        Py_XDECREF(numpy);
    }
    array = view && asarray ? PyObject_CallFunctionObjArgs(asarray, view, NULL) : NULL;
    Py_XDECREF(view);
    if (array && self->view.dtype == SEQFEED_BFLOAT16)
        return tensor_as_bfloat16(self, array);
    return array;
}

static const TensorObject *tensor_of(PyObject *object) {
    return (const TensorObject *)object;
}

static PyObject *tensor_name(PyObject *object, void *unused) {
    return Py_NewRef(tensor_of(object)->name);
}
static PyObject *tensor_dtype(PyObject *object, void *unused) {
    return PyUnicode_FromString(seqfeed_dtype_name(tensor_of(object)->view.dtype));
}
static PyObject *tensor_bytes(PyObject *object, void *unused) {
    return PyLong_FromSsize_t(tensor_elements(tensor_of(object)) *
                              (Py_ssize_t)seqfeed_dtype_bytes(tensor_of(object)->view.dtype));
}
static PyObject *tensor_contiguous(PyObject *object, void *unused) {
    return PyBool_FromLong(tensor_is_contiguous(tensor_of(object)));
}
static PyObject *tensor_polarity(PyObject *object, void *unused) {
    static const char *const words[] = {"none", "keep", "masked", "additive"};

    return PyUnicode_FromString(words[tensor_of(object)->view.polarity]);
}
static PyObject *tensor_side(PyObject *object, void *unused) {
    return PyUnicode_FromString(tensor_of(object)->view.side == SEQFEED_SIDE_LEFT ? "left"
                                                                                  : "right");
}
static PyObject *tensor_fill(PyObject *object, void *unused) {
    return PyLong_FromLongLong(tensor_of(object)->view.fill);
}
static PyObject *tensor_ignore(PyObject *object, void *unused) {
    return PyLong_FromLongLong(tensor_of(object)->view.ignore);
}

static PyObject *tensor_numbers(PyObject *object, const Py_ssize_t *numbers, Py_ssize_t unit) {
    uint32_t count = tensor_of(object)->view.ndim;
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);

    for (uint32_t i = 0; tuple && i < count; i++)
        PyTuple_SetItem(tuple, (Py_ssize_t)i, PyLong_FromSsize_t(numbers[i] / unit));
    return tuple;
}

static PyObject *tensor_shape(PyObject *object, void *unused) {
    return tensor_numbers(object, tensor_of(object)->shape, 1);
}
static PyObject *tensor_strides(PyObject *object, void *unused) {
    return tensor_numbers(object, tensor_of(object)->strides,
                          (Py_ssize_t)seqfeed_dtype_bytes(tensor_of(object)->view.dtype));
}

static PyMethodDef tensor_methods[] = {
    {"copy_to", tensor_copy_to, METH_VARARGS, NULL},
    {"numpy", tensor_numpy, METH_NOARGS,
     "The tensor as a read-only numpy array of its shape and dtype that shares the memory. "
     "TypeError: it is bfloat16 and there is no ml_dtypes."},
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef tensor_fields[] = {{"name", tensor_name, NULL, NULL, NULL},
                                      {"dtype", tensor_dtype, NULL, NULL, NULL},
                                      {"shape", tensor_shape, NULL, NULL, NULL},
                                      {"strides", tensor_strides, NULL, NULL, NULL},
                                      {"nbytes", tensor_bytes, NULL, NULL, NULL},
                                      {"contiguous", tensor_contiguous, NULL, NULL, NULL},
                                      {"polarity", tensor_polarity, NULL, NULL, NULL},
                                      {"side", tensor_side, NULL, NULL, NULL},
                                      {"fill", tensor_fill, NULL, NULL, NULL},
                                      {"ignore", tensor_ignore, NULL, NULL, NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot tensor_slot_table[] = {
    {Py_tp_dealloc, (void *)(uintptr_t)tensor_dealloc},
    {Py_tp_new, (void *)(uintptr_t)module_no_new},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_fields},
    {Py_bf_getbuffer, (void *)(uintptr_t)tensor_get_buffer},
    {Py_bf_releasebuffer, (void *)(uintptr_t)tensor_release_buffer},
    {0, NULL}};

static PyType_Spec tensor_spec = {"seqfeed._seqfeed.Tensor", sizeof(TensorObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, tensor_slot_table};

int tensor_object_register(PyObject *module) {
    return module_add_type(module, &tensor_spec);
}
