/* SPDX-License-Identifier: MIT */
/* maker_object.c: batches of another library's tensors, all made within one call, and the memory
 * for copies. The library takes each tensor by the old protocol of DLPack, which it has the longest
 * and which costs it the least; that views are read-only is then the business of whoever asked for
 * them. */
#include <string.h>

#include "module.h"

static int maker_clear(MakerObject *self) {
    pool_clear(&self->pool);
    Py_CLEAR(self->batch_class);
    Py_CLEAR(self->from_dlpack);
    Py_CLEAR(self->boolean);
    Py_CLEAR(self->allocate);
    Py_CLEAR(self->facts_word);
    Py_CLEAR(self->view_word);
    for (uint32_t i = 0; i < SEQFEED_TENSORS_MAX; i++)
        Py_CLEAR(self->names[i].object);
    return 0;
}

static void maker_dealloc(PyObject *object) {
    (void)maker_clear((MakerObject *)object);
    module_free(object);
}

/* Maker(batch_class, from_dlpack, boolean, allocate, moves): boolean is the library's dtype where
 * its DLPack knows none, else None; allocate(size) gives memory for copies, None: malloc; moves:
 * see module.h. */
static PyObject *maker_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *batch_class, *from_dlpack, *boolean, *memory;
    MakerObject *self;
    int moves;

    if (!PyArg_ParseTuple(arguments, "OOOOp", &batch_class, &from_dlpack, &boolean, &memory,
                          &moves))
        return NULL;
    self = (MakerObject *)allocate(type, 0);
    if (!self)
        return NULL;
    self->moves = moves;
    self->batch_class = Py_NewRef(batch_class);
    self->from_dlpack = Py_NewRef(from_dlpack);
    self->boolean = boolean == Py_None ? NULL : Py_NewRef(boolean);
    self->allocate = self->pool.allocate = memory == Py_None ? NULL : Py_NewRef(memory);
    self->facts_word = PyUnicode_InternFromString("_facts");
    self->view_word = PyUnicode_InternFromString("view");
    if (self->facts_word && self->view_word)
        return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

/* The names are the same for every batch: borrowed. */
static PyObject *maker_name(MakerObject *self, uint32_t place, const char *name) {
    MakerName *known = &self->names[place];

    if (known->object && strncmp(known->text, name, sizeof known->text - 1) == 0)
        return known->object;
    Py_CLEAR(known->object);
    memcpy(known->text, name, sizeof known->text - 1);
    known->object = PyUnicode_InternFromString(known->text);
    return known->object;
}

static PyObject *maker_tensor(MakerObject *self, Lease *lease, const SeqfeedTensor *view) {
    PyObject *capsule = tensor_dlpack_view(lease, view, self->boolean != NULL);
    PyObject *bytes = capsule ? PyObject_CallFunctionObjArgs(self->from_dlpack, capsule, NULL)
                              : NULL;
    PyObject *tensor;

    Py_XDECREF(capsule);
    if (!bytes || !self->boolean || view->dtype != SEQFEED_BOOL)
        return bytes;
    tensor = PyObject_CallMethodObjArgs(bytes, self->view_word, self->boolean, NULL);
    Py_DECREF(bytes);
    return tensor;
}

static int maker_add(MakerObject *self, Lease *lease, uint32_t place, PyObject *batch) {
    SeqfeedTensor view;
    PyObject *name, *tensor;
    int r = seqfeed_tensor_at(&lease->batch, place, &view);

    if (r < 0) {
        (void)module_raise(r, "the description of a tensor is damaged");
        return -1;
    }
    name = maker_name(self, place, view.name);
    tensor = name ? maker_tensor(self, lease, &view) : NULL;
    r = tensor ? PyDict_SetItem(batch, name, tensor) : -1;
    Py_XDECREF(tensor);
    return r;
}

PyObject *maker_object_make(MakerObject *self, Lease *lease, PyObject *facts) {
    PyObject *batch = PyObject_CallNoArgs(self->batch_class);
    int r = batch ? PyObject_SetAttr(batch, self->facts_word, facts) : -1;

    for (uint32_t i = 0; r == 0 && i < lease->batch.private_tensor_count; i++)
        r = maker_add(self, lease, i, batch);
    if (r < 0)
        Py_CLEAR(batch);
    return batch;
}

static PyObject *maker_shape(const SeqfeedTensor *view) {
    PyObject *shape = PyTuple_New((Py_ssize_t)view->ndim);

    for (uint32_t i = 0; shape && i < view->ndim; i++)
        PyTuple_SetItem(shape, (Py_ssize_t)i, PyLong_FromLongLong(view->shape[i]));
    return shape;
}

/* (name, dtype, shape, offset, bytes) of each tensor in the chunk. */
static PyObject *maker_pieces(MakerObject *self, const Lease *copy) {
    uint32_t count = copy->batch.private_tensor_count;
    PyObject *pieces = PyTuple_New((Py_ssize_t)count);

    for (uint32_t i = 0; pieces && i < count; i++) {
        SeqfeedTensor view;
        PyObject *piece = NULL;

        if (seqfeed_tensor_at(&copy->batch, i, &view) == 0)
            piece = Py_BuildValue(
                "(OsNnn)", maker_name(self, i, view.name), seqfeed_dtype_name(view.dtype),
                maker_shape(&view),
                (Py_ssize_t)((const char *)view.data - (const char *)copy->chunk->bytes),
                (Py_ssize_t)view.size_bytes);
        if (!piece || PyTuple_SetItem(pieces, (Py_ssize_t)i, piece) < 0)
            Py_CLEAR(pieces);
    }
    return pieces;
}

PyObject *maker_object_whole(MakerObject *self, Lease *copy, PyObject *facts) {
    SeqfeedTensor whole = {
        .data = copy->chunk->bytes, .dtype = SEQFEED_UINT8, .ndim = 1, .stride = {1}};
    PyObject *tensor, *pieces;
    size_t size = 0;

    (void)lease_measure(copy, &size);
    whole.shape[0] = (int64_t)size;
    tensor = maker_tensor(self, copy, &whole);
    pieces = tensor ? maker_pieces(self, copy) : NULL;
    if (pieces)
        return Py_BuildValue("(ONN)", facts, tensor, pieces);
    Py_XDECREF(tensor);
    return NULL;
}

/* How many pieces of memory are kept for copies. */
static PyObject *maker_chunks(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLong(((MakerObject *)object)->pool.count);
}

static PyGetSetDef maker_fields[] = {{"chunks", maker_chunks, NULL, NULL, NULL},
                                     {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot maker_slot_table[] = {{Py_tp_dealloc, (void *)(uintptr_t)maker_dealloc},
                                         {Py_tp_new, (void *)(uintptr_t)maker_new},
                                         {Py_tp_getset, maker_fields},
                                         {0, NULL}};

static PyType_Spec maker_spec = {"seqfeed._seqfeed.Maker", sizeof(MakerObject), 0,
                                 Py_TPFLAGS_DEFAULT, maker_slot_table};

int maker_object_register(PyObject *module) {
    return module_add_type(module, &maker_spec);
}
