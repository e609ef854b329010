/* The server of one event loop: takes requests and news from the link and hands them to
 * exchanges. Before: link.c. After: asgi_exchange.c. Not here: making the loop, lifespan,
 * signals, logging (worker/asgi.py, worker/lifespan.py).
 */
#include "asgi.h"

#include <string.h>

/* Requests taken in one turn of the loop, so that many cannot starve other callbacks. */
enum { BATCH = 64 };

struct gd_asgi_names gd_names;

static int init_names(void) {
#define GD_ASGI_INTERN(name, text)                                                                 \
    if ((gd_names.name = PyUnicode_InternFromString(text)) == NULL)                                \
        return -1;
    GD_ASGI_NAMES(GD_ASGI_INTERN)
    return 0;
}

static void link_exchange(gd_asgi_server *sv, gd_asgi_exchange *x) {
    Py_INCREF((PyObject *)x);
    x->next = sv->first;
    if (x->next != NULL)
        x->next->prev = x;
    sv->first = x;
    sv->running++;
}

void gd_asgi_unlink(gd_asgi_exchange *x) {
    gd_asgi_server *sv = x->server;
    if (x->prev != NULL)
        x->prev->next = x->next;
    else
        sv->first = x->next;
    if (x->next != NULL)
        x->next->prev = x->prev;
    x->next = x->prev = NULL;
    sv->running--;
    if (sv->running == 0 && gd_link_draining(sv->link, NULL)) {
        PyObject *handle = PyObject_CallFunctionObjArgs(sv->call_soon, sv->ready, NULL);
        if (handle == NULL)
            PyErr_WriteUnraisable((PyObject *)sv);
        Py_XDECREF(handle);
    }
    Py_DECREF((PyObject *)x);
}

/* The task of an exchange. It starts at once where CPython can (3.12), and through the
 * application's own task factory when it has put one on the loop. */
static PyObject *new_task(gd_asgi_server *sv, gd_asgi_exchange *x) {
    PyObject *context = PyObject_CallNoArgs(sv->copy_context), *task = NULL;
    if (context == NULL)
        return NULL;
    if (sv->factory) {
        PyObject *create = PyObject_GetAttr(sv->loop, gd_names.create_task);
        PyObject *args = create != NULL ? PyTuple_Pack(1, (PyObject *)x) : NULL;
        PyObject *options = args != NULL ? PyDict_New() : NULL;
        if (options != NULL && PyDict_SetItem(options, gd_names.context, context) == 0)
            task = PyObject_Call(create, args, options);
        Py_XDECREF(create);
        Py_XDECREF(args);
        Py_XDECREF(options);
    } else {
        PyObject *options = PyDict_Copy(sv->task_options);
        PyObject *args = options != NULL ? PyTuple_Pack(1, (PyObject *)x) : NULL;
        if (args != NULL && PyDict_SetItem(options, gd_names.context, context) == 0)
            task = PyObject_Call(sv->task, args, options);
        Py_XDECREF(args);
        Py_XDECREF(options);
    }
    Py_DECREF(context);
    return task;
}

/* An exchange that could not even be made: the link still wants its end. */
static void refuse(gd_asgi_server *sv, gd_stream *stream) {
    static const char why[] = "the worker could not make the request";
    PyErr_WriteUnraisable((PyObject *)sv);
    gd_abort(stream, 1, why, sizeof why - 1);
    gd_stream_release(stream);
}

static void begin_exchange(gd_asgi_server *sv, gd_stream *stream) {
    if (gd_start(stream) != GD_OK) { /* the host took it back */
        gd_stream_release(stream);
        return;
    }
    sv->accepted++;
    uint32_t why = gd_stream_cancelled(stream);
    if (why != 0 && why != 2) { /* gone before anybody looked at it */
        gd_abort(stream, 3, "", 0);
        gd_stream_release(stream);
        return;
    }
    const gd_request *r = gd_stream_request(stream);
    PyObject *app = PyList_GetItem(sv->apps, r->app);
    PyObject *state = app != NULL ? PyList_GetItem(sv->states, r->app) : NULL;
    PyObject *scope = NULL;
    if (state != NULL && r->turn.do_)
        Py_INCREF(scope = Py_None);
    else if (state != NULL)
        scope = gd_asgi_scope(r, state);
    gd_asgi_exchange *x = scope != NULL ? gd_asgi_exchange_new(sv, stream, app, scope) : NULL;
    Py_XDECREF(scope);
    if (x == NULL) {
        refuse(sv, stream);
        return;
    }
    if (x->socket)
        gd_stream_forget_request(stream);
    gd_stream_set_owner(stream, x);
    link_exchange(sv, x);
    PyObject *task = new_task(sv, x);
    if (task == NULL)
        gd_asgi_exchange_fail(x);
    else if (x->stream != NULL) /* not over yet: the drain's deadline may cancel it */
        x->task = task;
    else
        Py_DECREF(task);
    Py_DECREF((PyObject *)x);
}

