/* SPDX-License-Identifier: MIT */
/* batch_object.c: a batch as a mapping from names to tensors, and who may still look at it. */
#include <errno.h>
#include <string.h>

#include "module.h"

typedef struct BatchObject {
    PyObject ob_base;
    Lease *lease;
    PyObject *tensor_class;
} BatchObject;

static void batch_dealloc(PyObject *object) {
    BatchObject *self = (BatchObject *)object;

    lease_unref(self->lease);
    Py_XDECREF(self->tensor_class);
    module_free(object);
}

PyObject *batch_object_new(PyObject *batch_class, PyObject *tensor_class, Lease *lease) {
    PyTypeObject *type = (PyTypeObject *)batch_class;
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    BatchObject *self = (BatchObject *)allocate(type, 0);

    if (!self)
        return NULL;
    self->lease = lease;
    self->tensor_class = Py_NewRef(tensor_class);
    return (PyObject *)self;
}

static PyObject *batch_void(void) {
    PyErr_SetString(PyExc_ValueError, "this batch was given back: its tensors are gone");
    return NULL;
}

/* By name or by place. */
static PyObject *batch_tensor(BatchObject *self, const char *name, uint32_t place) {
    SeqfeedTensor tensor;
    int r;

    if (self->lease->released)
        return batch_void();
    r = name ? seqfeed_tensor(&self->lease->batch, name, &tensor)
             : seqfeed_tensor_at(&self->lease->batch, place, &tensor);
    if (r < 0)
        return module_raise(r, "the description of this tensor is damaged");
    return tensor_object_new(self->tensor_class, self->lease, &tensor);
}

/* The names, in the order of the configuration. */
static PyObject *batch_names(PyObject *object, PyObject *unused) {
    BatchObject *self = (BatchObject *)object;
    uint32_t count = self->lease->batch.private_tensor_count;
    PyObject *names;

    if (self->lease->released)
        return batch_void();
    names = PyTuple_New((Py_ssize_t)count);
    for (uint32_t i = 0; names && i < count; i++) {
        SeqfeedTensor tensor;
        PyObject *name = seqfeed_tensor_at(&self->lease->batch, i, &tensor) == 0
                             ? PyUnicode_FromStringAndSize(
                                   tensor.name,
                                   (Py_ssize_t)strnlen(tensor.name, SEQFEED_TENSOR_NAME - 1))
                             : module_raise(-EPROTO, "the description of this tensor is damaged");

        if (!name)
            Py_CLEAR(names);
        else
            PyTuple_SetItem(names, (Py_ssize_t)i, name);
    }
    return names;
}

static void batch_no_tensor(PyObject *object, PyObject *key) {
    PyObject *comma = PyUnicode_FromString(", ");
    PyObject *names = comma ? batch_names(object, NULL) : NULL;
    PyObject *text = names ? PyUnicode_Join(comma, names) : NULL;

    if (text)
        PyErr_Format(PyExc_KeyError, "no tensor %R: this batch has %U", key, text);
    Py_XDECREF(text);
    Py_XDECREF(names);
    Py_XDECREF(comma);
}

static PyObject *batch_subscript(PyObject *object, PyObject *key) {
    BatchObject *self = (BatchObject *)object;
    SeqfeedTensor tensor;
    const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, NULL) : NULL;

    if (!self->lease->released &&
        (!name || seqfeed_tensor(&self->lease->batch, name, &tensor) == -ENOENT)) {
        if (!PyErr_Occurred())
            batch_no_tensor(object, key);
        return NULL;
    }
    return batch_tensor(self, name, 0);
}

static Py_ssize_t batch_length(PyObject *object) {
    return (Py_ssize_t)((BatchObject *)object)->lease->batch.private_tensor_count;
}

static int batch_contains(PyObject *object, PyObject *key) {
    BatchObject *self = (BatchObject *)object;
    const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, NULL) : NULL;
    SeqfeedTensor tensor;

    if (self->lease->released) {
        (void)batch_void();
        return -1;
    }
    if (!name)
        return PyErr_Occurred() ? -1 : 0;
    return seqfeed_tensor(&self->lease->batch, name, &tensor) == 0;
}

static PyObject *batch_iterate(PyObject *object) {
    PyObject *names = batch_names(object, NULL);
    PyObject *iterator = names ? PyObject_GetIter(names) : NULL;

    Py_XDECREF(names);
    return iterator;
}

static PyObject *batch_release(PyObject *object, PyObject *unused) {
    Lease *lease = ((BatchObject *)object)->lease;
    uint32_t exports = lease_exports(lease);

    if (exports > 0)
        return PyErr_Format(PyExc_BufferError,
                            "%u view%s of this batch still live%s: delete them or copy what you "
                            "want to keep",
                            exports, exports > 1 ? "s" : "", exports > 1 ? "" : "s");
    lease_release(lease);
    Py_RETURN_NONE;
}

