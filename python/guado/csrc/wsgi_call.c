/* One request from the call of the application to its close(). Before: a pool thread
 * took it from the link (wsgi.c). After: END, DONE or ABORT has left and the thread is
 * free. Not here: how bytes are sent (wsgi_response.c).
 */
#include "wsgi.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A list's chunks up to this size together, and a file up to this size, go as one
 * frame: copying costs less than frames, or than passing a descriptor. */
enum { JOIN = WSGI_KEEP_GIL, SMALL_FILE = 65536 };

/* The request of this thread, for `serve`, which the context calls without arguments. */
typedef struct {
    wsgi_thread *thread;
    gd_stream *stream;
    bool failed;         /* an exception ended it (and was logged) */
    bool gone;           /* the exception was the client's leaving */
    char complaint[256]; /* what the host logs of an answer that was not ended */
} call;

static __thread call *current;

static PyObject *serve_function;

/* ---- what goes wrong ----------------------------------------------------------- */

static int complain(call *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t n = (size_t)vsnprintf(c->complaint, sizeof c->complaint, format, arguments);
    va_end(arguments);
    if (n >= sizeof c->complaint) { /* cut, not inside a character */
        n = sizeof c->complaint - 1;
        while (n > 0 && (c->complaint[n - 1] & 0xc0) == 0x80)
            n--;
        if (n > 0 && (c->complaint[n - 1] & 0x80))
            n--;
        c->complaint[n] = 0;
    }
    return -1;
}

/* The exception's type as users know it, for complaints. */
static void type_name(PyObject *o, char *to, size_t room) {
    PyObject *name = PyType_GetName(Py_TYPE(o));
    Py_ssize_t n;
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, &n) : NULL;
    snprintf(to, room, "%s", text ? text : "object");
    Py_XDECREF(name);
    PyErr_Clear();
}

static void log_plain(call *c, int level, const char *text, size_t n) {
    wsgi_log(c->thread->pool->link, c->stream, level, text, n);
}

/* Takes the exception that is set, as one object with its traceback. */
static PyObject *take_exception(void) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace != NULL && value != NULL)
        PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

/* The client's leaving, the deadline, or an exception that the application made of it. */
static bool follows(PyObject *exception, PyObject *const *kinds, size_t n) {
    PyObject *e = exception;
    bool found = false;
    Py_INCREF(e);
    for (int depth = 0; e != NULL && depth < 32; depth++) {
        for (size_t i = 0; i < n && !found; i++)
            found = PyErr_GivenExceptionMatches(e, kinds[i]);
        if (found)
            break;
        PyObject *before = PyException_GetCause(e);
        if (before == NULL)
            before = PyException_GetContext(e);
        Py_DECREF(e);
        e = before;
    }
    Py_XDECREF(e);
    return found;
}

static PyObject *utf8(PyObject *text) {
    return PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
}

/* What there is to say of the exception: one line, and the traceback. Without memory
 * for that, at least its type. */
static bool describe(call *c, PyObject *exception, PyObject **line, PyObject **text) {
    PyObject *pair = PyObject_CallFunctionObjArgs(c->thread->pool->describe, exception, NULL);
    *line = *text = NULL;
    if (pair != NULL && PyTuple_Check(pair) && PyTuple_Size(pair) == 2) {
        *line = utf8(PyTuple_GetItem(pair, 0));
        *text = utf8(PyTuple_GetItem(pair, 1));
    }
    Py_XDECREF(pair);
    if (*line != NULL && *text != NULL)
        return true;
    PyErr_Clear();
    Py_XDECREF(*line);
    Py_XDECREF(*text);
    *line = *text = NULL;
    return false;
}

/* At which level an exception is told: where a request was when its deadline passed is
 * worth knowing; that a client has left is not. */
static int level_of(PyObject *exception) {
    PyObject *const left[] = {wsgi_name.client_disconnected, wsgi_name.body_cut};
    if (follows(exception, &gd_request_timeout, 1))
        return 2;
    return follows(exception, left, 2) ? 0 : 3;
}

/* Logs the exception that is set, with its traceback. `ends`: it ends the exchange, and
 * what the host says of that names it. Nothing in here is the application's any more. */
