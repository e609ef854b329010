/* Paths of stores: dotted texts as keys and as bytes, each made once. Section 2 of
 * protocol/store.md. Twin of _records.path_of and path_bytes.
 */
#include "store.h"

#include <string.h>

enum { MOST_CACHED = 4096 };

static PyObject *cache, *dot; /* text → (keys, wire, or None where no node can have them) */

int gd_path_key(gd_out *path, PyObject *key) {
    Py_ssize_t n;
    if (Py_TYPE(key) != &PyUnicode_Type || path->at[0] >= GD_MOST_KEYS)
        return GD_UNFIT;
    const char *text = PyUnicode_AsUTF8AndSize(key, &n);
    if (!text) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return GD_FAILED;
        PyErr_Clear();
        return GD_UNFIT;
    }
    if (n > GD_MOST_KEY)
        return GD_UNFIT;
    char size[2] = {(char)n, (char)(n >> 8)};
    if (gd_out_add(path, size, 2) < 0 || gd_out_add(path, text, (size_t)n) < 0)
        return GD_FAILED;
    path->at[0]++;
    return GD_DONE;
}

/* The path of a node, root first. */
int gd_path_of_node(gd_out *path, PyObject *node) {
    PyObject *keys[GD_MOST_KEYS];
    int n = 0;
    for (gd_tail *tail; gd_is((tail = gd_tail_of(node))->up); node = tail->up) {
        if (n == GD_MOST_KEYS || !gd_tracks(tail->up) || !tail->key)
            return GD_UNFIT;
        keys[n++] = tail->key;
    }
    path->len = 0;
    if (gd_out_add(path, "", 1) < 0)
        return GD_FAILED;
    int rc = GD_DONE;
    while (n > 0 && rc == GD_DONE)
        rc = gd_path_key(path, keys[--n]);
    return rc;
}

static PyObject *wire_of(PyObject *keys) {
    gd_out path;
    gd_out_init(&path);
    PyObject *wire = NULL;
    int rc = gd_out_add(&path, "", 1) < 0 ? GD_FAILED : GD_DONE;
    for (Py_ssize_t i = 0; i < PyTuple_Size(keys) && rc == GD_DONE; i++)
        rc = gd_path_key(&path, PyTuple_GetItem(keys, i));
    if (rc == GD_DONE)
        wire = PyBytes_FromStringAndSize(path.at, (Py_ssize_t)path.len);
    else if (rc == GD_UNFIT)
        wire = Py_NewRef(Py_None);
    gd_out_free(&path);
    return wire;
}

static PyObject *entry_of(PyObject *keys) {
    PyObject *wire = wire_of(keys);
    PyObject *entry = wire ? PyTuple_Pack(2, keys, wire) : NULL;
    Py_XDECREF(wire);
    return entry;
}

static PyObject *split(PyObject *text) {
    PyObject *list = PyUnicode_Split(text, dot, -1);
    if (!list)
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++)
        if (PyUnicode_GetLength(PyList_GetItem(list, i)) == 0) {
            Py_DECREF(list);
            return NULL; /* Python says what is wrong with it */
        }
    PyObject *keys = PyList_AsTuple(list);
    Py_DECREF(list);
    return keys;
}

PyObject *gd_path_parse(PyObject *path) {
    if (Py_TYPE(path) == &PyTuple_Type && PyTuple_Size(path) > 0)
        return entry_of(path);
    if (Py_TYPE(path) != &PyUnicode_Type)
        return NULL;
    if (!cache && !((cache = PyDict_New()) && (dot = PyUnicode_FromString("."))))
        return NULL;
    PyObject *entry = PyDict_GetItemWithError(cache, path);
    if (entry)
        return Py_NewRef(entry);
    PyObject *keys = PyErr_Occurred() ? NULL : split(path);
    entry = keys ? entry_of(keys) : NULL;
    Py_XDECREF(keys);
    if (!entry)
        return NULL;
    if (PyDict_Size(cache) >= MOST_CACHED)
        PyDict_Clear(cache);
    if (PyDict_SetItem(cache, path, entry) < 0) {
        Py_DECREF(entry);
        return NULL;
    }
    return entry;
}
