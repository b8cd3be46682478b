/* SPDX-License-Identifier: MIT */
/* feed_object.c: an attachment. It gives the interpreter's lock away while it waits, and looks for
 * signals often enough that Ctrl-C feels prompt. */
#include <errno.h>

#include "module.h"

enum { FEED_SLICE_MS = 100 }; /* how long a signal may go unnoticed */

#define NS_PER_MS INT64_C(1000000)

typedef struct FeedObject {
    PyObject ob_base;
    Attachment *attachment; /* NULL once closed */
    PyObject *batch_class, *tensor_class;
    bool busy; /* some thread is inside a call that is one thread's at a time */
} FeedObject;

static int64_t nanoseconds(double seconds) {
    if (seconds < 0)
        return -1;
    return seconds > 1e9 ? INT64_C(1000000000) * 1000000000 : (int64_t)(seconds * 1e9);
}

static void feed_dealloc(PyObject *object) {
    FeedObject *self = (FeedObject *)object;
    Attachment *attachment = self->attachment;

    Py_BEGIN_ALLOW_THREADS attachment_unref(attachment);
    Py_END_ALLOW_THREADS Py_XDECREF(self->batch_class);
    Py_XDECREF(self->tensor_class);
    module_free(object);
}

/* Enter a call that belongs to one thread; NULL and an exception when it cannot be. */
static Seqfeed *feed_enter(FeedObject *self) {
    if (!self->attachment) {
        PyErr_SetString(PyExc_ValueError, "this attachment is closed");
        return NULL;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "another thread waits on this attachment: attach once per thread");
        return NULL;
    }
    self->busy = true;
    return self->attachment->feed;
}

static int feed_wait(Seqfeed *feed, SeqfeedBatch *ret_batch, int64_t timeout_ns) {
    int64_t deadline_ns = timeout_ns < 0 ? INT64_MAX : 0, slice_ns = FEED_SLICE_MS * NS_PER_MS;
    int r = seqfeed_next(feed, ret_batch, 0); /* usually there: the lock need not change hands */

    if (r != -ETIMEDOUT || timeout_ns == 0)
        return r;
    if (timeout_ns > 0)
        deadline_ns = seqfeed_private_now() + timeout_ns;
    for (;;) {
        int64_t left_ns = deadline_ns - seqfeed_private_now();

        if (left_ns <= 0)
            return -ETIMEDOUT;
        Py_BEGIN_ALLOW_THREADS r = seqfeed_next(feed, ret_batch,
                                                left_ns < slice_ns ? left_ns : slice_ns);
        Py_END_ALLOW_THREADS if (r != -ETIMEDOUT) return r;
        if (PyErr_CheckSignals() < 0)
            return -EINTR;
    }
}

/* next(timeout) -> a batch, or 1 at the end of the epoch, or 2 when the daemon drains. */
static PyObject *feed_next(PyObject *object, PyObject *argument) {
    FeedObject *self = (FeedObject *)object;
    double seconds = PyFloat_AsDouble(argument);
    SeqfeedBatch batch;
    Seqfeed *feed;
    Lease *lease;
    int r;

    if (PyErr_Occurred())
        return NULL;
    feed = feed_enter(self);
    if (!feed)
        return NULL;
    r = feed_wait(feed, &batch, nanoseconds(seconds));
    self->busy = false;
    if (r == -ECHILD)
        return module_raise(r, "this process was forked after the attach: attach again in it");
    if (r < 0)
        return module_raise(r, seqfeed_message(feed));
    if (r > 0)
        return PyLong_FromLong(r);
    lease = lease_new(self->attachment, &batch);
    if (!lease) {
        (void)seqfeed_release(feed, &batch);
        return PyErr_NoMemory();
    }
    return batch_object_new(self->batch_class, self->tensor_class, lease);
}

static PyObject *feed_length(PyObject *object, PyObject *unused) {
    FeedObject *self = (FeedObject *)object;
    Seqfeed *feed = feed_enter(self);
    int64_t length;

    if (!feed)
        return NULL;
    Py_BEGIN_ALLOW_THREADS length = seqfeed_length(feed);
    Py_END_ALLOW_THREADS self->busy = false;
    return length < 0 ? module_raise((int)length, seqfeed_message(feed))
                      : PyLong_FromLongLong(length);
}

