/* receive(): the request body in chunks, then silence, then http.disconnect for ever.
 * Before: link.c filed body bytes and CANCEL. After: the application. Not here: waiting
 * (asgi_wait.c), credit (gd_read_now returns it).
 */
#include "asgi.h"

/* The largest body chunk of one message. Credit is smaller; a spooled body may be larger. */
enum { MAX_CHUNK = 256 * 1024 };

static PyObject *last_empty; /* {"type": "http.request", "body": b"", "more_body": False} */
static PyObject *disconnect; /* {"type": "http.disconnect"} */

int gd_asgi_receive_init(void) {
    last_empty = Py_BuildValue("{O:O,O:y#,O:O}", gd_names.type, gd_names.http_request,
                               gd_names.body, "", (Py_ssize_t)0, gd_names.more_body, Py_False);
    disconnect = Py_BuildValue("{O:O}", gd_names.type, gd_names.http_disconnect);
    return last_empty == NULL || disconnect == NULL ? -1 : 0;
}

/* Steals `body`. */
static int body_message(PyObject *body, int more, PyObject **message) {
    PyObject *m = body != NULL ? PyDict_Copy(last_empty) : NULL;
    if (m == NULL || PyDict_SetItem(m, gd_names.body, body) < 0 ||
        (more && PyDict_SetItem(m, gd_names.more_body, Py_True) < 0))
        Py_CLEAR(m);
    Py_XDECREF(body);
    *message = m;
    return m == NULL ? -1 : 1;
}

/* Nothing more will come: is what came the whole body? */
static void note_end(gd_asgi_exchange *x) {
    char one;
    ssize_t n = gd_read_now(x->stream, &one, 1);
    if (n == 0)
        x->body_ended = 1;
    else if (n < 0 && n != GD_AGAIN)
        x->body_cut = 1;
}

static int read_ready(gd_asgi_exchange *x, size_t ready, PyObject **message) {
    PyObject *body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)ready);
    if (body == NULL)
        return -1;
    ssize_t n = gd_read_now(x->stream, PyBytes_AsString(body), ready);
    if (n != (ssize_t)ready) { /* cut or cancelled in between */
        Py_DECREF(body);
        x->body_cut = 1;
        return 0;
    }
    int ended = 0;
    if (gd_readable(x->stream, &ended) == 0 && ended)
        note_end(x);
    return body_message(body, !x->body_ended, message);
}

/* The first read of a body that the client holds back until 100 Continue. */
static int read_first(gd_asgi_exchange *x, PyObject **message) {
    char some[4096];
    ssize_t n = gd_read_now(x->stream, some, sizeof some);
    if (n == GD_AGAIN)
        return 0;
    if (n <= 0) {
        x->body_ended = n == 0;
        x->body_cut = n < 0;
        return n < 0 ? 0 : body_message(PyBytes_FromStringAndSize(NULL, 0), 0, message);
    }
    int ended = 0;
    if (gd_readable(x->stream, &ended) == 0 && ended)
        note_end(x);
    return body_message(PyBytes_FromStringAndSize(some, n), !x->body_ended, message);
}

int gd_asgi_receive_poll(gd_asgi_exchange *x, PyObject **message) {
    if (x->socket)
        return gd_asgi_socket_receive(x, message);
    *message = NULL;
    if (x->stream != NULL && x->phase != GD_ASGI_COMPLETE && !gd_asgi_gone(x)) {
        if (!x->body_ended && !x->body_cut) {
            if (gd_stream_request(x->stream)->length == 0) {
                x->body_ended = 1;
                *message = PyDict_Copy(last_empty);
                return *message == NULL ? -1 : 1;
            }
            int ended = 0;
            size_t ready = gd_readable(x->stream, &ended);
            int result = ready > 0 ? read_ready(x, ready < MAX_CHUNK ? ready : MAX_CHUNK, message)
                                   : read_first(x, message);
            if (result != 0)
                return result;
        }
        if (!x->body_cut && !gd_asgi_gone(x) &&
            !(x->body_ended && gd_stream_cancelled(x->stream) != 0))
            return 0;
    }
    *message = PyDict_Copy(disconnect);
    return *message == NULL ? -1 : 1;
}

PyObject *gd_asgi_receive(PyObject *exchange, PyObject *Py_UNUSED(unused)) {
    return gd_asgi_wait((gd_asgi_exchange *)exchange, GD_WAIT_RECEIVE);
}
