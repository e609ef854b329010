/* One request: the coroutine that its task runs, from the call of the application to
 * the last frame. Before: asgi.c took the request from the link. After: the application.
 * Not here: scope, messages, logging (worker/asgi.py reports).
 *
 * The exchange itself is the coroutine of the task and drives the application's inside.
 * So the application is called in the context of its own task, the end is seen without a
 * callback through the loop, and no exception of the application (StopIteration,
 * SystemExit) ever reaches the loop.
 */
#include "asgi.h"

#include <string.h>

PyTypeObject *gd_asgi_exchange_type;
PyObject *gd_client_disconnected;
static PyObject *coroutine_type, *generator_type; /* types.CoroutineType, GeneratorType */
static PyObject *cancelled_error;                 /* asyncio.CancelledError */

static PyMethodDef receive_def = {"receive", gd_asgi_receive, METH_NOARGS,
                                  "The next message of the client."};
static PyMethodDef send_def = {"send", gd_asgi_send, METH_O, "Sends a message to the client."};

uint32_t gd_asgi_gone(const gd_asgi_exchange *x) {
    if (x->stream == NULL)
        return 0;
    uint32_t why = gd_stream_cancelled(x->stream);
    if (why == 3 && gd_interrupted(x->stream))
        return GD_ASGI_INTERRUPTED;
    return why == 2 ? 0 : why; /* half-closed: the client still reads */
}

/* Leaves the server and the link. The caller holds a reference of its own. */
static void leave(gd_asgi_exchange *x) {
    gd_stream *stream = x->stream;
    if (stream == NULL)
        return;
    x->stream = NULL;
    gd_stream_set_owner(stream, NULL);
    gd_stream_release(stream);
    gd_asgi_held_free(x->held);
    x->held = NULL;
    if (x->waiters != NULL)
        gd_asgi_wake(x, GD_WAIT_RECEIVE | GD_WAIT_SEND);
    Py_CLEAR(x->task);
    gd_asgi_unlink(x);
}

static void drop_application(gd_asgi_exchange *x) {
    Py_CLEAR(x->app);
    Py_CLEAR(x->scope);
    Py_CLEAR(x->coroutine);
    Py_CLEAR(x->hook.call);
}

/* Tells worker/asgi.py, which logs it; `exception` may be NULL. Keeps no error set. */
static void report(gd_asgi_exchange *x, const char *what, PyObject *exception) {
    PyObject *done =
        PyObject_CallFunction(x->server->report, "ksO", (unsigned long)gd_stream_id(x->stream),
                              what, exception != NULL ? exception : Py_None);
    if (done == NULL)
        PyErr_WriteUnraisable(x->server->report);
    Py_XDECREF(done);
}

/* The application returned. */
static void end_returned(gd_asgi_exchange *x) {
    if (x->phase == GD_ASGI_COMPLETE) {
        gd_done(x->stream);
    } else if (x->phase == GD_ASGI_SOCKET && gd_stream_cancelled(x->stream) == 0 &&
               gd_asgi_socket_returned(x)) {
        /* its close frame says 1000 */
    } else if (gd_stream_cancelled(x->stream) != 0) {
        /* Half-closed too: an application that was told of a disconnect may just leave. */
        gd_abort(x->stream, 3, "", 0);
    } else {
        const char *what =
            x->phase == GD_ASGI_IDLE && x->socket
                ? "the application returned without accepting the WebSocket"
            : x->phase == GD_ASGI_IDLE ? "the application returned without sending a response"
            : x->phase == GD_ASGI_HELD ? "the application returned without sending a body"
            : x->phase == GD_ASGI_BODY
                ? "the application returned before the end of the body"
                : "the application returned without the trailers it promised";
        report(x, what, NULL);
        gd_abort(x->stream, 2, what, strlen(what));
    }
}

/* The application raised. */
static void end_raised(gd_asgi_exchange *x, PyObject *exception) {
    int cancelled =
        (x->cancelled || x->interrupted) && PyErr_GivenExceptionMatches(exception, cancelled_error);
    int gone = gd_asgi_gone(x) != 0;
    /* A task that the drain cancelled, or send() after the client left: no error. Others
     * are, also behind a complete answer (background work). */
    if (gd_asgi_gone(x) == GD_ASGI_INTERRUPTED)
        report(x, "interrupted", exception);
    else if (!cancelled &&
             !(gone && PyErr_GivenExceptionMatches(exception, gd_client_disconnected)))
        report(x, gd_stream_cancelled(x->stream) != 0 ? "gone" : "raised", exception);
    if (x->phase == GD_ASGI_COMPLETE)
        gd_done(x->stream);
    else if (cancelled || gone)
        gd_abort(x->stream, 3, "", 0);
    else {
        const char *name = "exception in the application";
        gd_abort(x->stream, 1, name, strlen(name));
    }
}

