/* SPDX-License-Identifier: MIT */
/* dataset_object.c: sequences of a dataset by number, without a daemon. The block that was decoded
 * last is kept, so reading in order decodes each block once. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "module.h"
#include "shard/block.h"
#include "shard/buffer.h"
#include "shard/catalog.h"
#include "shard/column.h"

#define NO_BLOCK UINT32_MAX

typedef struct DatasetObject {
    PyObject ob_base;
    Catalog *catalog;
    BlockDecoder *decoder;
    uint64_t *firsts; /* number of each block's first sequence; [block_count] */
    Buffer raw, compressed;
    uint32_t block; /* the one that `columns` shows, or NO_BLOCK */
    BlockColumns columns;
} DatasetObject;

static void dataset_dealloc(PyObject *object) {
    DatasetObject *self = (DatasetObject *)object;

    block_decoder_free(self->decoder);
    catalog_free(self->catalog);
    PyMem_Free(self->firsts);
    buffer_deinit(&self->raw);
    buffer_deinit(&self->compressed);
    module_free(object);
}

static int dataset_prepare(DatasetObject *self) {
    const Catalog *catalog = self->catalog;
    uint64_t first = 0;

    self->block = NO_BLOCK;
    self->firsts = PyMem_Calloc((size_t)catalog->block_count + 1, sizeof *self->firsts);
    if (!self->firsts || block_decoder_new(&self->decoder) < 0 ||
        buffer_reserve(&self->raw, (size_t)catalog->block_raw_max + 1) < 0 ||
        buffer_reserve(&self->compressed, (size_t)catalog->block_compressed_max + 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < catalog->block_count; i++) {
        self->firsts[i] = first;
        first += catalog->block_sequences[i];
    }
    return 0;
}

static PyObject *dataset_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    DatasetObject *self;
    PyObject *path = NULL;
    Error error = {0};
    int r;

    if (!PyArg_ParseTuple(arguments, "O&", PyUnicode_FSConverter, &path))
        return NULL;
    self = (DatasetObject *)allocate(type, 0);
    r = self ? catalog_open(PyBytes_AsString(path), &self->catalog, &error) : -ENOMEM;
    Py_DECREF(path);
    if (r < 0)
        module_raise(r, error.text);
    if (r == 0 && dataset_prepare(self) == 0)
        return (PyObject *)self;
    Py_XDECREF((PyObject *)self);
    return NULL;
}

/* The block that holds sequence `number`. */
static uint32_t dataset_block_of(const DatasetObject *self, uint64_t number) {
    uint32_t low = 0, high = self->catalog->block_count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (self->firsts[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int dataset_load(DatasetObject *self, uint32_t number) {
    const CatalogBlock *block = &self->catalog->blocks[number];
    const CatalogShard *shard = &self->catalog->shards[block->shard];
    Error error = {0};
    int r;

    if (self->block == number)
        return 0;
    self->block = NO_BLOCK;
    r = file_read_at(shard->fd, self->compressed.bytes, block->compressed_bytes, block->offset);
    if (r < 0)
        (void)catalog_block_unreadable(self->catalog, number, CATALOG_CONTENT, r, &error);
    else
        r = block_decode(self->decoder, self->catalog, number, self->compressed.bytes,
                         self->raw.bytes, self->raw.capacity, &self->columns, &error);
    if (r < 0) {
        module_raise(r, error.text);
        return -1;
    }
    self->block = number;
    return 0;
}

/* Three bytes a value are no type of any library: hand them out as four. */
static PyObject *dataset_widen(const uint8_t *from, uint64_t count) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * 4));
    uint8_t *to = bytes ? (uint8_t *)PyBytes_AsString(bytes) : NULL;

    for (uint64_t i = 0; to && i < count; i++) {
        memcpy(to + 4 * i, from + 3 * i, 3);
        to[4 * i + 3] = 0;
    }
    return bytes;
}

