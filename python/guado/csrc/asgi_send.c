/* send(): the messages of the application become frames, in order.
 * Before: the application. After: link.c queues and sends without waiting. Not here:
 * files (asgi_file.c), checking header fields (asgi_head.c), the wait for a slow client
 * (asgi_wait.c).
 *
 * http.response.start is held until the first body message, so an answer in one piece is
 * one frame, and an error in between can still become a 500.
 */
#include "asgi.h"

#include <string.h>

/* send() returns at once while no more than this is queued behind credit and ring. */
enum { HIGH_WATER = 64 * 1024 };

PyObject *gd_asgi_item(PyObject *message, PyObject *key) {
    return PyDict_GetItemWithError(message, key);
}

int gd_asgi_flag(PyObject *message, PyObject *key, int missing) {
    PyObject *value = PyDict_GetItemWithError(message, key);
    if (value == Py_True)
        return 1;
    if (value == Py_False)
        return 0;
    if (value == NULL)
        return PyErr_Occurred() ? -1 : missing;
    return PyObject_IsTrue(value);
}

PyObject *gd_asgi_raise_gone(uint32_t why) {
    if (why == GD_ASGI_INTERRUPTED) {
        PyErr_SetNone(gd_request_timeout);
        return NULL;
    }
    const char *text = why == 0   ? "the exchange has ended"
                       : why == 3 ? "the request's deadline has passed"
                       : why == 4 ? "the server is stopping"
                                  : "the client has disconnected";
    PyErr_SetString(gd_client_disconnected, text);
    return NULL;
}

static PyObject *wrong_order(const char *got, const char *expected) {
    PyErr_Format(PyExc_RuntimeError, "the application sent '%s' where '%s' was expected", got,
                 expected);
    return NULL;
}

static PyObject *missing(const char *type, const char *key) {
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "message '%s' has no '%s'", type, key);
    return NULL;
}

PyObject *gd_asgi_sent(gd_asgi_exchange *x, ssize_t result) {
    if (result < 0) {
        if (x->phase == GD_ASGI_COMPLETE)
            x->phase = GD_ASGI_BODY; /* its END did not leave */
        if (result == GD_GONE || result == GD_CLOSED)
            return gd_asgi_raise_gone(gd_asgi_gone(x));
        return gd_raise((int)result);
    }
    if (result <= HIGH_WATER)
        return gd_asgi_done();
    x->unsent = 1;
    return gd_asgi_wait(x, GD_WAIT_SEND);
}

int gd_asgi_send_poll(gd_asgi_exchange *x) {
    if (x->stream == NULL)
        return 1;
    uint32_t why = gd_asgi_gone(x);
    if (why == 0)
        return !x->unsent;
    if (x->phase == GD_ASGI_COMPLETE)
        return 1;
    gd_asgi_raise_gone(why);
    return -1;
}

int gd_asgi_count(gd_asgi_exchange *x, uint64_t n, int more) {
    if (x->bodiless)
        return 0;
    if (x->length >= 0 && n > (uint64_t)(x->length - x->sent)) {
        PyErr_Format(PyExc_RuntimeError, "response body is longer than its content-length %lld",
                     (long long)x->length);
        return -1;
    }
    if (!more && x->length >= 0 && (int64_t)n < x->length - x->sent) {
        PyErr_Format(PyExc_RuntimeError,
                     "response body has %lld bytes, fewer than its content-length %lld",
                     (long long)(x->sent + (int64_t)n), (long long)x->length);
        return -1;
    }
    x->sent += (int64_t)n;
    return 0;
}

int gd_asgi_end_of_body(gd_asgi_exchange *x) {
    if (x->trailers) {
        x->phase = GD_ASGI_TRAILERS;
        return 0;
    }
    x->phase = GD_ASGI_COMPLETE;
    return GD_END | GD_BUSY; /* DONE follows when the coroutine returns */
}

ssize_t gd_asgi_commit(gd_asgi_exchange *x, const gd_pending *p, int what, int *raised) {
    ssize_t result;
    int rc = 0;
    *raised = 0;
    if (x->hook.call != NULL)
        rc = gd_hook_commit(&x->hook, x->stream, p, what, &result);
    if (rc > 0)
        return result;
    if (rc < 0) {
        *raised = -1;
        return 0;
    }
    return gd_commit(x->stream, p->head, p->body, p->n, p->flags, 0);
}

static ssize_t commit(gd_asgi_exchange *x, const void *data, size_t n, int flags, int whole,
                      size_t body, int *raised) {
    gd_asgi_held *held = x->held;
    x->held = NULL;
    gd_asgi_held_seal(held);
    gd_head head = {
        .status = held->status,
        .length = held->length,
        .nfields = (uint16_t)held->nfields,
        .fields = held->fields,
    };
    /* A complete body tells its length, unless the client could take it for the length
     * of another one: HEAD and 304 speak of the body that a GET would have had. */
    if (head.length < 0 && whole && (!x->bodiless || body > 0) && held->status != 204)
        head.length = (int64_t)body;
    gd_pending pending = {&head, data, n, flags};
    ssize_t result = gd_asgi_commit(x, &pending, GD_HOOK_HEAD, raised);
    gd_asgi_held_free(held);
    return result;
}

