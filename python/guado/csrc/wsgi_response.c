/* The answer of one request: start_response, write() and what sends its chunks.
 * Before: wsgi_call.c calls the application. After: gd_commit, gd_body, gd_file.
 * Not here: iteration over what the application returned (wsgi_call.c), the rules for
 * the text of a head (wsgi_head.c).
 */
#include "wsgi.h"

#include <stdio.h>
#include <string.h>

/* A larger head's memory is given back after its request. */
enum { KEEP_HEAD = 65536 };

static int usable(wsgi_response *r) {
    if (r->stream == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the request has ended");
        return -1;
    }
    if (r->sending) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is sending this answer");
        return -1;
    }
    return 0;
}

/* ---- sending ---------------------------------------------------------------- */

static int sent(wsgi_response *r, ssize_t result) {
    if (result >= 0)
        return 0;
    r->failed = (int)result;
    return wsgi_raise(r->failed, r->stream);
}

/* What was queued has not left yet: wait for room and credit. */
static int flush(wsgi_response *r, ssize_t result) {
    if (result > 0) {
        r->sending = true;
        WSGI_NOGIL(result = gd_flush(r->stream));
        r->sending = false;
        wsgi_idle();
    }
    return sent(r, result);
}

static int body(wsgi_response *r, const char *data, size_t n, int flags);

/* The head of an exchange that has touched stores: their state goes with it. 0: it was not
 * sealed with it. */
static int commit_sealed(wsgi_response *r, const gd_head *head, const char *data, size_t n,
                         int flags) {
    size_t part = n <= WSGI_KEEP_GIL ? n : WSGI_KEEP_GIL;
    gd_pending pending = {head, data, part, part == n ? flags : 0};
    ssize_t result;
    r->sending = true;
    int rc = gd_hook_commit(&r->hook, r->stream, &pending, GD_HOOK_HEAD, &result);
    r->sending = false;
    wsgi_idle();
    r->committed = r->hook.sealed;
    if (rc <= 0)
        return rc;
    if (flush(r, result) < 0 || (part < n && body(r, data + part, n - part, flags) < 0))
        return -1;
    return 1;
}

