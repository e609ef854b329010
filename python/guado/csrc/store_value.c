/* Values of stores as bytes: section 1 of protocol/store.md, for the types that are met
 * often. The others are _values._text's. Twin of _values.py.
 */
#include "store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const long long SAFE = (1LL << 53) - 1;

void gd_out_init(gd_out *o) {
    o->at = o->small;
    o->len = 0;
    o->cap = sizeof o->small;
}

void gd_out_free(gd_out *o) {
    if (o->at != o->small)
        free(o->at);
    o->at = o->small;
}

int gd_out_room(gd_out *o, size_t more) {
    if (o->cap - o->len >= more)
        return 0;
    size_t cap = o->cap * 2 > o->len + more ? o->cap * 2 : o->len + more;
    char *at = realloc(o->at == o->small ? NULL : o->at, cap);
    if (!at) {
        PyErr_NoMemory();
        return -1;
    }
    if (o->at == o->small)
        memcpy(at, o->small, o->len);
    o->at = at;
    o->cap = cap;
    return 0;
}

int gd_out_add(gd_out *o, const void *at, size_t n) {
    if (gd_out_room(o, n) < 0)
        return -1;
    memcpy(o->at + o->len, at, n);
    o->len += n;
    return 0;
}

void gd_put_u32(char *at, uint32_t n) {
    for (int i = 0; i < 4; i++)
        at[i] = (char)(n >> 8 * i);
}

int gd_out_u32(gd_out *o, uint32_t n) {
    char at[4];
    gd_put_u32(at, n);
    return gd_out_add(o, at, 4);
}

#define ADD(o, literal) gd_out_add(o, literal, sizeof(literal) - 1)

/* ---- values without parts -------------------------------------------------------- */

static int add_escape(gd_out *o, unsigned char c) {
    static const char hex[] = "0123456789abcdef";
    switch (c) {
    case '"':
        return ADD(o, "\\\"");
    case '\\':
        return ADD(o, "\\\\");
    case '\n':
        return ADD(o, "\\n");
    case '\r':
        return ADD(o, "\\r");
    case '\t':
        return ADD(o, "\\t");
    case '\f':
        return ADD(o, "\\f");
    case '\b':
        return ADD(o, "\\b");
    }
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    return gd_out_add(o, text, 6);
}

static int add_utf8(gd_out *o, const char *at, size_t n) {
    size_t from = 0;
    if (gd_out_room(o, n + 2) < 0)
        return -1;
    o->at[o->len++] = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)at[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        if (gd_out_add(o, at + from, i - from) < 0 || add_escape(o, c) < 0)
            return -1;
        from = i + 1;
    }
    return gd_out_add(o, at + from, n - from) < 0 ? -1 : ADD(o, "\"");
}

/* Not PyUnicode_AsUTF8AndSize: a text that is not ASCII would keep its UTF-8 for good, and
 * take twice its memory. */
static int add_str(gd_out *o, PyObject *value) {
    char *at;
    Py_ssize_t n;
    PyObject *data = PyUnicode_AsUTF8String(value);
    if (!data)
        return -1;
    PyBytes_AsStringAndSize(data, &at, &n);
    int rc = add_utf8(o, at, (size_t)n);
    Py_DECREF(data);
    return rc;
}

static int add_text_of_python(gd_out *o, PyObject *value, int depth) {
    char *at;
    Py_ssize_t n;
    PyObject *text = PyObject_CallFunction(gd_known.text, "Oi", value, depth);
    PyObject *data = text ? PyUnicode_AsUTF8String(text) : NULL;
    Py_XDECREF(text);
    if (!data)
        return -1;
    PyBytes_AsStringAndSize(data, &at, &n);
    int rc = gd_out_add(o, at, (size_t)n);
    Py_DECREF(data);
    return rc;
}

static int add_int(gd_out *o, PyObject *value) {
    char digits[24], *at = digits + sizeof digits;
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow || n > SAFE || n < -SAFE)
        return add_text_of_python(o, value, 0);
    unsigned long long left = n < 0 ? 0ULL - (unsigned long long)n : (unsigned long long)n;
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (n < 0)
        *--at = '-';
    return gd_out_add(o, at, (size_t)(digits + sizeof digits - at));
}

