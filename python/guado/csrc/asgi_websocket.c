/* The two callables of a WebSocket. Before: message.c filed what the client sent. After:
 * the application; gd_message_send and its like. Not here: the scope (asgi_scope.c), the
 * body of a denial, which is an HTTP answer (asgi_send.c), waiting (asgi_wait.c).
 */
#include "asgi.h"

#include <string.h>

enum { CODE_NONE = 1005, CODE_LOST = 1006, CODE_RESTART = 1012 };

static PyObject *connect_message; /* {"type": "websocket.connect"} */

int gd_asgi_socket_init(void) {
    connect_message = Py_BuildValue("{O:O}", gd_names.type, gd_names.ws_connect);
    return connect_message == NULL ? -1 : 0;
}

/* ---- receive() ---------------------------------------------------------------- */

/* Steals `reason`, which may be NULL after an exception. */
static PyObject *disconnected(long code, PyObject *reason) {
    PyObject *number = reason != NULL ? PyLong_FromLong(code) : NULL;
    PyObject *m = number != NULL
                      ? Py_BuildValue("{O:O,O:O,O:O}", gd_names.type, gd_names.ws_disconnect,
                                      gd_names.code, number, gd_names.reason, reason)
                      : NULL;
    Py_XDECREF(number);
    Py_XDECREF(reason);
    return m;
}

/* The application hears of an end for ever, each time in a dict of its own. */
static int give_end(gd_asgi_exchange *x, PyObject **message) {
    if (x->disconnect == NULL) {
        uint32_t why = gd_asgi_gone(x);
        long code = x->close_code != 0 ? x->close_code : why == 4 ? CODE_RESTART : CODE_LOST;
        x->disconnect = disconnected(code, PyUnicode_FromStringAndSize("", 0));
    }
    *message = x->disconnect != NULL ? PyDict_Copy(x->disconnect) : NULL;
    return *message == NULL ? -1 : 1;
}

static PyObject *joined(const gd_message *m) {
    const char *whole = gd_message_whole(m);
    if (whole != NULL)
        return m->text ? PyUnicode_DecodeUTF8(whole, (Py_ssize_t)m->len, NULL)
                       : PyBytes_FromStringAndSize(whole, (Py_ssize_t)m->len);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m->len);
    if (bytes == NULL)
        return NULL;
    gd_message_copy(m, PyBytes_AsString(bytes));
    if (!m->text)
        return bytes;
    PyObject *text = PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), (Py_ssize_t)m->len, NULL);
    Py_DECREF(bytes);
    return text;
}

static PyObject *received(const gd_message *m) {
    PyObject *data = joined(m);
    PyObject *message = data != NULL
                            ? Py_BuildValue("{O:O,O:O}", gd_names.type, gd_names.ws_receive,
                                            m->text ? gd_names.text : gd_names.bytes, data)
                            : NULL;
    Py_XDECREF(data);
    return message;
}

int gd_asgi_socket_receive(gd_asgi_exchange *x, PyObject **message) {
    *message = NULL;
    if (!x->connected) {
        x->connected = 1;
        *message = PyDict_Copy(connect_message);
        return *message == NULL ? -1 : 1;
    }
    if (x->disconnect != NULL || x->stream == NULL || x->phase == GD_ASGI_COMPLETE)
        return give_end(x, message);
    gd_message m;
    int taken = gd_message_take(x->stream, &m);
    if (taken == GD_AGAIN)
        return 0;
    if (taken != GD_OK)
        return give_end(x, message);
    int result = 1;
    if (m.disconnect) {
        const char *reason = gd_message_whole(&m);
        x->disconnect =
            disconnected(m.code, PyUnicode_DecodeUTF8(reason, (Py_ssize_t)m.len, "replace"));
        result = x->disconnect != NULL ? give_end(x, message) : -1;
    } else {
        *message = received(&m);
        result = *message == NULL ? -1 : 1;
    }
    gd_message_free(&m);
    return result;
}

/* ---- send() -------------------------------------------------------------------- */

static PyObject *wrong(const char *got, const char *why) {
    PyErr_Format(PyExc_RuntimeError, "the application sent '%s' %s", got, why);
    return NULL;
}

/* What an ended socket answers to everything: an OSError, which is no error to log. */
static PyObject *closed(void) {
    PyErr_SetString(gd_client_disconnected, "the WebSocket is closed");
    return NULL;
}