static void take_events(gd_asgi_server *sv) {
    gd_stream *stream;
    int events;
    while (gd_loop_event(sv->link, &stream, &events) == GD_OK) {
        gd_asgi_exchange *x = gd_stream_owner(stream);
        if (x == NULL)
            continue;
        Py_INCREF((PyObject *)x);
        int kinds = 0;
        if (events & (GD_EV_BODY | GD_EV_CANCEL))
            kinds |= GD_WAIT_RECEIVE;
        if (events & (GD_EV_DRAINED | GD_EV_CANCEL))
            kinds |= GD_WAIT_SEND;
        if (events & GD_EV_DRAINED)
            x->unsent = 0;
        if (events & GD_EV_INTERRUPT)
            gd_asgi_cancel_task(x);
        if (x->waiters != NULL)
            gd_asgi_wake(x, kinds);
        Py_DECREF((PyObject *)x);
    }
}

static int tell(gd_asgi_server *sv, const char *what) {
    PyObject *done = PyObject_CallFunction(sv->news, "s", what);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Each once: a drain began; everything is answered and no more will come. */
static int tell_drain(gd_asgi_server *sv) {
    if (sv->told_idle || !gd_link_draining(sv->link, NULL))
        return 0;
    if (!sv->told_draining) {
        sv->told_draining = 1;
        if (tell(sv, "draining") < 0)
            return -1;
    }
    if (sv->running > 0)
        return 0;
    sv->told_idle = 1;
    return tell(sv, "idle");
}

/* The loop's callback. */
static PyObject *server_ready(PyObject *self, PyObject *Py_UNUSED(unused)) {
    gd_asgi_server *sv = (gd_asgi_server *)self;
    sv->thread = PyThread_get_thread_ident();
    int drained = gd_loop_drain(sv->link);
    if (drained < 0 && tell(sv, drained == GD_CLOSED ? "closed" : "broken") < 0)
        return NULL;
    PyObject *factory = PyObject_CallNoArgs(sv->get_task_factory);
    if (factory == NULL)
        return NULL;
    sv->factory = factory != Py_None;
    Py_DECREF(factory);
    take_events(sv);
    int taken = 0;
    gd_stream *stream;
    while (taken < BATCH && gd_loop_request(sv->link, &stream) == GD_OK) {
        begin_exchange(sv, stream);
        taken++;
    }
    if (taken == BATCH) {
        PyObject *handle = PyObject_CallFunctionObjArgs(sv->call_soon, sv->ready, NULL);
        if (handle == NULL)
            return NULL;
        Py_DECREF(handle);
    } else if (tell_drain(sv) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *server_cancel_all(PyObject *self, PyObject *Py_UNUSED(unused)) {
    gd_asgi_server *sv = (gd_asgi_server *)self;
    PyObject *tasks = PyList_New(0);
    for (gd_asgi_exchange *x = sv->first; x != NULL && tasks != NULL; x = x->next) {
        x->cancelled = 1;
        if (x->task != NULL && PyList_Append(tasks, x->task) < 0)
            Py_CLEAR(tasks);
    }
    for (Py_ssize_t i = 0; tasks != NULL && i < PyList_Size(tasks); i++) {
        PyObject *done =
            PyObject_CallMethodObjArgs(PyList_GetItem(tasks, i), gd_names.cancel, NULL);
        if (done == NULL)
            Py_CLEAR(tasks);
        Py_XDECREF(done);
    }
    if (tasks == NULL)
        return NULL;
    Py_ssize_t n = PyList_Size(tasks);
    Py_DECREF(tasks);
    return PyLong_FromSsize_t(n);
}

static PyObject *server_running(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(((gd_asgi_server *)self)->running);
}

static PyObject *server_grace(PyObject *self, void *Py_UNUSED(closure)) {
    int64_t ms;
    if (!gd_link_draining(((gd_asgi_server *)self)->link, &ms))
        Py_RETURN_NONE;
    return PyFloat_FromDouble(ms < 0 ? 0.0 : (double)ms / 1000.0);
}

/* asyncio.Task's options but the context: the loop, and eager_start since 3.12. */
static PyObject *task_options(PyObject *loop) {
    PyObject *options = PyDict_New();
    PyObject *version = PySys_GetObject("version_info");
    PyObject *minor = version != NULL ? PySequence_GetItem(version, 1) : NULL;
    if (options == NULL || minor == NULL || PyDict_SetItem(options, gd_names.loop, loop) < 0 ||
        (PyLong_AsLong(minor) >= 12 && PyDict_SetItem(options, gd_names.eager_start, Py_True) < 0))
        Py_CLEAR(options);
    Py_XDECREF(minor);
    return options;
}

static int server_bind(gd_asgi_server *sv, PyObject *context) {
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    sv->task = asyncio != NULL ? PyObject_GetAttrString(asyncio, "Task") : NULL;
    Py_XDECREF(asyncio);
    sv->task_options = task_options(sv->loop);
    sv->copy_context = PyObject_GetAttr(context, gd_names.copy);
    sv->create_future = PyObject_GetAttr(sv->loop, gd_names.create_future);
    sv->call_soon = PyObject_GetAttr(sv->loop, gd_names.call_soon);
    sv->get_task_factory = PyObject_GetAttr(sv->loop, gd_names.get_task_factory);
    sv->ready = PyObject_GetAttrString((PyObject *)sv, "ready");
    return sv->task == NULL || sv->task_options == NULL || sv->copy_context == NULL ||
                   sv->create_future == NULL || sv->call_soon == NULL ||
                   sv->get_task_factory == NULL || sv->ready == NULL
               ? -1
               : 0;
}

static PyObject *server_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"link", "loop", "apps", "states", "context", "report", "news", NULL};
    PyObject *link, *loop, *apps, *states, *context, *report, *news;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO!O!OOO:AsgiServer", names, &link, &loop,
                                     &PyList_Type, &apps, &PyList_Type, &states, &context, &report,
                                     &news))
        return NULL;
    gd_link *l = gd_link_of(link);
    if (l == NULL || gd_asgi_exchange_use_asyncio() < 0)
        return NULL;
    gd_asgi_server *sv = PyObject_GC_New(gd_asgi_server, type);
    if (sv == NULL)
        return NULL;
    memset((char *)sv + sizeof(PyObject), 0, sizeof *sv - sizeof(PyObject));
    sv->link = l;
    sv->link_object = link;
    sv->loop = loop;
    sv->apps = apps;
    sv->states = states;
    sv->report = report;
    sv->news = news;
    Py_INCREF(link);
    Py_INCREF(loop);
    Py_INCREF(apps);
    Py_INCREF(states);
    Py_INCREF(report);
    Py_INCREF(news);
    PyObject_GC_Track(sv);
    gd_asgi_interrupt_add(sv);
    if (server_bind(sv, context) < 0)
        Py_CLEAR(sv);
    return (PyObject *)sv;
}

