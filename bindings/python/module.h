/* SPDX-License-Identifier: MIT */
/* module.h: what the parts of the extension `_seqfeed` know of each other. They use the limited
 * API, so one binary serves every Python from 3.11 on. Whatever people see beyond thin wrappers is
 * written in Python; here is only what needs C. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "lease.h"

/* Raise what a negative errno of the client means to Python; returns NULL. */
PyObject *module_raise(int code, const char *text);

/* Release the memory of an object of a heap type. */
void module_free(PyObject *self);

/* The constructor of types that callers do not make. */
PyObject *module_no_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords);

/* Add a type to the module; 0 or -1 with an exception. */
int module_add_type(PyObject *module, PyType_Spec *spec);

/* A batch of Python class `batch_class`, which takes over `lease`, unless it cannot be made; its
 * tensors become objects of `tensor_class`. */
PyObject *batch_object_new(PyObject *batch_class, PyObject *tensor_class, Lease *lease);
const SeqfeedBatch *batch_object_batch(PyObject *object);

/* One tensor of a lease that is not released. */
PyObject *tensor_object_new(PyObject *tensor_class, Lease *lease, const SeqfeedTensor *tensor);

/* What tensor_object.c and tensor_dlpack.c share. */
typedef struct TensorObject {
    PyObject ob_base; /* as PyObject_HEAD has it */
    Lease *lease;
    PyObject *name;
    SeqfeedTensor view;              /* its name is not used: it lies in shared memory */
    Py_ssize_t shape[4], strides[4]; /* bytes */
} TensorObject;

/* True and an exception when the batch was given back. */
bool tensor_object_is_void(const TensorObject *self);

/* What a Maker keeps for all batches of a loader. */
typedef struct MakerName {
    char text[SEQFEED_TENSOR_NAME];
    PyObject *object;
} MakerName;

typedef struct MakerObject {
    PyObject ob_base;
    PyObject *batch_class, *from_dlpack;
    PyObject *boolean, *allocate; /* NULL: none */
    PyObject *facts_word, *view_word;
    int moves; /* somebody moves what is made to a device, and says when it is handed out */
    MakerName names[SEQFEED_TENSORS_MAX];
    Pool pool;
} MakerObject;

/* An object of the maker's class, a dictionary, with `facts` as its attribute `_facts`: the tensors
 * are views of the lease, each of which keeps it. */
PyObject *maker_object_make(MakerObject *self, Lease *lease, PyObject *facts);

/* (facts, one tensor over all bytes of the copy, (name, dtype, shape, offset, bytes) of each
 * tensor).
 */
PyObject *maker_object_whole(MakerObject *self, Lease *copy, PyObject *facts);

/* A capsule of the old protocol over memory of the lease, for a consumer that takes care of what it
 * may do with it. */
PyObject *tensor_dlpack_view(Lease *lease, const SeqfeedTensor *view, bool bool_is_bytes);

PyObject *tensor_dlpack(PyObject *self, PyObject *arguments, PyObject *keywords);
PyObject *tensor_dlpack_device(PyObject *self, PyObject *unused);

/* As seqfeed_attach(), and the Attempt may be cancelled meanwhile: -ECANCELED. */
int attempt_object_attach(PyObject *attempt, const SeqfeedOptions *options, Seqfeed **ret_feed,
                          SeqfeedError *error);

int attempt_object_register(PyObject *module);
int feed_object_register(PyObject *module);
int batch_object_register(PyObject *module);
int tensor_object_register(PyObject *module);
int memory_object_register(PyObject *module);
int maker_object_register(PyObject *module);
int dataset_object_register(PyObject *module);
int writer_object_register(PyObject *module);

PyObject *feed_object_attach(PyObject *module, PyObject *arguments, PyObject *keywords);
