/* SPDX-License-Identifier: MIT */
#include "element_cast.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { CAST_DEPTH_MAX = 8 };

typedef struct Number {
    bool is_float;
    int64_t whole;
    double real;
} Number;

/* The letter of a buffer's items where their format is one of the struct module that we know, 0
 * where it is none: padding, records and the other byte order are not for us. What l is hangs on
 * the prefix, so it is i or q here. */
static char format_letter(const char *format) {
    bool is_standard = *format == '=' || *format == '<';
    char wide = is_standard || sizeof(long) == 4 ? 'i' : 'q';

    if (is_standard || *format == '@')
        format++;
    if (format[0] == '\0' || format[1] != '\0')
        return '\0';
    if (*format == 'l')
        return wide;
    return *format == 'L' ? (char)(wide - 'a' + 'A') : *format;
}

static Py_ssize_t letter_bytes(char letter) {
    switch (letter) {
    case '?':
    case 'B':
    case 'b':
        return 1;
    case 'H':
    case 'h':
    case 'e':
        return 2;
    case 'I':
    case 'i':
    case 'f':
        return 4;
    case 'Q':
    case 'q':
    case 'd':
        return 8;
    default:
        return 0;
    }
}

/* What one item of a buffer is, by its letter. False: more than any column of whole numbers holds.
 */
static bool cast_load(char letter, const void *from, Number *ret_number) {
    Number number = {0};

#define LOAD_WHOLE(letter, type)          \
    case letter: {                        \
        type item;                        \
        memcpy(&item, from, sizeof item); \
        number.whole = (int64_t)item;     \
        number.real = (double)item;       \
        break;                            \
    }
#define LOAD_REAL(letter, type)           \
    case letter: {                        \
        type item;                        \
        memcpy(&item, from, sizeof item); \
        number.is_float = true;           \
        number.real = (double)item;       \
        break;                            \
    }
    switch (letter) {
        LOAD_WHOLE('?', uint8_t)
        LOAD_WHOLE('B', uint8_t)
        LOAD_WHOLE('b', int8_t)
        LOAD_WHOLE('H', uint16_t)
        LOAD_WHOLE('h', int16_t)
        LOAD_WHOLE('I', uint32_t)
        LOAD_WHOLE('i', int32_t)
        LOAD_WHOLE('q', int64_t)
        LOAD_REAL('f', float)
        LOAD_REAL('d', double)
    case 'Q': {
        uint64_t item;
        memcpy(&item, from, sizeof item);
        number.whole = (int64_t)item;
        number.real = (double)item;
        if (item > INT64_MAX)
            return false;
        break;
    }
    default:
        return false;
    }
#undef LOAD_WHOLE
#undef LOAD_REAL
    *ret_number = number;
    return true;
}

/* To binary16, ties to even; too large becomes infinite. */
static uint16_t cast_half(float value) {
    uint32_t bits, sign, rest;
    float size = fabsf(value);

    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000;
    if (isnan(value))
        return (uint16_t)(sign | 0x7e00);
    if (size >= 65520.0f)
        return (uint16_t)(sign | 0x7c00);
    if (size < 6.103515625e-5f) /* below 2^-14: units of 2^-24, and lrintf rounds to even */
        return (uint16_t)(sign | (uint32_t)lrintf(size * 16777216.0f));
    rest = (bits & 0x7fffffff) - (112u << 23);
    return (uint16_t)(sign | (rest + 0xfff + (rest >> 13 & 1)) >> 13);
}