/* A str or None as UTF-8; 0, or -1 with an exception. *at is NULL for None. */
static int utf8(PyObject *value, const char *what, const char **at, Py_ssize_t *n) {
    *at = NULL;
    *n = 0;
    if (value == NULL || value == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %R", what, Py_TYPE(value));
        return -1;
    }
    *at = PyUnicode_AsUTF8AndSize(value, n);
    return *at == NULL ? -1 : 0;
}

static int accept_fields(gd_asgi_held *held, PyObject *headers, PyObject *subprotocol) {
    const char *name;
    Py_ssize_t n;
    if (headers != NULL && headers != Py_None) {
        Py_INCREF(headers);
        int result = gd_asgi_held_fields(held, headers);
        Py_DECREF(headers);
        if (result < 0)
            return -1;
        for (size_t i = 0; i < held->nfields; i++) {
            const char *at = held->text + (uintptr_t)held->fields[i].name.at;
            if (held->fields[i].name.len == 22 && memcmp(at, "sec-websocket-protocol", 22) == 0) {
                PyErr_SetString(PyExc_ValueError, "the subprotocol belongs into 'subprotocol' of "
                                                  "'websocket.accept', not into its headers");
                return -1;
            }
        }
    }
    if (utf8(subprotocol, "subprotocol", &name, &n) < 0)
        return -1;
    return name != NULL ? gd_asgi_held_add(held, "sec-websocket-protocol", 22, name, (size_t)n) : 0;
}

static PyObject *send_accept(gd_asgi_exchange *x, PyObject *message) {
    static const char type[] = "websocket.accept";
    if (x->phase != GD_ASGI_IDLE)
        return wrong(type, x->phase == GD_ASGI_SOCKET ? "twice" : "after it began to deny");
    PyObject *headers = gd_asgi_item(message, gd_names.headers);
    PyObject *subprotocol = PyErr_Occurred() ? NULL : gd_asgi_item(message, gd_names.subprotocol);
    gd_asgi_held *held = PyErr_Occurred() ? NULL : gd_asgi_held_new();
    if (held == NULL)
        return NULL;
    if (accept_fields(held, headers, subprotocol) < 0) {
        gd_asgi_held_free(held);
        return NULL;
    }
    if (x->stream == NULL || x->phase != GD_ASGI_IDLE) { /* code of the headers' own */
        gd_asgi_held_free(held);
        return wrong(type, "twice");
    }
    gd_asgi_held_seal(held);
    gd_head head = {
        .status = 101, .length = -1, .nfields = (uint16_t)held->nfields, .fields = held->fields};
    gd_pending pending = {&head, NULL, 0, 0};
    int raised;
    ssize_t result = gd_asgi_commit(x, &pending, GD_HOOK_ACCEPT, &raised);
    gd_asgi_held_free(held);
    if (raised < 0)
        return NULL;
    if (result >= 0)
        x->phase = GD_ASGI_SOCKET;
    return gd_asgi_sent(x, result);
}

/* State leaves before the message that may tell of it. */
static int before_message(gd_asgi_exchange *x) {
    return x->hook.call != NULL ? gd_hook_call(&x->hook, GD_HOOK_MESSAGE) : 0;
}

static PyObject *send_bytes(gd_asgi_exchange *x, PyObject *value) {
    Py_buffer view;
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Format(PyExc_TypeError, "'bytes' of 'websocket.send' must be bytes, not %R",
                     Py_TYPE(value));
        return NULL;
    }
    PyObject *result = NULL;
    if (x->stream == NULL || x->phase != GD_ASGI_SOCKET)
        closed();
    else if (before_message(x) == 0)
        result = gd_asgi_sent(x, gd_message_send(x->stream, false, view.buf, (size_t)view.len));
    PyBuffer_Release(&view);
    return result;
}

static PyObject *send_message(gd_asgi_exchange *x, PyObject *message) {
    static const char type[] = "websocket.send";
    if (x->phase != GD_ASGI_SOCKET)
        return wrong(type, "before 'websocket.accept'");
    PyObject *bytes = gd_asgi_item(message, gd_names.bytes);
    PyObject *text = PyErr_Occurred() ? NULL : gd_asgi_item(message, gd_names.text);
    if (PyErr_Occurred())
        return NULL;
    bool has_bytes = bytes != NULL && bytes != Py_None, has_text = text != NULL && text != Py_None;
    if (has_bytes == has_text) {
        PyErr_SetString(PyExc_ValueError,
                        "'websocket.send' needs either 'bytes' or 'text', and not both");
        return NULL;
    }
    if (has_bytes)
        return send_bytes(x, bytes);
    const char *at;
    Py_ssize_t n;
    if (utf8(text, "'text' of 'websocket.send'", &at, &n) < 0)
        return NULL;
    if (before_message(x) < 0)
        return NULL;
    return gd_asgi_sent(x, gd_message_send(x->stream, true, at, (size_t)n));
}