static int server_traverse(PyObject *self, visitproc visit, void *arg) {
    gd_asgi_server *sv = (gd_asgi_server *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(sv->link_object);
    Py_VISIT(sv->loop);
    Py_VISIT(sv->apps);
    Py_VISIT(sv->states);
    Py_VISIT(sv->copy_context);
    Py_VISIT(sv->create_future);
    Py_VISIT(sv->call_soon);
    Py_VISIT(sv->get_task_factory);
    Py_VISIT(sv->task);
    Py_VISIT(sv->task_options);
    Py_VISIT(sv->report);
    Py_VISIT(sv->news);
    Py_VISIT(sv->ready);
    return 0;
}

static int server_clear(PyObject *self) {
    gd_asgi_server *sv = (gd_asgi_server *)self;
    Py_CLEAR(sv->loop);
    Py_CLEAR(sv->apps);
    Py_CLEAR(sv->states);
    Py_CLEAR(sv->copy_context);
    Py_CLEAR(sv->create_future);
    Py_CLEAR(sv->call_soon);
    Py_CLEAR(sv->get_task_factory);
    Py_CLEAR(sv->task);
    Py_CLEAR(sv->task_options);
    Py_CLEAR(sv->report);
    Py_CLEAR(sv->news);
    Py_CLEAR(sv->ready);
    Py_CLEAR(sv->link_object);
    return 0;
}

static void server_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    gd_asgi_interrupt_remove((gd_asgi_server *)self);
    server_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *server_descriptors(PyObject *self, void *Py_UNUSED(closure)) {
    gd_link *l = ((gd_asgi_server *)self)->link;
    int first = gd_loop_fd(l), second = gd_loop_wake_fd(l);
    return second < 0 ? Py_BuildValue("(i)", first) : Py_BuildValue("(ii)", first, second);
}

static PyMethodDef server_methods[] = {
    {"ready", server_ready, METH_NOARGS, "The loop's callback: takes what the link has."},
    {"cancel_all", server_cancel_all, METH_NOARGS, "Cancels the tasks of all exchanges."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_getset[] = {
    {"descriptors", server_descriptors, NULL, "What the loop watches for ready().", NULL},
    {"running", server_running, NULL, "Exchanges under way.", NULL},
    {"grace", server_grace, NULL, "Seconds that are left of a drain's grace, else None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_doc, "AsgiServer(link, loop, apps, states, context, report, news)"},
    {Py_tp_new, server_new},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_methods, server_methods},
    {Py_tp_getset, server_getset},
    {0, NULL},
};

static PyType_Spec server_spec = {
    .name = "guado._core.AsgiServer",
    .basicsize = sizeof(gd_asgi_server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = server_slots,
};

int gd_asgi_init(PyObject *module) {
    if (init_names() < 0 || gd_asgi_exchange_init(module) < 0 || gd_asgi_wait_init() < 0 ||
        gd_asgi_receive_init() < 0 || gd_asgi_scope_init() < 0 || gd_asgi_socket_init() < 0)
        return -1;
    PyObject *type = PyType_FromSpec(&server_spec);
    int result = type == NULL ? -1 : PyModule_AddObjectRef(module, "AsgiServer", type);
    Py_XDECREF(type);
    return result;
}
