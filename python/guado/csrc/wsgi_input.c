/* wsgi.input: the body of one request as a binary file that is read once, forward.
 * Before: the host has spooled the body or sends it as it is read. After: gd_read.
 * Not here: limits and 100 Continue, which are the host's and the link's.
 *
 * A body that was cut never ends: every read from then on raises.
 */
#include "wsgi.h"

#include <stdlib.h>
#include <string.h>

enum { GUESS = 65536, LINE_BLOCK = 8192, KEEP_BLOCK = 65536 };

typedef struct {
    PyObject ob_base;
    gd_stream *stream; /* NULL: the request has ended */
    int64_t left;      /* bytes that the link has still to give; -1 unknown */
    char *block;       /* read ahead by readline */
    size_t at, end, room;
    int failed; /* the result that every read gives from now on */
    bool ended;
    bool reading; /* a thread is inside the link without the GIL */
} wsgi_input;

static int usable(wsgi_input *in) {
    if (in->stream == NULL) {
        PyErr_SetString(PyExc_ValueError, "wsgi.input was read after its request had ended");
        return -1;
    }
    if (in->reading) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is reading wsgi.input");
        return -1;
    }
    return in->failed ? wsgi_raise(in->failed, in->stream) : 0;
}

/* At least one byte into `to`; 0 at the end of the body, -1 with an exception. */
static Py_ssize_t fetch(wsgi_input *in, char *to, size_t n) {
    if (in->ended || n == 0)
        return 0;
    if (in->left >= 0 && n > (uint64_t)in->left)
        n = (size_t)in->left;
    ssize_t got = gd_read_now(in->stream, to, n);
    if (got == GD_AGAIN) {
        in->reading = true;
        WSGI_NOGIL(got = gd_read(in->stream, to, n));
        in->reading = false;
        wsgi_idle();
    }
    if (got > 0) {
        if (in->left >= 0)
            in->ended = (in->left -= got) == 0;
        return (Py_ssize_t)got;
    }
    if (got == 0 && in->left > 0)
        got = GD_CUT; /* shorter than its Content-Length */
    if (got == 0) {
        in->ended = true;
        return 0;
    }
    in->failed = (int)got;
    return wsgi_raise(in->failed, in->stream);
}

static size_t ahead(const wsgi_input *in) {
    return in->end - in->at;
}

static size_t take(wsgi_input *in, char *to, size_t n) {
    if (n > ahead(in))
        n = ahead(in);
    if (n > 0)
        memcpy(to, in->block + in->at, n);
    in->at += n;
    return n;
}

/* Fills to[0, n): fewer at the end of the body only. */
static Py_ssize_t fill(wsgi_input *in, char *to, size_t n) {
    size_t have = take(in, to, n);
    while (have < n) {
        Py_ssize_t got = fetch(in, to + have, n - have);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (Py_ssize_t)have;
}

/* The stable ABI cannot shrink a bytes object; only the last read of a body of unknown
 * length comes here. Takes the reference. */
static PyObject *shorten(PyObject *bytes, Py_ssize_t size, Py_ssize_t have) {
    if (have == size)
        return bytes;
    PyObject *shorter = have < 0 ? NULL : PyBytes_FromStringAndSize(PyBytes_AsString(bytes), have);
    Py_DECREF(bytes);
    return shorter;
}

/* Straight into the bytes object that the application gets. */
static PyObject *read_exactly(wsgi_input *in, Py_ssize_t size) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes == NULL)
        return NULL;
    return shorten(bytes, size, fill(in, PyBytes_AsString(bytes), (size_t)size));
}

/* Nobody knows how much will come. */
static PyObject *read_growing(wsgi_input *in, Py_ssize_t limit) {
    size_t room = ahead(in) + GUESS, have = 0;
    char *all = NULL;
    PyObject *bytes = NULL;
    for (;;) {
        if (limit >= 0 && room > (size_t)limit)
            room = (size_t)limit;
        char *more = realloc(all, room);
        if (more == NULL) {
            PyErr_NoMemory();
            break;
        }
        all = more;
        Py_ssize_t got = fill(in, all + have, room - have);
        if (got < 0)
            break;
        have += (size_t)got;
        if (have < room || have == (size_t)limit) {
            bytes = PyBytes_FromStringAndSize(all, (Py_ssize_t)have);
            break;
        }
        room *= 2;
    }
    free(all);
    return bytes;
}