static int commit(wsgi_response *r, const char *data, size_t n, int flags) {
    gd_head head;
    wsgi_head_wire(&r->head, &head);
    if (r->hook.call != NULL) {
        int rc = commit_sealed(r, &head, data, n, flags);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
    r->committed = true;
    if (n <= WSGI_KEEP_GIL)
        return flush(r, gd_commit(r->stream, &head, data, n, flags, 0));
    ssize_t result;
    r->sending = true;
    WSGI_NOGIL(result = gd_commit(r->stream, &head, data, n, flags, 1));
    r->sending = false;
    wsgi_idle();
    return sent(r, result);
}

static int body(wsgi_response *r, const char *data, size_t n, int flags) {
    if (n <= WSGI_KEEP_GIL)
        return flush(r, gd_body(r->stream, data, n, flags, 0));
    ssize_t result;
    r->sending = true;
    WSGI_NOGIL(result = gd_body(r->stream, data, n, flags, 1));
    r->sending = false;
    wsgi_idle();
    return sent(r, result);
}

void wsgi_body_is(wsgi_response *r, int64_t total) {
    bool bodiless = r->head.status == 204 || r->head.status == 304;
    /* The empty body that goes with HEAD says nothing about the length of GET's. */
    if (r->head.length < 0 && !bodiless && (total > 0 || !r->no_body))
        r->head.length = total;
}

static void log_surplus(wsgi_response *r) {
    if (r->surplus)
        return;
    r->surplus = r->sending = true;
    char text[160];
    int n = snprintf(text, sizeof text,
                     "the application sent more bytes than its Content-Length of %lld; "
                     "the rest was dropped",
                     (long long)r->head.length);
    wsgi_log(r->link, r->stream, 2, text, (size_t)n);
    r->sending = false;
    wsgi_idle();
}

/* How many of the next n bytes may go, and whether they complete the answer. */
static size_t clip(wsgi_response *r, size_t n, bool last, bool *complete) {
    if (r->no_body) {
        *complete = true;
        return 0;
    }
    if (r->head.length < 0) {
        *complete = last;
        return n;
    }
    uint64_t left = (uint64_t)(r->head.length - r->sent);
    if (n > left) {
        log_surplus(r);
        n = (size_t)left;
    }
    *complete = n == left;
    return n;
}

static void before_commit(wsgi_response *r) {
    if (r->head.status == 204 || r->head.status == 304)
        r->no_body = true;
    if (r->head.status == 204)
        r->head.length = -1;
}

int wsgi_send(wsgi_response *r, const char *data, size_t n, int how) {
    if (usable(r) < 0)
        return -1;
    if (r->failed)
        return wsgi_raise(r->failed, r->stream);
    if (r->ended) {
        if (n > 0 && !r->no_body)
            log_surplus(r);
        return 0;
    }
    if (!r->committed)
        before_commit(r);
    bool complete;
    n = clip(r, n, how & WSGI_LAST, &complete);
    int flags = 0;
    if (complete)
        flags = how == WSGI_LAST ? GD_END : GD_END | GD_BUSY;
    int result = 0;
    if (!r->committed)
        result = commit(r, data, n, flags);
    else if (n > 0 || complete)
        result = body(r, data, n, flags);
    if (result == 0) {
        r->sent += (int64_t)n;
        r->ended = complete;
        r->owes_done = flags & GD_BUSY;
    }
    return result;
}

int wsgi_send_whole(wsgi_response *r, uint16_t status, const char *data, size_t n) {
    r->head.status = status;
    r->head.length = (int64_t)n;
    r->head.used = r->head.reason_len = 0;
    r->head.count = 0;
    r->started = true;
    if (commit(r, data, n, GD_END) < 0)
        return -1;
    r->ended = true;
    return 0;
}

int wsgi_send_file(wsgi_response *r, int fd, uint64_t offset, uint64_t count) {
    if (usable(r) < 0)
        return -1;
    if (!r->committed) {
        before_commit(r);
        if (r->no_body || r->head.length == 0)
            return wsgi_send(r, NULL, 0, WSGI_BUSY);
        if (commit(r, NULL, 0, 0) < 0)
            return -1;
    }
    if (r->ended)
        return 0;
    bool complete;
    count = clip(r, count, true, &complete);
    ssize_t result;
    r->sending = true;
    WSGI_NOGIL(result = gd_file(r->stream, fd, offset, count, complete ? GD_END | GD_BUSY : 0, 1));
    r->sending = false;
    wsgi_idle();
    if (sent(r, result) < 0)
        return -1;
    r->sent += (int64_t)count;
    r->ended = r->owes_done = complete;
    return 0;
}

/* ---- what the application calls --------------------------------------------- */

static PyObject *write_bytes(PyObject *self, PyObject *data) {
    wsgi_response *r = (wsgi_response *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return PyErr_Format(PyExc_TypeError, "write() takes bytes, not %R",
                            (PyObject *)Py_TYPE(data));
    }
    /* An empty chunk does not send the head (PEP 3333). */
    int result = view.len == 0 ? usable(r) : wsgi_send(r, view.buf, (size_t)view.len, WSGI_BUSY);
    PyBuffer_Release(&view);
    if (result < 0)
        return NULL;
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef write_def = {"write", write_bytes, METH_O,
                                "Sends bytes of the body, the head before the first of them."};

/* A second call with exc_info once the head has left raises that exception again. */
static int raise_again(PyObject *exc_info) {
    PyObject *value = PyTuple_GetItem(exc_info, 1), *trace = PyTuple_GetItem(exc_info, 2);
    if (trace != Py_None && PyException_SetTraceback(value, trace) < 0)
        return -1;
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    return -1;
}

static int check_again(wsgi_response *r, PyObject *exc_info) {
    if (exc_info == NULL || exc_info == Py_None) {
        if (!r->started)
            return 0;
        PyErr_SetString(PyExc_AssertionError,
                        "start_response() was called again without exc_info (PEP 3333)");
        return -1;
    }
    if (!PyTuple_Check(exc_info) || PyTuple_Size(exc_info) != 3 ||
        !PyExceptionInstance_Check(PyTuple_GetItem(exc_info, 1))) {
        PyErr_SetString(PyExc_TypeError, "exc_info must be the tuple that sys.exc_info() gives");
        return -1;
    }
    return r->committed ? raise_again(exc_info) : 0;
}

/* Positional as in PEP 3333; by name as its reference implementation allows. */
static int take_arguments(PyObject *const *args, Py_ssize_t nargs, PyObject *names,
                          PyObject *taken[3]) {
    static const char *const allowed[] = {"status", "headers", "exc_info", "response_headers"};
    if (nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "start_response(status, headers, exc_info=None)");
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++)
        taken[i] = args[i];
    Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        size_t k = 0;
        while (k < 4 && PyUnicode_CompareWithASCIIString(name, allowed[k]) != 0)
            k++;
        size_t slot = k == 3 ? 1 : k;
        if (k == 4 || taken[slot] != NULL) {
            PyErr_Format(PyExc_TypeError, "start_response() got an unexpected argument %R", name);
            return -1;
        }
        taken[slot] = args[nargs + i];
    }
    if (taken[0] == NULL || taken[1] == NULL) {
        PyErr_SetString(PyExc_TypeError, "start_response() needs a status and headers");
        return -1;
    }
    return 0;
}

