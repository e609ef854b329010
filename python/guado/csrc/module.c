/* guado._core: the link as a Python object, and what wsgi*.c and asgi*.c add to it.
 * Before: boot.py opens it. Not here: frames (link.h), applications.
 */
#include "module.h"

#include <string.h>

enum { KIND_READY = 0x41, KIND_FAILED = 0x4c };

static PyObject *link_type, *link_closed;

typedef struct {
    PyObject_HEAD gd_link *link;
} link_object;

gd_link *gd_link_of(PyObject *o) {
    if ((PyObject *)Py_TYPE(o) != link_type) {
        PyErr_SetString(PyExc_TypeError, "a guado._core.Link is needed");
        return NULL;
    }
    gd_link *l = ((link_object *)o)->link;
    if (!l)
        PyErr_SetString(PyExc_ValueError, "the link was closed");
    return l;
}

PyObject *gd_raise(int result) {
    switch (result) {
    case GD_GONE:
        PyErr_SetString(PyExc_ConnectionResetError, "the client has left");
        break;
    case GD_CUT:
        PyErr_SetString(PyExc_ConnectionResetError, "the request body was cut off");
        break;
    case GD_CLOSED:
        PyErr_SetString(link_closed, "the link to the guado host is closed: the host is gone, or "
                                     "this process is a forked child of the worker");
        break;
    case GD_NOMEM:
        PyErr_NoMemory();
        break;
    case GD_TIMEOUT:
        PyErr_SetString(PyExc_TimeoutError, "the guado host did not answer in time");
        break;
    case GD_CORRUPT:
        PyErr_SetString(PyExc_RuntimeError, "a message does not fit the link, or the answer has "
                                            "ended already");
        break;
    default:
        PyErr_Format(PyExc_RuntimeError, "the link answered %d", result);
    }
    return NULL;
}

/* ---- guado._core.Link ---------------------------------------------------------- */

static PyObject *link_hello(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    char *json = NULL;
    size_t n = 0;
    int timeout_ms, rc;
    if (!l || !PyArg_ParseTuple(args, "i:hello", &timeout_ms))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_hello(l, &json, &n, timeout_ms);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    PyObject *bytes = PyBytes_FromStringAndSize(json, (Py_ssize_t)n);
    gd_link_free_json(json);
    return bytes;
}

