/* wsgi.file_wrapper: iterates a file in blocks, or tells wsgi_call.c that the file can
 * go to the host by descriptor. Before: the application returns it. After: gd_file.
 * Not here: sending.
 */
#include "wsgi.h"

#include <stddef.h>
#include <structmember.h>
#include <sys/stat.h>

typedef struct {
    PyObject ob_base;
    PyObject *filelike;
    Py_ssize_t block_size;
} wsgi_file;

static PyObject *file_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"filelike", "blksize", NULL};
    PyObject *filelike;
    Py_ssize_t block_size = 8192;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:file_wrapper", names, &filelike,
                                     &block_size))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    wsgi_file *f = (wsgi_file *)alloc(type, 0);
    if (f == NULL)
        return NULL;
    Py_INCREF(filelike);
    f->filelike = filelike;
    f->block_size = block_size;
    return (PyObject *)f;
}

static int file_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((wsgi_file *)self)->filelike);
    return 0;
}

static int file_clear(PyObject *self) {
    Py_CLEAR(((wsgi_file *)self)->filelike);
    return 0;
}

static void file_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    file_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *file_iter(PyObject *self) {
    Py_INCREF(self);
    return self;
}

static PyObject *file_next(PyObject *self) {
    wsgi_file *f = (wsgi_file *)self;
    PyObject *size = PyLong_FromSsize_t(f->block_size);
    if (size == NULL)
        return NULL;
    PyObject *block = PyObject_CallMethodObjArgs(f->filelike, wsgi_name.read, size, NULL);
    Py_DECREF(size);
    if (block == NULL)
        return NULL;
    int more = PyObject_IsTrue(block);
    if (more <= 0)
        Py_CLEAR(block);
    return block;
}

static PyObject *file_close(PyObject *self, PyObject *Py_UNUSED(none)) {
    PyObject *close = PyObject_GetAttr(((wsgi_file *)self)->filelike, wsgi_name.close);
    if (close == NULL) { /* a file-like object needs none (PEP 3333) */
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return NULL;
        PyErr_Clear();
        Py_INCREF(Py_None);
        return Py_None;
    }
    PyObject *result = PyObject_CallNoArgs(close);
    Py_DECREF(close);
    return result;
}

static int call_size(PyObject *o, PyObject *method, long long *out) {
    PyObject *value = PyObject_CallMethodObjArgs(o, method, NULL);
    if (value == NULL)
        return -1;
    *out = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

/* FileIO, or BufferedReader over one: of these alone is it known that the bytes of the
 * descriptor from tell() on are what read() would give. */
static int is_plain(PyObject *file) {
    if ((PyObject *)Py_TYPE(file) == wsgi_name.file_io)
        return 1;
    if ((PyObject *)Py_TYPE(file) != wsgi_name.buffered_reader)
        return 0;
    PyObject *raw = PyObject_GetAttr(file, wsgi_name.raw);
    if (raw == NULL)
        return -1;
    int plain = (PyObject *)Py_TYPE(raw) == wsgi_name.file_io;
    Py_DECREF(raw);
    return plain;
}

int wsgi_file_regular(PyObject *wrapper, int *fd, uint64_t *offset, uint64_t *count) {
    if (Py_TYPE(wrapper) != wsgi_name.file_wrapper)
        return 0;
    PyObject *file = ((wsgi_file *)wrapper)->filelike;
    int plain = is_plain(file);
    long long number, position;
    if (plain > 0 && (call_size(file, wsgi_name.fileno, &number) < 0 ||
                      call_size(file, wsgi_name.tell, &position) < 0))
        plain = -1;
    if (plain <= 0) {
        PyErr_Clear(); /* a closed file, a pipe: reading it says what is wrong */
        return 0;
    }
    struct stat st;
    /* A size of 0 may be a file of /proc, whose bytes only read() knows. */
    if (fstat((int)number, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
        position >= st.st_size)
        return 0;
    *fd = (int)number;
    *offset = (uint64_t)position;
    *count = (uint64_t)(st.st_size - position);
    return 1;
}

static PyMethodDef file_methods[] = {
    {"close", file_close, METH_NOARGS, "Closes the file, if it can be closed."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef file_members[] = {
    {"filelike", T_OBJECT, offsetof(wsgi_file, filelike), READONLY, NULL}, {NULL, 0, 0, 0, NULL}};

static PyType_Slot file_slots[] = {
    {Py_tp_new, file_new},
    {Py_tp_dealloc, file_dealloc},
    {Py_tp_traverse, file_traverse},
    {Py_tp_clear, file_clear},
    {Py_tp_iter, file_iter},
    {Py_tp_iternext, file_next},
    {Py_tp_methods, file_methods},
    {Py_tp_members, file_members},
    {Py_tp_doc, "file_wrapper(filelike, blksize=8192): a file as an answer's body."},
    {0, NULL}};

static PyType_Spec file_spec = {"guado._core.FileWrapper", sizeof(wsgi_file), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
                                file_slots};

int wsgi_file_init(PyObject *module) {
    wsgi_name.file_wrapper = (PyTypeObject *)PyType_FromModuleAndSpec(module, &file_spec, NULL);
    if (wsgi_name.file_wrapper == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "FileWrapper", (PyObject *)wsgi_name.file_wrapper);
}