static void log_exception(call *c, bool ends) {
    wsgi_leave(c->thread);
    PyObject *exception = take_exception(), *line, *text;
    if (exception == NULL)
        return;
    int level = level_of(exception);
    bool gone = level < 3;
    char name[64];
    if (describe(c, exception, &line, &text)) {
        char *p;
        Py_ssize_t n;
        if (PyBytes_AsStringAndSize(text, &p, &n) == 0)
            log_plain(c, level, p, (size_t)n);
        if (ends && !gone)
            complain(c, "%s", PyBytes_AsString(line));
        Py_DECREF(line);
        Py_DECREF(text);
    } else {
        type_name(exception, name, sizeof name);
        log_plain(c, 3, name, strlen(name));
    }
    if (ends) {
        c->failed = true;
        c->gone = gone;
    }
    Py_DECREF(exception);
}

static void fail(call *c) {
    log_exception(c, true);
}

/* ---- what the application returned ---------------------------------------------- */

static int unstarted(call *c) {
    return complain(c, "the application did not call start_response() before its first bytes");
}

/* The last chunk without BUSY lets the host use the slot again: nobody may read the
 * body any more then. */
static int last(wsgi_thread *t) {
    if (wsgi_input_busy(t->input))
        return WSGI_LAST | WSGI_BUSY;
    wsgi_input_end(t->input);
    return WSGI_LAST;
}

static int send_joined(wsgi_thread *t, PyObject *parts, Py_ssize_t n, Py_ssize_t total) {
    PyObject *whole = PyBytes_FromStringAndSize(NULL, total);
    if (whole == NULL)
        return -1;
    char *start = PyBytes_AsString(whole), *at = start;
    for (Py_ssize_t i = 0; i < n; i++) {
        char *part;
        Py_ssize_t len;
        PyBytes_AsStringAndSize(PyTuple_GetItem(parts, i), &part, &len);
        memcpy(at, part, (size_t)len);
        at += len;
    }
    int result = wsgi_send(t->response, start, (size_t)total, last(t));
    Py_DECREF(whole);
    return result;
}

static int send_each(wsgi_thread *t, PyObject *parts, Py_ssize_t n) {
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < n; i++) {
        char *part;
        Py_ssize_t len;
        PyBytes_AsStringAndSize(PyTuple_GetItem(parts, i), &part, &len);
        if (len > 0)
            result = wsgi_send(t->response, part, (size_t)len, WSGI_BUSY);
    }
    return result == 0 ? wsgi_send(t->response, NULL, 0, last(t)) : -1;
}

/* 1: not all of the parts are bytes; nothing was sent. */
static int send_parts(call *c, PyObject *parts) {
    wsgi_thread *t = c->thread;
    Py_ssize_t n = PyTuple_Size(parts), total = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *part = PyTuple_GetItem(parts, i);
        if (!PyBytes_Check(part))
            return 1;
        total += PyBytes_Size(part);
    }
    if (!t->response->started)
        return unstarted(c);
    if (!t->response->committed)
        wsgi_body_is(t->response, total);
    return total <= JOIN ? send_joined(t, parts, n, total) : send_each(t, parts, n);
}

static int respond_iterable(call *c, PyObject *result);

static int respond_list(call *c, PyObject *result) {
    wsgi_thread *t = c->thread;
    wsgi_response *r = t->response;
    bool list = PyList_CheckExact(result);
    if ((list ? PyList_Size(result) : PyTuple_Size(result)) == 1 && r->started) {
        PyObject *only = list ? PyList_GetItem(result, 0) : PyTuple_GetItem(result, 0);
        char *p;
        Py_ssize_t n;
        if (PyBytes_Check(only) && PyBytes_AsStringAndSize(only, &p, &n) == 0) {
            if (!r->committed)
                wsgi_body_is(r, n);
            Py_INCREF(only);
            int sent = wsgi_send(r, p, (size_t)n, last(t));
            Py_DECREF(only);
            return sent;
        }
    }
    PyObject *parts = list ? PyList_AsTuple(result) : (Py_INCREF(result), result);
    if (parts == NULL)
        return -1;
    int sent = send_parts(c, parts);
    Py_DECREF(parts);
    return sent > 0 ? respond_iterable(c, result) : sent;
}

