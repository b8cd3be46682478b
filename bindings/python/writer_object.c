/* SPDX-License-Identifier: MIT */
/* writer_object.c: datasets written from Python, one sequence at a time. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "element_cast.h"
#include "module.h"
#include "shard/dataset_writer.h"

typedef struct WriterObject {
    PyObject ob_base;
    DatasetWriter *writer; /* NULL once finished or dropped */
    uint32_t column_count;
    ShardColumn columns[SHARD_COLUMNS_MAX];
    Buffer values[SHARD_COLUMNS_MAX]; /* of the sequence at hand; kept for its memory */
} WriterObject;

static void writer_dealloc(PyObject *object) {
    WriterObject *self = (WriterObject *)object;

    dataset_writer_free(self->writer);
    for (uint32_t i = 0; i < SHARD_COLUMNS_MAX; i++)
        buffer_deinit(&self->values[i]);
    module_free(object);
}

/* One column from (name, kind, type, width). */
static int writer_column(PyObject *item, ShardColumn *ret_column) {
    const char *name, *kind, *type;
    unsigned width;

    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "sssI", &name, &kind, &type, &width)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "columns: tuples (name, kind, type, width)");
        return -1;
    }
    if (column_kind_parse(kind) < 0 || column_type_parse(type) == ELEMENT_NONE) {
        PyErr_Format(PyExc_ValueError, "column %s: no such kind or type: %s, %s", name, kind, type);
        return -1;
    }
    if (column_kind_parse(kind) != SHARD_KIND_TOKENS && !column_name_is_valid(name)) {
        PyErr_Format(PyExc_ValueError,
                     "'%s' cannot name a column: at most 23 of a-z, 0-9 and _, beginning with a "
                     "letter, and neither tokens nor lengths",
                     name);
        return -1;
    }
    *ret_column = column_make(name, (ShardKind)column_kind_parse(kind), column_type_parse(type),
                              (uint32_t)width);
    return 0;
}

static int writer_columns(WriterObject *self, PyObject *columns) {
    Py_ssize_t count = PyList_Size(columns);
    const char *wrong;

    if (count < 1 || count > SHARD_COLUMNS_MAX) {
        PyErr_Format(PyExc_ValueError, "a dataset has 1 to %d columns", SHARD_COLUMNS_MAX);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (writer_column(PyList_GetItem(columns, i), &self->columns[i]) < 0)
            return -1;
    self->column_count = (uint32_t)count;
    wrong = column_check_all(self->columns, self->column_count);
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    return wrong ? -1 : 0;
}

static int writer_open(WriterObject *self, const char *path, PyObject *pad_id,
                       DatasetWriterOptions *options) {
    Error error = {0};
    int r;

    options->columns = self->columns;
    options->column_count = self->column_count;
    options->has_pad_id = pad_id != Py_None;
    options->pad_id = options->has_pad_id ? PyLong_AsLongLong(pad_id) : 0;
    if (PyErr_Occurred())
        return -1;
    r = dataset_writer_new(path, options, &self->writer, &error);
    if (r < 0)
        module_raise(r, error.text);
    return r < 0 ? -1 : 0;
}

/* Writer(path, columns, pad_id, level, block, shard, jobs, force) */
static PyObject *writer_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    DatasetWriterOptions options = {0};
    PyObject *columns, *pad_id, *path = NULL;
    unsigned long long shard_bytes;
    WriterObject *self;
    int force, r;

    if (!PyArg_ParseTuple(arguments, "O&OOiIKIp", PyUnicode_FSConverter, &path, &columns, &pad_id,
                          &options.level, &options.block_target, &shard_bytes, &options.jobs,
                          &force))
        return NULL;
    options.shard_bytes = shard_bytes;
    if (options.block_target < SHARD_BLOCK_TARGET_MIN ||
        options.block_target > SHARD_BLOCK_TARGET_MAX) {
        Py_DECREF(path);
        return PyErr_Format(PyExc_ValueError, "block must be %d to %d bytes",
                            SHARD_BLOCK_TARGET_MIN, SHARD_BLOCK_TARGET_MAX);
    }
    options.force = force;
    self = PyList_Check(columns) ? (WriterObject *)allocate(type, 0) : NULL;
    r = self && writer_columns(self, columns) == 0
            ? writer_open(self, PyBytes_AsString(path), pad_id, &options)
            : -1;
    Py_DECREF(path);
    if (r == 0)
        return (PyObject *)self;
    Py_XDECREF((PyObject *)self);
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "columns: a list");
    return NULL;
}

static DatasetWriter *writer_of(WriterObject *self) {
    if (!self->writer)
        PyErr_SetString(PyExc_ValueError, "this dataset is finished");
    return self->writer;
}