/* Values of one column of a sequence: where they begin and how many there are. */
static PyObject *dataset_values(const DatasetObject *self, uint32_t column, uint32_t sequence) {
    const CatalogColumn *shape = &self->catalog->columns[column];
    const BlockColumns *columns = &self->columns;
    const uint32_t *ends = columns->token_ends;
    uint64_t first = sequence, count = 1;
    uint64_t unit = element_bytes(shape->type);
    const uint8_t *from;

    if (shape->kind == SHARD_KIND_RAGGED)
        ends = columns->value_ends[column];
    if (shape->kind != SHARD_KIND_SEQUENCE) {
        first = block_begin(ends, sequence);
        count = ends[sequence] - first;
    }
    count *= shape->width;
    from = columns->values[column] + first * shape->width * unit;
    if (shape->type == ELEMENT_U24)
        return dataset_widen(from, count);
    return PyBytes_FromStringAndSize((const char *)from, (Py_ssize_t)(count * unit));
}

/* read(number) -> a tuple of bytes, one for each column. */
static PyObject *dataset_read(PyObject *object, PyObject *argument) {
    DatasetObject *self = (DatasetObject *)object;
    unsigned long long number = PyLong_AsUnsignedLongLong(argument);
    uint32_t sequence;
    PyObject *values;

    if (PyErr_Occurred())
        return NULL;
    if (number >= self->catalog->sequences) {
        PyErr_SetString(PyExc_IndexError, "the dataset has no such sequence");
        return NULL;
    }
    if (dataset_load(self, dataset_block_of(self, number)) < 0)
        return NULL;
    sequence = (uint32_t)(number - self->firsts[self->block]);
    values = PyTuple_New((Py_ssize_t)self->catalog->column_count);
    for (uint32_t i = 0; values && i < self->catalog->column_count; i++) {
        PyObject *bytes = dataset_values(self, i, sequence);

        if (!bytes)
            Py_CLEAR(values);
        else
            PyTuple_SetItem(values, (Py_ssize_t)i, bytes);
    }
    return values;
}

static PyObject *dataset_columns(PyObject *object, void *unused) {
    const Catalog *catalog = ((DatasetObject *)object)->catalog;
    PyObject *columns = PyList_New((Py_ssize_t)catalog->column_count);

    for (uint32_t i = 0; columns && i < catalog->column_count; i++) {
        const CatalogColumn *column = &catalog->columns[i];
        PyObject *item = Py_BuildValue("(sssI)", column->name, column_kind_name(column->kind),
                                       element_name(column->type), column->width);

        if (!item)
            Py_CLEAR(columns);
        else
            PyList_SetItem(columns, (Py_ssize_t)i, item);
    }
    return columns;
}

static PyObject *dataset_labels(PyObject *object, void *unused) {
    const Catalog *catalog = ((DatasetObject *)object)->catalog;
    PyObject *names = PyList_New(0);

    for (uint32_t i = 0; names && i < catalog->label_count; i++) {
        PyObject *name = PyUnicode_FromString(catalog->label_names[i]);

        if (!name || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

/* (id, sequences, tokens, shards, blocks, pad_id or None) */
static PyObject *dataset_facts(PyObject *object, void *unused) {
    const Catalog *catalog = ((DatasetObject *)object)->catalog;
    PyObject *pad = catalog->has_pad_id ? PyLong_FromLongLong(catalog->pad_id) : Py_NewRef(Py_None);

    return Py_BuildValue("(y#KKIIN)", catalog->id, (Py_ssize_t)sizeof catalog->id,
                         (unsigned long long)catalog->sequences,
                         (unsigned long long)catalog->tokens, catalog->shard_count,
                         catalog->block_count, pad);
}

static PyMethodDef dataset_methods[] = {{"read", dataset_read, METH_O, NULL},
                                        {NULL, NULL, 0, NULL}};

static PyGetSetDef dataset_fields[] = {{"columns", dataset_columns, NULL, NULL, NULL},
                                       {"labels", dataset_labels, NULL, NULL, NULL},
                                       {"facts", dataset_facts, NULL, NULL, NULL},
                                       {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot dataset_slot_table[] = {{Py_tp_new, (void *)(uintptr_t)dataset_new},
                                           {Py_tp_dealloc, (void *)(uintptr_t)dataset_dealloc},
                                           {Py_tp_methods, dataset_methods},
                                           {Py_tp_getset, dataset_fields},
                                           {0, NULL}};

static PyType_Spec dataset_spec = {"seqfeed._seqfeed.Dataset", sizeof(DatasetObject), 0,
                                   Py_TPFLAGS_DEFAULT, dataset_slot_table};

int dataset_object_register(PyObject *module) {
    return module_add_type(module, &dataset_spec);
}
