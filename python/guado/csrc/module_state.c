/* Stores and the answers that their state goes with: an exchange that has touched a store
 * has a hook, guado/_state.py's, which is called before its head leaves, and at its end.
 * Before: wsgi_response.c and asgi*.c call it. After: commit.c. Not here: what a state is;
 * exchanges that touch no store, which pay for a look at a pointer.
 */
#include "asgi.h"
#include "wsgi.h"

_Thread_local bool gd_has_sealed;

/* The hook of who is called `handle` in Python, its stream, and whether its head has left. */
static gd_hook *hook_of(PyObject *handle, gd_stream **stream, bool *headed) {
    PyObject *self = PyCFunction_Check(handle) ? PyCFunction_GetSelf(handle) : NULL;
    if (self != NULL && Py_TYPE(self) == wsgi_name.response) {
        *stream = ((wsgi_response *)self)->stream;
        *headed = ((wsgi_response *)self)->committed;
        return &((wsgi_response *)self)->hook;
    }
    if (self != NULL && gd_asgi_exchange_type != NULL && Py_TYPE(self) == gd_asgi_exchange_type) {
        uint8_t phase = ((gd_asgi_exchange *)self)->phase;
        *stream = ((gd_asgi_exchange *)self)->stream;
        *headed = phase != GD_ASGI_IDLE && phase != GD_ASGI_HELD && phase != GD_ASGI_SOCKET;
        return &((gd_asgi_exchange *)self)->hook;
    }
    PyErr_SetString(PyExc_TypeError, "this is no function of a request of ours");
    return NULL;
}

/* ---- what requests do -------------------------------------------------------------- */

int gd_hook_call(gd_hook *h, int what) {
    PyObject *hook = h->call;
    Py_INCREF(hook); /* it may be taken off meanwhile */
    if (gd_is_running(hook)) {
        int rc = gd_running_hook(hook, what);
        Py_DECREF(hook);
        return rc;
    }
    PyObject *code = PyLong_FromLong(what);
    PyObject *done = code != NULL ? PyObject_CallFunctionObjArgs(hook, code, NULL) : NULL;
    Py_XDECREF(code);
    Py_DECREF(hook);
    if (done == NULL)
        return -1;
    Py_DECREF(done);
    return 0;
}

int gd_hook_commit(gd_hook *h, gd_stream *s, const gd_pending *pending, int what, ssize_t *result) {
    h->pending = pending;
    h->sealed = false;
    int rc = gd_hook_call(h, what);
    h->pending = NULL;
    if (!h->sealed)
        return rc;
    if (h->result >= 0)
        *result = gd_push(s);
    else
        *result = h->result;
    return rc < 0 ? rc : 1;
}

void gd_hook_end(gd_hook *h, PyObject *whose) {
    if (h->call == NULL)
        return;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (gd_hook_call(h, GD_HOOK_END) < 0)
        PyErr_WriteUnraisable(whose);
    PyErr_Restore(type, value, trace);
    Py_CLEAR(h->call);
}

/* ---- what guado/_state.py calls ------------------------------------------------------ */

static PyObject *attach(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *handle, *call;
    gd_stream *s;
    bool headed;
    if (!PyArg_ParseTuple(args, "OO:attach", &handle, &call))
        return NULL;
    gd_hook *h = hook_of(handle, &s, &headed);
    if (h == NULL)
        return NULL;
    if (s == NULL)
        return PyLong_FromLong(0);
    Py_INCREF(call);
    PyObject *before = h->call;
    h->call = call;
    Py_XDECREF(before);
    return PyLong_FromLong(headed ? 2 : 1);
}

int gd_hook_seal(PyObject *handle, const void *state, size_t n) {
    gd_stream *s;
    bool headed;
    gd_hook *h = hook_of(handle, &s, &headed);
    if (h == NULL)
        return -1;
    const gd_pending *p = h->pending;
    if (p == NULL || h->sealed)
        return 0;
    h->result = gd_seal_commit(s, p->head, p->body, p->n, p->flags, state, n);
    if (h->result == GD_NOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    h->sealed = gd_has_sealed = true;
    return 1;
}

uint32_t gd_hook_number(PyObject *handle) {
    gd_stream *s = NULL;
    bool headed;
    if (hook_of(handle, &s, &headed) == NULL)
        PyErr_Clear();
    return s != NULL ? gd_stream_number(s) : 0;
}

/* ---- methods of guado._core.Link ------------------------------------------------------ */

PyObject *gd_py_seal(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    const char *state;
    Py_ssize_t n;
    unsigned about = 0;
    if (!l || !PyArg_ParseTuple(args, "y#|I:seal", &state, &n, &about))
        return NULL;
    int rc = gd_seal_alone(l, about, state, (size_t)n);
    if (rc < 0)
        return gd_raise(rc);
    gd_has_sealed = true;
    Py_RETURN_NONE;
}

PyObject *gd_py_push(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    int wait = 0, rc;
    if (!l || !PyArg_ParseTuple(args, "|p:push", &wait))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_commits_push(l, wait);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

PyObject *gd_py_restores(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    PyObject *all = l ? PyList_New(0) : NULL;
    gd_restored r;
    while (all != NULL && gd_restore_take(l, &r) == GD_OK) {
        PyObject *pair =
            Py_BuildValue("(iy#)", (int)r.kind, (const char *)r.data, (Py_ssize_t)r.len);
        gd_restore_free(&r);
        if (!pair || PyList_Append(all, pair) < 0)
            Py_CLEAR(all);
        Py_XDECREF(pair);
    }
    return all;
}

PyObject *gd_py_restore_wait(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    int rc;
    if (!l)
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_restore_wait(l);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

PyObject *gd_py_restore_poke(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    if (!l)
        return NULL;
    gd_restore_poke(l);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"attach", attach, METH_VARARGS,
     "attach(handle, hook): hook(what) is called before the head of this request leaves and at "
     "its end. 2: the head has left already; 0: the request has ended."},
    {NULL, NULL, 0, NULL},
};

int gd_state_init(PyObject *module) {
    return PyModule_AddFunctions(module, functions);
}