/* The count of values of a column must fit its kind. */
static int writer_check(const WriterObject *self, uint32_t column, uint64_t tokens,
                        BlockValues *ret_values) {
    const ShardColumn *shape = &self->columns[column];
    uint64_t unit = (uint64_t)element_bytes(shape->type) * shape->width;
    uint64_t bytes = self->values[column].size, count = bytes / unit, wanted = count;

    if (shape->kind == SHARD_KIND_TOKEN)
        wanted = tokens;
    else if (shape->kind == SHARD_KIND_SEQUENCE)
        wanted = 1;
    if (bytes % unit != 0 || count != wanted || count > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "column %s: %llu values where there must be %llu",
                     shape->name, (unsigned long long)(bytes / element_bytes(shape->type)),
                     (unsigned long long)wanted * shape->width);
        return -1;
    }
    *ret_values = (BlockValues){self->values[column].bytes, (uint32_t)count};
    return 0;
}

/* Say of which column the exception is, where it does not itself. */
static void writer_name_column(const ShardColumn *column) {
    PyObject *type, *value, *trace, *text;
    const char *words;

    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    text = value ? PyObject_Str(value) : NULL;
    words = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (words && (type == PyExc_TypeError || type == PyExc_ValueError) &&
        strncmp(words, "column ", strlen("column ")) != 0) {
        PyErr_Format(type, "column %s: %U", column->name, text);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
    } else
        PyErr_Restore(type, value, trace);
    Py_XDECREF(text);
}

/* add(values): one for each column, in their order. */
static PyObject *writer_add(PyObject *object, PyObject *argument) {
    WriterObject *self = (WriterObject *)object;
    BlockValues values[SHARD_COLUMNS_MAX];
    Error error = {0};
    int r;

    if (!writer_of(self))
        return NULL;
    if (!PyTuple_Check(argument) || PyTuple_Size(argument) != (Py_ssize_t)self->column_count) {
        PyErr_SetString(PyExc_ValueError, "a tuple with one value for each column");
        return NULL;
    }
    for (uint32_t i = 0; i < self->column_count; i++) {
        self->values[i].size = 0;
        if (element_cast_append(PyTuple_GetItem(argument, (Py_ssize_t)i), &self->columns[i],
                                &self->values[i]) < 0 ||
            writer_check(self, i, i > 0 ? values[0].count : 0, &values[i]) < 0) {
            writer_name_column(&self->columns[i]);
            return NULL;
        }
    }
    r = dataset_writer_add(self->writer, values, &error);
    return r < 0 ? module_raise(r, error.text) : PyLong_FromUnsignedLong(values[0].count);
}

static PyObject *writer_set_labels(PyObject *object, PyObject *argument) {
    WriterObject *self = (WriterObject *)object;
    Py_ssize_t count = PyList_Check(argument) ? PyList_Size(argument) : -1;
    const char **names;
    int r;

    if (!writer_of(self) || count < 0)
        return PyErr_Occurred() ? NULL : module_raise(-EINVAL, "a list of names");
    names = PyMem_Calloc((size_t)count + 1, sizeof *names);
    if (!names)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        names[i] = PyUnicode_AsUTF8AndSize(PyList_GetItem(argument, i), NULL);
    r = PyErr_Occurred() ? -1 : dataset_writer_set_labels(self->writer, names, (uint32_t)count);
    PyMem_Free(names);
    if (PyErr_Occurred())
        return NULL;
    if (r < 0)
        return module_raise(r, strerror(-r));
    Py_RETURN_NONE;
}

/* finish() -> (sequences, tokens, bytes, shards) */
static PyObject *writer_finish(PyObject *object, PyObject *unused) {
    WriterObject *self = (WriterObject *)object;
    DatasetWriter *writer = writer_of(self);
    DatasetTotals totals = {0};
    Error error = {0};
    int r;

    if (!writer)
        return NULL;
    self->writer = NULL;
    Py_BEGIN_ALLOW_THREADS r = dataset_writer_finish(writer, &error);
    if (r == 0)
        totals = dataset_writer_totals(writer);
    dataset_writer_free(writer);
    Py_END_ALLOW_THREADS if (r < 0) return module_raise(r, error.text);
    return Py_BuildValue("(KKKI)", (unsigned long long)totals.sequences,
                         (unsigned long long)totals.tokens, (unsigned long long)totals.bytes,
                         totals.shards);
}

static PyObject *writer_abort(PyObject *object, PyObject *unused) {
    WriterObject *self = (WriterObject *)object;

    dataset_writer_free(self->writer);
    self->writer = NULL;
    Py_RETURN_NONE;
}

static PyMethodDef writer_methods[] = {{"add", writer_add, METH_O, NULL},
                                       {"set_labels", writer_set_labels, METH_O, NULL},
                                       {"finish", writer_finish, METH_NOARGS, NULL},
                                       {"abort", writer_abort, METH_NOARGS, NULL},
                                       {NULL, NULL, 0, NULL}};

static PyType_Slot writer_slot_table[] = {{Py_tp_new, (void *)(uintptr_t)writer_new},
                                          {Py_tp_dealloc, (void *)(uintptr_t)writer_dealloc},
                                          {Py_tp_methods, writer_methods},
                                          {0, NULL}};

static PyType_Spec writer_spec = {"seqfeed._seqfeed.Writer", sizeof(WriterObject), 0,
                                  Py_TPFLAGS_DEFAULT, writer_slot_table};

int writer_object_register(PyObject *module) {
    return module_add_type(module, &writer_spec);
}