static PyObject *announce(PyObject *self, PyObject *args, const char *format, int kind) {
    gd_link *l = gd_link_of(self);
    const char *json;
    Py_ssize_t n;
    int rc;
    if (!l || !PyArg_ParseTuple(args, format, &json, &n))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_announce(l, kind, json, (size_t)n);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

static PyObject *link_ready(PyObject *self, PyObject *args) {
    return announce(self, args, "y#:ready", KIND_READY);
}

static PyObject *link_failed(PyObject *self, PyObject *args) {
    return announce(self, args, "y#:failed", KIND_FAILED);
}

static PyObject *link_serve(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    const char *kinds;
    Py_ssize_t n;
    unsigned request, response, files;
    if (!l || !PyArg_ParseTuple(args, "y#III:serve", &kinds, &n, &request, &response, &files))
        return NULL;
    int rc;
    /* It waits for the reader to let go, which may be a thread that has its reply and needs the
     * GIL for that. */
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_serve(l, (const uint8_t *)kinds, (size_t)n, request, response, files);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

static PyObject *link_wait_drained(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    int timeout_ms = -1, rc;
    if (!l || !PyArg_ParseTuple(args, "|i:wait_drained", &timeout_ms))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_wait_drained(l, timeout_ms);
    Py_END_ALLOW_THREADS;
    if (rc == GD_DRAINED)
        Py_RETURN_TRUE;
    if (rc == GD_TIMEOUT)
        Py_RETURN_FALSE;
    if (rc == GD_CORRUPT) {
        PyErr_SetString(link_closed, "the guado host sent what protocol/link.md does not allow");
        return NULL;
    }
    return gd_raise(rc);
}

static PyObject *link_draining(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    gd_link *l = gd_link_of(self);
    int64_t left;
    if (!l)
        return NULL;
    if (gd_link_draining(l, &left))
        return PyLong_FromLongLong(left);
    Py_RETURN_NONE;
}

static PyObject *link_log(PyObject *self, PyObject *args) {
    gd_link *l = gd_link_of(self);
    const char *text;
    Py_ssize_t n;
    unsigned stream = 0;
    int level, rc;
    if (!l || !PyArg_ParseTuple(args, "is#|I:log", &level, &text, &n, &stream))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    rc = gd_link_log(l, stream, level, text, (size_t)n);
    Py_END_ALLOW_THREADS;
    if (rc < 0)
        return gd_raise(rc);
    Py_RETURN_NONE;
}

static PyObject *link_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    link_object *o = (link_object *)self;
    gd_link *l = o->link;
    o->link = NULL;
    if (l) {
        Py_BEGIN_ALLOW_THREADS;
        gd_link_close(l);
        Py_END_ALLOW_THREADS;
    }
    Py_RETURN_NONE;
}

/* A link that nobody closed stays open: threads of C may be inside it to the last
 * moment of the process. */
static void link_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef link_methods[] = {
    {"hello", link_hello, METH_VARARGS, "hello(timeout_ms): the host's HELLO as JSON bytes."},
    {"ready", link_ready, METH_VARARGS, "ready(json): announces READY."},
    {"failed", link_failed, METH_VARARGS, "failed(json): announces FAILED; the worker ends."},
    {"serve", link_serve, METH_VARARGS,
     "serve(kinds, request_credit, response_credit, file_credit): takes requests from now on."},
    {"wait_drained", link_wait_drained, METH_VARARGS,
     "wait_drained(timeout_ms=-1): True when drained; False when a signal, DRAIN or the time "
     "came."},
    {"draining", link_draining, METH_NOARGS,
     "Once DRAIN came, what is left of its grace in ms; else None."},
    {"log", link_log, METH_VARARGS, "log(level, text, stream=0): a line for the host's log."},
    {"call", gd_py_call, METH_VARARGS, "call(id, data): asks the host; reply() brings the answer."},
    {"call_cancel", gd_py_call_cancel, METH_VARARGS, "call_cancel(id): nobody wants it any more."},
    {"replies", gd_py_replies, METH_NOARGS, "replies(): waits for the next of (id, data)."},
    {"loop_leads", gd_py_loop_leads, METH_NOARGS,
     "loop_leads(): the loop's thread waits inside a callback, and nobody else reads the link."},
    {"expect", gd_py_expect, METH_O,
     "expect(id): this thread will wait for this reply itself. False: it may not, or one does."},
    {"expected", gd_py_expected, METH_VARARGS,
     "expected(id, timeout_ms): waits and reads; the reply, or None: woken, or the time is over."},
    {"expected_end", gd_py_expected_end, METH_O, "expected_end(id): it waits no more."},
    {"expected_wake", gd_py_expected_wake, METH_O,
     "expected_wake(id): whoever waits for this reply looks whether it must still."},
    {"updates", gd_py_updates, METH_O,
     "updates(list): appends the updates of the global store that have come, in order."},
    {"updates_wait", gd_py_updates_wait, METH_NOARGS, "updates_wait(): until updates heap up."},
    {"updates_watch", gd_py_updates_watch, METH_NOARGS,
     "updates_watch(): from now on updates_wait returns for each."},
    {"seal", gd_py_seal, METH_VARARGS,
     "seal(state, stream=0): queues state that goes with no answer; never waits."},
    {"push", gd_py_push, METH_VARARGS,
     "push(wait=False): sends what was sealed; waits until it has left."},
    {"restores", gd_py_restores, METH_NOARGS,
     "restores(): the (kind, payload) of RESTORE and RELEASE since the last call."},
    {"restore_wait", gd_py_restore_wait, METH_NOARGS,
     "restore_wait(): until many of them wait, or for restore_poke()."},
    {"restore_poke", gd_py_restore_poke, METH_NOARGS, "Ends restore_wait()."},
    {"close", link_close, METH_NOARGS, "Closes the link; for tests."},
    {NULL, NULL, 0, NULL},
};

static PyObject *link_loop_fd(PyObject *self, void *which) {
    gd_link *l = gd_link_of(self);
    return l ? PyLong_FromLong(which ? gd_loop_wake_fd(l) : gd_loop_fd(l)) : NULL;
}

static PyGetSetDef link_getset[] = {
    {"loop_fd", link_loop_fd, NULL, "For loop.add_reader.", NULL},
    {"loop_wake_fd", link_loop_fd, NULL, "Second one for the same callback, or -1.", (void *)1},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot link_slots[] = {
    {Py_tp_methods, link_methods},
    {Py_tp_getset, link_getset},
    {Py_tp_dealloc, (void *)link_dealloc},
    {Py_tp_doc, "The worker's end of the link. Made by open()."},
    {0, NULL},
};

static PyType_Spec link_spec = {
    .name = "guado._core.Link",
    .basicsize = sizeof(link_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = link_slots,
};

static PyObject *open_link(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *spec, *why;
    gd_link *l;
    if (!PyArg_ParseTuple(args, "s:open", &spec))
        return NULL;
    if (gd_link_open(spec, &l, &why) < 0) {
        PyErr_SetString(PyExc_OSError, why);
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot((PyTypeObject *)link_type, Py_tp_alloc);
    link_object *o = (link_object *)alloc((PyTypeObject *)link_type, 0);
    if (!o) {
        gd_link_close(l);
        return NULL;
    }
    o->link = l;
    return (PyObject *)o;
}

/* ---- decoding, for the golden vectors -------------------------------------------- */

static PyObject *decode_frame(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *at;
    Py_ssize_t n;
    unsigned max_frame;
    gd_frame_head h;
    if (!PyArg_ParseTuple(args, "y#I:decode_frame", &at, &n, &max_frame))
        return NULL;
    int rc = gd_frame_decode_head((const uint8_t *)at, (size_t)n, max_frame, &h);
    if (rc < 0) {
        PyErr_SetString(PyExc_ValueError, rc == GD_AGAIN ? "short" : "corrupt");
        return NULL;
    }
    return Py_BuildValue("{sIsIsIsIsI}", "size", h.size, "kind", (unsigned)h.kind, "flags",
                         (unsigned)h.flags, "stream", h.stream, "arg", h.arg);
}

static PyObject *bytes_of(gd_str s) {
    return PyBytes_FromStringAndSize(s.at ? s.at : "", (Py_ssize_t)s.len);
}

static PyObject *fields_of(const gd_request *r) {
    PyObject *list = PyList_New(r->nfields);
    for (Py_ssize_t i = 0; list && i < r->nfields; i++) {
        PyObject *pair =
            Py_BuildValue("(NN)", bytes_of(r->fields[i].name), bytes_of(r->fields[i].value));
        if (!pair) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, i, pair);
    }
    return list;
}

static PyObject *decode_request(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *at;
    Py_ssize_t n;
    gd_request r;
    gd_str body;
    if (!PyArg_ParseTuple(args, "y#:decode_request", &at, &n))
        return NULL;
    if (gd_request_decode((const uint8_t *)at, (size_t)n, &r, &body) < 0) {
        PyErr_SetString(PyExc_ValueError, "corrupt");
        return NULL;
    }
    PyObject *d = Py_BuildValue(
        "{sIsIsIsLsIsIsIsIsNsNsNsNsNsNsNsNsNsNsNsNsN}", "version", (unsigned)r.version, "flags",
        (unsigned)r.flags, "app", (unsigned)r.app, "length", (long long)r.length, "tls_version",
        (unsigned)r.tls_version, "tls_cipher", (unsigned)r.tls_cipher, "server_port",
        (unsigned)r.server_port, "client_port", (unsigned)r.client_port, "id", bytes_of(r.id),
        "method", bytes_of(r.method), "scheme", bytes_of(r.scheme), "path", bytes_of(r.path),
        "raw_path", bytes_of(r.raw_path), "query", bytes_of(r.query), "target", bytes_of(r.target),
        "root", bytes_of(r.root), "server_name", bytes_of(r.server_name), "client_host",
        bytes_of(r.client_host), "traceparent", bytes_of(r.traceparent), "fields", fields_of(&r),
        "body", bytes_of(body));
    gd_request_clear(&r);
    return d;
}

static PyMethodDef functions[] = {
    {"open", open_link, METH_VARARGS, "open(spec): the link that GUADO_LINK names."},
    {"decode_frame", decode_frame, METH_VARARGS,
     "decode_frame(bytes, max_frame): header of a frame; ValueError when corrupt."},
    {"decode_request", decode_request, METH_VARARGS,
     "decode_request(payload): a REQUEST; ValueError when corrupt."},
    {"decode_turn", gd_py_decode_turn, METH_VARARGS,
     "decode_turn(payload): application of a TURN, and what it is called with; ValueError when "
     "corrupt."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "guado._core",
    .m_doc = "The C core of a Guado worker.",
    .m_size = -1,
    .m_methods = functions,
};

/* What the build says of these sources, so that a worker can tell an extension that was built
 * of others. */
#ifndef GD_STAMP
#define GD_STAMP ""
#endif

static int add_constants(PyObject *m) {
    return PyModule_AddStringConstant(m, "STAMP", GD_STAMP) < 0 ||
                   PyModule_AddIntConstant(m, "PROTOCOL", GD_PROTOCOL) < 0 ||
                   PyModule_AddIntConstant(m, "WSGI", GD_WSGI) < 0 ||
                   PyModule_AddIntConstant(m, "ASGI", GD_ASGI) < 0
               ? -1
               : 0;
}

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *m = PyModule_Create(&definition);
    if (!m)
        return NULL;
    link_type = PyType_FromSpec(&link_spec);
    link_closed = PyErr_NewExceptionWithDoc("guado._core.LinkClosed",
                                            "The host is gone, or this is a forked child.",
                                            PyExc_OSError, NULL);
    if (!link_type || !link_closed || PyModule_AddObjectRef(m, "Link", link_type) < 0 ||
        PyModule_AddObjectRef(m, "LinkClosed", link_closed) < 0 || add_constants(m) < 0 ||
        gd_interrupt_init(m) < 0 || gd_turn_init() < 0 || gd_wsgi_init(m) < 0 ||
        gd_asgi_init(m) < 0 || gd_state_init(m) < 0 || gd_store_init(m) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