static uint16_t cast_bfloat(float value) {
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static int cast_refuse(const Number *number, ElementType type) {
    PyObject *shown = number->is_float ? PyFloat_FromDouble(number->real)
                                       : PyLong_FromLongLong(number->whole);

    if (shown)
        PyErr_Format(PyExc_ValueError, "%R does not fit %s", shown, element_name(type));
    Py_XDECREF(shown);
    return -1;
}

static int cast_store(Number number, ElementType type, uint8_t *to) {
    static const int64_t low[ELEMENT_TYPE_COUNT] = {0, 0, 0, 0, 0, INT32_MIN, INT64_MIN, 0, 0, 0};
    static const int64_t high[ELEMENT_TYPE_COUNT] = {
        0, UINT8_MAX, UINT16_MAX, 0xffffff, UINT32_MAX, INT32_MAX, INT64_MAX, 0, 0, 0};

    if (element_is_float(type)) {
        float value = (float)number.real;
        uint16_t half = type == ELEMENT_F16 ? cast_half(value) : cast_bfloat(value);

        memcpy(to, type == ELEMENT_F32 ? (const void *)&value : (const void *)&half,
               element_bytes(type));
        return 0;
    }
    if (number.is_float || number.whole < low[type] || number.whole > high[type])
        return cast_refuse(&number, type);
    memcpy(to, &number.whole, element_bytes(type)); /* little-endian, so the low bytes */
    return 0;
}

static uint8_t *cast_room(Buffer *to, size_t bytes) {
    size_t wanted = to->size + bytes;

    if (wanted > to->capacity &&
        buffer_reserve(to, wanted > 2 * to->capacity ? wanted : 2 * to->capacity) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    to->size = wanted;
    return to->bytes + wanted - bytes;
}

static int cast_number(Number number, ElementType type, Buffer *to) {
    uint8_t *at = cast_room(to, element_bytes(type));

    return at ? cast_store(number, type, at) : -1;
}

static int refuse_view(const Py_buffer *view, const ShardColumn *column) {
    PyErr_Format(PyExc_TypeError,
                 "column %s: a buffer of format '%s' with items of %zd bytes cannot be stored as "
                 "%s: give plain numbers in this machine's byte order",
                 column->name, view->format ? view->format : "B", view->itemsize,
                 element_name(column->type));
    return -1;
}

/* Whoever made the buffer may have written anything into its format: the size of its items is what
 * there is to read, so the two must agree. */
static int cast_view(const Py_buffer *view, const ShardColumn *column, Buffer *to) {
    char letter = format_letter(view->format ? view->format : "B");
    size_t bytes = element_bytes(column->type);
    Py_ssize_t count = view->itemsize > 0 ? view->len / view->itemsize : 0;
    Number number;
    uint8_t *at;

    if (count == 0) /* a buffer that never had anything has no room to point at */
        return 0;
    if (view->itemsize != letter_bytes(letter) || (letter == 'e' && column->type != ELEMENT_F16))
        return refuse_view(view, column);
    at = cast_room(to, (size_t)count * bytes);
    if (!at)
        return -1;
    if (letter == 'e') {
        memcpy(at, view->buf, (size_t)count * bytes);
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++, at += bytes) {
        if (!cast_load(letter, (const char *)view->buf + i * view->itemsize, &number)) {
            PyErr_Format(PyExc_ValueError, "a value of 2^63 or more does not fit %s",
                         element_name(column->type));
            return -1;
        }
        if (cast_store(number, column->type, at) < 0)
            return -1;
    }
    return 0;
}

static int cast_object(PyObject *value, const ShardColumn *column, Buffer *to, int depth);

static int cast_sequence(PyObject *value, const ShardColumn *column, Buffer *to, int depth) {
    PyObject *list = PySequence_List(value);
    Py_ssize_t count = list ? PyList_Size(list) : 0;
    int r = list ? 0 : -1;

    for (Py_ssize_t i = 0; r == 0 && i < count; i++)
        r = cast_object(PyList_GetItem(list, i), column, to, depth + 1);
    Py_XDECREF(list);
    return r;
}

static int cast_whole(PyObject *value, ElementType type, Buffer *to) {
    int overflow;
    Number number = {.whole = PyLong_AsLongLongAndOverflow(value, &overflow)};

    if (overflow) {
        PyErr_Format(PyExc_ValueError, "%R does not fit %s", value, element_name(type));
        return -1;
    }
    if (number.whole == -1 && PyErr_Occurred())
        return -1;
    number.real = (double)number.whole;
    return cast_number(number, type, to);
}

static int cast_object(PyObject *value, const ShardColumn *column, Buffer *to, int depth) {
    Py_buffer view;
    int r;

    if (PyLong_Check(value))
        return cast_whole(value, column->type, to);
    if (PyFloat_Check(value)) {
        Number number = {.is_float = true, .real = PyFloat_AsDouble(value)};
        return cast_number(number, column->type, to);
    }
    if (depth >= CAST_DEPTH_MAX || PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%R is no number", value);
        return -1;
    }
    if (!PyObject_CheckBuffer(value))
        return PySequence_Check(value) ? cast_sequence(value, column, to, depth)
                                       : cast_sequence(value, column, to, CAST_DEPTH_MAX);
    if (PyObject_GetBuffer(value, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    r = cast_view(&view, column, to);
    PyBuffer_Release(&view);
    return r;
}

int element_cast_append(PyObject *value, const ShardColumn *column, Buffer *to) {
    return cast_object(value, column, to, 0);
}