/* A turn has come to its end: it is answered with what it returned. -1 with an exception. */
static int end_turn(gd_asgi_exchange *x, PyObject *result) {
    gd_turn_answer answer;
    if (gd_turn_answered(result, &answer) < 0)
        return -1;
    if (answer.failure != NULL)
        report(x, "raised", answer.failure);
    const gd_head head = {.status = answer.status, .length = (int64_t)answer.len};
    const gd_pending pending = {&head, answer.data, answer.len, GD_END};
    int raised;
    ssize_t sent = gd_asgi_commit(x, &pending, GD_HOOK_HEAD, &raised);
    if (raised < 0)
        return -1;
    if (sent < 0)
        gd_abort(x->stream, 3, "", 0); /* cancelled: nobody waits for it */
    return 0;
}

/* Takes the exception that is set; a new reference. */
static PyObject *take_exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* The coroutine is over: with its exception set when `result` is NULL. What is left in the
 * error indicator is for the task. */
static void finish(gd_asgi_exchange *x, PyObject *result) {
    Py_INCREF((PyObject *)x);
    bool turned = x->turn && result != NULL && x->stream != NULL && end_turn(x, result) == 0;
    bool raised = result == NULL || (x->turn && PyErr_Occurred());
    PyObject *exception = raised ? take_exception() : NULL;
    if (x->stream != NULL)
        gd_hook_end(&x->hook, (PyObject *)x->server);
    if (x->stream != NULL && !turned) {
        if (exception != NULL)
            end_raised(x, exception);
        else
            end_returned(x);
    }
    drop_application(x);
    leave(x);
    if (exception != NULL && (PyErr_GivenExceptionMatches(exception, cancelled_error) ||
                              PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) ||
                              PyErr_GivenExceptionMatches(exception, PyExc_GeneratorExit))) {
        PyObject *type = (PyObject *)Py_TYPE(exception);
        Py_INCREF(type);
        PyErr_Restore(type, exception, PyException_GetTraceback(exception));
    } else {
        Py_XDECREF(exception);
    }
    Py_DECREF((PyObject *)x);
}

void gd_asgi_exchange_fail(gd_asgi_exchange *x) {
    finish(x, NULL);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)x->server);
}

/* What the application returned is to be awaited; steals `made`, NULL with an exception. */
static int begun(gd_asgi_exchange *x, PyObject *made) {
    Py_CLEAR(x->app);
    Py_CLEAR(x->scope);
    if (made == NULL)
        return -1;
    if ((PyObject *)Py_TYPE(made) == coroutine_type ||
        (PyObject *)Py_TYPE(made) == generator_type) {
        x->coroutine = made;
        return 0;
    }
    PyObject *await = PyObject_GetAttr((PyObject *)Py_TYPE(made), gd_names.await);
    if (await == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError,
                     "the application returned %R, which cannot be awaited: is it an ASGI 3 "
                     "application?",
                     Py_TYPE(made));
    } else {
        x->coroutine = PyObject_CallFunctionObjArgs(await, made, NULL);
        Py_DECREF(await);
    }
    Py_DECREF(made);
    return x->coroutine == NULL ? -1 : 0;
}

static int begin_turn(gd_asgi_exchange *x) {
    PyObject *handle = PyCFunction_NewEx(&receive_def, (PyObject *)x, NULL), *made = NULL;
    PyObject *args = NULL;
    if (handle != NULL)
        args = gd_turn_args(&gd_stream_request(x->stream)->turn, handle);
    if (args != NULL)
        made = PyObject_CallObject(x->app, args);
    Py_XDECREF(args);
    Py_XDECREF(handle);
    return begun(x, made);
}