PyObject *gd_asgi_put(gd_asgi_exchange *x, const void *data, size_t n, int more) {
    /* Code of the message's own objects (a buffer, a truth value) may have sent as well. */
    if (x->stream == NULL || (x->phase != GD_ASGI_HELD && x->phase != GD_ASGI_BODY))
        return wrong_order("http.response.body", "nothing more");
    if (gd_asgi_count(x, n, more) < 0)
        return NULL;
    int held = x->phase == GD_ASGI_HELD;
    size_t sends = x->bodiless ? 0 : n;
    int flags = 0;
    if (!more)
        flags = gd_asgi_end_of_body(x);
    else
        x->phase = GD_ASGI_BODY;
    ssize_t result = 0;
    int raised = 0;
    if (held)
        result = commit(x, data, sends, flags, !more, n, &raised);
    else if (sends > 0 || flags != 0)
        result = gd_body(x->stream, data, sends, flags, 0);
    if (raised < 0) {
        if (!x->hook.sealed)
            x->phase = GD_ASGI_IDLE; /* nothing has left */
        return NULL;
    }
    if (x->phase == GD_ASGI_COMPLETE && x->waiters != NULL)
        gd_asgi_wake(x, GD_WAIT_RECEIVE);
    if (x->bodiless && more && result >= 0)
        return gd_asgi_wait(x, GD_WAIT_TURN); /* an endless body to HEAD would never yield */
    return gd_asgi_sent(x, result);
}

PyObject *gd_asgi_start(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase != GD_ASGI_IDLE)
        return wrong_order("http.response.start", x->phase == GD_ASGI_TRAILERS
                                                      ? "http.response.trailers"
                                                      : "http.response.body");
    PyObject *status = gd_asgi_item(message, gd_names.status);
    if (status == NULL)
        return missing("http.response.start", "status");
    if (!PyLong_Check(status)) {
        PyErr_Format(PyExc_TypeError, "status must be an int, not %R", Py_TYPE(status));
        return NULL;
    }
    long code = PyLong_AsLong(status);
    if (code < 200 || code > 999) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "status %ld is not between 200 and 999", code);
        return NULL;
    }
    int trailers = gd_asgi_flag(message, gd_names.trailers, 0);
    PyObject *headers = gd_asgi_item(message, gd_names.headers);
    if (trailers < 0 || (headers == NULL && PyErr_Occurred()))
        return NULL;
    gd_asgi_held *held = gd_asgi_held_new();
    if (held == NULL)
        return NULL;
    if (headers != NULL) {
        Py_INCREF(headers);
        int result = gd_asgi_held_fields(held, headers);
        Py_DECREF(headers);
        if (result < 0) {
            gd_asgi_held_free(held);
            return NULL;
        }
    }
    if (x->stream == NULL || x->phase != GD_ASGI_IDLE) { /* code of the headers' own ended it */
        gd_asgi_held_free(held);
        return wrong_order("http.response.start", "http.response.body");
    }
    uint16_t flags = gd_stream_request(x->stream)->flags;
    held->status = (uint16_t)code;
    x->bodiless = (flags & GD_REQ_HEAD) != 0 || code == 204 || code == 304;
    if (code == 204)
        held->length = -1;
    x->trailers = trailers && (flags & GD_REQ_TRAILERS) != 0;
    x->length = held->length;
    x->held = held;
    x->phase = GD_ASGI_HELD;
    return gd_asgi_done();
}

