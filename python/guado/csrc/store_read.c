/* Records of stores as Python has them. Twin of _records.read. */
#include "records.h"
#include "store.h"

static PyObject *path_of(const gd_record *r) {
    PyObject *keys = PyTuple_New(r->keys);
    for (int i = 0; keys && i < r->keys; i++) {
        PyObject *key = PyUnicode_DecodeUTF8(r->path[i].at, (Py_ssize_t)r->path[i].len, NULL);
        if (!key || PyTuple_SetItem(keys, i, key) < 0)
            Py_CLEAR(keys);
    }
    return keys;
}

static PyObject *items_of(gd_record *r) {
    PyObject *items = PyList_New(0);
    for (uint32_t i = 0; items && i < r->count; i++) {
        gd_str s = gd_record_item(r);
        PyObject *item = PyBytes_FromStringAndSize(s.at, (Py_ssize_t)s.len);
        if (!item || PyList_Append(items, item) < 0)
            Py_CLEAR(items);
        Py_XDECREF(item);
    }
    return items;
}

static PyObject *record_of(gd_record *r) {
    PyObject *path = path_of(r), *items = path ? items_of(r) : NULL;
    if (!items) {
        Py_XDECREF(path);
        return NULL;
    }
    return gd_named(gd_known.record, Py_BuildValue("(iNNKI)", r->op, path, items,
                                                   (unsigned long long)r->at, r->removed));
}

PyObject *gd_py_read(PyObject *module, PyObject *data) {
    char *at;
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(data, &at, &n) < 0)
        return NULL;
    gd_cursor c = {(const uint8_t *)at, (const uint8_t *)at + n};
    gd_record r;
    PyObject *all = PyList_New(0);
    while (all && c.at < c.end) {
        PyObject *record = NULL;
        if (gd_record_next(&c, &r) < 0)
            PyErr_SetString(PyExc_ValueError, "these are no records of a store");
        else
            record = record_of(&r);
        if (!record || PyList_Append(all, record) < 0)
            Py_CLEAR(all);
        Py_XDECREF(record);
    }
    return all;
}
