/* SPDX-License-Identifier: MIT */
/* feed_object.c: an attachment. It gives the interpreter's lock away while it waits, and looks for
 * signals often enough that Ctrl-C feels prompt. */
#include <errno.h>
#include <string.h>

#include "ahead.h"
#include "module.h"
#include "pace.h"

enum {
    FEED_SLICE_MS = 100,       /* how long a signal may go unnoticed */
    FEED_ALONE_BYTES = 1 << 20 /* a copy of more gives the lock away meanwhile */
};

#define NS_PER_MS INT64_C(1000000)

/* How far the trainer is: what was handed out, not what was only copied ahead. */
typedef struct FeedPlace {
    unsigned long long seen; /* batches of this epoch */
    uint64_t epoch;          /* of the last one, and where it resumes; "" before the first */
    char cursor[SEQFEED_CURSOR_BYTES];
} FeedPlace;

typedef struct FeedObject {
    PyObject ob_base;
    Attachment *attachment; /* NULL once closed */
    PyObject *batch_class, *tensor_class, *maker_class;
    bool lost;    /* and not by who uses it: it is to be attached anew */
    bool busy;    /* some thread is inside a call that is one thread's at a time */
    Ahead *ahead; /* NULL until tensors are asked for */
    Lease *blank; /* for the next batch, made beforehand: what was taken must be kept */
    /* What was taken and not handed out, as when a signal's handler raised: the next call gets it.
     * Of batches that somebody moves: the last one, until note(). */
    Lease *kept;
    int kept_outcome; /* or that */
    FeedPlace place;
    Pace pace;
} FeedObject;

static int64_t nanoseconds(double seconds) {
    if (seconds < 0)
        return -1;
    return seconds > 1e9 ? INT64_C(1000000000) * 1000000000 : (int64_t)(seconds * 1e9);
}

static void feed_leave(FeedObject *self) {
    Attachment *attachment = self->attachment;
    Ahead *ahead = self->ahead;
    Lease *blank = self->blank, *kept = self->kept;

    self->attachment = NULL;
    self->ahead = NULL;
    self->blank = self->kept = NULL;
    self->kept_outcome = 0;
    Py_BEGIN_ALLOW_THREADS ahead_free(ahead);
    lease_unref(blank);
    lease_unref(kept);
    attachment_unref(attachment);
    Py_END_ALLOW_THREADS
}

static void feed_dealloc(PyObject *object) {
    FeedObject *self = (FeedObject *)object;

    feed_leave(self);
    Py_XDECREF(self->batch_class);
    Py_XDECREF(self->tensor_class);
    Py_XDECREF(self->maker_class);
    module_free(object);
}

/* There is no attachment. */
static PyObject *feed_gone(const FeedObject *self) {
    if (self->lost)
        return module_raise(-ECONNRESET, "this attachment is lost: attach again at its cursor");
    PyErr_SetString(PyExc_ValueError, "this attachment is closed");
    return NULL;
}

/* Enter a call that belongs to one thread, and take the attachment back from the one that copies;
 * NULL and an exception when it cannot be. */
static Seqfeed *feed_enter(FeedObject *self) {
    if (!self->attachment) {
        (void)feed_gone(self);
        return NULL;
    }
    if (seqfeed_private_is_forked(self->attachment->feed)) {
        (void)module_raise(-ECHILD, "this process was forked after the attach: attach again in it");
        return NULL;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "another thread waits on this attachment: attach once per thread");
        return NULL;
    }
    self->busy = true;
    if (self->ahead && !ahead_settle(self->ahead)) {
        Py_BEGIN_ALLOW_THREADS ahead_wait(self->ahead);
        Py_END_ALLOW_THREADS
    }
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

/* What was kept, or made ahead; NULL: neither. */
static Lease *feed_take_ready(FeedObject *self) {
    Lease *lease = self->kept;

    self->kept = NULL;
    return lease || !self->ahead ? lease : ahead_take(self->ahead);
}

/* After feed_enter(): the next batch, in its slot or as a copy that was made ahead. 0; an outcome,
 * and no lease; or -1 and an exception. */
