/* SPDX-License-Identifier: MIT */
#include "module.h"

#include <errno.h>
#include <string.h>

/* What static libraries take for stdin; meson.build says why. No stream is read here. */
void *__wrap_stdin;

/* Classes by which callers tell outcomes apart; OSError picks its own subclass for the rest. */
PyObject *module_raise(int code, const char *text) {
    PyObject *arguments, *class = PyExc_OSError;

    if (PyErr_Occurred())
        return NULL;
    switch (code) {
    case -EINVAL:
    case -EBADMSG:
    case -ERANGE:
    case -E2BIG:
        class = PyExc_ValueError;
        break;
    case -ENOBUFS:
        class = PyExc_BufferError;
        break;
    default:
        break;
    }
    if (class != PyExc_OSError) {
        PyErr_SetString(class, text);
        return NULL;
    }
    arguments = Py_BuildValue("is", -code, text && text[0] ? text : strerror(-code));
    if (arguments)
        PyErr_SetObject(class, arguments);
    Py_XDECREF(arguments);
    return NULL;
}

void module_free(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)(uintptr_t)PyType_GetSlot(type, Py_tp_free);

    release(self);
    Py_DECREF(type);
}

PyObject *module_no_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    PyErr_SetString(PyExc_TypeError, "these objects are made by the feed only");
    return NULL;
}

int module_add_type(PyObject *module, PyType_Spec *spec) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int r = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;

    Py_XDECREF(type);
    return r;
}

static int module_execute(PyObject *module) {
    return attempt_object_register(module) < 0 || feed_object_register(module) < 0 ||
                   batch_object_register(module) < 0 || tensor_object_register(module) < 0 ||
                   memory_object_register(module) < 0 || maker_object_register(module) < 0 ||
                   dataset_object_register(module) < 0 || writer_object_register(module) < 0 ||
                   PyModule_AddStringConstant(module, "version", SEQFEED_VERSION) < 0
               ? -1
               : 0;
}

static PyMethodDef module_methods[] = {
    {"attach", (PyCFunction)(void (*)(void))feed_object_attach, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, (void *)(uintptr_t)module_execute},
                                          {0, NULL}};

static PyModuleDef module_definition = {.m_base = PyModuleDef_HEAD_INIT,
                                        .m_name = "_seqfeed",
                                        .m_methods = module_methods,
                                        .m_slots = module_slots};

PyMODINIT_FUNC PyInit__seqfeed(void);
PyMODINIT_FUNC PyInit__seqfeed(void) {
    return PyModuleDef_Init(&module_definition);
}