static PyObject *feed_close(PyObject *object, PyObject *unused) {
    FeedObject *self = (FeedObject *)object;
    Attachment *attachment = self->attachment;

    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another thread waits on this attachment");
        return NULL;
    }
    self->attachment = NULL;
    Py_BEGIN_ALLOW_THREADS attachment_unref(attachment);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *feed_text(PyObject *object, const char *(*get)(const Seqfeed *)) {
    FeedObject *self = (FeedObject *)object;

    if (!self->attachment) {
        PyErr_SetString(PyExc_ValueError, "this attachment is closed");
        return NULL;
    }
    return PyUnicode_FromString(get(self->attachment->feed));
}

static PyObject *feed_start_cursor(PyObject *object, void *unused) {
    return feed_text(object, seqfeed_start_cursor);
}

static PyObject *feed_plan(PyObject *object, void *unused) {
    return feed_text(object, seqfeed_plan);
}

static PyObject *feed_slots(PyObject *object, void *unused) {
    FeedObject *self = (FeedObject *)object;

    return PyLong_FromUnsignedLong(self->attachment ? seqfeed_slots(self->attachment->feed) : 0);
}

static PyMethodDef feed_methods[] = {{"next", feed_next, METH_O, NULL},
                                     {"length", feed_length, METH_NOARGS, NULL},
                                     {"close", feed_close, METH_NOARGS, NULL},
                                     {NULL, NULL, 0, NULL}};

static PyGetSetDef feed_fields[] = {{"start_cursor", feed_start_cursor, NULL, NULL, NULL},
                                    {"plan", feed_plan, NULL, NULL, NULL},
                                    {"slots", feed_slots, NULL, NULL, NULL},
                                    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot feed_slot_table[] = {{Py_tp_dealloc, (void *)(uintptr_t)feed_dealloc},
                                        {Py_tp_methods, feed_methods},
                                        {Py_tp_getset, feed_fields},
                                        {0, NULL}};

static PyType_Spec feed_spec = {"seqfeed._seqfeed.Attachment", sizeof(FeedObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                feed_slot_table};

static PyObject *feed_object_new(PyObject *module, Seqfeed *feed, PyObject *batch_class,
                                 PyObject *tensor_class) {
    PyObject *type = PyObject_GetAttrString(module, "Attachment");
    FeedObject *self = type ? PyObject_New(FeedObject, (PyTypeObject *)type) : NULL;

    Py_XDECREF(type);
    if (self) {
        self->attachment = attachment_new(feed);
        self->batch_class = Py_NewRef(batch_class);
        self->tensor_class = Py_NewRef(tensor_class);
        self->busy = false;
    }
    if (self && self->attachment)
        return (PyObject *)self;
    Py_XDECREF((PyObject *)self);
    seqfeed_detach(feed);
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
}

PyObject *feed_object_attach(PyObject *module, PyObject *arguments, PyObject *keywords) {
    static const char *const names[] = {
        "feed",    "socket", "group",     "cursor",  "rank",        "world",        "local",
        "members", "seed",   "join_next", "timeout", "batch_class", "tensor_class", NULL};
    SeqfeedOptions options = {0};
    SeqfeedError error = {0};
    PyObject *seed, *batch_class, *tensor_class;
    Seqfeed *feed = NULL;
    double timeout;
    int join, r;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "szzzIIIIOpdOO",
                                     (char **)(uintptr_t)names, &options.feed, &options.socket,
                                     &options.group, &options.cursor, &options.rank, &options.world,
                                     &options.local_ranks, &options.members, &seed, &join, &timeout,
                                     &batch_class, &tensor_class))
        return NULL;
    if (seed != Py_None) {
        options.seed = PyLong_AsUnsignedLongLong(seed);
        options.flags |= SEQFEED_HAS_SEED;
        if (PyErr_Occurred())
            return NULL;
    }
    if (join)
        options.flags |= SEQFEED_JOIN_NEXT;
    options.timeout_ns = nanoseconds(timeout);
    Py_BEGIN_ALLOW_THREADS r = seqfeed_attach(&feed, &options, &error);
    Py_END_ALLOW_THREADS if (r < 0) return module_raise(r, error.text);
    return feed_object_new(module, feed, batch_class, tensor_class);
}

int feed_object_register(PyObject *module) {
    return module_add_type(module, &feed_spec);
}