static int feed_take(FeedObject *self, PyObject *seconds, Lease **ret_lease) {
    Seqfeed *feed = self->attachment->feed;
    double timeout = PyFloat_AsDouble(seconds);
    int r = self->kept_outcome;

    *ret_lease = NULL;
    if (PyErr_Occurred())
        return -1;
    self->kept_outcome = 0;
    if (r == 0)
        *ret_lease = feed_take_ready(self);
    if (r != 0 || *ret_lease)
        return r;
    if (!self->blank) {
        self->blank = lease_new(self->attachment, &(SeqfeedBatch){0});
        if (!self->blank) {
            PyErr_NoMemory();
            return -1;
        }
        self->blank->released = true; /* nothing to give back yet */
    }
    r = feed_wait(feed, &self->blank->batch, nanoseconds(timeout));
    if (r < 0)
        (void)module_raise(r, seqfeed_message(feed));
    if (r != 0)
        return r < 0 ? -1 : r;
    *ret_lease = self->blank;
    self->blank = NULL;
    (*ret_lease)->released = false;
    return 0;
}

/* What was taken, or that outcome, is for the next call. */
static void feed_keep(FeedObject *self, int outcome, Lease *lease) {
    self->kept_outcome = outcome;
    self->kept = lease;
}

static void feed_note(FeedObject *self, const SeqfeedBatch *batch) {
    const char *cursor = seqfeed_cursor(batch);

    self->place.seen++;
    self->place.epoch = batch->epoch;
    memcpy(self->place.cursor, cursor, strlen(cursor) + 1);
}

/* An outcome that is no batch. */
static PyObject *feed_outcome(FeedObject *self, int outcome) {
    if (outcome == SEQFEED_END_OF_EPOCH)
        self->place.seen = 0;
    return PyLong_FromLong(outcome);
}

/* Signals are looked for when all else is done, just before it counts as handed out: a handler that
 * raises takes the result of the call with it. */
static PyObject *feed_batch(FeedObject *self, PyObject *timeout, bool moves) {
    PyObject *batch = NULL;
    Lease *lease;
    int r;

    if (!feed_enter(self))
        return NULL;
    r = feed_take(self, timeout, &lease);
    self->busy = false;
    if (r < 0)
        return NULL;
    if (PyErr_CheckSignals() < 0 ||
        (r == 0 && !(batch = batch_object_new(self->batch_class, self->tensor_class, lease)))) {
        feed_keep(self, r, lease);
        return NULL;
    }
    if (r > 0)
        return feed_outcome(self, r);
    if (moves)
        self->kept = lease_ref(lease);
    else
        feed_note(self, &lease->batch);
    return batch;
}

/* next(timeout) -> a batch, or 1 at the end of the epoch, or 2 when the daemon drains. */
static PyObject *feed_next(PyObject *object, PyObject *timeout) {
    return feed_batch((FeedObject *)object, timeout, false);
}

/* The same for somebody who moves it, and then says so with note(): until then each call gives the
 * same batch, which must not be given back before. */
static PyObject *feed_next_unmoved(PyObject *object, PyObject *timeout) {
    return feed_batch((FeedObject *)object, timeout, true);
}

/* ---- tensors of another library ---- */

/* The batch as a copy in memory of the maker. 0, or -1 and an exception, and the lease as it was.
 */
static int feed_copy(FeedObject *self, MakerObject *maker, Lease **lease) {
    int64_t started_ns = seqfeed_private_now();
    PoolChunk *chunk = NULL;
    Lease *copy = NULL;
    size_t size = 0;
    int r = lease_measure(*lease, &size);

    if (r == 0) {
        chunk = pool_take(&maker->pool, size);
        if (!chunk)
            return -1;
        if (size > FEED_ALONE_BYTES) {
            Py_BEGIN_ALLOW_THREADS r = lease_copy(*lease, chunk, &copy);
            Py_END_ALLOW_THREADS
        } else
            r = lease_copy(*lease, chunk, &copy);
        pool_chunk_unref(chunk);
    }
    if (r < 0) {
        (void)module_raise(r, "the description of a tensor is damaged");
        return -1;
    }
    lease_unref(*lease);
    *lease = copy;
    pace_note_copy(&self->pace, seqfeed_private_now() - started_ns);
    return 0;
}