static PyObject *batch_enter(PyObject *object, PyObject *unused) {
    return Py_NewRef(object);
}

/* An exception on its way is worth more than the complaint, and its traceback may hold views. */
static PyObject *batch_exit(PyObject *object, PyObject *arguments) {
    PyObject *kind, *value, *trace;

    if (!PyArg_ParseTuple(arguments, "OOO", &kind, &value, &trace))
        return NULL;
    if (kind != Py_None && lease_exports(((BatchObject *)object)->lease) > 0)
        Py_RETURN_NONE;
    return batch_release(object, NULL);
}

const SeqfeedBatch *batch_object_batch(PyObject *object) {
    return &((BatchObject *)object)->lease->batch;
}

static PyObject *batch_epoch(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(batch_object_batch(object)->epoch);
}
static PyObject *batch_index(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(batch_object_batch(object)->index);
}
static PyObject *batch_rows(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLong(batch_object_batch(object)->rows);
}
static PyObject *batch_tokens(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(batch_object_batch(object)->tokens);
}
static PyObject *batch_padded(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(batch_object_batch(object)->slots);
}
static PyObject *batch_repeated(PyObject *object, void *unused) {
    return PyBool_FromLong(batch_object_batch(object)->flags & SEQFEED_BATCH_REPEATED);
}
static PyObject *batch_cursor(PyObject *object, void *unused) {
    return PyUnicode_FromString(seqfeed_cursor(batch_object_batch(object)));
}
/* The numbers of a Ledger, in its order: they lie in the slot. */
static PyObject *batch_ledger(PyObject *object, void *unused) {
    const Lease *lease = ((BatchObject *)object)->lease;
    SeqfeedLedger ledger;

    if (lease->has_ledger)
        ledger = lease->ledger;
    else if (lease->released || seqfeed_ledger(&lease->batch, &ledger) < 0)
        return batch_void();
    return Py_BuildValue(
        "(IKKKKKKKKKIKK)", ledger.sequences, (unsigned long long)(ledger.trained + ledger.ignored),
        (unsigned long long)ledger.slots, (unsigned long long)ledger.squares,
        (unsigned long long)ledger.tokens_in, (unsigned long long)ledger.trained,
        (unsigned long long)ledger.ignored, (unsigned long long)ledger.truncated,
        (unsigned long long)ledger.dropped, (unsigned long long)ledger.repeated, ledger.rows,
        (unsigned long long)ledger.items, (unsigned long long)ledger.items_shifted);
}
static PyObject *batch_released(PyObject *object, void *unused) {
    return PyBool_FromLong(((BatchObject *)object)->lease->released);
}

static PyMethodDef batch_methods[] = {{"_names", batch_names, METH_NOARGS, NULL},
                                      {"release", batch_release, METH_NOARGS, NULL},
                                      {"__enter__", batch_enter, METH_NOARGS, NULL},
                                      {"__exit__", batch_exit, METH_VARARGS, NULL},
                                      {NULL, NULL, 0, NULL}};

static PyGetSetDef batch_fields[] = {{"epoch", batch_epoch, NULL, NULL, NULL},
                                     {"index", batch_index, NULL, NULL, NULL},
                                     {"rows", batch_rows, NULL, NULL, NULL},
                                     {"real_tokens", batch_tokens, NULL, NULL, NULL},
                                     {"padded_tokens", batch_padded, NULL, NULL, NULL},
                                     {"repeated", batch_repeated, NULL, NULL, NULL},
                                     {"_ledger", batch_ledger, NULL, NULL, NULL},
                                     {"cursor", batch_cursor, NULL, NULL, NULL},
                                     {"released", batch_released, NULL, NULL, NULL},
                                     {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot batch_slot_table[] = {{Py_tp_dealloc, (void *)(uintptr_t)batch_dealloc},
                                         {Py_tp_new, (void *)(uintptr_t)module_no_new},
                                         {Py_tp_methods, batch_methods},
                                         {Py_tp_getset, batch_fields},
                                         {Py_tp_iter, (void *)(uintptr_t)batch_iterate},
                                         {Py_mp_subscript, (void *)(uintptr_t)batch_subscript},
                                         {Py_mp_length, (void *)(uintptr_t)batch_length},
                                         {Py_sq_contains, (void *)(uintptr_t)batch_contains},
                                         {0, NULL}};

static PyType_Spec batch_spec = {"seqfeed._seqfeed.Batch", sizeof(BatchObject), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, batch_slot_table};

int batch_object_register(PyObject *module) {
    return module_add_type(module, &batch_spec);
}