/* One chunk is all there is: its length is the body's (PEP 3333). */
static bool has_one_chunk(PyObject *result) {
    PyTypeObject *type = Py_TYPE(result);
    if (PyType_GetSlot(type, Py_sq_length) == NULL && PyType_GetSlot(type, Py_mp_length) == NULL)
        return false;
    Py_ssize_t n = PyObject_Size(result);
    if (n < 0)
        PyErr_Clear();
    return n == 1;
}

static int send_chunk(call *c, PyObject *result, const char *p, Py_ssize_t n) {
    wsgi_response *r = c->thread->response;
    if (n == 0)
        return 0; /* the head waits for bytes */
    if (!r->started)
        return unstarted(c);
    if (!r->committed && r->head.length < 0 && has_one_chunk(result))
        wsgi_body_is(r, n);
    return wsgi_send(r, p, (size_t)n, WSGI_BUSY);
}

static int respond_chunk(call *c, PyObject *result, PyObject *chunk) {
    if (PyBytes_Check(chunk)) {
        char *p;
        Py_ssize_t n;
        PyBytes_AsStringAndSize(chunk, &p, &n);
        return send_chunk(c, result, p, n);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        char name[64];
        type_name(chunk, name, sizeof name);
        return complain(c, "the application's iterable gave %s, not bytes", name);
    }
    int sent = send_chunk(c, result, view.buf, view.len);
    PyBuffer_Release(&view);
    return sent;
}

static int respond_iterable(call *c, PyObject *result) {
    wsgi_response *r = c->thread->response;
    PyObject *it = PyObject_GetIter(result), *chunk;
    if (it == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            return -1;
        PyErr_Clear();
        char name[64];
        type_name(result, name, sizeof name);
        return complain(c, "the application returned %s, not an iterable of bytes", name);
    }
    int sent = 0;
    bool enough = false; /* HEAD, 204 and 304 need no more than the head */
    while (sent == 0 && !enough && (chunk = PyIter_Next(it)) != NULL) {
        sent = respond_chunk(c, result, chunk);
        Py_DECREF(chunk);
        enough = r->ended && r->no_body;
    }
    Py_DECREF(it);
    if (sent < 0 || PyErr_Occurred())
        return -1;
    if (!r->started)
        return unstarted(c);
    if (!r->committed)
        wsgi_body_is(r, 0);
    return wsgi_send(r, NULL, 0, WSGI_LAST | WSGI_BUSY);
}

static int respond_small_file(call *c, int fd, uint64_t offset, size_t count) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count);
    if (bytes == NULL)
        return -1;
    char *to = PyBytes_AsString(bytes);
    size_t have = 0;
    ssize_t got = 1;
    WSGI_NOGIL(while (have < count && got > 0) {
        got = pread(fd, to + have, count - have, (off_t)(offset + have));
        have += got > 0 ? (size_t)got : 0;
    });
    int sent;
    if (got < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        sent = -1;
    } else {
        if (!c->thread->response->committed)
            wsgi_body_is(c->thread->response, (int64_t)have);
        sent = wsgi_send(c->thread->response, to, have, WSGI_LAST | WSGI_BUSY);
    }
    Py_DECREF(bytes);
    return sent;
}

static int respond_file(call *c, int fd, uint64_t offset, uint64_t count) {
    wsgi_response *r = c->thread->response;
    if (!r->started)
        return unstarted(c);
    if (r->head.length >= 0 && (uint64_t)(r->head.length - r->sent) < count)
        count = (uint64_t)(r->head.length - r->sent);
    if (count <= SMALL_FILE)
        return respond_small_file(c, fd, offset, (size_t)count);
    if (!r->committed)
        wsgi_body_is(r, (int64_t)count);
    return wsgi_send_file(r, fd, offset, count);
}

static int respond(call *c, PyObject *result) {
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result))
        return respond_list(c, result);
    int fd;
    uint64_t offset, count;
    if (wsgi_file_regular(result, &fd, &offset, &count))
        return respond_file(c, fd, offset, count);
    if (PyUnicode_Check(result) || PyBytes_Check(result)) {
        char name[64];
        type_name(result, name, sizeof name);
        return complain(c, "the application returned %s, not an iterable of bytes", name);
    }
    return respond_iterable(c, result);
}