/* Calls the application, in its own task and context. */
static int begin(gd_asgi_exchange *x) {
    x->begun = 1;
    if (x->turn)
        return begin_turn(x);
    PyObject *receive = PyCFunction_NewEx(&receive_def, (PyObject *)x, NULL);
    PyObject *send = PyCFunction_NewEx(&send_def, (PyObject *)x, NULL);
    PyObject *made = NULL;
    if (receive != NULL && send != NULL)
        made = PyObject_CallFunctionObjArgs(x->app, x->scope, receive, send, NULL);
    Py_XDECREF(receive);
    Py_XDECREF(send);
    return begun(x, made);
}

/* After a step: a result of the task's coroutine out of one of the application's. */
static PySendResult stepped(gd_asgi_exchange *x, PySendResult sent, PyObject **result) {
    gd_asgi_step_over(x);
    if (sent == PYGEN_NEXT)
        return PYGEN_NEXT;
    finish(x, sent == PYGEN_RETURN ? *result : NULL);
    if (sent == PYGEN_RETURN)
        Py_CLEAR(*result);
    *result = NULL;
    if (PyErr_Occurred())
        return PYGEN_ERROR;
    Py_INCREF(Py_None);
    *result = Py_None;
    return PYGEN_RETURN;
}

static int may_step(gd_asgi_exchange *x) {
    if (x->stepping)
        PyErr_SetString(PyExc_ValueError, "the exchange is already executing");
    else if (x->begun && x->coroutine == NULL)
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited exchange");
    else
        return 1;
    return 0;
}

static PySendResult exchange_am_send(PyObject *self, PyObject *value, PyObject **result) {
    gd_asgi_exchange *x = (gd_asgi_exchange *)self;
    *result = NULL;
    if (!may_step(x))
        return PYGEN_ERROR;
    Py_INCREF(self);
    x->stepping = 1;
    PySendResult sent = PYGEN_ERROR;
    if (x->begun || begin(x) == 0)
        sent = PyIter_Send(x->coroutine, value, result);
    sent = stepped(x, sent, result);
    Py_DECREF(self);
    return sent;
}