/* The trainer leaves: is it worth while to copy the next batch meanwhile? 0, or -1 and an exception
 * that has nothing to do with memory, as of a signal that came while memory was made. */
static int feed_look_ahead(FeedObject *self, MakerObject *maker, bool epoch_ends) {
    PoolChunk *chunk;

    if (epoch_ends || !pace_asks_ahead(&self->pace))
        return 0;
    chunk = pool_take(&maker->pool, maker->pool.largest);
    if (!chunk) {
        if (!PyErr_ExceptionMatches(PyExc_MemoryError) &&
            !PyErr_ExceptionMatches(PyExc_RuntimeError)) /* which torch raises without memory */
            return -1;
        PyErr_Clear(); /* then it is copied when the trainer comes */
        return 0;
    }
    ahead_ask(self->ahead, chunk);
    pool_chunk_unref(chunk);
    return 0;
}

typedef enum FeedKind { FEED_VIEWS, FEED_COPIES, FEED_WHOLE } FeedKind;

static PyObject *feed_facts(FeedObject *self, const Lease *lease) {
    Lease *facts = lease_facts(lease);
    PyObject *batch;

    if (!facts)
        return PyErr_NoMemory();
    batch = batch_object_new(self->batch_class, self->tensor_class, facts);
    if (!batch)
        lease_unref(facts);
    return batch;
}

/* What was taken, as the maker makes it; NULL and an exception. *lease becomes its copy. */
static PyObject *feed_make(FeedObject *self, MakerObject *maker, FeedKind kind, Lease **lease) {
    bool ahead = (*lease)->chunk != NULL;
    bool epoch_ends = (*lease)->batch.flags & SEQFEED_BATCH_EPOCH_END;
    PyObject *made = NULL, *facts = NULL;

    if (kind == FEED_VIEWS || ahead || feed_copy(self, maker, lease) == 0)
        facts = feed_facts(self, *lease);
    if (facts)
        made = kind == FEED_WHOLE ? maker_object_whole(maker, *lease, facts)
                                  : maker_object_make(maker, *lease, facts);
    Py_XDECREF(facts);
    if (made && ahead)
        pace_hit(&self->pace);
    if (made && kind != FEED_VIEWS && feed_look_ahead(self, maker, epoch_ends) < 0)
        Py_CLEAR(made);
    return made;
}

/* Handed out, unless a signal comes first, or somebody has yet to move it: then it is kept. */
static PyObject *feed_hand_out(FeedObject *self, const MakerObject *maker, PyObject *made,
                               Lease *lease) {
    if (made && PyErr_CheckSignals() < 0)
        Py_CLEAR(made);
    if (made && !maker->moves) {
        feed_note(self, &lease->batch);
        lease_unref(lease);
    } else
        self->kept = lease;
    return made;
}

static PyObject *feed_tensors(PyObject *object, PyObject *const *arguments, Py_ssize_t count,
                              FeedKind kind) {
    FeedObject *self = (FeedObject *)object;
    PyObject *made = NULL;
    MakerObject *maker;
    Lease *lease = NULL;
    int r;

    if (count != 2 || !PyObject_TypeCheck(arguments[0], (PyTypeObject *)self->maker_class)) {
        PyErr_SetString(PyExc_TypeError, "a maker and a time-out are wanted");
        return NULL;
    }
    maker = (MakerObject *)arguments[0];
    pace_come(&self->pace, seqfeed_private_now());
    if (!feed_enter(self))
        return NULL;
    if (!self->ahead)
        self->ahead = ahead_new(self->attachment);
    r = self->ahead ? feed_take(self, arguments[1], &lease) : -1;
    if (r == 0)
        made = feed_make(self, maker, kind, &lease);
    self->busy = false;
    pace_leave(&self->pace, seqfeed_private_now());
    if (r == 0)
        return feed_hand_out(self, maker, made, lease);
    if (r < 0)
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    if (PyErr_CheckSignals() == 0)
        return feed_outcome(self, r);
    feed_keep(self, r, NULL);
    return NULL;
}