/* Whatever happened: PEP 3333 promises it. */
static void close_result(call *c, PyObject *result) {
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result))
        return;
    wsgi_enter(c->thread);
    PyObject *close = PyObject_GetAttr(result, wsgi_name.close);
    if (close == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Clear();
        else
            log_exception(c, false);
        return;
    }
    PyObject *closed = PyObject_CallNoArgs(close);
    if (closed == NULL)
        log_exception(c, false);
    Py_XDECREF(closed);
    Py_DECREF(close);
}

/* ---- the call -------------------------------------------------------------------- */

static void serve_turn(call *c, PyObject *app, const gd_turn *turn) {
    wsgi_thread *t = c->thread;
    PyObject *args = app ? gd_turn_args(turn, t->start_response) : NULL;
    wsgi_enter(t);
    PyObject *result = args ? PyObject_CallObject(app, args) : NULL;
    gd_turn_answer answer;
    if (result == NULL || gd_turn_answered(result, &answer) < 0) {
        fail(c);
    } else {
        if (answer.failure != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(answer.failure), answer.failure);
            log_exception(c, false);
        }
        if (wsgi_send_whole(t->response, answer.status, answer.data, answer.len) < 0)
            fail(c);
    }
    Py_XDECREF(result);
    Py_XDECREF(args);
    wsgi_leave(t);
}

static PyObject *serve(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none)) {
    call *c = current;
    wsgi_thread *t = c->thread;
    const gd_request *request = gd_stream_request(c->stream);
    PyObject *app = PyTuple_GetItem(t->pool->apps, request->app);
    if (request->turn.do_) {
        serve_turn(c, app, &request->turn);
        Py_INCREF(Py_None);
        return Py_None;
    }
    PyObject *environ = app ? wsgi_environ_make(&t->environ, request) : NULL;
    wsgi_enter(t);
    PyObject *result =
        environ ? PyObject_CallFunctionObjArgs(app, environ, t->start_response, NULL) : NULL;
    if (result != NULL) {
        if (respond(c, result) < 0 && PyErr_Occurred())
            fail(c);
        close_result(c, result);
        Py_DECREF(result);
    } else {
        fail(c);
    }
    Py_XDECREF(environ);
    wsgi_leave(t);
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef serve_def = {"serve", serve, METH_NOARGS, NULL};

int wsgi_call_init(void) {
    serve_function = PyCFunction_New(&serve_def, NULL);
    return serve_function ? 0 : -1;
}

/* In a context of its own: what the application sets there ends with the request. */
static void run_in_context(call *c) {
    PyObject *own = PyObject_CallMethodObjArgs(c->thread->pool->context, wsgi_name.copy, NULL);
    PyObject *result =
        own ? PyObject_CallMethodObjArgs(own, wsgi_name.run, serve_function, NULL) : NULL;
    if (result == NULL)
        fail(c);
    Py_XDECREF(result);
    Py_XDECREF(own);
}

static void end_answer(call *c) {
    wsgi_response *r = c->thread->response;
    if (r->ended) {
        if (c->complaint[0] && !c->failed)
            log_plain(c, 3, c->complaint, strlen(c->complaint));
        if (r->owes_done)
            gd_done(c->stream);
        return;
    }
    uint32_t reason = c->failed ? (c->gone ? 3 : 1) : 2;
    if (reason == 2 && !c->complaint[0])
        complain(c, "the application sent %lld bytes of the %lld that its Content-Length declares",
                 (long long)r->sent, (long long)r->head.length);
    gd_abort(c->stream, reason, c->complaint, strlen(c->complaint));
}

void wsgi_call(wsgi_thread *t, gd_stream *s) {
    call c = {.thread = t, .stream = s};
    current = &c;
    t->stream = s;
    t->told = false;
    wsgi_response_begin(t->response, t->pool->link, s);
    wsgi_input_begin(t->input, s);
    run_in_context(&c);
    wsgi_response_commit(t->response);
    wsgi_errors_end(t->errors);
    wsgi_response_end(t->response);
    wsgi_input_end(t->input);
    end_answer(&c);
    t->stream = NULL;
    gd_stream_release(s);
    current = NULL;
}