static PyObject *stop(PySendResult sent, PyObject *result) {
    if (sent == PYGEN_RETURN) {
        Py_DECREF(result);
        PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    return result;
}

static PyObject *exchange_send(PyObject *self, PyObject *value) {
    PyObject *result;
    PySendResult sent = exchange_am_send(self, value, &result);
    return stop(sent, result);
}

static PyObject *exchange_next(PyObject *self) {
    return exchange_send(self, Py_None);
}

/* The value of a StopIteration that is set; a new reference, or NULL with another one. */
static PyObject *stopped(void) {
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return NULL;
    PyObject *stop = take_exception();
    PyObject *value = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return value;
}

static PyObject *exchange_throw(PyObject *self, PyObject *args) {
    gd_asgi_exchange *x = (gd_asgi_exchange *)self;
    if (!may_step(x))
        return NULL;
    Py_INCREF(self);
    PyObject *result = NULL, *throw = NULL;
    PySendResult sent = PYGEN_ERROR;
    x->stepping = 1;
    if (x->begun)
        throw = PyObject_GetAttr(x->coroutine, gd_names.throw_);
    else
        x->begun = 1; /* cancelled before its first step */
    if (throw != NULL) {
        result = PyObject_Call(throw, args, NULL);
        Py_DECREF(throw);
        sent = PYGEN_NEXT;
        if (result == NULL) {
            result = stopped();
            sent = result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
        }
    } else {
        PyErr_Clear();
        gd_asgi_throw(args);
    }
    sent = stepped(x, sent, &result);
    Py_DECREF(self);
    return stop(sent, result);
}

static PyObject *exchange_close(PyObject *self, PyObject *Py_UNUSED(unused)) {
    gd_asgi_exchange *x = (gd_asgi_exchange *)self;
    if (x->begun && x->coroutine == NULL)
        Py_RETURN_NONE;
    if (!may_step(x))
        return NULL;
    Py_INCREF(self);
    x->stepping = 1;
    PyObject *done = NULL;
    if (x->begun)
        done = PyObject_CallMethodObjArgs(x->coroutine, gd_names.close, NULL);
    x->begun = 1;
    int failed = done == NULL && PyErr_Occurred() != NULL;
    Py_XDECREF(done);
    gd_asgi_step_over(x);
    if (x->stream != NULL)
        gd_hook_end(&x->hook, (PyObject *)x->server);
    if (x->stream != NULL && x->phase != GD_ASGI_COMPLETE)
        gd_abort(x->stream, 3, "", 0);
    else if (x->stream != NULL)
        gd_done(x->stream);
    PyObject *exception = failed ? take_exception() : NULL;
    drop_application(x);
    leave(x);
    Py_DECREF(self);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *exchange_self(PyObject *self) {
    Py_INCREF(self);
    return self;
}

/* What tools that print tasks and their stacks ask of a coroutine. */
static PyObject *exchange_inner(PyObject *self, void *name) {
    gd_asgi_exchange *x = (gd_asgi_exchange *)self;
    if (x->coroutine == NULL) {
        if (strcmp(name, "cr_running") == 0)
            Py_RETURN_FALSE;
        if (name != NULL && ((const char *)name)[0] == '_')
            return PyUnicode_FromString("exchange");
        Py_RETURN_NONE;
    }
    return PyObject_GetAttrString(x->coroutine, name);
}

static PyGetSetDef exchange_getset[] = {
    {"cr_frame", exchange_inner, NULL, NULL, "cr_frame"},
    {"cr_code", exchange_inner, NULL, NULL, "cr_code"},
    {"cr_await", exchange_inner, NULL, NULL, "cr_await"},
    {"cr_running", exchange_inner, NULL, NULL, "cr_running"},
    {"__name__", exchange_inner, NULL, NULL, "__name__"},
    {"__qualname__", exchange_inner, NULL, NULL, "__qualname__"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef exchange_methods[] = {
    {"send", exchange_send, METH_O, "Resumes the application."},
    {"throw", exchange_throw, METH_VARARGS, "Raises an exception in the application."},
    {"close", exchange_close, METH_NOARGS, "Gives the application up."},
    {NULL, NULL, 0, NULL},
};

static void exchange_dealloc(PyObject *self) {
    gd_asgi_exchange *x = (gd_asgi_exchange *)self;
    PyTypeObject *type = Py_TYPE(self);
    drop_application(x);
    gd_asgi_held_free(x->held);
    Py_CLEAR(x->task);
    Py_CLEAR(x->disconnect);
    Py_XDECREF((PyObject *)x->server);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot exchange_slots[] = {
    {Py_tp_doc, "One request as the coroutine of its task."},
    {Py_tp_dealloc, exchange_dealloc},
    {Py_tp_iter, exchange_self},
    {Py_tp_iternext, exchange_next},
    {Py_am_await, exchange_self},
    {Py_am_send, exchange_am_send},
    {Py_tp_methods, exchange_methods},
    {Py_tp_getset, exchange_getset},
    {0, NULL},
};

static PyType_Spec exchange_spec = {
    .name = "guado._core.Exchange",
    .basicsize = sizeof(gd_asgi_exchange),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = exchange_slots,
};

gd_asgi_exchange *gd_asgi_exchange_new(gd_asgi_server *server, gd_stream *stream, PyObject *app,
                                       PyObject *scope) {
    gd_asgi_exchange *x = PyObject_New(gd_asgi_exchange, gd_asgi_exchange_type);
    if (x == NULL)
        return NULL;
    memset((char *)x + sizeof(PyObject), 0, sizeof *x - sizeof(PyObject));
    Py_INCREF((PyObject *)server);
    Py_INCREF(app);
    Py_INCREF(scope);
    x->server = server;
    x->stream = stream;
    x->app = app;
    x->scope = scope;
    x->length = -1;
    x->socket = (gd_stream_request(stream)->flags & GD_REQ_SOCKET) != 0;
    x->turn = gd_stream_request(stream)->turn.do_ != 0;
    return x;
}

static PyObject *attribute(const char *module, const char *name) {
    PyObject *m = PyImport_ImportModule(module);
    PyObject *value = m != NULL ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return value;
}

int gd_asgi_exchange_use_asyncio(void) {
    if (cancelled_error == NULL)
        cancelled_error = attribute("asyncio", "CancelledError");
    return cancelled_error == NULL ? -1 : 0;
}

int gd_asgi_exchange_init(PyObject *module) {
    coroutine_type = attribute("types", "CoroutineType");
    generator_type = attribute("types", "GeneratorType");
    gd_asgi_exchange_type = (PyTypeObject *)PyType_FromSpec(&exchange_spec);
    gd_client_disconnected = PyObject_GetAttrString(module, "ClientDisconnected"); /* wsgi.c's */
    return coroutine_type == NULL || generator_type == NULL || gd_asgi_exchange_type == NULL ||
                   gd_client_disconnected == NULL
               ? -1
               : 0;
}
