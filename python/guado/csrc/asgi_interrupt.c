/* Interrupts ASGI requests: a task that waits is cancelled by the loop; one that blocks
 * the loop gets an exception where it runs, as a pool thread does (wsgi_interrupt.c).
 * Before: asgi.c heard of INTERRUPT from the link; worker/interrupt.py, from its own
 * thread. After: the application. Not here: how the exchange ends (asgi_exchange.c).
 */
#include "asgi.h"

static gd_asgi_server *servers;

void gd_asgi_interrupt_add(gd_asgi_server *sv) {
    sv->next_server = servers;
    servers = sv;
}

void gd_asgi_interrupt_remove(gd_asgi_server *sv) {
    for (gd_asgi_server **p = &servers; *p; p = &(*p)->next_server)
        if (*p == sv) {
            *p = sv->next_server;
            return;
        }
}

static gd_asgi_exchange *find(uint32_t stream) {
    for (gd_asgi_server *sv = servers; sv; sv = sv->next_server)
        for (gd_asgi_exchange *x = sv->first; x; x = x->next)
            if (x->stream && gd_stream_id(x->stream) == stream)
                return x;
    return NULL;
}

/* It blocks the loop right now: cancelling its task would come too late. One that was
 * cancelled already is cleaning up, which nothing may cut short. */
unsigned long gd_asgi_interrupt(uint32_t stream) {
    gd_asgi_exchange *x = find(stream);
    if (x == NULL || !x->stepping)
        return 0;
    if (!x->told && !x->interrupted) {
        PyThreadState_SetAsyncExc(x->server->thread, gd_request_timeout);
        x->pending = x->told = 1;
    }
    return x->server->thread;
}

void gd_asgi_step_over(gd_asgi_exchange *x) {
    x->stepping = 0;
    if (x->pending)
        PyThreadState_SetAsyncExc(x->server->thread, NULL);
    x->pending = 0;
}

PyObject *gd_asgi_task(uint32_t stream) {
    gd_asgi_exchange *x = find(stream);
    return x ? x->task : NULL;
}

void gd_asgi_cancel_task(gd_asgi_exchange *x) {
    x->interrupted = 1;
    if (x->task == NULL)
        return;
    PyObject *task = x->task;
    Py_INCREF(task);
    PyObject *done = PyObject_CallMethodObjArgs(task, gd_names.cancel, NULL);
    if (done == NULL)
        PyErr_WriteUnraisable(task);
    Py_XDECREF(done);
    Py_DECREF(task);
}