/* next_views(maker, timeout) -> a batch of the maker's whose tensors are views of the slot; or as
 * next().
 */
static PyObject *feed_next_views(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    return feed_tensors(object, arguments, count, FEED_VIEWS);
}

/* The same of copies, in memory of the maker; the slot goes back. */
static PyObject *feed_next_copies(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    return feed_tensors(object, arguments, count, FEED_COPIES);
}

/* A copy as one piece: maker_object_whole() says how. */
static PyObject *feed_next_whole(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    return feed_tensors(object, arguments, count, FEED_WHOLE);
}

/* note(batch): whoever has moved it to a device hands it out now, unless a signal comes first. */
static PyObject *feed_note_batch(PyObject *object, PyObject *batch) {
    FeedObject *self = (FeedObject *)object;

    if (!PyObject_TypeCheck(batch, (PyTypeObject *)self->batch_class)) {
        PyErr_SetString(PyExc_TypeError, "a batch is wanted");
        return NULL;
    }
    if (PyErr_CheckSignals() < 0)
        return NULL;
    feed_note(self, batch_object_batch(batch));
    lease_unref(self->kept);
    self->kept = NULL;
    Py_RETURN_NONE;
}

static PyObject *feed_count(PyObject *object, int64_t (*get)(const Seqfeed *)) {
    FeedObject *self = (FeedObject *)object;
    Seqfeed *feed = feed_enter(self);
    int64_t length;

    if (!feed)
        return NULL;
    Py_BEGIN_ALLOW_THREADS length = get(feed);
    Py_END_ALLOW_THREADS self->busy = false;
    return length < 0 ? module_raise((int)length, seqfeed_message(feed))
                      : PyLong_FromLongLong(length);
}

static PyObject *feed_length(PyObject *object, PyObject *unused) {
    return feed_count(object, seqfeed_length);
}

static PyObject *feed_epoch_length(PyObject *object, PyObject *unused) {
    return feed_count(object, seqfeed_epoch_length);
}

static PyObject *feed_end(FeedObject *self, bool lost) {
    /* A forked child has not got the thread that waits. */
    if (self->busy && self->attachment && !seqfeed_private_is_forked(self->attachment->feed)) {
        PyErr_SetString(PyExc_RuntimeError, "another thread waits on this attachment");
        return NULL;
    }
    self->lost = lost;
    feed_leave(self);
    Py_RETURN_NONE;
}

static PyObject *feed_close(PyObject *object, PyObject *unused) {
    return feed_end((FeedObject *)object, false);
}

/* lose(): the same, but next() then raises what it does when the daemon has gone. */
static PyObject *feed_lose(PyObject *object, PyObject *unused) {
    return feed_end((FeedObject *)object, true);
}

static PyObject *feed_text(PyObject *object, const char *(*get)(const Seqfeed *)) {
    FeedObject *self = (FeedObject *)object;

    if (!self->attachment)
        return feed_gone(self);
    return PyUnicode_FromString(get(self->attachment->feed));
}

static PyObject *feed_start_cursor(PyObject *object, void *unused) {
    return feed_text(object, seqfeed_start_cursor);
}

static PyObject *feed_plan(PyObject *object, void *unused) {
    return feed_text(object, seqfeed_plan);
}

static PyObject *feed_lost(PyObject *object, void *unused) {
    return PyBool_FromLong(((FeedObject *)object)->lost);
}

static PyObject *feed_slots(PyObject *object, void *unused) {
    FeedObject *self = (FeedObject *)object;

    return PyLong_FromUnsignedLong(self->attachment ? seqfeed_slots(self->attachment->feed) : 0);
}

static PyObject *feed_copied_ahead(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(((FeedObject *)object)->pace.hits);
}

static PyObject *feed_seen(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(((FeedObject *)object)->place.seen);
}

