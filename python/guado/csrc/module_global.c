/* guado._core.Link: updates, updates_wait and updates_watch. Before: guado/_replica.py.
 * After: global.c. Not here: what an update says.
 */
#include "module.h"

/* Into a list of the caller, whole: an interrupt of the request (RequestTimeout) can come
 * when this has returned, and must not take what was taken with it. */
PyObject *gd_py_updates(PyObject *self, PyObject *into) {
    gd_link *l = gd_link_of(self);
    gd_reply u;
    int rc;
    if (!l)
        return NULL;
    while ((rc = gd_link_update(l, &u)) == GD_OK) {
        PyObject *one = PyBytes_FromStringAndSize((const char *)u.data, (Py_ssize_t)u.len);
        int bad = !one || PyList_Append(into, one) < 0;
        Py_XDECREF(one);
        gd_reply_free(&u);
        if (bad)
            return NULL;
    }
    if (rc != GD_AGAIN)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

PyObject *gd_py_updates_wait(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    int rc;
    if (!l)
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_updates_wait(l);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

PyObject *gd_py_updates_watch(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    if (!l)
        return NULL;
    int rc = gd_link_updates_watch(l);
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}
