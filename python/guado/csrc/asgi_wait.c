/* What a pending receive() or send() is: an awaitable that waits for its exchange.
 * Before: asgi_receive.c and asgi_send.c make one when there is nothing to give yet.
 * After: the event loop, by a future. Not here: messages.
 *
 * Nothing is taken from the exchange before the awaitable is resumed, so cancelling one
 * that waits loses nothing. They satisfy collections.abc.Coroutine, because applications
 * put receive() into create_task and wait_for.
 */
#include "asgi.h"

typedef struct gd_waiter {
    PyObject_HEAD gd_asgi_exchange *exchange; /* NULL: the shared one that is done */
    PyObject *future;                         /* what its task sleeps on, while it waits */
    struct gd_waiter *next, *prev;
    uint8_t kind;
    uint8_t turned; /* GD_WAIT_TURN: the task has yielded */
    uint8_t finished;
} gd_waiter;

static PyTypeObject *waiter_type;
static gd_waiter *always_done;

static void unlink_waiter(gd_waiter *w) {
    if (w->future == NULL)
        return;
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        w->exchange->waiters = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    w->next = w->prev = NULL;
    Py_CLEAR(w->future);
}

/* A future to yield to the task, with the mark that a Future's own __await__ sets. */
static PyObject *sleep_on_future(gd_waiter *w) {
    gd_asgi_exchange *x = w->exchange;
    PyObject *future = PyObject_CallNoArgs(x->server->create_future);
    if (future == NULL)
        return NULL;
    if (PyObject_SetAttr(future, gd_names.future_blocking, Py_True) < 0) {
        Py_DECREF(future);
        return NULL;
    }
    w->future = future;
    w->next = x->waiters;
    if (w->next != NULL)
        w->next->prev = w;
    x->waiters = w;
    Py_INCREF(future);
    return future;
}

static PySendResult waiter_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result) {
    gd_waiter *w = (gd_waiter *)self;
    if (w->exchange == NULL) {
        Py_INCREF(Py_None);
        *result = Py_None;
        return PYGEN_RETURN;
    }
    *result = NULL;
    if (w->finished) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited receive() or send()");
        return PYGEN_ERROR;
    }
    unlink_waiter(w);
    int polled;
    if (w->kind == GD_WAIT_TURN && !w->turned) {
        w->turned = 1;
        Py_INCREF(Py_None);
        *result = Py_None;
        return PYGEN_NEXT; /* a task that gets None comes again in the next turn */
    }
    if (w->kind == GD_WAIT_RECEIVE) {
        polled = gd_asgi_receive_poll(w->exchange, result);
    } else {
        polled = gd_asgi_send_poll(w->exchange);
        if (polled > 0) {
            Py_INCREF(Py_None);
            *result = Py_None;
        }
    }
    if (polled == 0) {
        *result = sleep_on_future(w);
        if (*result != NULL)
            return PYGEN_NEXT;
    }
    w->finished = 1;
    return polled > 0 ? PYGEN_RETURN : PYGEN_ERROR;
}

/* The iterator protocol wants StopIteration(value) where am_send returns the value. */
static PyObject *from_send(PySendResult sent, PyObject *result) {
    if (sent == PYGEN_RETURN) {
        /* A dict is never taken for the arguments of StopIteration. */
        if (result == Py_None)
            PyErr_SetNone(PyExc_StopIteration);
        else
            PyErr_SetObject(PyExc_StopIteration, result);
        Py_DECREF(result);
        return NULL;
    }
    return result;
}

static PyObject *waiter_next(PyObject *self) {
    PyObject *result;
    PySendResult sent = waiter_am_send(self, Py_None, &result);
    if (sent == PYGEN_RETURN && result == Py_None) {
        Py_DECREF(result);
        return NULL; /* an exhausted iterator needs no exception: None is the value */
    }
    return from_send(sent, result);
}

static PyObject *waiter_send(PyObject *self, PyObject *value) {
    PyObject *result;
    PySendResult sent = waiter_am_send(self, value, &result);
    return from_send(sent, result);
}