static int add_float(gd_out *o, PyObject *value) {
    double d = PyFloat_AsDouble(value);
    if (!isfinite(d))
        return add_text_of_python(o, value, 0);
    char *text = PyOS_double_to_string(d, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (!text)
        return -1;
    int rc = gd_out_add(o, text, strlen(text));
    PyMem_Free(text);
    return rc;
}

static int add_bytes(gd_out *o, PyObject *value) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *bytes;
    Py_ssize_t n;
    PyBytes_AsStringAndSize(value, &bytes, &n);
    const unsigned char *in = (const unsigned char *)bytes;
    if (ADD(o, "{\"$bytes\":\"") < 0 || gd_out_room(o, ((size_t)n + 2) / 3 * 4) < 0)
        return -1;
    char *out = o->at + o->len;
    for (; n > 0; n -= 3, in += 3) {
        uint32_t three = (uint32_t)in[0] << 16 | (n > 1 ? in[1] << 8 : 0) | (n > 2 ? in[2] : 0);
        *out++ = digit[three >> 18];
        *out++ = digit[three >> 12 & 63];
        *out++ = n > 1 ? digit[three >> 6 & 63] : '=';
        *out++ = n > 2 ? digit[three & 63] : '=';
    }
    o->len = (size_t)(out - o->at);
    return ADD(o, "\"}");
}

bool gd_is_plain(PyObject *value) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type || type == &PyLong_Type || type == &PyBool_Type ||
        type == &PyFloat_Type || type == &PyBytes_Type || value == Py_None)
        return true;
    for (Py_ssize_t i = 0; gd_is(gd_known.plain) && i < PyTuple_Size(gd_known.plain); i++)
        if (PyTuple_GetItem(gd_known.plain, i) == (PyObject *)type)
            return true;
    return false;
}

/* ---- values with parts --------------------------------------------------------------
 * What they hold may change while a part is encoded by Python: sizes are read anew. */

static int add_list(gd_out *o, PyObject *list, int depth) {
    if (ADD(o, "[") < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
        PyObject *part = PyList_GetItem(list, i);
        Py_INCREF(part);
        int rc = i > 0 ? ADD(o, ",") : 0;
        if (rc == 0)
            rc = gd_encode(o, part, depth);
        Py_DECREF(part);
        if (rc < 0)
            return -1;
    }
    return ADD(o, "]");
}

static int add_tuple(gd_out *o, PyObject *tuple, int depth) {
    if (ADD(o, "{\"$tuple\":[") < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); i++)
        if ((i > 0 && ADD(o, ",") < 0) || gd_encode(o, PyTuple_GetItem(tuple, i), depth) < 0)
            return -1;
    return ADD(o, "]}");
}

typedef struct {
    const char *at;
    size_t len;
} member;

static int by_bytes(const void *a, const void *b) {
    const member *x = a, *y = b;
    int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int add_members(gd_out *o, const gd_out *encoded, const size_t *ends, size_t n) {
    member *sorted = malloc((n + 1) * sizeof *sorted);
    int rc = 0;
    if (!sorted) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        size_t from = i > 0 ? ends[i - 1] : 0;
        sorted[i] = (member){encoded->at + from, ends[i] - from};
    }
    qsort(sorted, n, sizeof *sorted, by_bytes);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = i > 0 ? ADD(o, ",") : 0;
        if (rc == 0)
            rc = gd_out_add(o, sorted[i].at, sorted[i].len);
    }
    free(sorted);
    return rc;
}

static int add_set(gd_out *o, PyObject *set, int depth) {
    /* Of set itself: iterating over a tracked one is a read. */
    getiterfunc iterate = (getiterfunc)PyType_GetSlot(&PySet_Type, Py_tp_iter);
    PyObject *iterator = NULL, *part;
    gd_out encoded;
    size_t n = 0, *ends = malloc(((size_t)PySet_Size(set) + 1) * sizeof *ends);
    size_t most = (size_t)PySet_Size(set);
    int rc = -1;
    gd_out_init(&encoded);
    if (!ends)
        PyErr_NoMemory();
    else
        iterator = iterate(set);
    while (iterator && n < most && (part = PyIter_Next(iterator))) {
        rc = gd_encode(&encoded, part, depth);
        Py_DECREF(part);
        if (rc < 0)
            break;
        ends[n++] = encoded.len;
    }
    if (iterator && !PyErr_Occurred()) {
        rc = PyFrozenSet_Check(set) ? ADD(o, "{\"$frozenset\":[") : ADD(o, "{\"$set\":[");
        if (rc == 0)
            rc = add_members(o, &encoded, ends, n);
        if (rc == 0)
            rc = ADD(o, "]}");
    }
    gd_out_free(&encoded);
    free(ends);
    Py_XDECREF(iterator);
    return PyErr_Occurred() ? -1 : rc;
}

