/* The pool: threads made in C that take WSGI requests from the link, one at a time
 * each. Before: guado.worker.wsgi.start(). After: wsgi_call.c serves the request.
 * Not here: who reads the ring while all threads wait (link.c).
 *
 * A thread keeps its Python thread state, so threading.local lives across requests,
 * and gives up the GIL only while it waits.
 */
#include "wsgi.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

wsgi_names wsgi_name;

/* ---- waiting for a foreign thread ---------------------------------------------- */

/* Guards nothing but the wait itself: the flags are guarded by the GIL, and the mutex
 * is taken before the GIL is given up, so no wake-up is lost. It is never held while
 * the GIL is awaited. */
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle_changed = PTHREAD_COND_INITIALIZER;
static int idle_waiters;

void wsgi_await_idle(const bool *busy) {
    while (*busy) {
        idle_waiters++;
        pthread_mutex_lock(&idle_lock);
        WSGI_NOGIL({
            pthread_cond_wait(&idle_changed, &idle_lock);
            pthread_mutex_unlock(&idle_lock);
        });
        idle_waiters--;
    }
}

void wsgi_idle(void) {
    if (idle_waiters == 0)
        return;
    pthread_mutex_lock(&idle_lock);
    pthread_cond_broadcast(&idle_changed);
    pthread_mutex_unlock(&idle_lock);
}

/* ---- what goes wrong ------------------------------------------------------------------ */

int wsgi_raise(int result, gd_stream *s) {
    static const char *const why[] = {
        "the client closed the connection", "the client closed the connection",
        "the client closed the connection", "the request's deadline has passed",
        "the server is stopping"};
    uint32_t cancelled = result == GD_GONE ? gd_stream_cancelled(s) : 0;
    if (result == GD_GONE && gd_interrupted(s)) {
        wsgi_interrupt_told(s);
        PyErr_SetNone(gd_request_timeout);
    } else if (result == GD_GONE)
        PyErr_SetString(wsgi_name.client_disconnected, why[cancelled < 5 ? cancelled : 0]);
    else if (result == GD_CUT)
        PyErr_SetString(wsgi_name.body_cut, "the request body ended before it was complete");
    else
        gd_raise(result);
    return -1;
}

void wsgi_log(gd_link *l, gd_stream *s, int level, const char *text, size_t n) {
    int result;
    WSGI_NOGIL({
        result = gd_link_log(l, gd_stream_id(s), level, text, n);
        /* In a forked child of the application there is no link to say it by. */
        if (result < 0 && level > 0)
            fprintf(stderr, "%.*s\n", (int)n, text);
    });
}

/* ---- a thread ---------------------------------------------------------------------- */

/* 3.14 keeps flags in the upper half of the word. */
static uint32_t references(void *object) {
    return (uint32_t)Py_REFCNT((PyObject *)object);
}

static int renew_response(wsgi_thread *t) {
    Py_XDECREF(t->start_response);
    Py_XDECREF(t->early_hints);
    Py_XDECREF(t->disconnected);
    Py_XDECREF((PyObject *)t->response);
    t->start_response = t->early_hints = t->disconnected = NULL;
    t->response = wsgi_response_new();
    if (t->response == NULL)
        return -1;
    t->start_response = wsgi_start_response_of(t->response);
    t->early_hints = wsgi_early_hints_of(t->response);
    t->disconnected = wsgi_disconnected_of(t->response);
    if (t->start_response == NULL ||
        wsgi_template_set(&t->environ, "wsgi.early_hints", t->early_hints) < 0)
        return -1;
    return wsgi_template_set(&t->environ, "guado.client_disconnected", t->disconnected);
}

static int renew_input(wsgi_thread *t) {
    Py_XDECREF(t->input);
    t->input = wsgi_input_new();
    return wsgi_template_set(&t->environ, "wsgi.input", t->input);
}

/* What the application has kept stays as it is, ended; the next request gets new
 * objects. The counts are those of this file: thread, template, bound functions. */
static int renew(wsgi_thread *t) {
    if ((references(t->response) != 4 || references(t->start_response) != 1 ||
         references(t->early_hints) != 2 || references(t->disconnected) != 2) &&
        renew_response(t) < 0)
        return -1;
    if (references(t->input) != 2 && renew_input(t) < 0)
        return -1;
    t->environ.next = PyDict_Copy(t->environ.dict);
    return t->environ.next ? 0 : -1;
}

/* A turn takes no environ, and of the rest only the handle of its answer. */
static bool unused(wsgi_thread *t) {
    if (t->environ.next && references(t->start_response) == 1)
        return true;
    Py_CLEAR(t->environ.next);
    return false;
}

static void thread_free(wsgi_thread *t) {
    Py_XDECREF(t->environ.next);
    Py_XDECREF(t->environ.dict);
    Py_XDECREF(t->start_response);
    Py_XDECREF(t->early_hints);
    Py_XDECREF(t->disconnected);
    Py_XDECREF((PyObject *)t->response);
    Py_XDECREF(t->input);
    Py_XDECREF(t->errors);
    free(t);
}

