/* guado._core.Link: call, call_cancel, replies, and the loop's wait for one. Before:
 * guado/_calls.py. After: call.c. Not here: what a call means.
 */
#include "module.h"

enum { KIND_CALL = 0x4f, KIND_CALL_CANCEL = 0x50 };

/* To copy this much costs less than a turn of the GIL. */
enum { KEEP_GIL = 32768 };

PyObject *gd_py_call(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    unsigned id;
    const char *data;
    Py_ssize_t n;
    int rc;
    if (!l || !PyArg_ParseTuple(args, "Iy#:call", &id, &data, &n))
        return NULL;
    if (n <= KEEP_GIL) {
        rc = gd_link_call(l, KIND_CALL, id, data, (size_t)n);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        rc = gd_link_call(l, KIND_CALL, id, data, (size_t)n);
        Py_END_ALLOW_THREADS;
    }
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

PyObject *gd_py_call_cancel(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    unsigned id;
    int rc;
    if (!l || !PyArg_ParseTuple(args, "I:call_cancel", &id))
        return NULL;
    rc = gd_link_call(l, KIND_CALL_CANCEL, id, NULL, 0);
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

/* All that have come: to take each by itself would cost a turn of the GIL for each. */
enum { MOST_REPLIES = 256 };

PyObject *gd_py_replies(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    gd_reply r;
    int rc;
    if (!l)
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_reply(l, true, &r);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    PyObject *all = PyList_New(0);
    for (int n = 1; rc == GD_OK; n++) {
        PyObject *pair = NULL;
        if (all)
            pair = Py_BuildValue("(Iy#)", r.id, (const char *)r.data, (Py_ssize_t)r.len);
        if (!pair || PyList_Append(all, pair) < 0)
            Py_CLEAR(all);
        Py_XDECREF(pair);
        gd_reply_free(&r);
        rc = all && n < MOST_REPLIES ? gd_link_reply(l, false, &r) : GD_AGAIN;
    }
    return all;
}

/* ---- a thread waits for one reply ------------------------------------------------------ */

PyObject *gd_py_loop_leads(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    return l ? PyBool_FromLong(gd_loop_leads(l)) : NULL;
}

PyObject *gd_py_expect(PyObject *self, PyObject *id) {
    gd_link *l = gd_link_of(self);
    unsigned long number = l ? PyLong_AsUnsignedLong(id) : 0;
    if (!l || PyErr_Occurred())
        return NULL;
    int rc = gd_expect(l, (uint32_t)number);
    if (rc < 0 && rc != GD_AGAIN)
        return gd_raise(rc);
    return PyBool_FromLong(rc == GD_OK);
}

PyObject *gd_py_expected(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    unsigned id;
    int timeout_ms, rc;
    gd_reply r;
    if (!l || !PyArg_ParseTuple(args, "Ii:expected", &id, &timeout_ms))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_expected(l, id, timeout_ms, &r);
    Py_END_ALLOW_THREADS;
    if (rc == GD_AGAIN || rc == GD_TIMEOUT)
        Py_RETURN_NONE;
    if (rc < 0)
        return gd_raise(rc);
    PyObject *data = PyBytes_FromStringAndSize((const char *)r.data, (Py_ssize_t)r.len);
    gd_reply_free(&r);
    return data;
}

PyObject *gd_py_expected_end(PyObject *self, PyObject *id) {
    gd_link *l = gd_link_of(self);
    unsigned long number = l ? PyLong_AsUnsignedLong(id) : 0;
    if (!l || PyErr_Occurred())
        return NULL;
    gd_expected_end(l, (uint32_t)number);
    Py_RETURN_NONE;
}

PyObject *gd_py_expected_wake(PyObject *self, PyObject *id) {
    gd_link *l = gd_link_of(self);
    unsigned long number = l ? PyLong_AsUnsignedLong(id) : 0;
    if (!l || PyErr_Occurred())
        return NULL;
    gd_expected_wake(l, (uint32_t)number);
    Py_RETURN_NONE;
}