/* Whether the object form does: no key begins with $ or is no text. */
static bool is_object(PyObject *dict) {
    PyObject *key, *part;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &part))
        if (Py_TYPE(key) != &PyUnicode_Type ||
            (PyUnicode_GetLength(key) > 0 && PyUnicode_ReadChar(key, 0) == '$'))
            return false;
    return true;
}

static int add_object(gd_out *o, PyObject *dict, int depth) {
    PyObject *key, *part;
    Py_ssize_t at = 0;
    bool first = true;
    if (ADD(o, "{") < 0)
        return -1;
    while (PyDict_Next(dict, &at, &key, &part)) {
        if (Py_TYPE(key) != &PyUnicode_Type) {
            PyErr_SetString(PyExc_RuntimeError, "the dict changed while it was encoded");
            return -1;
        }
        Py_INCREF(part);
        int rc = first ? 0 : ADD(o, ",");
        if (rc == 0)
            rc = add_str(o, key) < 0 || ADD(o, ":") < 0 ? -1 : gd_encode(o, part, depth);
        Py_DECREF(part);
        if (rc < 0)
            return -1;
        first = false;
    }
    return ADD(o, "}");
}

static int add_pairs(gd_out *o, PyObject *dict, int depth) {
    PyObject *key, *part;
    Py_ssize_t at = 0;
    bool first = true;
    if (ADD(o, "{\"$dict\":[") < 0)
        return -1;
    while (PyDict_Next(dict, &at, &key, &part)) {
        Py_INCREF(key);
        Py_INCREF(part);
        int rc = first ? ADD(o, "[") : ADD(o, ",[");
        if (rc == 0)
            rc = gd_encode(o, key, depth);
        if (rc == 0)
            rc = ADD(o, ",") < 0 ? -1 : gd_encode(o, part, depth);
        Py_DECREF(key);
        Py_DECREF(part);
        if (rc < 0 || ADD(o, "]") < 0)
            return -1;
        first = false;
    }
    return ADD(o, "]}");
}

static int add_dict(gd_out *o, PyObject *dict, int depth) {
    return is_object(dict) ? add_object(o, dict, depth) : add_pairs(o, dict, depth);
}

int gd_encode(gd_out *o, PyObject *value, int depth) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type)
        return add_str(o, value);
    if (type == &PyLong_Type)
        return add_int(o, value);
    if (type == &PyFloat_Type)
        return add_float(o, value);
    if (type == &PyBool_Type)
        return value == Py_True ? ADD(o, "true") : ADD(o, "false");
    if (value == Py_None)
        return ADD(o, "null");
    if (type == &PyBytes_Type)
        return add_bytes(o, value);
    if (depth < GD_MOST_DEPTH) {
        if (type == &PyList_Type || (PyObject *)type == gd_known.list)
            return add_list(o, value, depth + 1);
        if (type == &PyDict_Type || (PyObject *)type == gd_known.dict)
            return add_dict(o, value, depth + 1);
        if (type == &PyTuple_Type)
            return add_tuple(o, value, depth + 1);
        if (type == &PySet_Type || type == &PyFrozenSet_Type || (PyObject *)type == gd_known.set)
            return add_set(o, value, depth + 1);
    }
    return add_text_of_python(o, value, depth);
}

PyObject *gd_py_encode(PyObject *module, PyObject *value) {
    gd_out o;
    PyObject *data = NULL;
    gd_out_init(&o);
    if (gd_encode(&o, value, 0) == 0)
        data = PyBytes_FromStringAndSize(o.at, (Py_ssize_t)o.len);
    gd_out_free(&o);
    if (!data && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear(); /* said in our words there */
        return PyObject_CallFunctionObjArgs(gd_known.encode, value, NULL);
    }
    return data;
}
