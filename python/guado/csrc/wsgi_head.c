/* Checks a status line and a header list as start_response gets them and keeps them
 * as bytes. Before: the application's call (wsgi_response.c). After: gd_commit.
 * Not here: when the head leaves.
 */
#include "wsgi.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN = 1, TEXT = 2 };

/* RFC 9110: token characters for names; for values and the reason HTAB, SP, visible
 * characters and obs-text. Everything else could end a line or a header early. */
static uint8_t classes[256];

static void make_classes(void) {
    for (int c = 0x20; c < 0x100; c++)
        if (c != 0x7f)
            classes[c] = TEXT;
    classes['\t'] = TEXT;
    for (int c = 0; c < 26; c++) {
        classes['a' + c] |= TOKEN;
        classes['A' + c] |= TOKEN;
    }
    for (const char *p = "0123456789!#$%&'*+-.^_`|~"; *p; p++)
        classes[(uint8_t)*p] |= TOKEN;
}

static bool all_of(const char *p, size_t n, uint8_t class) {
    for (size_t i = 0; i < n; i++)
        if (!(classes[(uint8_t)p[i]] & class))
            return false;
    return true;
}

/* The latin-1 bytes of a str: an ASCII str's own memory, else a temporary that the
 * caller drops. */
static const char *latin1(PyObject *str, const char *what, Py_ssize_t *n, PyObject **temporary) {
    *temporary = NULL;
    const char *at = PyUnicode_AsUTF8AndSize(str, n);
    if (at != NULL && PyUnicode_GetLength(str) == *n)
        return at;
    PyErr_Clear();
    PyObject *bytes = PyUnicode_AsLatin1String(str);
    if (bytes == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     "%s %R has characters outside latin-1; encode them first (PEP 3333)", what,
                     str);
        return NULL;
    }
    char *text;
    if (PyBytes_AsStringAndSize(bytes, &text, n) < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    *temporary = bytes;
    return text;
}

static int reserve_text(wsgi_head *h, size_t more) {
    size_t want = h->used + more + 1; /* never NULL, even for an empty text */
    if (want <= h->room)
        return 0;
    if (want > UINT32_MAX / 2) {
        PyErr_SetString(PyExc_ValueError, "response headers are too large");
        return -1;
    }
    size_t room = h->room ? h->room * 2 : 1024;
    while (room < want)
        room *= 2;
    char *text = realloc(h->text, room);
    if (text == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    h->text = text;
    h->room = room;
    return 0;
}

static int reserve_field(wsgi_head *h) {
    if (h->count < h->fields_room)
        return 0;
    if (h->count == UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many response headers");
        return -1;
    }
    size_t room = h->fields_room ? h->fields_room * 2 : 32;
    wsgi_field *fields = realloc(h->fields, room * sizeof *fields);
    if (fields != NULL)
        h->fields = fields;
    gd_field *wire = realloc(h->wire, room * sizeof *wire);
    if (wire != NULL)
        h->wire = wire;
    if (fields == NULL || wire == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    h->fields_room = room;
    return 0;
}

static bool same_name(const char *p, size_t n, const char *lower, size_t lower_len) {
    if (n != lower_len)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != lower[i])
            return false;
    }
    return true;
}

#define NAMED(p, n, lower) same_name(p, n, lower, sizeof(lower) - 1)

/* Those that belong to one connection, not to the answer; PEP 3333 forbids them. */
static bool hop_by_hop(const char *p, size_t n) {
    switch (p[0] | 0x20) {
    case 'c':
        return NAMED(p, n, "connection");
    case 'k':
        return NAMED(p, n, "keep-alive");
    case 'p':
        return NAMED(p, n, "proxy-authenticate") || NAMED(p, n, "proxy-authorization") ||
               NAMED(p, n, "proxy-connection");
    case 't':
        return NAMED(p, n, "te") || NAMED(p, n, "trailer") || NAMED(p, n, "trailers") ||
               NAMED(p, n, "transfer-encoding");
    case 'u':
        return NAMED(p, n, "upgrade");
    default:
        return false;
    }
}

static int take_length(wsgi_head *h, const char *value, size_t n, PyObject *shown) {
    int64_t length = 0;
    bool valid = n > 0 && n <= 18;
    for (size_t i = 0; valid && i < n; i++) {
        valid = value[i] >= '0' && value[i] <= '9';
        length = length * 10 + (value[i] - '0');
    }
    if (!valid) {
        PyErr_Format(PyExc_ValueError, "Content-Length %R is not a number of bytes", shown);
        return -1;
    }
    if (h->length >= 0 && h->length != length) {
        PyErr_Format(PyExc_ValueError, "two different Content-Length headers: %lld and %lld",
                     (long long)h->length, (long long)length);
        return -1;
    }
    h->length = length;
    return 0;
}

static int put_field(wsgi_head *h, const char *name, size_t name_len, const char *value,
                     size_t value_len) {
    if (reserve_field(h) < 0 || reserve_text(h, name_len + value_len) < 0)
        return -1;
    wsgi_field *f = &h->fields[h->count++];
    f->name = (uint32_t)h->used;
    f->name_len = (uint32_t)name_len;
    memcpy(h->text + h->used, name, name_len);
    h->used += name_len;
    f->value = (uint32_t)h->used;
    f->value_len = (uint32_t)value_len;
    memcpy(h->text + h->used, value, value_len);
    h->used += value_len;
    return 0;
}