static PyObject *start_response(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *names) {
    wsgi_response *r = (wsgi_response *)self;
    PyObject *taken[3] = {NULL, NULL, NULL};
    if (take_arguments(args, nargs, names, taken) < 0 || usable(r) < 0 ||
        check_again(r, taken[2]) < 0)
        return NULL;
    r->started = false;
    if (wsgi_head_parse(&r->head, taken[0], taken[1]) < 0)
        return NULL;
    r->started = true;
    return PyCFunction_New(&write_def, self);
}

static PyMethodDef start_response_def = {
    "start_response", (PyCFunction)(void (*)(void))start_response, METH_FASTCALL | METH_KEYWORDS,
    "start_response(status, headers, exc_info=None) -> write"};

static PyObject *early_hints(PyObject *self, PyObject *headers) {
    wsgi_response *r = (wsgi_response *)self;
    if (usable(r) < 0 || wsgi_hints_parse(&r->hints, headers) < 0)
        return NULL;
    if (!r->version_10 && !r->committed) {
        gd_head head;
        wsgi_head_wire(&r->hints, &head);
        if (flush(r, gd_informational(r->stream, &head, 0)) < 0)
            return NULL;
    }
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef early_hints_def = {"early_hints", early_hints, METH_O,
                                      "early_hints(headers): sends 103 Early Hints."};

static PyObject *client_disconnected(PyObject *self, PyObject *Py_UNUSED(none)) {
    wsgi_response *r = (wsgi_response *)self;
    uint32_t why = r->stream ? gd_stream_cancelled(r->stream) : 1;
    return PyBool_FromLong(why != 0 && why != 2); /* 2: half-closed, it still reads */
}

static PyMethodDef disconnected_def = {"client_disconnected", client_disconnected, METH_NOARGS,
                                       "True once nobody reads the answer any more."};

PyObject *wsgi_start_response_of(wsgi_response *r) {
    return PyCFunction_New(&start_response_def, (PyObject *)r);
}

PyObject *wsgi_early_hints_of(wsgi_response *r) {
    return PyCFunction_New(&early_hints_def, (PyObject *)r);
}

PyObject *wsgi_disconnected_of(wsgi_response *r) {
    return PyCFunction_New(&disconnected_def, (PyObject *)r);
}

/* ---- the object -------------------------------------------------------------- */

wsgi_response *wsgi_response_new(void) {
    wsgi_response *r = PyObject_New(wsgi_response, wsgi_name.response);
    if (r != NULL)
        memset((char *)r + sizeof(PyObject), 0, sizeof *r - sizeof(PyObject));
    return r;
}

void wsgi_response_begin(wsgi_response *r, gd_link *l, gd_stream *s) {
    const gd_request *request = gd_stream_request(s);
    r->link = l;
    r->stream = s;
    r->started = r->committed = r->ended = r->owes_done = r->surplus = false;
    r->no_body = request->flags & GD_REQ_HEAD;
    r->version_10 = request->version == 10;
    r->failed = 0;
    r->sent = 0;
}

void wsgi_response_commit(wsgi_response *r) {
    gd_hook_end(&r->hook, (PyObject *)r);
}

void wsgi_response_end(wsgi_response *r) {
    wsgi_await_idle(&r->sending);
    r->stream = NULL;
    if (r->head.room > KEEP_HEAD) {
        int64_t length = r->head.length;
        wsgi_head_clear(&r->head);
        r->head.length = length;
    }
}

static void response_dealloc(PyObject *self) {
    wsgi_response *r = (wsgi_response *)self;
    PyTypeObject *type = Py_TYPE(self);
    wsgi_head_clear(&r->head);
    wsgi_head_clear(&r->hints);
    Py_CLEAR(r->hook.call);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot response_slots[] = {{Py_tp_dealloc, response_dealloc}, {0, NULL}};

static PyType_Spec response_spec = {"guado._core.WsgiResponse", sizeof(wsgi_response), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                                        Py_TPFLAGS_IMMUTABLETYPE,
                                    response_slots};

int wsgi_response_init(PyObject *module) {
    wsgi_name.response = (PyTypeObject *)PyType_FromModuleAndSpec(module, &response_spec, NULL);
    return wsgi_name.response ? 0 : -1;
}