static PyObject *feed_epoch(PyObject *object, void *unused) {
    return PyLong_FromUnsignedLongLong(((FeedObject *)object)->place.epoch);
}

static PyObject *feed_cursor(PyObject *object, void *unused) {
    return PyUnicode_FromString(((FeedObject *)object)->place.cursor);
}

/* Is the next batch here already? */
static PyObject *feed_ready(PyObject *object, void *unused) {
    FeedObject *self = (FeedObject *)object;

    return PyBool_FromLong(self->kept || (self->ahead && ahead_is_ready(self->ahead)));
}

#define FEED_FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef feed_methods[] = {
    {"next", feed_next, METH_O, NULL},
    {"next_unmoved", feed_next_unmoved, METH_O, NULL},
    {"next_views", FEED_FAST(feed_next_views), METH_FASTCALL, NULL},
    {"next_copies", FEED_FAST(feed_next_copies), METH_FASTCALL, NULL},
    {"next_whole", FEED_FAST(feed_next_whole), METH_FASTCALL, NULL},
    {"note", feed_note_batch, METH_O, NULL},
    {"length", feed_length, METH_NOARGS, NULL},
    {"epoch_length", feed_epoch_length, METH_NOARGS, NULL},
    {"close", feed_close, METH_NOARGS, NULL},
    {"lose", feed_lose, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef feed_fields[] = {{"start_cursor", feed_start_cursor, NULL, NULL, NULL},
                                    {"plan", feed_plan, NULL, NULL, NULL},
                                    {"lost", feed_lost, NULL, NULL, NULL},
                                    {"slots", feed_slots, NULL, NULL, NULL},
                                    {"seen", feed_seen, NULL, NULL, NULL},
                                    {"epoch", feed_epoch, NULL, NULL, NULL},
                                    {"cursor", feed_cursor, NULL, NULL, NULL},
                                    {"ready", feed_ready, NULL, NULL, NULL},
                                    {"copied_ahead", feed_copied_ahead, NULL, NULL, NULL},
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
    PyObject *maker_class = type ? PyObject_GetAttrString(module, "Maker") : NULL;
    FeedObject *self = maker_class ? (FeedObject *)PyType_GenericAlloc((PyTypeObject *)type, 0)
                                   : NULL;

    Py_XDECREF(type);
    if (self) {
        self->attachment = attachment_new(feed);
        self->batch_class = Py_NewRef(batch_class);
        self->tensor_class = Py_NewRef(tensor_class);
        self->maker_class = Py_NewRef(maker_class);
    }
    Py_XDECREF(maker_class);
    if (self && self->attachment)
        return (PyObject *)self;
    Py_XDECREF((PyObject *)self);
    seqfeed_detach(feed);
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
}

PyObject *feed_object_attach(PyObject *module, PyObject *arguments, PyObject *keywords) {
    static const char *const names[] = {"feed",         "socket",    "group",   "cursor",
                                        "rank",         "world",     "local",   "members",
                                        "seed",         "join_next", "timeout", "batch_class",
                                        "tensor_class", "attempt",   NULL};
    SeqfeedOptions options = {0};
    SeqfeedError error = {0};
    PyObject *seed, *batch_class, *tensor_class, *attempt,
        *attempt_class = PyObject_GetAttrString(module, "Attempt");
    Seqfeed *feed = NULL;
    double timeout;
    int join, r;

    Py_XDECREF(attempt_class); /* the module has it */
    if (!attempt_class ||
        !PyArg_ParseTupleAndKeywords(arguments, keywords, "szzzIIIIOpdOOO!",
                                     (char **)(uintptr_t)names, &options.feed, &options.socket,
                                     &options.group, &options.cursor, &options.rank, &options.world,
                                     &options.local_ranks, &options.members, &seed, &join, &timeout,
                                     &batch_class, &tensor_class, attempt_class, &attempt))
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
    r = attempt_object_attach(attempt, &options, &feed, &error);
    if (r < 0)
        return module_raise(r, error.text);
    return feed_object_new(module, feed, batch_class, tensor_class);
}

int feed_object_register(PyObject *module) {
    return module_add_type(module, &feed_spec);
}
