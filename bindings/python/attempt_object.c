/* SPDX-License-Identifier: MIT */
/* attempt_object.c: an attach that somebody may give up from another thread. Everything here
 * happens with the interpreter's lock held. */
#include <errno.h>
#include <sys/socket.h>

#include "module.h"

typedef struct AttemptObject {
    PyObject ob_base;
    bool cancelled;
    int socket; /* borrowed, while the daemon's answer is waited for; else -1 */
} AttemptObject;

static PyObject *attempt_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    AttemptObject *self;

    if (!PyArg_ParseTuple(arguments, ""))
        return NULL;
    self = (AttemptObject *)allocate(type, 0);
    if (self)
        self->socket = -1;
    return (PyObject *)self;
}

static void attempt_dealloc(PyObject *object) {
    module_free(object);
}

/* This is its socket now; -1: none any more. */
static int attempt_set(PyObject *object, int socket) {
    AttemptObject *self = (AttemptObject *)object;

    self->socket = socket;
    return self->cancelled ? -ECANCELED : 0;
}

int attempt_object_attach(PyObject *attempt, const SeqfeedOptions *options, Seqfeed **ret_feed,
                          SeqfeedError *error) {
    SeqfeedPrivateAttach attach;
    Seqfeed *feed = NULL;
    int r;

    Py_BEGIN_ALLOW_THREADS r = seqfeed_private_open(&feed, &attach, options, error);
    Py_END_ALLOW_THREADS if (r < 0) return r;
    r = attempt_set(attempt, feed->socket);
    if (r == 0) {
        Py_BEGIN_ALLOW_THREADS r = seqfeed_private_take_seat(feed, &attach);
        Py_END_ALLOW_THREADS
    }
    if (attempt_set(attempt, -1) < 0)
        r = -ECANCELED;
    if (r == 0)
        *ret_feed = feed;
    else
        seqfeed_detach(feed);
    return r;
}

/* cancel(): the daemon sees a client that is gone, and frees its seat. Again is harmless. */
static PyObject *attempt_cancel(PyObject *object, PyObject *unused) {
    AttemptObject *self = (AttemptObject *)object;

    self->cancelled = true;
    if (self->socket >= 0)
        (void)shutdown(self->socket, SHUT_RDWR);
    Py_RETURN_NONE;
}

static PyMethodDef attempt_methods[] = {{"cancel", attempt_cancel, METH_NOARGS, NULL},
                                        {NULL, NULL, 0, NULL}};

static PyType_Slot attempt_slot_table[] = {{Py_tp_dealloc, (void *)(uintptr_t)attempt_dealloc},
                                           {Py_tp_new, (void *)(uintptr_t)attempt_new},
                                           {Py_tp_methods, attempt_methods},
                                           {0, NULL}};

static PyType_Spec attempt_spec = {"seqfeed._seqfeed.Attempt", sizeof(AttemptObject), 0,
                                   Py_TPFLAGS_DEFAULT, attempt_slot_table};

int attempt_object_register(PyObject *module) {
    return module_add_type(module, &attempt_spec);
}