static wsgi_thread *thread_new(wsgi_pool *pool, int number) {
    wsgi_thread *t = calloc(1, sizeof *t);
    if (t == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    t->pool = pool;
    t->number = number;
    t->errors = wsgi_errors_new();
    if (t->errors == NULL || wsgi_template_make(&t->environ, pool->fixed) < 0 ||
        wsgi_template_set(&t->environ, "wsgi.errors", t->errors) < 0 || renew_response(t) < 0 ||
        renew_input(t) < 0) {
        thread_free(t);
        return NULL;
    }
    return t;
}

static void enter(wsgi_thread *t) {
    PyObject *number = PyLong_FromLong(t->number);
    PyObject *result = number ? PyObject_CallFunctionObjArgs(t->pool->entered, number, NULL) : NULL;
    if (result == NULL) /* the thread lacks its name, it serves nevertheless */
        PyErr_WriteUnraisable(t->pool->entered);
    Py_XDECREF(result);
    Py_XDECREF(number);
}

static void serve_until_drained(wsgi_thread *t) {
    for (;;) {
        gd_stream *s;
        int result;
        WSGI_NOGIL(result = gd_next_wsgi(t->pool->link, &s));
        if (result < 0)
            return;
        gd_stats_gil(s);
        wsgi_call(t, s);
        if (!unused(t) &&
            renew(t) < 0) { /* no memory for a few small objects: nothing can be served */
            PyErr_WriteUnraisable(t->pool->entered);
            return;
        }
    }
}

static void *thread_main(void *argument) {
    wsgi_thread *t = argument;
    PyGILState_STATE state = PyGILState_Ensure();
    enter(t);
    wsgi_interrupt_add(t);
    serve_until_drained(t);
    wsgi_interrupt_remove(t);
    thread_free(t);
    PyGILState_Release(state);
    return NULL;
}

/* ---- the pool ------------------------------------------------------------------------ */

/* musl's default stack of 128 KiB is too small for Python; 8 MiB is what main has. */
static int stack_attributes(pthread_attr_t *attributes) {
    size_t size;
    int error = pthread_attr_init(attributes);
    if (error == 0)
        error = pthread_attr_getstacksize(attributes, &size);
    if (error == 0 && size < (size_t)8 << 20)
        error = pthread_attr_setstacksize(attributes, (size_t)8 << 20);
    if (error == 0)
        error = pthread_attr_setdetachstate(attributes, PTHREAD_CREATE_DETACHED);
    return error;
}

static int start_thread(wsgi_pool *pool, int number) {
    wsgi_thread *t = thread_new(pool, number);
    if (t == NULL)
        return -1;
    pthread_attr_t attributes;
    pthread_t id;
    int error = stack_attributes(&attributes);
    if (error == 0)
        error = pthread_create(&id, &attributes, thread_main, t);
    pthread_attr_destroy(&attributes);
    if (error == 0)
        return 0;
    thread_free(t);
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* wsgi_start(link, apps, context, fixed, threads, describe, entered): lives as long as
 * the process, as its threads do. */
static PyObject *wsgi_start(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *link, *apps, *context, *fixed, *describe, *entered;
    int threads;
    if (!PyArg_ParseTuple(args, "OO!OO!iOO:wsgi_start", &link, &PyTuple_Type, &apps, &context,
                          &PyDict_Type, &fixed, &threads, &describe, &entered))
        return NULL;
    gd_link *l = gd_link_of(link);
    wsgi_pool *pool = l ? calloc(1, sizeof *pool) : NULL;
    if (pool == NULL)
        return l ? PyErr_NoMemory() : NULL;
    PyObject *kept[] = {link, apps, context, fixed, describe, entered};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        Py_INCREF(kept[i]);
    *pool = (wsgi_pool){l, apps, context, fixed, describe, entered};
    for (int i = 0; i < threads; i++)
        if (start_thread(pool, i) < 0)
            return NULL;
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef functions[] = {
    {"wsgi_start", wsgi_start, METH_VARARGS,
     "Starts the pool threads that serve WSGI requests of a link, and returns."},
    {NULL, NULL, 0, NULL}};

/* ---- init ------------------------------------------------------------------------------ */

static PyObject *make_exception(PyObject *module, const char *name, const char *doc) {
    char full[64];
    snprintf(full, sizeof full, "guado._core.%s", name);
    PyObject *exception = PyErr_NewExceptionWithDoc(full, doc, PyExc_ConnectionResetError, NULL);
    if (exception != NULL && PyModule_AddObjectRef(module, name, exception) < 0)
        Py_CLEAR(exception);
    return exception;
}

static int make_names(PyObject *module) {
    static const struct {
        PyObject **at;
        const char *text;
    } names[] = {{&wsgi_name.copy, "copy"},   {&wsgi_name.run, "run"},
                 {&wsgi_name.close, "close"}, {&wsgi_name.raw, "raw"},
                 {&wsgi_name.read, "read"},   {&wsgi_name.flush, "flush"},
                 {&wsgi_name.tell, "tell"},   {&wsgi_name.fileno, "fileno"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*names[i].at = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    wsgi_name.client_disconnected = make_exception(
        module, "ClientDisconnected",
        "A read or write after the client left, the deadline passed, or the server stopped.");
    wsgi_name.body_cut =
        make_exception(module, "BodyCut", "The request body ended before it was complete.");
    PyObject *io = PyImport_ImportModule("io");
    if (io == NULL)
        return -1;
    wsgi_name.file_io = PyObject_GetAttrString(io, "FileIO");
    wsgi_name.buffered_reader = PyObject_GetAttrString(io, "BufferedReader");
    Py_DECREF(io);
    return wsgi_name.client_disconnected && wsgi_name.body_cut && wsgi_name.file_io &&
                   wsgi_name.buffered_reader
               ? 0
               : -1;
}

int gd_wsgi_init(PyObject *module) {
    if (make_names(module) < 0 || wsgi_environ_init() < 0 || wsgi_call_init() < 0 ||
        wsgi_response_init(module) < 0 || wsgi_input_init(module) < 0 ||
        wsgi_errors_init(module) < 0 || wsgi_file_init(module) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
