/* Files of an answer: http.response.pathsend and http.response.zerocopysend.
 * Before: asgi_send.c. After: gd_file passes the descriptor to the host, which uses
 * sendfile(2). Not here: ranges and header fields, which are the application's.
 */
#include "asgi.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static PyObject *ended(void) {
    PyErr_SetString(PyExc_RuntimeError, "the exchange has ended meanwhile");
    return NULL;
}

/* Sends `count` bytes at `offset` as a part of the body. The link keeps its own
 * duplicate of the descriptor. */
static PyObject *put_file(gd_asgi_exchange *x, int fd, uint64_t offset, uint64_t count, int more) {
    if (count == 0 || x->bodiless) {
        /* Still counts, and gives HEAD the length that GET would have. */
        if (x->phase == GD_ASGI_HELD && !more && x->held->length < 0 && count > 0)
            x->held->length = (int64_t)count;
        return gd_asgi_put(x, "", 0, more);
    }
    if (gd_asgi_count(x, count, more) < 0)
        return NULL;
    if (x->phase == GD_ASGI_HELD) {
        if (!more && x->held->length < 0)
            x->held->length = x->length = x->sent;
        PyObject *sent = gd_asgi_put(x, "", 0, 1);
        if (sent == NULL)
            return NULL;
        Py_DECREF(sent);
    }
    int flags = more ? 0 : gd_asgi_end_of_body(x);
    ssize_t result = gd_file(x->stream, fd, offset, count, flags, 0);
    if (x->phase == GD_ASGI_COMPLETE)
        gd_asgi_wake(x, GD_WAIT_RECEIVE);
    return gd_asgi_sent(x, result);
}

static PyObject *not_regular(PyObject *what) {
    PyErr_Format(PyExc_ValueError, "%R is not a regular file: send its bytes", what);
    return NULL;
}

PyObject *gd_asgi_pathsend(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase != GD_ASGI_HELD) {
        PyErr_SetString(PyExc_RuntimeError,
                        "'http.response.pathsend' must follow 'http.response.start' and cannot be "
                        "mixed with other body messages");
        return NULL;
    }
    PyObject *path = gd_asgi_item(message, gd_names.path), *encoded = NULL;
    if (path == NULL || !PyUnicode_Check(path)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError,
                            "'path' of 'http.response.pathsend' must be an absolute path (str)");
        return NULL;
    }
    if (!PyUnicode_FSConverter(path, &encoded))
        return NULL;
    const char *name = PyBytes_AsString(encoded);
    if (name[0] != '/') {
        PyErr_Format(PyExc_ValueError, "'http.response.pathsend': %R is not an absolute path",
                     path);
        Py_DECREF(encoded);
        return NULL;
    }
    struct stat st;
    int fd;
    Py_BEGIN_ALLOW_THREADS /* a file system may be slow */
        /* O_NONBLOCK: a FIFO must not hang the loop before it is refused. */
        fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) < 0) {
        int error = errno;
        close(fd);
        fd = -1;
        errno = error;
    }
    Py_END_ALLOW_THREADS Py_DECREF(encoded);
    if (fd < 0)
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    PyObject *result;
    if (!S_ISREG(st.st_mode))
        result = not_regular(path);
    else if (x->stream == NULL || x->phase != GD_ASGI_HELD)
        result = ended();
    else
        result = put_file(x, fd, 0, (uint64_t)st.st_size, 0);
    close(fd);
    return result;
}

/* An optional int >= 0 of a message; *value stays when it is missing or None. */
static int number(PyObject *message, PyObject *key, int64_t *value) {
    PyObject *item = gd_asgi_item(message, key);
    if (item == NULL || item == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    if (!PyLong_Check(item)) {
        PyErr_Format(PyExc_TypeError, "%R of 'http.response.zerocopysend' must be an int", key);
        return -1;
    }
    *value = PyLong_AsLongLong(item);
    if (*value < 0) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "%R of 'http.response.zerocopysend' is negative", key);
        return -1;
    }
    return 0;
}

/* Where a file without `offset` is read: what the file object says, else the descriptor. */
static int64_t position(PyObject *file, int fd) {
    if (PyLong_Check(file))
        return lseek(fd, 0, SEEK_CUR);
    PyObject *at = PyObject_CallMethodObjArgs(file, gd_names.tell, NULL);
    if (at == NULL)
        return -1;
    int64_t result = PyLong_AsLongLong(at);
    Py_DECREF(at);
    return result;
}

/* The next message without `offset` goes on behind this one, as with os.sendfile. */
static int advance(PyObject *file, int fd, int64_t to) {
    if (PyLong_Check(file))
        return lseek(fd, to, SEEK_SET) < 0 ? -1 : 0;
    PyObject *at = PyLong_FromLongLong(to);
    PyObject *done = at != NULL ? PyObject_CallMethodObjArgs(file, gd_names.seek, at, NULL) : NULL;
    Py_XDECREF(at);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *io_error(void) {
    return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *gd_asgi_zerocopysend(gd_asgi_exchange *x, PyObject *message) {
    if (x->phase != GD_ASGI_HELD && x->phase != GD_ASGI_BODY) {
        PyErr_SetString(PyExc_RuntimeError,
                        "'http.response.zerocopysend' must come between 'http.response.start' and "
                        "the last of the body");
        return NULL;
    }
    PyObject *file = gd_asgi_item(message, gd_names.file);
    if (file == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "message 'http.response.zerocopysend' has no 'file'");
        return NULL;
    }
    int64_t offset = -1, count = -1;
    int more = gd_asgi_flag(message, gd_names.more_body, 0);
    if (more < 0 || number(message, gd_names.offset, &offset) < 0 ||
        number(message, gd_names.count, &count) < 0)
        return NULL;
    int fd = PyObject_AsFileDescriptor(file);
    if (fd < 0)
        return NULL;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return io_error();
    if (!S_ISREG(st.st_mode))
        return not_regular(file);
    int moves = offset < 0;
    if (moves && (offset = position(file, fd)) < 0)
        return io_error();
    int64_t rest = st.st_size > offset ? st.st_size - offset : 0;
    if (count < 0 || count > rest)
        count = rest;
    if (x->stream == NULL || (x->phase != GD_ASGI_HELD && x->phase != GD_ASGI_BODY))
        return ended();
    PyObject *result = put_file(x, fd, (uint64_t)offset, (uint64_t)count, more);
    if (result != NULL && moves && advance(file, fd, offset + count) < 0) {
        Py_DECREF(result);
        return io_error();
    }
    return result;
}
