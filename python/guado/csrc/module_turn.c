/* A turn of a page, as the hidden application of worker/pages.py takes and answers it.
 * Before: stream.c has filed TURN. After: wsgi_call.c and asgi_exchange.c, which call it
 * and send what it returns. Not here: whose turn it is (the host), its story (pages.py).
 */
#include "module.h"

static PyObject *names[GD_TURN_WRITE + 1];

int gd_turn_init(void) {
    static const char *const texts[GD_TURN_WRITE + 1] = {
        "", "open", "message", "request", "snapshot", "close", "event", "on", "http", "write"};
    for (int i = GD_TURN_OPEN; i <= GD_TURN_WRITE; i++)
        if ((names[i] = PyUnicode_InternFromString(texts[i])) == NULL)
            return -1;
    return 0;
}

/* Texts of the host are UTF-8; a byte that is not does not stop a turn. */
static PyObject *text(gd_str s) {
    return PyUnicode_DecodeUTF8(s.at, (Py_ssize_t)s.len, "replace");
}

static PyObject *bytes(gd_str s) {
    return PyBytes_FromStringAndSize(s.at, (Py_ssize_t)s.len);
}

PyObject *gd_turn_args(const gd_turn *t, PyObject *handle) {
    PyObject *args = PyTuple_New(8);
    if (args == NULL)
        return NULL;
    PyObject *user = Py_None, *opened = t->opened ? Py_True : Py_False;
    Py_INCREF(names[t->do_]);
    Py_INCREF(opened);
    Py_INCREF(handle);
    if (t->user.len)
        user = text(t->user);
    else
        Py_INCREF(user);
    PyObject *const items[] = {names[t->do_],       opened,         text(t->page),  user,
                               text(t->connection), bytes(t->data), bytes(t->rest), handle};
    bool complete = true;
    for (Py_ssize_t i = 0; i < 8; i++) {
        complete = complete && items[i] != NULL;
        PyTuple_SetItem(args, i, items[i]);
    }
    if (!complete)
        Py_CLEAR(args);
    return args;
}

int gd_turn_answered(PyObject *result, gd_turn_answer *out) {
    PyObject *body = result;
    *out = (gd_turn_answer){.status = 200};
    if (PyTuple_Check(result) && PyTuple_Size(result) == 3) {
        long status = PyLong_AsLong(PyTuple_GetItem(result, 0));
        if (status == -1 && PyErr_Occurred())
            return -1;
        out->status = (uint16_t)status;
        body = PyTuple_GetItem(result, 1);
        PyObject *failure = PyTuple_GetItem(result, 2);
        out->failure = failure == Py_None ? NULL : failure;
    }
    char *at;
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(body, &at, &n) < 0)
        return -1;
    out->data = at;
    out->len = (size_t)n;
    return 0;
}

PyObject *gd_py_decode_turn(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *at;
    Py_ssize_t n;
    gd_request r = {0};
    if (!PyArg_ParseTuple(args, "y#:decode_turn", &at, &n))
        return NULL;
    if (gd_turn_decode((const uint8_t *)at, (size_t)n, &r) < 0) {
        PyErr_SetString(PyExc_ValueError, "corrupt");
        return NULL;
    }
    return Py_BuildValue("(IN)", (unsigned)r.app, gd_turn_args(&r.turn, Py_None));
}