void gd_asgi_throw(PyObject *args) {
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback))
        return;
    if (value == Py_None)
        value = NULL;
    if (traceback == Py_None)
        traceback = NULL;
    if (PyExceptionInstance_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(value);
    } else if (!PyExceptionClass_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "throw() takes an exception");
        return;
    }
    Py_INCREF(type);
    Py_XINCREF(value);
    if (traceback != NULL)
        Py_INCREF(traceback);
    else if (value != NULL && PyExceptionInstance_Check(value))
        traceback = PyException_GetTraceback(value);
    PyErr_Restore(type, value, traceback);
}

static PyObject *waiter_throw(PyObject *self, PyObject *args) {
    gd_waiter *w = (gd_waiter *)self;
    unlink_waiter(w);
    w->finished = w->exchange != NULL;
    gd_asgi_throw(args);
    return NULL;
}

static PyObject *waiter_close(PyObject *self, PyObject *Py_UNUSED(unused)) {
    gd_waiter *w = (gd_waiter *)self;
    unlink_waiter(w);
    w->finished = w->exchange != NULL;
    Py_RETURN_NONE;
}

static PyObject *waiter_self(PyObject *self) {
    Py_INCREF(self);
    return self;
}

static void waiter_dealloc(PyObject *self) {
    gd_waiter *w = (gd_waiter *)self;
    PyTypeObject *type = Py_TYPE(self);
    unlink_waiter(w);
    Py_XDECREF((PyObject *)w->exchange);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *new_waiter(gd_asgi_exchange *x, int kind) {
    gd_waiter *w = PyObject_New(gd_waiter, waiter_type);
    if (w == NULL)
        return NULL;
    Py_XINCREF((PyObject *)x);
    w->exchange = x;
    w->future = NULL;
    w->next = w->prev = NULL;
    w->kind = (uint8_t)kind;
    w->turned = w->finished = 0;
    return (PyObject *)w;
}

PyObject *gd_asgi_wait(gd_asgi_exchange *x, enum gd_wait_kind kind) {
    return new_waiter(x, (int)kind);
}

PyObject *gd_asgi_done(void) {
    Py_INCREF((PyObject *)always_done);
    return (PyObject *)always_done;
}

void gd_asgi_wake(gd_asgi_exchange *x, int kinds) {
    /* set_result only schedules callbacks, but a future of the application's own loop
     * may be anything: start again from the head after each call. */
    for (gd_waiter *w = x->waiters; w != NULL;) {
        if ((w->kind & kinds) == 0) {
            w = w->next;
            continue;
        }
        PyObject *future = w->future;
        Py_INCREF(future);
        unlink_waiter(w);
        PyObject *done = PyObject_CallMethodObjArgs(future, gd_names.done, NULL);
        if (done == Py_False) {
            Py_DECREF(done);
            done = PyObject_CallMethodObjArgs(future, gd_names.set_result, Py_None, NULL);
        }
        if (done == NULL)
            PyErr_WriteUnraisable(future);
        Py_XDECREF(done);
        Py_DECREF(future);
        w = x->waiters;
    }
}

static PyMethodDef waiter_methods[] = {
    {"send", waiter_send, METH_O, "Resumes the wait."},
    {"throw", waiter_throw, METH_VARARGS, "Ends the wait with an exception."},
    {"close", waiter_close, METH_NOARGS, "Gives the wait up."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, "A pending receive() or send() of an ASGI application."},
    {Py_tp_dealloc, waiter_dealloc},
    {Py_tp_iter, waiter_self},
    {Py_tp_iternext, waiter_next},
    {Py_am_await, waiter_self},
    {Py_am_send, waiter_am_send},
    {Py_tp_methods, waiter_methods},
    {0, NULL},
};

static PyType_Spec waiter_spec = {
    .name = "guado._core.Pending",
    .basicsize = sizeof(gd_waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = waiter_slots,
};

int gd_asgi_wait_init(void) {
    waiter_type = (PyTypeObject *)PyType_FromSpec(&waiter_spec);
    if (waiter_type == NULL)
        return -1;
    always_done = (gd_waiter *)new_waiter(NULL, 0);
    return always_done == NULL ? -1 : 0;
}