static PyObject *read_bytes(wsgi_input *in, Py_ssize_t limit) {
    int64_t left = in->ended ? 0 : in->left;
    if (left >= 0) {
        left += (int64_t)ahead(in);
        return read_exactly(in, limit >= 0 && limit < left ? limit : (Py_ssize_t)left);
    }
    return limit >= 0 && limit <= GUESS ? read_exactly(in, limit) : read_growing(in, limit);
}

/* The optional size of read, readline and readlines: -1 when absent, None or negative. */
static int take_size(PyObject *self, PyObject *const *args, Py_ssize_t nargs, const char *what,
                     Py_ssize_t *size) {
    *size = -1;
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most one argument", what);
        return -1;
    }
    if (nargs == 1 && args[0] != Py_None) {
        *size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
        if (*size == -1 && PyErr_Occurred())
            return -1;
        if (*size < 0)
            *size = -1;
    }
    return usable((wsgi_input *)self);
}

static PyObject *input_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    Py_ssize_t size;
    if (take_size(self, args, nargs, "read", &size) < 0)
        return NULL;
    return read_bytes((wsgi_input *)self, size);
}

/* At most one look at the link: what is there now, as io.BufferedReader.read1 gives it. */
static PyObject *input_read1(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    wsgi_input *in = (wsgi_input *)self;
    Py_ssize_t size;
    if (take_size(self, args, nargs, "read1", &size) < 0)
        return NULL;
    size_t there = ahead(in);
    int ended;
    if (there == 0 && in->left != 0)
        there = gd_readable(in->stream, &ended);
    if (there == 0)
        there = LINE_BLOCK; /* the wait gives that much at most */
    if (size < 0 || (size_t)size > there)
        size = (Py_ssize_t)there;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes == NULL)
        return NULL;
    Py_ssize_t have = (Py_ssize_t)take(in, PyBytes_AsString(bytes), (size_t)size);
    if (have == 0)
        have = fetch(in, PyBytes_AsString(bytes), (size_t)size);
    return shorten(bytes, size, have);
}