/* Codes that a close frame may have (RFC 6455, 7.4). */
static int sendable(long code) {
    return code == CODE_NONE || (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* Closing before it accepted refuses the handshake with 403. */
static PyObject *refuse(gd_asgi_exchange *x) {
    gd_head head = {.status = 403, .length = 0};
    gd_pending pending = {&head, NULL, 0, GD_END | GD_BUSY};
    int raised;
    x->phase = GD_ASGI_COMPLETE;
    ssize_t result = gd_asgi_commit(x, &pending, GD_HOOK_HEAD, &raised);
    return raised < 0 ? NULL : gd_asgi_sent(x, result);
}

static PyObject *send_close(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase == GD_ASGI_IDLE) { /* nobody hears code and reason, which may be anything */
        PyObject *result = refuse(x);
        gd_asgi_wake(x, GD_WAIT_RECEIVE);
        return result;
    }
    PyObject *value = gd_asgi_item(message, gd_names.code);
    long code = 1000;
    if (value != NULL && value != Py_None) {
        code = PyLong_AsLong(value);
        if (code == -1 && PyErr_Occurred())
            return NULL;
    }
    PyObject *reason = PyErr_Occurred() ? NULL : gd_asgi_item(message, gd_names.reason);
    const char *at;
    Py_ssize_t n;
    if (utf8(reason, "'reason' of 'websocket.close'", &at, &n) < 0)
        return NULL;
    if (!sendable(code)) {
        PyErr_Format(PyExc_ValueError, "close code %ld cannot be sent", code);
        return NULL;
    }
    if (n > GD_MAX_CLOSE_REASON) {
        PyErr_Format(PyExc_ValueError,
                     "the reason of 'websocket.close' has %zd bytes, at most %d fit", n,
                     GD_MAX_CLOSE_REASON);
        return NULL;
    }
    if (x->phase != GD_ASGI_SOCKET)
        return wrong("websocket.close", "after it began to deny");
    x->close_code = (uint16_t)code;
    x->phase = GD_ASGI_COMPLETE;
    ssize_t sent = gd_message_close(x->stream, (uint16_t)code, at, (size_t)n, GD_BUSY);
    gd_asgi_wake(x, GD_WAIT_RECEIVE);
    return sent < 0 ? closed() : gd_asgi_done();
}

static PyObject *deny_start(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase == GD_ASGI_SOCKET)
        return wrong("websocket.http.response.start", "after 'websocket.accept'");
    return gd_asgi_start(x, message);
}

static PyObject *deny_body(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase == GD_ASGI_SOCKET)
        return wrong("websocket.http.response.body", "after 'websocket.accept'");
    return gd_asgi_body(x, message);
}

static const struct {
    const char *type;
    PyObject *(*handle)(gd_asgi_exchange *, PyObject *);
} messages[] = {
    {"websocket.send", send_message},
    {"websocket.accept", send_accept},
    {"websocket.close", send_close},
    {"websocket.http.response.start", deny_start},
    {"websocket.http.response.body", deny_body},
};

PyObject *gd_asgi_socket_send(gd_asgi_exchange *x, PyObject *message, const char *type,
                              Py_ssize_t n) {
    if (x->phase == GD_ASGI_COMPLETE || x->stream == NULL)
        return closed();
    uint32_t gone = gd_asgi_gone(x);
    if (gone != 0)
        return gd_asgi_raise_gone(gone);
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        if (strlen(messages[i].type) == (size_t)n && memcmp(messages[i].type, type, n) == 0)
            return messages[i].handle(x, message);
    }
    PyErr_Format(PyExc_RuntimeError, "the application sent '%s', which a WebSocket does not know",
                 type);
    return NULL;
}

int gd_asgi_socket_returned(gd_asgi_exchange *x) {
    return gd_message_close(x->stream, 1000, "", 0, 0) >= 0;
}
