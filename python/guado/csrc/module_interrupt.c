/* What worker/interrupt.py does with INTERRUPT, and guado.RequestTimeout for all of C.
 * Before: interrupt.c filed it. After: wsgi_interrupt.c and asgi_interrupt.c, which know
 * the code that is to be interrupted. Not here: patience, and what is logged.
 */
#include "asgi.h"
#include "wsgi.h"

PyObject *gd_request_timeout;

static PyObject *next_interrupt(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *link;
    int timeout_ms, result;
    if (!PyArg_ParseTuple(args, "Oi:next_interrupt", &link, &timeout_ms))
        return NULL;
    gd_link *l = gd_link_of(link);
    if (l == NULL)
        return NULL;
    gd_stats_python(l);
    Py_BEGIN_ALLOW_THREADS;
    result = gd_interrupt_wait(l, timeout_ms);
    Py_END_ALLOW_THREADS;
    gd_stats_python(l);
    uint32_t stream;
    if (result == GD_OK && gd_interrupt_take(l, &stream))
        return PyLong_FromUnsignedLong(stream);
    if (result < 0 && result != GD_TIMEOUT)
        return gd_raise(result);
    Py_RETURN_NONE;
}

static PyObject *under_way(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *link;
    unsigned stream;
    if (!PyArg_ParseTuple(args, "OI:under_way", &link, &stream))
        return NULL;
    gd_link *l = gd_link_of(link);
    return l ? PyBool_FromLong(gd_under_way(l, stream)) : NULL;
}

static PyObject *dump_signal(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *link;
    int number;
    if (!PyArg_ParseTuple(args, "Oi:dump_signal", &link, &number))
        return NULL;
    gd_link *l = gd_link_of(link);
    if (l == NULL)
        return NULL;
    gd_interrupt_signal(l, number);
    Py_RETURN_NONE;
}

static PyObject *interrupt(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned stream;
    if (!PyArg_ParseTuple(args, "I:interrupt", &stream))
        return NULL;
    unsigned long thread = wsgi_interrupt(stream);
    if (thread == 0)
        thread = gd_asgi_interrupt(stream);
    return PyLong_FromUnsignedLong(thread);
}

static PyObject *task_of(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned stream;
    if (!PyArg_ParseTuple(args, "I:task_of", &stream))
        return NULL;
    PyObject *task = gd_asgi_task(stream);
    if (task == NULL)
        Py_RETURN_NONE;
    Py_INCREF(task);
    return task;
}

static PyMethodDef functions[] = {
    {"next_interrupt", next_interrupt, METH_VARARGS,
     "next_interrupt(link, timeout_ms): the stream of an INTERRUPT, or None."},
    {"under_way", under_way, METH_VARARGS,
     "under_way(link, stream): whether the application still has the request."},
    {"dump_signal", dump_signal, METH_VARARGS,
     "dump_signal(link, number): the signal that prints all stacks, for when the GIL is held."},
    {"interrupt", interrupt, METH_VARARGS,
     "interrupt(stream): interrupts the application where it runs, once; the thread, or 0."},
    {"task_of", task_of, METH_VARARGS, "task_of(stream): the task of an ASGI request, or None."},
    {NULL, NULL, 0, NULL}};

int gd_interrupt_init(PyObject *module) {
    PyObject *guado = PyImport_ImportModule("guado");
    gd_request_timeout = guado ? PyObject_GetAttrString(guado, "RequestTimeout") : NULL;
    Py_XDECREF(guado);
    return gd_request_timeout ? PyModule_AddFunctions(module, functions) : -1;
}