PyObject *gd_asgi_body(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase == GD_ASGI_IDLE)
        return wrong_order("http.response.body", "http.response.start");
    if (x->phase == GD_ASGI_TRAILERS)
        return wrong_order("http.response.body", "http.response.trailers");
    PyObject *value = gd_asgi_item(message, gd_names.body);
    int more = gd_asgi_flag(message, gd_names.more_body, 0);
    if (more < 0 || (value == NULL && PyErr_Occurred()))
        return NULL;
    if (value == NULL)
        return gd_asgi_put(x, "", 0, more);
    if (PyBytes_Check(value)) {
        char *data;
        Py_ssize_t n;
        if (PyBytes_AsStringAndSize(value, &data, &n) < 0)
            return NULL;
        return gd_asgi_put(x, data, (size_t)n, more);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Format(PyExc_TypeError, "the body of a response must be bytes, not %R",
                     Py_TYPE(value));
        return NULL;
    }
    PyObject *result = gd_asgi_put(x, view.buf, (size_t)view.len, more);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *send_trailers(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase != GD_ASGI_TRAILERS) {
        if (x->phase == GD_ASGI_IDLE)
            return wrong_order("http.response.trailers", "http.response.start");
        return wrong_order("http.response.trailers", "http.response.body");
    }
    PyObject *headers = gd_asgi_item(message, gd_names.headers);
    int more = gd_asgi_flag(message, gd_names.more_trailers, 0);
    if (more < 0 || (headers == NULL && PyErr_Occurred()))
        return NULL;
    gd_asgi_held *held = x->held;
    x->held = NULL;
    if (held == NULL && (held = gd_asgi_held_new()) == NULL)
        return NULL;
    if (headers != NULL) {
        Py_INCREF(headers);
        int result = gd_asgi_held_fields(held, headers);
        Py_DECREF(headers);
        if (result < 0 || x->stream == NULL || x->held != NULL || x->phase != GD_ASGI_TRAILERS) {
            gd_asgi_held_free(held);
            return result < 0 ? NULL : wrong_order("http.response.trailers", "nothing more");
        }
    }
    if (more) {
        x->held = held;
        return gd_asgi_done();
    }
    gd_asgi_held_seal(held);
    x->phase = GD_ASGI_COMPLETE;
    ssize_t result =
        gd_trailers(x->stream, held->fields, (uint16_t)held->nfields, GD_END | GD_BUSY, 0);
    gd_asgi_held_free(held);
    gd_asgi_wake(x, GD_WAIT_RECEIVE);
    return gd_asgi_sent(x, result);
}

/* A 103 can only go out before the head: it is meant to follow http.response.start,
 * which is held for this reason too. Later ones come too late and are dropped. */
static PyObject *early_hint(gd_asgi_exchange *x, PyObject *message) {
    PyObject *links = gd_asgi_item(message, gd_names.links);
    if (links == NULL)
        return missing("http.response.early_hint", "links");
    gd_asgi_held *held = gd_asgi_held_new();
    PyObject *iterator = held != NULL ? PyObject_GetIter(links) : NULL, *link = NULL;
    int failed = iterator == NULL;
    while (!failed && (link = PyIter_Next(iterator)) != NULL) {
        char *value;
        Py_ssize_t n;
        failed = PyBytes_AsStringAndSize(link, &value, &n) < 0 ||
                 gd_asgi_held_add(held, "link", 4, value, (size_t)n) < 0;
        Py_DECREF(link);
    }
    Py_XDECREF(iterator);
    ssize_t result = 0;
    if (!failed && !PyErr_Occurred() && x->stream != NULL && x->phase <= GD_ASGI_HELD &&
        held->nfields > 0 && gd_stream_request(x->stream)->version != 10) {
        gd_asgi_held_seal(held);
        gd_head head = {.status = 103,
                        .length = -1,
                        .nfields = (uint16_t)held->nfields,
                        .fields = held->fields};
        result = gd_informational(x->stream, &head, 0);
    }
    gd_asgi_held_free(held);
    return PyErr_Occurred() ? NULL : gd_asgi_sent(x, result);
}

static const struct {
    const char *type;
    PyObject *(*handle)(gd_asgi_exchange *, PyObject *);
} messages[] = {
    {"http.response.body", gd_asgi_body},
    {"http.response.start", gd_asgi_start},
    {"http.response.pathsend", gd_asgi_pathsend},
    {"http.response.zerocopysend", gd_asgi_zerocopysend},
    {"http.response.trailers", send_trailers},
    {"http.response.early_hint", early_hint},
};

PyObject *gd_asgi_send(PyObject *exchange, PyObject *message) {
    gd_asgi_exchange *x = (gd_asgi_exchange *)exchange;
    if (!PyDict_Check(message)) {
        PyErr_Format(PyExc_TypeError, "send() takes a dict, not %R", Py_TYPE(message));
        return NULL;
    }
    PyObject *type = gd_asgi_item(message, gd_names.type);
    if (type == NULL)
        return missing("?", "type");
    Py_ssize_t n = 0;
    const char *text = PyUnicode_Check(type) ? PyUnicode_AsUTF8AndSize(type, &n) : NULL;
    if (text == NULL) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "the type of a message must be a str, not %R",
                         Py_TYPE(type));
        return NULL;
    }
    if (x->socket)
        return gd_asgi_socket_send(x, message, text, n);
    if (x->phase == GD_ASGI_COMPLETE)
        return gd_asgi_done();
    uint32_t gone = gd_asgi_gone(x);
    if (gone != 0 || x->stream == NULL)
        return gd_asgi_raise_gone(gone);
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        if (strlen(messages[i].type) == (size_t)n && memcmp(messages[i].type, text, n) == 0)
            return messages[i].handle(x, message);
    }
    PyErr_Format(PyExc_RuntimeError, "the application sent '%U', which this server does not know",
                 type);
    return NULL;
}
