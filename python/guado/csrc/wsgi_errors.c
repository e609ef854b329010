/* wsgi.errors: a text stream that passes whole lines on to sys.stderr, so that lines
 * of several threads do not mix. Before: the application. After: sys.stderr, which
 * the host reads line by line. Not here: logging of failed requests (wsgi_call.c).
 */
#include "wsgi.h"

typedef struct {
    PyObject ob_base;
    PyObject *partial; /* str without its newline; NULL: none */
} wsgi_errors;

/* A strict sys.stderr (the application may have set one) refuses some characters. */
static int put_escaped(PyObject *stderr_file, PyObject *text) {
    PyErr_Clear();
    PyObject *bytes = PyUnicode_AsEncodedString(text, "ascii", "backslashreplace");
    PyObject *plain = bytes ? PyUnicode_FromEncodedObject(bytes, "ascii", "strict") : NULL;
    int result = plain ? PyFile_WriteObject(plain, stderr_file, Py_PRINT_RAW) : -1;
    Py_XDECREF(plain);
    Py_XDECREF(bytes);
    return result;
}

static int put(PyObject *text) {
    PyObject *stderr_file = PySys_GetObject("stderr");
    if (stderr_file == NULL || stderr_file == Py_None)
        return 0;
    Py_INCREF(stderr_file);
    int result = PyFile_WriteObject(text, stderr_file, Py_PRINT_RAW);
    if (result < 0 && PyErr_ExceptionMatches(PyExc_UnicodeError))
        result = put_escaped(stderr_file, text);
    if (result == 0) {
        PyObject *flushed = PyObject_CallMethodObjArgs(stderr_file, wsgi_name.flush, NULL);
        Py_XDECREF(flushed);
        result = flushed ? 0 : -1;
    }
    Py_DECREF(stderr_file);
    return result;
}

/* What is written from now on starts with the partial line. Takes the reference. */
static PyObject *join(wsgi_errors *e, PyObject *text) {
    PyObject *partial = e->partial;
    e->partial = NULL;
    if (partial == NULL)
        return text;
    PyObject *whole = PyUnicode_Concat(partial, text);
    Py_DECREF(partial);
    Py_DECREF(text);
    return whole;
}

static int write_text(wsgi_errors *e, PyObject *text) {
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "wsgi.errors takes str, not %R", (PyObject *)Py_TYPE(text));
        return -1;
    }
    Py_INCREF(text);
    PyObject *whole = join(e, text);
    if (whole == NULL)
        return -1;
    Py_ssize_t n = PyUnicode_GetLength(whole);
    Py_ssize_t newline = PyUnicode_FindChar(whole, '\n', 0, n, -1);
    int result = newline < -1 ? -1 : 0;
    if (newline >= 0 && newline + 1 == n) {
        result = put(whole);
    } else if (newline >= 0) {
        PyObject *lines = PyUnicode_Substring(whole, 0, newline + 1);
        PyObject *rest = PyUnicode_Substring(whole, newline + 1, n);
        result = lines && rest ? put(lines) : -1;
        Py_XDECREF(lines);
        if (rest != NULL && e->partial == NULL)
            e->partial = rest;
        else
            Py_XDECREF(rest);
    } else if (result == 0 && n > 0) {
        Py_INCREF(whole);
        e->partial = whole;
    }
    Py_DECREF(whole);
    return result;
}

static int finish(wsgi_errors *e) {
    if (e->partial == NULL)
        return 0;
    PyObject *text = e->partial;
    e->partial = NULL;
    int result = put(text);
    Py_DECREF(text);
    return result;
}

void wsgi_errors_end(PyObject *errors) {
    wsgi_errors *e = (wsgi_errors *)errors;
    if (e->partial == NULL)
        return;
    PyObject *newline = PyUnicode_FromString("\n");
    if (newline == NULL || write_text(e, newline) < 0)
        PyErr_WriteUnraisable(errors);
    Py_XDECREF(newline);
}

static PyObject *errors_write(PyObject *self, PyObject *text) {
    if (write_text((wsgi_errors *)self, text) < 0)
        return NULL;
    return PyLong_FromSsize_t(PyUnicode_GetLength(text));
}

static PyObject *errors_writelines(PyObject *self, PyObject *lines) {
    PyObject *it = PyObject_GetIter(lines), *line;
    if (it == NULL)
        return NULL;
    int result = 0;
    while (result == 0 && (line = PyIter_Next(it)) != NULL) {
        result = write_text((wsgi_errors *)self, line);
        Py_DECREF(line);
    }
    Py_DECREF(it);
    if (result < 0 || PyErr_Occurred())
        return NULL;
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *errors_flush(PyObject *self, PyObject *Py_UNUSED(none)) {
    if (finish((wsgi_errors *)self) < 0)
        return NULL;
    Py_INCREF(Py_None);
    return Py_None;
}

static void errors_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((wsgi_errors *)self)->partial);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject *wsgi_errors_new(void) {
    wsgi_errors *e = PyObject_New(wsgi_errors, wsgi_name.errors);
    if (e != NULL)
        e->partial = NULL;
    return (PyObject *)e;
}

static PyMethodDef errors_methods[] = {
    {"write", errors_write, METH_O, "write(text) -> characters"},
    {"writelines", errors_writelines, METH_O, "writelines(iterable of text)"},
    {"flush", errors_flush, METH_NOARGS, "Passes on a line that has no end yet."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot errors_slots[] = {
    {Py_tp_dealloc, errors_dealloc},
    {Py_tp_methods, errors_methods},
    {Py_tp_doc, "Text for the operator: whole lines go to sys.stderr."},
    {0, NULL}};

static PyType_Spec errors_spec = {"guado._core.WsgiErrors", sizeof(wsgi_errors), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                                      Py_TPFLAGS_IMMUTABLETYPE,
                                  errors_slots};

int wsgi_errors_init(PyObject *module) {
    wsgi_name.errors = (PyTypeObject *)PyType_FromModuleAndSpec(module, &errors_spec, NULL);
    return wsgi_name.errors ? 0 : -1;
}