static int check_name(PyObject *shown, const char *name, size_t n) {
    if (n == 0 || n > UINT16_MAX || !all_of(name, n, TOKEN)) {
        PyErr_Format(PyExc_ValueError, "response header name %R is not a token (RFC 9110)", shown);
        return -1;
    }
    if (hop_by_hop(name, n)) {
        PyErr_Format(PyExc_ValueError,
                     "response header %R belongs to the connection, which is the server's "
                     "(hop-by-hop, PEP 3333)",
                     shown);
        return -1;
    }
    return 0;
}

static int take_field(wsgi_head *h, PyObject *name, PyObject *value) {
    if (!PyUnicode_Check(name) || !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "response header %R: %R must be two str", name, value);
        return -1;
    }
    Py_ssize_t name_len, value_len;
    PyObject *name_temporary, *value_temporary;
    const char *name_text = latin1(name, "response header name", &name_len, &name_temporary);
    if (name_text == NULL)
        return -1;
    int result = -1;
    const char *value_text = NULL;
    if (check_name(name, name_text, (size_t)name_len) == 0)
        value_text = latin1(value, "response header value", &value_len, &value_temporary);
    if (value_text != NULL) {
        const char *from = value_text, *to = value_text + value_len;
        while (from < to && (*from == ' ' || *from == '\t'))
            from++;
        while (from < to && (to[-1] == ' ' || to[-1] == '\t'))
            to--;
        size_t n = (size_t)(to - from);
        if (!all_of(from, n, TEXT))
            PyErr_Format(PyExc_ValueError, "response header %R: value %R has control characters",
                         name, value);
        else if (NAMED(name_text, (size_t)name_len, "content-length"))
            result = take_length(h, from, n, value);
        else
            result = put_field(h, name_text, (size_t)name_len, from, n);
        Py_XDECREF(value_temporary);
    }
    Py_XDECREF(name_temporary);
    return result;
}

static int take_item(wsgi_head *h, PyObject *item) {
    if (PyTuple_Check(item) && PyTuple_Size(item) == 2)
        return take_field(h, PyTuple_GetItem(item, 0), PyTuple_GetItem(item, 1));
    if (PyList_Check(item) && PyList_Size(item) == 2)
        return take_field(h, PyList_GetItem(item, 0), PyList_GetItem(item, 1));
    PyErr_Format(PyExc_TypeError, "response headers must be (name, value) tuples, not %R", item);
    return -1;
}

int wsgi_head_parse_fields(wsgi_head *h, PyObject *headers) {
    PyObject *list = headers;
    if (PyList_Check(headers))
        Py_INCREF(list);
    else if (PyUnicode_Check(headers) || PyBytes_Check(headers) || PyDict_Check(headers) ||
             (list = PySequence_List(headers)) == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError,
                     "response headers must be a list of (name, value) tuples, not %R",
                     (PyObject *)Py_TYPE(headers));
        return -1;
    }
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(list); i++) {
        PyObject *item = PyList_GetItem(list, i);
        Py_INCREF(item);
        result = take_item(h, item);
        Py_DECREF(item);
    }
    Py_DECREF(list);
    return result;
}

static int take_status(wsgi_head *h, PyObject *status) {
    if (!PyUnicode_Check(status)) {
        PyErr_Format(PyExc_TypeError, "status must be a str like '200 OK', not %R", status);
        return -1;
    }
    Py_ssize_t n;
    PyObject *temporary;
    const char *p = latin1(status, "status", &n, &temporary);
    if (p == NULL)
        return -1;
    int result = -1;
    bool digits = n >= 3 && p[0] >= '1' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9' &&
                  p[2] >= '0' && p[2] <= '9';
    if (!digits || (n > 3 && p[3] != ' ') || !all_of(p, (size_t)n, TEXT))
        PyErr_Format(PyExc_ValueError, "status %R is not of the form '200 OK'", status);
    else if (p[0] == '1')
        PyErr_Format(PyExc_ValueError, "status %R is informational; a final status is 200 or above",
                     status);
    else {
        const char *reason = p + 3, *end = p + n;
        while (reason < end && *reason == ' ')
            reason++;
        result = reserve_text(h, (size_t)(end - reason));
        if (result == 0) {
            h->status = (uint16_t)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
            h->reason_len = (uint32_t)(end - reason);
            memcpy(h->text, reason, h->reason_len);
            h->used = h->reason_len;
        }
    }
    Py_XDECREF(temporary);
    return result;
}

static void empty(wsgi_head *h) {
    h->used = h->count = 0;
    h->reason_len = 0;
    h->status = 0;
    h->length = -1;
}

int wsgi_head_parse(wsgi_head *h, PyObject *status, PyObject *headers) {
    if (!classes['a'])
        make_classes();
    empty(h);
    if (take_status(h, status) < 0)
        return -1;
    return wsgi_head_parse_fields(h, headers);
}

int wsgi_hints_parse(wsgi_head *h, PyObject *headers) {
    if (!classes['a'])
        make_classes();
    empty(h);
    h->status = 103;
    return wsgi_head_parse_fields(h, headers);
}

void wsgi_head_wire(wsgi_head *h, gd_head *out) {
    for (size_t i = 0; i < h->count; i++) {
        const wsgi_field *f = &h->fields[i];
        h->wire[i] =
            (gd_field){{h->text + f->name, f->name_len}, {h->text + f->value, f->value_len}};
    }
    *out = (gd_head){.status = h->status,
                     .length = h->length,
                     .reason = {h->text, h->reason_len},
                     .nfields = (uint16_t)h->count,
                     .fields = h->wire};
}

void wsgi_head_clear(wsgi_head *h) {
    free(h->text);
    free(h->fields);
    free(h->wire);
    *h = (wsgi_head){.length = -1};
}