static PyObject *input_readinto(PyObject *self, PyObject *target) {
    wsgi_input *in = (wsgi_input *)self;
    Py_buffer view;
    if (usable(in) < 0 || PyObject_GetBuffer(target, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    Py_ssize_t have = fill(in, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return have < 0 ? NULL : PyLong_FromSsize_t(have);
}

/* Makes room for another LINE_BLOCK at least behind what was read ahead. */
static int make_room(wsgi_input *in) {
    if (in->at > 0) {
        memmove(in->block, in->block + in->at, ahead(in));
        in->end -= in->at;
        in->at = 0;
    }
    if (in->room - in->end >= LINE_BLOCK)
        return 0;
    size_t room = in->room ? in->room * 2 : 2 * LINE_BLOCK;
    char *block = realloc(in->block, room);
    if (block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    in->block = block;
    in->room = room;
    return 0;
}

static PyObject *read_line(wsgi_input *in, Py_ssize_t limit) {
    size_t most = limit < 0 ? SIZE_MAX : (size_t)limit, looked = 0, n;
    if (in->block == NULL && (most == 0 || in->ended || make_room(in) < 0))
        return PyErr_Occurred() ? NULL : PyBytes_FromStringAndSize(NULL, 0);
    for (;;) {
        size_t have = ahead(in) < most ? ahead(in) : most;
        const char *from = in->block + in->at;
        const char *newline = have > looked ? memchr(from + looked, '\n', have - looked) : NULL;
        if (newline != NULL) {
            n = (size_t)(newline - from) + 1;
            break;
        }
        looked = n = have;
        if (have == most)
            break;
        if (!in->ended && make_room(in) < 0)
            return NULL;
        Py_ssize_t got = fetch(in, in->block + in->end, in->room - in->end);
        if (got < 0)
            return NULL;
        if (got == 0)
            break;
        in->end += (size_t)got;
    }
    PyObject *line = PyBytes_FromStringAndSize(in->block + in->at, (Py_ssize_t)n);
    if (line != NULL)
        in->at += n;
    return line;
}

static PyObject *input_readline(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    Py_ssize_t size;
    if (take_size(self, args, nargs, "readline", &size) < 0)
        return NULL;
    return read_line((wsgi_input *)self, size);
}

static PyObject *input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    Py_ssize_t hint, total = 0;
    if (take_size(self, args, nargs, "readlines", &hint) < 0)
        return NULL;
    PyObject *lines = PyList_New(0);
    while (lines != NULL) {
        PyObject *line = read_line((wsgi_input *)self, -1);
        Py_ssize_t n = line ? PyBytes_Size(line) : 0;
        int failed = line == NULL || (n > 0 && PyList_Append(lines, line) < 0);
        Py_XDECREF(line);
        if (failed) {
            Py_DECREF(lines);
            return NULL;
        }
        total += n;
        if (n == 0 || (hint > 0 && total >= hint))
            break;
    }
    return lines;
}

static PyObject *input_next(PyObject *self) {
    if (usable((wsgi_input *)self) < 0)
        return NULL;
    PyObject *line = read_line((wsgi_input *)self, -1);
    if (line != NULL && PyBytes_Size(line) == 0) {
        Py_DECREF(line);
        return NULL;
    }
    return line;
}

static PyObject *input_iter(PyObject *self) {
    Py_INCREF(self);
    return self;
}

PyObject *wsgi_input_new(void) {
    wsgi_input *in = PyObject_New(wsgi_input, wsgi_name.input);
    if (in != NULL)
        memset((char *)in + sizeof(PyObject), 0, sizeof *in - sizeof(PyObject));
    return (PyObject *)in;
}

void wsgi_input_begin(PyObject *input, gd_stream *s) {
    wsgi_input *in = (wsgi_input *)input;
    in->stream = s;
    in->left = gd_stream_request(s)->length;
    in->at = in->end = 0;
    in->failed = 0;
    in->ended = in->left == 0;
}

bool wsgi_input_busy(PyObject *input) {
    return ((wsgi_input *)input)->reading;
}

void wsgi_input_end(PyObject *input) {
    wsgi_input *in = (wsgi_input *)input;
    wsgi_await_idle(&in->reading);
    in->stream = NULL;
    in->at = in->end = 0;
    if (in->room > KEEP_BLOCK) {
        free(in->block);
        in->block = NULL;
        in->room = 0;
    }
}

static void input_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    free(((wsgi_input *)self)->block);
    PyObject_Free(self);
    Py_DECREF(type);
}

#define FAST(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL

static PyMethodDef input_methods[] = {
    {"read", FAST(input_read), "read(size=-1) -> bytes; all of the rest without a size"},
    {"read1", FAST(input_read1), "read1(size=-1) -> bytes that are there now"},
    {"readinto", input_readinto, METH_O, "readinto(buffer) -> bytes read"},
    {"readline", FAST(input_readline), "readline(size=-1) -> bytes with the newline"},
    {"readlines", FAST(input_readlines), "readlines(hint=-1) -> list of lines"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot input_slots[] = {
    {Py_tp_dealloc, input_dealloc},
    {Py_tp_methods, input_methods},
    {Py_tp_iter, input_iter},
    {Py_tp_iternext, input_next},
    {Py_tp_doc, "The request's body; b'' at its end, an OSError when it was cut."},
    {0, NULL}};

static PyType_Spec input_spec = {
    "guado._core.WsgiInput", sizeof(wsgi_input), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, input_slots};

int wsgi_input_init(PyObject *module) {
    wsgi_name.input = (PyTypeObject *)PyType_FromModuleAndSpec(module, &input_spec, NULL);
    return wsgi_name.input ? 0 : -1;
}
